"""The pages: what a person sees of the same things that the API gives."""

from __future__ import annotations

import asyncio
import functools
import json
import mimetypes
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from popbuild import __version__
from popbuild.base import disk
from popbuild.base.errors import PopbuildError, UsageError, no_such
from popbuild.base.paths import COMPLETE, PACKAGE, REJECTED, name_problem
from popbuild.base.units import count, money
from popbuild.build.human_gate import default_name
from popbuild.jobs import run_log
from popbuild.jobs.lookup import Job
from popbuild.model import foreign_status
from popbuild.model import status as states
from popbuild.model.config.config import load_to_read
from popbuild.model.schema import schemas
from popbuild.query import describe, untrusted
from popbuild.query.plan_text import parts_text, price_text, sum_text
from popbuild.query.planned import totals
from popbuild.query.table.job_table import Query, query_of
from popbuild.query.table.row import STALE, JobRow, row_of
from popbuild.web import handlers
from popbuild.web.builds import BUILDS_AT_A_TIME, QUEUED, WAITING, Build
from popbuild.web.pages.html import ago, render_page
from popbuild.web.pages.panels import JobView
from popbuild.web.pages.view import view_of
from popbuild.web.pictures import pipeline_picture, plots_of
from popbuild.web.server import HTML, NotAnswered, Reply, Server, WebRequest

Show = Callable[[Server, WebRequest], Awaitable[Reply]]

_STATIC = (PACKAGE / "web" / "static", PACKAGE / "web" / "pages" / "static")
_MOST_PLANNED = 500  # jobs on a page that says what a build would do
_MOST_RUNS = 500
_TO_BUILD = (STALE, "new", "pending", "stopped", "failed")  # what `popbuild run` would build


def page(server: Server, name: str, here: str, status: int = 200, **values: Any) -> Reply:
    """A page of the site."""
    text = render_page(
        name,
        here=here,
        root=str(server.root.path),
        root_name=server.root.path.name or "/",
        version=__version__,
        **{"trouble": server.eyes.trouble, **values},
    )
    return Reply(text.encode("utf-8", "replace"), HTML, status)


def error_page(server: Server, error: PopbuildError, status: int) -> Reply:
    """A page that says what is wrong, once."""
    trouble = server.eyes.trouble
    if trouble is not None and trouble.as_line() == error.as_line():
        trouble = None
    values = {"title": error.message, "error": error, "trouble": trouble}
    return page(server, "message.html", "", status, **values)


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
        said=_said(counts),
        to_build=to_build,
        to_build_says=count(to_build, "job"),
        plan_words={name: value for name, value in words.items() if value},
        url_of=_url_of,
        ago=_ago,
    )


def _ago(then_s: float) -> str:
    return ago(time.time() - then_s)


def _said(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {standing}" for standing, number in counts.items())


def _to_build(server: Server, query: Query) -> list[str]:
    """The jobs of a query that can be built now, in order. One that cannot would hold up all."""
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
    """All about one job, with what can be done about it now."""
    name = server.known(ask.path["job"])
    found = await asyncio.to_thread(describe.find_job, server.root, name)
    row = await asyncio.to_thread(row_of, server.root, found)
    view = await asyncio.to_thread(view_of, server.root, found)
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
        ago=_ago,
    )


def _can_be_fresh(found: Job, view: JobView) -> list[str]:
    """The tasks that were built, up to date or not: a build may begin again at any of them."""
    if found.folder is None or found.state == states.RUNNING:
        return []
    return [task.id for task in view.tasks if task.attempts]


def _can_be_archived(server: Server, found: Job) -> bool:
    """Whether `popbuild archive` has something to take, and nobody who builds it holds it up."""
    folders = (server.root.job(state, found.id).path for state in (COMPLETE, REJECTED))
    there = any(disk.is_folder(str(path)) for path in folders)
    return there and found.bad_link is None and found.state != states.RUNNING


def _comes(build: Build, row: JobRow) -> tuple[str, str]:
    """What a job says of a build that was asked for here: how the job stands by that, empty where
    it stands as it did before, and the rest in a few words."""
    if build.state == QUEUED:
        stands = "" if row.standing == states.RUNNING else QUEUED
        return stands, f"{BUILDS_AT_A_TIME} are built at a time"
    if row.standing == states.RUNNING:
        return "", "it waits for the one under way" if build.state == WAITING else ""
    if row.changed >= build.asked_s:
        return "", ""  # it has been built; only the process is still to end
    if len(build.jobs) == 1:
        return "starting", "it begins at once"
    return "", f"{count(len(build.jobs), 'job')}, each in its turn"


def _questions(found: Job) -> list[dict[str, Any]]:
    """What a person is asked, with what the two answers send."""
    return [
        {
            **question.as_json(),
            "approve": json.dumps({"task": question.task, "of": question.of, "build": True}),
            "reject": json.dumps({"task": question.task, "of": question.of}),
        }
        for question in found.questions
    ]


async def plan_page(server: Server, ask: WebRequest) -> Reply:
    """What building some jobs, or those that a table shows, would do and cost."""
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
        summary = "" if busy else "Nothing is to be built."
    if busy:
        built = f"{busy[0]} is" if len(busy) == 1 else f"{count(len(busy), 'job')} are"
        summary += f" {built} being built just now, or about to be: Stop is on the job's page."
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


async def pipelines_page(server: Server, ask: WebRequest) -> Reply:
    found = await asyncio.to_thread(server.api.pipelines)
    return page(server, "pipelines.html", "/pipelines", title="Pipelines", pipelines=found)


async def pipeline(server: Server, ask: WebRequest) -> Reply:
    """A pipeline: its graph, and each task with its settings and its files as they are now."""
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
    """A line of runs.jsonl with what an older one, or one that somebody else wrote, lacks."""
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


@functools.cache
def static(name: str) -> Reply:
    """A file of ours, by its name; NotAnswered for any other."""
    for folder in _STATIC:
        known = {path.name: path for path in folder.iterdir()}
        if name in known:
            kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
            kind += "; charset=utf-8" if kind.startswith("text/") else ""
            return Reply(known[name].read_bytes(), kind)
    raise NotAnswered(404, UsageError("no such file", {"file": name[:80]}))


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
