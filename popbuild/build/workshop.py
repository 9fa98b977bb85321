"""The builder of a cluster's worker process: one for all of its threads."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future

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
        self._loop: asyncio.AbstractEventLoop
        self._builder: Builder
        self._end = contextlib.ExitStack()  # ends the builder, and waits until its thread has ended

    @contextlib.contextmanager
    def open(
        self, root: Root, options: Options, events: Events, topic: str
    ) -> Iterator[Callable[[str, tuple[str, ...] | None, bool], JobResult]]:
        key = root, topic, config.configured(root)
        with self._condition:
            self._condition.wait_for(lambda: self._key == key or not self._users)
            if self._key != key:
                self._renew(key, root, options, events)
            self._users += 1
        try:
            yield self._build
        finally:
            with self._condition:
                self._users -= 1
                self._condition.notify_all()

    def _build(self, job: str, tasks: tuple[str, ...] | None, is_named: bool) -> JobResult:
        building = self._builder.build(job, tasks, is_named=is_named)
        return asyncio.run_coroutine_threadsafe(building, self._loop).result()

    def _renew(self, key: object, root: Root, options: Options, events: Events) -> None:
        self._key = None
        self._end.close()
        around = Surroundings(config.load(root))
        ready: Future[tuple[Builder, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

        async def serve() -> None:
            try:
                async with building(around, Fenced(root), options, events) as builder:
                    await builder.prepare()
                    end = asyncio.Event()
                    ready.set_result((builder, asyncio.get_running_loop(), end))
                    await end.wait()
            except BaseException as error:
                if not ready.done():
                    ready.set_exception(error)
                raise

        thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
        thread.start()
        self._builder, self._loop, end = ready.result()
        self._end.callback(thread.join)
        self._end.callback(self._loop.call_soon_threadsafe, end.set)
        self._key = key


# A task on a cluster is a function that is called by its name, so what the calls of a process share
# can stand only in its module. It holds nothing but what `open` renews.
WORKSHOP = Workshop()
