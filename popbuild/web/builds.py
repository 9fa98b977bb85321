"""Builds that the server was asked for: each is a `popbuild run` in its own process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from popbuild.base import errors
from popbuild.base.errors import UsageError, no_such
from popbuild.base.paths import Root
from popbuild.base.printing import in_our_words
from popbuild.base.redact import redact
from popbuild.jobs.claims import JobLocks
from popbuild.model import status as states
from popbuild.model.clock import timestamp
from popbuild.query.table.event_ring import Hub

QUEUED, RUNNING, WAITING, ENDED = "queued", "running", "waiting", "ended"
BUILDS_AT_A_TIME = 4  # each has litellm in its memory
_KEPT = 200  # builds, the newest, that are kept after they ended
_MAX_ERRORS = 4_000  # characters of what a build printed on stderr
_GRACE_S = 30.0  # for calls in flight, when the server ends
_LOOK_S = 0.5  # between checks whether a build waits for another command
_FEW = 100  # jobs of a build that is checked for that: of more, some are built at any time


@dataclass(frozen=True)
class Ending:
    """How a build ended: `standing` is the word and the mark that it is shown with."""

    standing: str
    says: str


_DONE = "done"
_ENDINGS: Mapping[int, Ending] = {
    errors.OK: Ending(_DONE, "all was built, or up to date"),
    errors.REJECTED: Ending(states.REJECTED, "a gate rejected it"),
    errors.FAILED: Ending(states.FAILED, "a crash or a provider error"),
    errors.NOT_STARTED: Ending(states.FAILED, "nothing could be built"),
    errors.STOPPED: Ending(states.STOPPED, "it needs a decision, or was asked to stop"),
    errors.LOCKED: Ending(states.STOPPED, "another command is building it"),
    errors.BUDGET: Ending(states.STOPPED, "the budget is used up"),
    errors.INTERRUPTED: Ending(states.STOPPED, "it was asked to stop"),
    -signal.SIGINT: Ending(states.STOPPED, "it was asked to stop"),
}
_WAITS = Ending(states.WAITING, "it needs a decision")
_TAKEN_BACK = Ending(states.STOPPED, "cancelled before it began")
_NOT_STARTED = Ending(states.FAILED, "it could not be started")


def ending_of(code: int | None, outcomes: Collection[object], *, started: bool) -> Ending:
    """How a build ended, by its exit code, None where it had no process, and its jobs' outcomes."""
    if code is None:
        return _TAKEN_BACK if started else _NOT_STARTED
    if code == errors.STOPPED and "waiting" in outcomes:
        return _WAITS
    if code < 0 and code not in _ENDINGS:
        name = signal.Signals(-code).name if -code in list(signal.Signals) else f"signal {-code}"
        return Ending(states.FAILED, f"the process was ended by {name}")
    return _ENDINGS.get(code, Ending(states.FAILED, "it ended unexpectedly"))


@dataclass
class Build:
    """A build, from the request on. It is queued until there is room, and waiting while another
    command builds its jobs. `code` is the exit code of `popbuild run`, `results` its JSON."""

    id: str
    jobs: tuple[str, ...]
    order: tuple[str, ...]  # the words of its command line, without the jobs
    state: str = QUEUED
    asked_at: str = field(default_factory=timestamp)
    asked_s: float = field(default_factory=time.time)  # since 1970, as the disk's times are
    begun_at: str | None = None
    ended_at: str | None = None
    code: int | None = None
    results: list[Any] = field(default_factory=list)
    error: dict[str, Any] | None = None
    printed: str = ""
    given_up: bool = False  # before its process started

    @property
    def words(self) -> tuple[str, ...]:
        return (*self.order, *self.jobs)

    @property
    def ending(self) -> Ending | None:
        """How it ended; None before."""
        if self.state != ENDED:
            return None
        outcomes = {each.get("outcome") for each in self.results if isinstance(each, dict)}
        return ending_of(self.code, outcomes, started=self.error is None)

    def as_json(self) -> dict[str, Any]:
        ending = self.ending
        return {
            "id": self.id,
            "jobs": list(self.jobs),
            "command": " ".join(("popbuild", *self.words)),
            "state": self.state,
            "askedAt": self.asked_at,
            "begunAt": self.begun_at,
            "endedAt": self.ended_at,
            "exitCode": self.code,
            "ending": ending.says if ending else None,
            "results": self.results,
            "error": self.error,
            "printed": self.printed,
        }


