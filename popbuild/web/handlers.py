"""The verbs of the API: each takes a request and gives JSON, and knows nothing of starlette.

Plain functions run in a thread; coroutines run on the event loop, which owns the builds and the
table of jobs.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import json
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from popbuild.base.errors import LockedError, UsageError
from popbuild.base.paths import name_problem
from popbuild.build import draws
from popbuild.build.given_files import GivenFile, bytes_of_file
from popbuild.jobs import run_log
from popbuild.model.pipeline import Task
from popbuild.query.planned import totals
from popbuild.query.table.event_ring import Event
from popbuild.query.table.job_table import NOT_LOOKED_AT, Page, Query, query_of
from popbuild.web.builds import Build
from popbuild.web.server import BYTES, NotAnswered, Reply, Server, WebRequest, reply_json

_MOST_RUNS = 1_000
_SILENCE_S = 15.0  # after which a comment keeps the connection alive
_PATIENCE_S = 5.0  # how long a request waits for a build to stop
_KINDS = {
    **{".json": "application/json", ".txt": "text/plain", ".md": "text/plain"},
    # Pictures for the pages: of kinds that can do nothing.
    **{".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"},
    **{".gif": "image/gif", ".webp": "image/webp"},
}


async def page_of(server: Server, query: Query) -> Page:
    """The rows that a query asks for, each examined: the server may have started just now."""
    page = server.board.page(query)
    unknown = [row.id for row in page.rows if row.standing == NOT_LOOKED_AT]
    if unknown:
        await server.eyes.look_at(unknown)
        page = server.board.page(page.query)
    return page


async def jobs(server: Server, ask: WebRequest) -> Any:
    page = await page_of(server, query_of(ask.query))
    return {
        "jobs": [row.as_json() for row in page.rows],
        "total": page.total,
        "page": page.query.page,
        "pages": page.pages,
        "counts": server.board.counts(),
    }


def job(server: Server, ask: WebRequest) -> Any:
    return server.api.job(ask.job)


async def submit(server: Server, ask: WebRequest) -> Reply:
    text = ask.body.get("text")
    given = ask.body["seed"] if text is None else text.encode("utf-8", "surrogatepass")
    problems = await asyncio.to_thread(server.api.check, given)
    if problems:
        error = UsageError("not a valid seed", {}, "fix the problems that are listed")
        raise NotAnswered(422, error, problems)
    files = await asyncio.to_thread(_given_files, ask.body.get("files", ()))
    name = await asyncio.to_thread(server.api.submit, given, ask.body.get("id"), files)
    await server.eyes.look_at([name])
    if ask.body.get("build"):
        server.builds.start([name])
    return reply_json({"id": name}, 201)


def _given_files(sent: Iterable[Mapping[str, str]]) -> dict[str, GivenFile]:
    """The files of a submission by name."""
    found = {}
    for each in sent:
        try:
            data = base64.b64decode(each["base64"], validate=True)
        except ValueError:
            values = {"file": each["file"]}
            raise UsageError("the bytes of a file are sent as base64", values) from None
        found[each["name"]] = bytes_of_file(each["file"], data)
    return found


def files(server: Server, ask: WebRequest) -> Any:
    body = []
    for each in server.api.files(ask.job):
        with contextlib.suppress(FileNotFoundError):
            shown, size = server.root.show(each.path), each.path.stat().st_size
            body.append({"kind": each.kind, "name": each.name, "path": shown, "sizeBytes": size})
    return body


def file(server: Server, ask: WebRequest) -> Reply:
    """A file as it is, never as something that a browser would run."""
    name = ask.path["name"]
    try:
        with _or_not_found():
            data = server.api.read(ask.job, name)
    except FileNotFoundError:
        raise NotAnswered(404, UsageError("the file is gone", {"file": name})) from None
    last = name.rpartition("/")[2]
    return _attachment(data, f"{ask.job}-{last}", _KINDS.get(Path(last).suffix, BYTES))


@contextlib.contextmanager
def _or_not_found() -> Iterator[None]:
    """What the request names is not there: a usage error of a command, a 404 of the API."""
    try:
        yield
    except UsageError as error:
        raise NotAnswered(404, error) from None


def _attachment(data: bytes, name: str, kind: str) -> Reply:
    safe = "".join(each if each.isalnum() or each in "-_." else "_" for each in name)
    disposition = f'attachment; filename="{safe.encode("ascii", "replace").decode()}"'
    return Reply(data, kind, headers={"content-disposition": disposition.replace("?", "_")})


def download(server: Server, ask: WebRequest) -> Reply:
    """`popbuild archive`: the job's complete and rejected directories as .tar.zst."""
    from popbuild.upkeep.archive.write import archive

    name = f"{ask.job}.tar.zst"
    with tempfile.TemporaryDirectory(prefix="popbuild-") as folder:
        archived = archive(server.root, [ask.job], Path(folder) / name)
        return _attachment(archived.file.read_bytes(), name, BYTES)


def explain(server: Server, ask: WebRequest) -> Any:
    return [each.as_json() for each in server.api.explain(ask.job)]


def diff(server: Server, ask: WebRequest) -> Any:
    with _or_not_found():  # there is no result to compare it with
        return server.api.diff(ask.job).as_json()


