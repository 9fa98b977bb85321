"""Builds that somebody asked the server for: each is `popbuild run` as a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import secrets
import signal
import sys
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from popbuild.board.hub import Hub
from popbuild.errors import UsageError, unknown
from popbuild.guard import in_our_words
from popbuild.layout import Root
from popbuild.model.clock import timestamp
from popbuild.redact import redact

QUEUED, RUNNING, ENDED = "queued", "running", "ended"
_AT_A_TIME = 4  # each has litellm in its memory
_KEPT = 200  # builds that ended and are still told of
_MAX_ERRORS = 4_000  # characters of what a build printed on stderr
_GRACE_S = 30.0  # for calls in flight, when the server ends


@dataclass
class Build:
    """A build from the moment that it was asked for. `code` is the exit code of `popbuild run`;
    `results` say how each job ended, as `popbuild run --json` does."""

    id: str
    jobs: tuple[str, ...]
    words: tuple[str, ...]  # of its command line
    state: str = QUEUED
    asked_at: str = field(default_factory=timestamp)
    ended_at: str | None = None
    code: int | None = None
    results: list[Any] = field(default_factory=list)
    error: dict[str, Any] | None = None
    printed: str = ""

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "jobs": list(self.jobs),
            "command": "popbuild " + " ".join(self.words),
            "state": self.state,
            "askedAt": self.asked_at,
            "endedAt": self.ended_at,
            "exitCode": self.code,
            "results": self.results,
            "error": self.error,
            "printed": self.printed,
        }


class Builds:
    """The builds of one server."""

    def __init__(self, root: Root, hub: Hub) -> None:
        self._root = root
        self._hub = hub
        self._builds: OrderedDict[str, Build] = OrderedDict()
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(_AT_A_TIME)
        self._closing = False

    def all(self) -> list[Build]:
        """The newest first."""
        return list(reversed(self._builds.values()))

    def get(self, build: str) -> Build:
        """One by its ID; UsageError where there is none."""
        if build not in self._builds:
            raise UsageError("no such build", unknown("build", build, self._builds))
        return self._builds[build]

    def building(self, job: str) -> Build | None:
        """The build under way that a job belongs to, or None."""
        return next((each for each in self.all() if each.state != ENDED and job in each.jobs), None)

    def jobs_under_way(self) -> frozenset[str]:
        """All jobs of builds under way."""
        each_job = (each.jobs for each in self._builds.values() if each.state != ENDED)
        return frozenset(itertools.chain.from_iterable(each_job))

    def start(self, jobs: Sequence[str], words: Sequence[str] = ()) -> Build:
        """Build jobs, with further words of `popbuild run`'s command line."""
        line = ("run", "--continue", *words, *jobs)
        build = Build(secrets.token_hex(4), tuple(jobs), line)
        return self._begin(build)

    def retry(self, job: str) -> Build:
        """`popbuild retry`."""
        return self._begin(Build(secrets.token_hex(4), (job,), ("retry", job)))

    def _begin(self, build: Build) -> Build:
        self._builds[build.id] = build
        for each in list(self._builds.values())[:-_KEPT]:
            if each.state == ENDED:
                del self._builds[each.id]
        task = asyncio.get_running_loop().create_task(self._build(build))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._tell(build)
        return build

    def stop(self, build: Build) -> None:
        """Give up what is under way, as Ctrl-C does: what was bought stays in the store."""
        process = self._processes.get(build.id)
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)
        elif build.state == QUEUED:
            self._end(build, None)

    async def close(self) -> None:
        """Stop all builds, and wait for them to have written down how far they came."""
        self._closing = True
        for build in self.all():
            self.stop(build)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_GRACE_S)
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.kill()

    async def _build(self, build: Build) -> None:
        """Run a build once there is room. One that cannot be started ends with the reason: its jobs
        would otherwise be held for ever."""
        async with self._room:
            if build.state == ENDED or self._closing:
                return
            try:
                await self._run(build)
            except OSError as error:
                build.error = in_our_words(error).as_json()
                self._end(build, None)

    async def _run(self, build: Build) -> None:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "popbuild", *build.words, "--json"),
            *("--root", str(self._root.path)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONSAFEPATH": "1"},
            start_new_session=True,  # a Ctrl-C for the server is passed on once, by the server
        )
        self._processes[build.id] = process
        build.state = RUNNING
        self._tell(build)
        try:
            out, err = await process.communicate()
        finally:
            del self._processes[build.id]
        with contextlib.suppress(ValueError):
            said = json.loads(out)
            if isinstance(said, list):
                build.results = said
            else:
                build.error = said
        build.printed = redact(err.decode(errors="replace"), os.environ)[-_MAX_ERRORS:]
        self._end(build, process.returncode)

    def _end(self, build: Build, code: int | None) -> None:
        build.state, build.code, build.ended_at = ENDED, code, timestamp()
        self._tell(build)

    def _tell(self, build: Build) -> None:
        body = {"id": build.id, "state": build.state, "jobs": list(build.jobs[:100])}
        self._hub.publish("build", {**body, "exitCode": build.code})
