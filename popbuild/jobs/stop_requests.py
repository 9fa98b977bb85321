"""Requests to stop the build of a job, from any process: `.popbuild/stops/<job>`.

A request is for whoever has the job's lock when it is written, and for whoever waits for that lock:
otherwise the next one would take over at once. A build looks for one about twice a second, and
removes it: when it begins, since that one was for somebody before, and when it ends. One that was
heeded stays a moment longer, for those who wait: they know it by its stamp from one that stood when
they came. So a request that came too late never stops a later build. One that comes in the very
moment in which a build begins would be lost: whoever asked asks once more.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from popbuild.base import disk, tree
from popbuild.base.paths import CURRENT, Root
from popbuild.jobs import lookup
from popbuild.jobs.claims import JobLocks
from popbuild.model.status import STOPPED

POLL_S = 0.5  # how often a build looks
LINGER_S = 0.5  # that a request stands once the lock is free: longer than who waits looks away
SAID = "popbuild stop asked for it"
_WAIT_S = 0.1
_AGAIN_S = 3.0  # after which a request that was taken, and not heeded, is made again


class Stops:
    """The requests of a root, for whoever builds there."""

    def __init__(self, root: Root) -> None:
        self._folder = root.private / "stops"

    def asked(self) -> set[str]:
        """The jobs that are to be stopped: one look for all of them."""
        return set(lookup.stems_in(self._folder, ""))

    def ask(self, job: str) -> None:
        """Ask whoever builds a job to stop."""
        disk.make_folder(self._folder)
        disk.write(self._path(job), b"", sync=False)

    def stands(self, job: str) -> bool:
        """Whether a request was not taken yet."""
        return disk.stands(self._path(job))

    def stamp(self, job: str) -> object:
        """What is another one for each request; None where none stands."""
        with contextlib.suppress(OSError):  # then nobody can ask
            return disk.stamp(self._path(job))
        return None

    def drop(self, job: str) -> None:
        """Take a request, if there is one."""
        if self.stands(job):
            with contextlib.suppress(OSError):  # it can stop nobody else: the next one drops it
                tree.remove(self._path(job))

    def _path(self, job: str) -> Path:
        return self._folder / job


@dataclass(frozen=True)
class Stopped:
    """What became of a request. `asked` is whether somebody built the job, `ended` whether nobody
    does any more; `stopped` that it was stopped, and did not end by itself before."""

    job: str
    asked: bool
    ended: bool
    stopped: bool

    def as_json(self) -> dict[str, Any]:
        return {
            "job": self.job,
            "asked": self.asked,
            "ended": self.ended,
            "stopped": self.stopped,
        }

    def lines(self) -> Iterator[str]:
        """As a person reads it."""
        if not self.asked:
            yield f"{self.job}: nobody builds it"
        elif not self.ended:
            yield f"{self.job}: asked to stop, and still under way"
        else:
            yield f"{self.job}: {'stopped' if self.stopped else 'ended by itself'}"


def ask(root: Root, job: str) -> bool:
    """Ask whoever builds a job to stop, and do not wait; False where nobody does."""
    if JobLocks(root).is_free(job):
        return False
    Stops(root).ask(job)
    return True


def stop(root: Root, names: Iterable[str], patience_s: float) -> list[Stopped]:
    """Ask whoever builds these jobs to stop, and wait until nobody does any more, at most so
    long."""
    asked = {job: ask(root, job) for job in names}
    left = _wait(root, [job for job, is_built in asked.items() if is_built], patience_s)
    return [
        Stopped(
            job,
            is_built,
            job not in left,
            is_built and lookup.state_in(root.job(CURRENT, job)) == STOPPED,
        )
        for job, is_built in asked.items()
    ]


def _wait(root: Root, names: Iterable[str], patience_s: float) -> set[str]:
    """The jobs that are still built after that time."""
    stops, locks = Stops(root), JobLocks(root)
    left, deadline = set(names), time.monotonic() + patience_s
    again_s = dict.fromkeys(left, time.monotonic() + _AGAIN_S)
    free_s: dict[str, float] = {}  # since when nobody has it, or somebody else
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
