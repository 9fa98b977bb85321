"""The builder of a cluster's worker process: one for all of its threads."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from popbuild.base.paths import Root
from popbuild.build.builder import Builder, building
from popbuild.build.events import Events, JobResult
from popbuild.build.nothing_to_do import Options
from popbuild.jobs.claims import Fenced
from popbuild.jobs.surroundings import Surroundings
from popbuild.model.config import config


class Workshop:
    """A builder in its own event loop, for as long as nothing changes. stages.py is served from one
    snapshot in a process, so another configuration or coordinator waits for the last one's jobs."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._key: object = None
        self._users = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._builder: Builder | None = None
        self._end: asyncio.Event | None = None

    @contextlib.contextmanager
    def open(
        self, root: Path, options: Options, events: Events, topic: str
    ) -> Iterator[Callable[[str, tuple[str, ...] | None], JobResult]]:
        key = root, topic, config.configured(Root(root))
        with self._condition:
            self._condition.wait_for(lambda: self._key == key or not self._users)
            if self._key != key:
                self._renew(key, Root(root), options, events)
            self._users += 1
        try:
            yield self._build
        finally:
            with self._condition:
                self._users -= 1
                self._condition.notify_all()

    def _build(self, job: str, tasks: tuple[str, ...] | None) -> JobResult:
        assert self._loop is not None
        assert self._builder is not None
        building = self._builder.build(job, tasks)
        return asyncio.run_coroutine_threadsafe(building, self._loop).result()

    def _renew(self, key: object, root: Root, options: Options, events: Events) -> None:
        if self._loop is not None and self._end is not None:
            self._loop.call_soon_threadsafe(self._end.set)
        self._key = self._loop = self._end = None
        around = Surroundings(config.load(root))
        ready: threading.Event = threading.Event()
        failure: list[BaseException] = []

        async def serve() -> None:
            try:
                async with building(around, Fenced(root), options, events) as builder:
                    await builder.prepare()
                    self._loop, self._builder = asyncio.get_running_loop(), builder
                    self._end = asyncio.Event()
                    ready.set()
                    await self._end.wait()
            except BaseException as error:
                failure.append(error)
                raise
            finally:
                ready.set()

        thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
        thread.start()
        ready.wait()
        if failure:
            raise failure[0]
        self._key = key


# A task on a cluster is a function that is called by its name, so what the calls of a process share
# can stand only in its module. It holds nothing but what `open` renews.
WORKSHOP = Workshop()
