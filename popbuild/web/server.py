"""The state of one server, what a request and an answer are, the memory that bodies may take, and
the frame of every page."""

from __future__ import annotations

import asyncio
import functools
import json
import mimetypes
import mmap
import os
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from popbuild import __version__
from popbuild.api import Popbuild
from popbuild.base.errors import PopbuildError, UsageError
from popbuild.base.paths import PACKAGE, Root
from popbuild.model.config.config import environment_of
from popbuild.model.problem import Problem
from popbuild.query.table.event_ring import Hub
from popbuild.query.table.job_table import JobTable
from popbuild.query.table.watcher import Eyes
from popbuild.web.builds import Builds
from popbuild.web.guard import MAX_BODY_BYTES, refusal
from popbuild.web.pages.html import render_page

SMALL_BYTES = 64 * 1024  # what a connection may buffer anyway
BODIES_AT_A_TIME = 2
PATIENCE_S = 30.0
T = TypeVar("T")
_STATIC = (PACKAGE / "web" / "static", PACKAGE / "web" / "pages" / "static")
HTML, JSON, BYTES = "text/html; charset=utf-8", "application/json", "application/octet-stream"


@dataclass(frozen=True)
class WebRequest:
    """The parts of a request that answers depend on. `job` is the one in its path, which exists."""

    path: Mapping[str, str]
    query: Mapping[str, str]
    body: Any = None
    last_event: str | None = None

    @property
    def job(self) -> str:
        return self.path["job"]


@dataclass(frozen=True)
class Reply:
    """An answer: its bytes, at once or as they become ready."""

    body: bytes | AsyncIterator[bytes]
    kind: str = JSON
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


def reply_json(value: object, status: int = 200) -> Reply:
    return Reply(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"), status=status)


class NotAnswered(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, error: PopbuildError, problems: Sequence[Problem] = ()) -> None:
        super().__init__(error.message)
        self.status = status
        self.error = error
        self.problems = tuple(problems)

    def as_json(self) -> dict[str, Any]:
        body = self.error.as_json()
        if self.problems:
            body["problems"] = [problem.as_json() for problem in self.problems]
        return body


class Server:
    """A root, the table of its jobs, its builds and its events."""

    def __init__(self, root: Root) -> None:
        self.api = Popbuild.seen_by(root)
        self.root = root
        self.board = JobTable()
        self.hub = Hub()
        self.eyes = Eyes(root, self.board, self.hub)
        self.builds = Builds(root, self.hub)
        self.bodies = Bodies()

    @property
    def environment(self) -> dict[str, str]:
        """The environment as it is now. Its keys are removed from every answer."""
        try:
            return environment_of(self.root, os.environ)
        except PopbuildError:
            return dict(os.environ)  # .env cannot be read: nothing is built with it either

    def known(self, job: str) -> str:
        """The ID of a job that exists; NotAnswered for any other."""
        if not self.api.is_known(job):
            error = UsageError("no such job", {"job": job[:80]}, "it may have been removed")
            raise NotAnswered(404, error)
        return job


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
    """A page that says what is wrong, and does not say it twice."""
    trouble = server.eyes.trouble
    if trouble is not None and trouble.as_line() == error.as_line():
        trouble = None
    values = {"title": error.message, "error": error, "trouble": trouble}
    return page(server, "message.html", "", status, **values)


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


class Bodies:
    """Turns for large bodies. One that is not sent in time loses its connection, and so its turn
    (`connections.py`); those that wait are not read, and take no memory."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(BODIES_AT_A_TIME)

    async def take(
        self, headers: Mapping[str, str], body: AsyncIterable[bytes], use: Callable[[bytes], T]
    ) -> T:
        """What `use` returns for a body, called in a thread so that others are answered meanwhile.
        A Refusal where other bodies take too long."""
        if _is_small(headers):
            return await asyncio.to_thread(use, b"".join([part async for part in body]))
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._turns.acquire()
        except TimeoutError:
            raise refusal(
                503,
                "others are sending too much",
                {"allowed": f"{BODIES_AT_A_TIME} at a time of more than {SMALL_BYTES:,} bytes"},
                "try again in a moment",
            ) from None
        try:
            return await asyncio.to_thread(use, await _whole(body))
        finally:
            self._turns.release()


async def _whole(body: AsyncIterable[bytes]) -> bytes:
    """The whole body, in one mapping: a list of parts would leave its memory with the process when
    a body does not end."""
    with mmap.mmap(-1, MAX_BODY_BYTES) as room:
        async for part in body:
            room.write(part)
        return room[: room.tell()]


def _is_small(headers: Mapping[str, str]) -> bool:
    """Whether the body fits the buffer of a connection; with chunks the length is unknown."""
    length = headers.get("content-length", "")
    in_chunks = "transfer-encoding" in headers
    return not in_chunks and length.isdecimal() and int(length) <= SMALL_BYTES