def plan(server: Server, ask: WebRequest) -> Any:
    names = [server.known(name) for name in ask.body["jobs"]]
    fresh, always = ask.body.get("fresh", ()), ask.body.get("always", False)
    planned = server.api.plan(*names, fresh=fresh, always=always)
    total = totals(task for each in planned for task in each.tasks)
    return {"jobs": [each.as_json() for each in planned], "total": total.as_json()}


async def build(server: Server, ask: WebRequest) -> Reply:
    names = list(dict.fromkeys(server.known(name) for name in ask.body["jobs"]))
    for name in names:
        _check_can_be_built(server, name)
    words = ["--always-execute"] if ask.body.get("always") else []
    if ask.body.get("fresh"):
        await asyncio.to_thread(lambda: server.api.plan(*names, fresh=ask.body["fresh"]))
        words.append(f"fresh={','.join(ask.body['fresh'])}")
    if "budget" in ask.body:
        words += ["--budget", f"{ask.body['budget']:f}"]
    return _started(server.builds.start(names, words))


async def retry(server: Server, ask: WebRequest) -> Reply:
    await asyncio.to_thread(draws.check_retry, server.root, ask.job)
    _check_can_be_built(server, ask.job)
    return _started(server.builds.retry(ask.job))


def _started(build: Build) -> Reply:
    return reply_json(build.as_json(), 202)


def _check_can_be_built(server: Server, name: str) -> None:
    if problem := name_problem(name):
        raise NotAnswered(422, UsageError("a bad name", {"job": name[:80], "allowed": problem}))
    if under_way := server.builds.building(name):
        values = {"job": name, "build": under_way.id}
        raise NotAnswered(409, LockedError("this job is being built", values, "wait, or stop it"))


async def approve(server: Server, ask: WebRequest) -> Any:
    """`popbuild approve`; with `build`, the job is built on at once."""
    decided = await asyncio.to_thread(server.api.approve, ask.job, **_answer(ask))
    if ask.body.get("build") and server.builds.building(ask.job) is None:
        server.builds.start([ask.job])
    return decided.as_json()


def reject(server: Server, ask: WebRequest) -> Any:
    return server.api.reject(ask.job, **_answer(ask)).as_json()


def _answer(ask: WebRequest) -> dict[str, str | None]:
    return {name: ask.body.get(name) for name in ("task", "note", "by", "of")}


async def stop(server: Server, ask: WebRequest) -> Any:
    """Stop the build of a job, and those that wait for it: of this server or of any command."""
    taken_back = server.builds.take_back(ask.job)
    (stopped,) = await asyncio.to_thread(lambda: server.api.stop(ask.job, patience_s=_PATIENCE_S))
    if taken_back:
        stopped = dataclasses.replace(stopped, asked=True, stopped=True)
    return stopped.as_json()


async def builds(server: Server, ask: WebRequest) -> Any:
    return [each.as_json() for each in server.builds.all()]


async def one_build(server: Server, ask: WebRequest) -> Any:
    with _or_not_found():
        return server.builds.get(ask.path["build"]).as_json()


async def stop_build(server: Server, ask: WebRequest) -> Reply:
    with _or_not_found():
        found = server.builds.get(ask.path["build"])
    server.builds.stop(found)
    return _started(found)


def pipelines(server: Server, ask: WebRequest) -> Any:
    return [
        {
            "id": name,
            "name": each.name,
            "path": each.path,
            "version": each.version,
            "description": each.description,
            "tasks": [_task_json(task) for task in each.tasks],
        }
        for name, each in server.api.pipelines().items()
    ]


def _task_json(task: Task) -> dict[str, Any]:
    return {
        "id": task.id,
        "label": task.label,
        "needs": list(task.needs),
        "artifact": task.artifact,
        "settings": dict(task.configuration),
        "files": sorted(task.files),
    }


def all_runs(server: Server, ask: WebRequest) -> Any:
    wanted = ask.query.get("job")
    found = run_log.recent(server.root, _MOST_RUNS)
    return [dict(line) for line in found if wanted is None or line.get("id") == wanted]


async def events(server: Server, ask: WebRequest) -> Reply:
    """Events as they happen; the files of `job` are watched closely."""
    job = ask.query.get("job")
    if job is not None:
        server.known(job)

    async def follow() -> AsyncIterator[bytes]:
        with server.eyes.open_page(job):
            async for some in _framed(server.hub.follow(ask.last_event)):
                yield some

    return Reply(follow(), "text/event-stream", headers={"x-accel-buffering": "no"})


async def _framed(events: AsyncIterator[Event]) -> AsyncIterator[bytes]:
    """Events as a browser's EventSource reads them, and comments in between, by which a broken
    connection is noticed."""
    yield b"retry: 1000\n\n"
    coming = asyncio.ensure_future(anext(events))
    try:
        while True:
            done, _ = await asyncio.wait({coming}, timeout=_SILENCE_S)
            if not done:
                yield b": still here\n\n"
                continue
            event = coming.result()
            data = json.dumps(event.body, separators=(",", ":"))
            yield f"id: {event.id}\nevent: {event.kind}\ndata: {data}\n\n".encode()
            coming = asyncio.ensure_future(anext(events))
    except StopAsyncIteration:
        return
    finally:
        coming.cancel()
