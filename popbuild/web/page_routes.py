"""The pages as a table, and those about pipelines, runs, builds and seeds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from popbuild.base.errors import UsageError, no_such
from popbuild.base.units import money
from popbuild.jobs import run_lines
from popbuild.model import foreign_status
from popbuild.model.clock import seconds_at
from popbuild.model.config.config import load_to_read
from popbuild.model.schema import schemas
from popbuild.query import untrusted
from popbuild.web import svg
from popbuild.web.builds import BUILDS_AT_A_TIME
from popbuild.web.job_pages import job_page, jobs_page, plan_page
from popbuild.web.server import NotAnswered, Reply, Server, WebRequest, page

Show = Callable[[Server, WebRequest], Awaitable[Reply]]

_MOST_RUNS = 500
_PLOT = 380.0  # pixels: three stand side by side, and one fills a narrow window


async def pipelines_page(server: Server, ask: WebRequest) -> Reply:
    found = await asyncio.to_thread(server.api.pipelines)
    return page(server, "pipelines.html", "/pipelines", title="Pipelines", pipelines=found)


async def pipeline(server: Server, ask: WebRequest) -> Reply:
    """A pipeline's graph, and each task with its settings and its current files."""
    config = await asyncio.to_thread(load_to_read, server.root)
    name = ask.path["name"]
    found = config.pipelines.get("" if name == "default" else name)
    if found is None:
        known = [each or "default" for each in config.pipelines]
        raise NotAnswered(404, UsageError("no such pipeline", no_such("pipeline", name, known)))
    texts = {
        task.id: [
            (path, config.snapshot.text(path)) for path in sorted(task.files, key=_prompt_first)
        ]
        for task in found.tasks
    }
    drawn = svg.svg(svg.graph_of(found), link=lambda task: f"#task-{task}")
    return page(
        server,
        "pipeline.html",
        "",
        title=found.name or "default",
        pipeline=found,
        graph=Markup(drawn),  # noqa: S704 - a drawing escapes its texts
        files=texts,
    )


def _prompt_first(path: str) -> tuple[bool, str]:
    return not path.endswith("prompt.md"), path


async def runs_page(server: Server, ask: WebRequest) -> Reply:
    job = ask.query.get("job")
    most = 10 * _MOST_RUNS if job else _MOST_RUNS
    lines = await asyncio.to_thread(run_lines.recent, server.root, most)
    found = [_run(line) for line in lines if job is None or line.get("id") == job][:_MOST_RUNS]
    return page(
        server, "runs.html", "/runs", title="Runs", runs=found, job=job, plots=_plots(found)
    )


def _run(line: Mapping[str, Any]) -> dict[str, Any]:
    """A line of runs.jsonl, with defaults for what older versions and other programs left out."""
    usage = untrusted.usage(line.get("usage", foreign_status.UNKNOWN_USAGE))
    built = line.get("built")
    return {
        "id": str(line.get("id", line.get("name", ""))),
        "finishedAt": untrusted.text_in(line, "finishedAt") or "",
        "built": [str(each) for each in built] if isinstance(built, list) else [],
        "totalExecutionTime": untrusted.number_in(line.get("totalExecutionTime")),
        "totalRefinementAttempts": int(untrusted.number_in(line.get("totalRefinementAttempts"))),
        "tokens": usage.tokens,
        "cost": usage.cost,
    }


async def builds_page(server: Server, ask: WebRequest) -> Reply:
    found = server.builds.all()
    return page(
        server, "builds.html", "/builds", title="Builds", builds=found, at_a_time=BUILDS_AT_A_TIME
    )


async def submit_page(server: Server, ask: WebRequest) -> Reply:
    """A form from the schema of seeds."""
    found = await asyncio.to_thread(server.api.pipelines)
    schema = schemas.for_format("seed").document
    return page(server, "submit.html", "/submit", title="Submit", schema=schema, pipelines=found)


def _plots(runs: Sequence[Mapping[str, Any]]) -> Iterable[tuple[str, Markup]]:
    """Cost, duration and refinements of runs over time, the oldest first."""
    for name, value_of, said in (
        ("Cost", lambda run: run["cost"], money),
        ("Duration", lambda run: run["totalExecutionTime"] / 1000, "{:g} s".format),
        ("Refinements per task", _rate, "{:.2g}".format),
    ):
        points = [
            svg.Point(at_s, value_of(run), str(run["id"]))
            for run in runs
            if (at_s := seconds_at(run["finishedAt"])) is not None
        ]
        picture = svg.plot_svg(name, points, said=said, width=_PLOT)
        yield name, Markup(picture)  # noqa: S704 - as above


def _rate(run: Mapping[str, Any]) -> float:
    return float(run["totalRefinementAttempts"]) / max(len(run["built"]), 1)


PAGES: Mapping[str, Show] = {
    "/": jobs_page,
    "/jobs/{job}": job_page,
    "/pipelines/{name}": pipeline,
    "/plan": plan_page,
    "/pipelines": pipelines_page,
    "/runs": runs_page,
    "/builds": builds_page,
    "/submit": submit_page,
}
