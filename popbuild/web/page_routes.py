"""The pages as a table, and what each of them shows."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from markupsafe import Markup

from popbuild.base import disk
from popbuild.base.errors import UsageError, no_such
from popbuild.base.paths import COMPLETE, REJECTED, name_problem
from popbuild.base.units import count, money
from popbuild.build.human_gate import default_name
from popbuild.jobs import run_log
from popbuild.jobs.lookup import Job
from popbuild.model import foreign_status
from popbuild.model import status as states
from popbuild.model.clock import seconds_at
from popbuild.model.config.config import load_to_read
from popbuild.model.schema import schemas
from popbuild.query import untrusted
from popbuild.query.planned import parts_text, price_text, sum_text, totals
from popbuild.query.table.job_table import Query, query_of
from popbuild.query.table.row import STALE, JobRow, row_of
from popbuild.web import handlers, svg
from popbuild.web.builds import BUILDS_AT_A_TIME, QUEUED, WAITING, Build
from popbuild.web.pages.html import ago
from popbuild.web.pages.panels import JobView
from popbuild.web.pages.view import job_view
from popbuild.web.server import NotAnswered, Reply, Server, WebRequest, page

_MOST_PLANNED = 500  # jobs on a page that says what a build would do
_TO_BUILD = (STALE, "new", "pending", "stopped", "failed")  # what `popbuild run` would build
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
    texts = {}
    for task in found.tasks:
        prompt_first = sorted(task.files, key=lambda path: (not path.endswith("prompt.md"), path))
        texts[task.id] = [(path, config.snapshot.text(path)) for path in prompt_first]
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


async def runs_page(server: Server, ask: WebRequest) -> Reply:
    job = ask.query.get("job")
    most = 10 * _MOST_RUNS if job else _MOST_RUNS
    lines = await asyncio.to_thread(run_log.recent, server.root, most)
    found = [_run(line) for line in lines if job is None or line.get("id") == job][:_MOST_RUNS]
    given: dict[str, Any] = {"title": "Runs", "runs": found, "job": job, "plots": _plots(found)}
    return page(server, "runs.html", "/runs", **given)


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
    given: dict[str, Any] = {"builds": server.builds.all(), "at_a_time": BUILDS_AT_A_TIME}
    return page(server, "builds.html", "/builds", title="Builds", **given)


async def submit_page(server: Server, ask: WebRequest) -> Reply:
    """A form from the schema of seeds."""
    found = await asyncio.to_thread(server.api.pipelines)
    schema = schemas.for_format("seed").document
    return page(server, "submit.html", "/submit", title="Submit", schema=schema, pipelines=found)


def _plots(runs: Sequence[Mapping[str, Any]]) -> Iterable[tuple[str, Markup]]:
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


async def jobs_page(server: Server, ask: WebRequest) -> Reply:
    found = await handlers.page_of(server, query_of(ask.query))
    counts = server.board.counts()
    to_build = len(_to_build(server, found.query))
    words = {"standing": found.query.standing, "search": found.query.search}
    return page(
        server,
        "jobs.html",
        "/",
        title="Jobs",
        page=found,
        first=(found.query.page - 1) * found.query.size + 1,
        counts=counts,
        all=len(server.board),
        tokens=server.board.tokens().told("{:,}".format),
        cost=server.board.cost().told(money),
        whole=server.board.whole,
        said=", ".join(f"{number:,} {standing}" for standing, number in counts.items()),
        to_build=to_build,
        to_build_says=count(to_build, "job"),
        plan_words={name: value for name, value in words.items() if value},
        url_of=_url_of,
        ago=lambda then_s: ago(time.time() - then_s),
    )


def _to_build(server: Server, query: Query) -> list[str]:
    """The jobs of a query that can be built now, in order. One that cannot would stop the rest."""
    under_way = server.builds.jobs_under_way()
    return sorted(
        row.id
        for row in server.board.matching(query)
        if row.standing in _TO_BUILD and row.id not in under_way and not name_problem(row.id)
    )


def _url_of(query: Query) -> str:
    words = query.words()
    return "/?" + urlencode(words) if words else "/"


async def job_page(server: Server, ask: WebRequest) -> Reply:
    """Everything about one job, with the actions that are possible now."""
    name = ask.job

    def look() -> tuple[Job, JobRow, JobView]:
        found, view = job_view(server.root, name)
        return found, row_of(server.root, found), view

    found, row, view = await asyncio.to_thread(look)
    under_way = server.builds.building(name)
    bad = found.bad is not None
    comes = None if under_way is None else _comes(under_way, row)
    return page(
        server,
        "job.html",
        "",
        title=name,
        id=name,
        row=row,
        view=view,
        now_s=time.time(),
        questions=_questions(found),
        can_build=row.standing in (*_TO_BUILD, "rejected") and under_way is None and not bad,
        bad=bad,
        build=under_way,
        comes=comes,
        stands=comes[0] if comes and comes[0] else row.standing,
        can_stop=row.standing == states.RUNNING or (comes is not None and bool(comes[0])),
        who=default_name(),
        can_retry=row.standing == "rejected" and found.bad_seed is None and under_way is None,
        can_fresh=_can_be_fresh(found, view) if under_way is None and not bad else (),
        can_download=_can_be_archived(server, found),
        ago=lambda then_s: ago(time.time() - then_s),
    )


def _can_be_fresh(found: Job, view: JobView) -> list[str]:
    """The tasks that were built, up to date or not: a build may start again at any of them."""
    if found.folder is None or found.state == states.RUNNING:
        return []
    return [task.id for task in view.tasks if task.attempts]


def _can_be_archived(server: Server, found: Job) -> bool:
    """Whether `popbuild archive` has something to pack, and no build holds the job."""
    folders = (server.root.job(state, found.id).path for state in (COMPLETE, REJECTED))
    there = any(disk.is_folder(str(path)) for path in folders)
    return there and found.bad_link is None and found.state != states.RUNNING


def _comes(build: Build, row: JobRow) -> tuple[str, str]:
    """What a requested build changes about a job: its new standing, empty where that stays, and an
    explanation in a few words."""
    if build.state == QUEUED:
        stands = "" if row.standing == states.RUNNING else QUEUED
        return stands, f"{BUILDS_AT_A_TIME} builds run at a time"
    if row.standing == states.RUNNING:
        return "", "it waits for the current one" if build.state == WAITING else ""
    if row.changed >= build.asked_s:
        return "", ""  # it has been built; only the process has not ended
    if len(build.jobs) == 1:
        return "starting", "it is starting now"
    return "", f"{count(len(build.jobs), 'job')}, one after another"


def _questions(found: Job) -> list[dict[str, Any]]:
    """The questions to a person, with the request bodies of both answers."""
    return [
        {
            **question.as_json(),
            "approve": json.dumps({"task": question.task, "of": question.of, "build": True}),
            "reject": json.dumps({"task": question.task, "of": question.of}),
        }
        for question in found.questions
    ]


async def plan_page(server: Server, ask: WebRequest) -> Reply:
    """What a build of one job, or of those that a table shows, would do and cost."""
    words = dict(ask.query)
    fresh = [name for name in words.pop("fresh", "").split(",") if name]
    if "job" in words:
        names = [server.known(words["job"])]
        then = back = "/jobs/" + quote(names[0], safe="", errors="surrogateescape")
    else:
        query = query_of(words)
        names, back, then = _to_build(server, query), _url_of(query), "/builds"
    some = names[:_MOST_PLANNED]
    planned = await asyncio.to_thread(lambda: server.api.plan(*some, fresh=fresh) if some else [])
    under_way = server.builds.jobs_under_way()
    busy = [job.id for job in planned if job.state == states.RUNNING or job.id in under_way]
    free = [job for job in planned if job.id not in busy]
    building = [job.id for job in free if job.tasks]
    total = totals(task for job in free for task in job.tasks)
    summary = f"{count(len(building), 'job')} would be built: {sum_text(total)}."
    if not building:
        summary = "" if busy else "There is nothing to build."
    if busy:
        built = f"{busy[0]} is" if len(busy) == 1 else f"{count(len(busy), 'job')} are"
        summary += f" {built} being built, or about to be; you can stop a build on the job's page."
    order: dict[str, Any] = {"jobs": building} | ({"fresh": fresh} if fresh else {})
    return page(
        server,
        "plan.html",
        "",
        title="Plan",
        planned=planned,
        price_text=price_text,
        parts_text=parts_text,
        summary=summary.strip(),
        build=json.dumps(order) if building else None,
        then=then,
        back=back,
        more=len(names) - len(some),
    )


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
