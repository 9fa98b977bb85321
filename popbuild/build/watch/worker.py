"""A worker process: builds the jobs that its pool hands it, many at a time.

It is forked from a server that has litellm loaded, and keeps one snapshot of the configuration. It
can crash without the pool: what it acknowledged is on disk, and its jobs' locks are free at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from popbuild.base.paths import Root
from popbuild.base.printing import in_our_words
from popbuild.base.threads import leave_if_hanging
from popbuild.build.builder import Builder, building
from popbuild.build.events import Forwarded
from popbuild.build.nothing_to_do import Options
from popbuild.jobs.claims import JobLocks
from popbuild.jobs.surroundings import Surroundings
from popbuild.model.config import config

# What the fork server has loaded.
PRELOAD = ("popbuild.build.watch.worker", "popbuild.llm.preload", "jsonschema", "yaml")


@dataclass(frozen=True)
class Terms:
    """What a worker needs at its start. `grace_s` is for calls in flight when the pool is gone."""

    root: Root
    options: Options
    told: tuple[str, ...]
    grace_s: float


# What a pool says, besides the name of a job to build.


@dataclass(frozen=True)
class Retire:
    """Finish the jobs that are under way, then end."""


@dataclass(frozen=True)
class Drain:
    """Wait for the calls in flight, at most so long, then end."""

    grace_s: float


# What a worker says, besides the result of a job that ended, and the error of a configuration that
# cannot be used: then it ends.


@dataclass(frozen=True)
class Ready:
    """The configuration is read and checked: jobs can come."""


@dataclass(frozen=True)
class Tell:
    """An event for the printer."""

    event: str
    values: tuple[Any, ...]


def run_worker(connection: Connection, terms: Terms) -> None:
    """The whole life of a worker process."""
    # A terminal sends Ctrl-C to every process of its group, a service manager may send SIGTERM to
    # all: the pool decides when to end.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    try:
        asyncio.run(_serve(connection, terms))
    except Exception as error:
        ours = in_our_words(error)
        _Pipe(connection).send(ours)
    leave_if_hanging(0)


async def _serve(connection: Connection, terms: Terms) -> None:
    pipe = _Pipe(connection)
    root = terms.root
    around = Surroundings(config.load(root))
    events = Forwarded(lambda name, values: pipe.send(Tell(name, values)), terms.told)
    async with building(around, JobLocks(root), terms.options, events) as builder:
        await builder.prepare()
        pipe.send(Ready())
        await _build_what_comes(pipe, builder, terms)


async def _build_what_comes(pipe: _Pipe, builder: Builder, terms: Terms) -> None:
    under_way: set[asyncio.Task[None]] = set()

    async def build(job: str) -> None:
        pipe.send(await builder.build(job, None))

    inbox = pipe.inbox()
    while isinstance(message := await inbox.get(), str):
        task = asyncio.create_task(build(message))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    if isinstance(message, Retire):
        hurry = asyncio.ensure_future(inbox.get())
        while under_way and not hurry.done():
            await asyncio.wait({hurry, *under_way}, return_when=asyncio.FIRST_COMPLETED)
        message = hurry.result() if hurry.done() else message
        hurry.cancel()
    if under_way:
        builder.drain()
        # Without a pool no message says how long. Still wait for what is paid for.
        grace_s = message.grace_s if isinstance(message, Drain) else terms.grace_s
        _, late = await asyncio.wait(under_way, timeout=grace_s)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)


class _Pipe:
    """A worker's end of the pipe to its pool, which may be gone."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def send(self, message: object) -> None:
        with contextlib.suppress(OSError):  # the pool is gone: what was built is on disk
            self._connection.send(message)

    def inbox(self) -> asyncio.Queue[object]:
        """The messages as they come; None when the pool is gone."""
        loop, queue = asyncio.get_running_loop(), asyncio.Queue[object]()

        def take() -> None:
            try:
                while self._connection.poll():
                    queue.put_nowait(self._connection.recv())
            except (EOFError, OSError):
                loop.remove_reader(self._connection.fileno())
                queue.put_nowait(None)

        loop.add_reader(self._connection.fileno(), take)
        return queue
