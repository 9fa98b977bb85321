"""The pages as a table, and those about pipelines, runs, builds and seeds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from popbuild.base.errors import UsageError, no_such
from popbuild.jobs import run_log
from popbuild.model import foreign_status
from popbuild.model.config.config import load_to_read
from popbuild.model.schema import schemas
from popbuild.query import untrusted
from popbuild.web.builds import BUILDS_AT_A_TIME
from popbuild.web.job_pages import job_page, jobs_page, plan_page
from popbuild.web.pictures import pipeline_picture, plots_of
from popbuild.web.server import NotAnswered, Reply, Server, WebRequest
from popbuild.web.site import page

Show = Callable[[Server, WebRequest], Awaitable[Reply]]

_MOST_RUNS = 500


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
    return page(
        server,
        "pipeline.html",
        "",
        title=found.name or "default",
        pipeline=found,
        graph=pipeline_picture(found),
        files=texts,
    )


def _prompt_first(path: str) -> tuple[bool, str]:
    return not path.endswith("prompt.md"), path


async def runs_page(server: Server, ask: WebRequest) -> Reply:
    job = ask.query.get("job")
    most = 10 * _MOST_RUNS if job else _MOST_RUNS
    lines = await asyncio.to_thread(run_log.recent, server.root, most)
    found = [_run(line) for line in lines if job is None or line.get("id") == job][:_MOST_RUNS]
    return page(
        server, "runs.html", "/runs", title="Runs", runs=found, job=job, plots=plots_of(found)
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