class Builds:
    """The builds of one server."""

    def __init__(self, root: Root, hub: Hub) -> None:
        self._root = root
        self._hub = hub
        self._locks = JobLocks(root)
        self._builds: dict[str, Build] = {}
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(BUILDS_AT_A_TIME)
        self._closing = False

    def all(self) -> list[Build]:
        """The newest first."""
        return list(reversed(self._builds.values()))

    def get(self, build: str) -> Build:
        """One by its ID; UsageError where there is none."""
        if build not in self._builds:
            raise UsageError("no such build", no_such("build", build, self._builds))
        return self._builds[build]

    def building(self, job: str) -> Build | None:
        """The build under way that a job belongs to, or None."""
        return next((each for each in self.all() if each.state != ENDED and job in each.jobs), None)

    def jobs_under_way(self) -> frozenset[str]:
        return frozenset(job for each in self.all() if each.state != ENDED for job in each.jobs)

    def start(self, jobs: Sequence[str], words: Sequence[str] = ()) -> Build:
        """Build jobs, with further words of `popbuild run`'s command line."""
        return self._begin(tuple(jobs), "run", "--continue", *words)

    def retry(self, job: str) -> Build:
        """`popbuild retry`."""
        return self._begin((job,), "retry")

    def _begin(self, jobs: tuple[str, ...], *order: str) -> Build:
        build = Build(secrets.token_hex(4), jobs, order)
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
        """Stop a build, as Ctrl-C does: what was bought stays in the store."""
        process = self._processes.get(build.id)
        if process is not None:
            _signal(process, signal.SIGINT)
        elif build.state == QUEUED:
            self._end(build, None)
        else:
            build.given_up = True

    def take_back(self, job: str) -> bool:
        """Cancel what has not begun to build this job: builds that are queued, waiting or starting.
        Says whether there were any. A build of several jobs loses this one only. A job that is
        being built is left to `popbuild.jobs.stop_requests`."""
        taken = False
        for build in self.all():
            if build.state == ENDED or job not in build.jobs:
                continue
            if len(build.jobs) == 1:
                process = self._processes.get(build.id)
                if process is None or self._locks.holder(job) != process.pid:
                    self.stop(build)
                    taken = True
            elif build.state == QUEUED:
                build.jobs = tuple(each for each in build.jobs if each != job)
                self._tell(build, job)
                taken = True
        return taken

    async def close(self) -> None:
        """Stop all builds, and wait until they have recorded their state."""
        self._closing = True
        for build in self.all():
            self.stop(build)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_GRACE_S)
        for process in self._processes.values():
            _signal(process, signal.SIGKILL)

    async def _build(self, build: Build) -> None:
        """Run a build once there is room. If it cannot be started, it ends with the reason: its
        jobs would otherwise be held for ever."""
        async with self._room:
            if build.state == ENDED or self._closing:
                return
            try:
                # Unnamed files instead of pipes: a build outlives a killed server, and would lose
                # what it bought when the reader of its pipe is gone.
                with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
                    await self._run(build, out, err)
            except OSError as error:
                build.error = in_our_words(error).as_json()
                self._end(build, None)

    async def _run(self, build: Build, out: IO[bytes], err: IO[bytes]) -> None:
        build.state, build.begun_at = RUNNING, timestamp()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "popbuild", *build.words, "--json"),
            *("--root", str(self._root.path), "--variant", self._root.variant.label),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env={**os.environ, "PYTHONSAFEPATH": "1"},
            start_new_session=True,  # the server itself passes a Ctrl-C on, once
        )
        self._processes[build.id] = process
        if build.given_up:
            _signal(process, signal.SIGINT)
        self._tell(build)
        try:
            await self._watch(build, process)
        finally:
            del self._processes[build.id]
        with contextlib.suppress(ValueError):
            said = json.loads(_all_of(out))
            if isinstance(said, list):
                build.results = said
            else:
                build.error = said
        if process.returncode != -signal.SIGINT:  # else it had not begun, and printed nothing
            printed = _all_of(err).decode(errors="replace")
            build.printed = redact(printed, os.environ)[-_MAX_ERRORS:]
        self._end(build, process.returncode)

    async def _watch(self, build: Build, process: asyncio.subprocess.Process) -> None:
        """Wait for the end of a build, and publish when it waits for another command."""
        ending = asyncio.ensure_future(process.wait())
        while not (await asyncio.wait({ending}, timeout=_LOOK_S))[0]:
            state = WAITING if self._waits(build, process.pid) else RUNNING
            if state != build.state:
                build.state = state
                self._tell(build)

    def _waits(self, build: Build, pid: int) -> bool:
        """Whether other processes hold the build's jobs, and it holds none."""
        if len(build.jobs) > _FEW:
            return False
        holders = {self._locks.holder(job) for job in build.jobs}
        return pid not in holders and holders != {None}

    def _end(self, build: Build, code: int | None) -> None:
        build.state, build.code, build.ended_at = ENDED, code, timestamp()
        self._tell(build)

    def _tell(self, build: Build, *more: str) -> None:
        jobs = [*more, *build.jobs[:100]]
        body = {"id": build.id, "state": build.state, "jobs": jobs, "exitCode": build.code}
        self._hub.publish("build", body)


def _signal(process: asyncio.subprocess.Process, number: int) -> None:
    # Not `send_signal`, which reaps one that has just ended: asyncio then does not know how.
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)


def _all_of(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()
