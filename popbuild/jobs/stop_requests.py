"""Requests to stop the build of a job, from any process: `.popbuild/stops/<job>`.

A request stops the process that holds the job's lock and those that wait for it: otherwise the next
one would take over at once. A build looks for requests twice a second, and removes them when it
begins and when it ends. One that stopped it stays a moment longer for the builds that wait; they
tell it by its stamp from an earlier one. So a late request never stops a later build. A request
made just as a build begins would be lost: `stop` makes it again.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from popbuild.base import disk, tree
from popbuild.base.paths import CURRENT, Root
from popbuild.jobs import job_state
from popbuild.jobs.claims import JobLocks
from popbuild.model.status import STOPPED

POLL_S = 0.5  # between two looks of a build
LINGER_S = 0.5  # a request outlives the lock by this: longer than a waiting build pauses
SAID = "popbuild stop asked for it"
_WAIT_S = 0.1
_AGAIN_S = 3.0  # before a request that was removed but not heeded is made again


class Stops:
    """The requests of a root."""

    def __init__(self, root: Root) -> None:
        self._folder = root.own / "stops"

    def asked(self) -> set[str]:
        """The jobs that have a request, by one look."""
        return set(tree.stems_in(self._folder, ""))

    def ask(self, job: str) -> None:
        """Ask the build of a job to stop."""
        disk.make_folder(self._folder)
        disk.write(self._path(job), b"", sync=False)

    def stands(self, job: str) -> bool:
        """Whether a request was not taken yet."""
        return disk.stands(self._path(job))

    def stamp(self, job: str) -> object:
        """What tells one request from another; None where there is none."""
        with contextlib.suppress(OSError):  # then no request can be made either
            return disk.stamp(self._path(job))
        return None

    def drop(self, job: str) -> None:
        """Take a request, if there is one."""
        if self.stands(job):
            with contextlib.suppress(OSError):  # it stops no other build: the next one drops it
                tree.remove(self._path(job))

    def _path(self, job: str) -> Path:
        return self._folder / job


@dataclass(frozen=True)
class Stopped:
    """What became of a request: whether a build was under way, ended, and ended by this."""

    job: str
    asked: bool
    ended: bool
    stopped: bool

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """As a person reads it."""
        if not self.asked:
            yield f"{self.job}: no build is under way"
        elif not self.ended:
            yield f"{self.job}: asked to stop, and still under way"
        else:
            yield f"{self.job}: {'stopped' if self.stopped else 'ended by itself'}"


def ask(root: Root, job: str) -> bool:
    """Ask the build of a job to stop, and do not wait; False where none is under way."""
    if JobLocks(root).is_free(job):
        return False
    Stops(root).ask(job)
    return True


def stop(root: Root, names: Iterable[str], patience_s: float) -> list[Stopped]:
    """Ask the builds of these jobs to stop, and wait for their end, at most this long."""
    asked = {job: ask(root, job) for job in names}
    left = _wait(root, [job for job, is_built in asked.items() if is_built], patience_s)
    return [
        Stopped(
            job,
            is_built,
            job not in left,
            is_built and job_state.state_in(root.job(CURRENT, job)) == STOPPED,
        )
        for job, is_built in asked.items()
    ]


def _wait(root: Root, names: Iterable[str], patience_s: float) -> set[str]:
    """The jobs that are still built after that time."""
    stops, locks = Stops(root), JobLocks(root)
    left, deadline = set(names), time.monotonic() + patience_s
    again_s = dict.fromkeys(left, time.monotonic() + _AGAIN_S)
    free_s: dict[str, float] = {}  # since when the lock has been free, or another build has it
    while left and (free_s or time.monotonic() < deadline):
        time.sleep(_WAIT_S)
        for job in list(left):
            if job in free_s or locks.is_free(job):
                if time.monotonic() - free_s.setdefault(job, time.monotonic()) >= LINGER_S:
                    del free_s[job]
                    stops.drop(job)
                    left.discard(job)
            elif stops.stands(job):
                again_s[job] = time.monotonic() + _AGAIN_S
            elif time.monotonic() > again_s[job]:
                stops.ask(job)
    return left
