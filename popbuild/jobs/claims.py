"""Which process may build a job: the holder of its lock, or the last to draw its fencing number.

A lock holds while its process lives, on this machine and on others that share the root. Where a
coordinator holds it for workers elsewhere, a worker that was given up for lost may still be alive:
the next one draws another number, and the first can promote nothing more.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from popbuild.base import disk, locks, tree
from popbuild.base.errors import FencedError, PopbuildError
from popbuild.base.paths import Root

_POLL_S = 0.01
_PATIENCE_S = 60.0  # with a drawn number or a promotion, which take milliseconds


class Claims(Protocol):
    """Of one process, for the jobs that it builds."""

    def acquire(self, job: str) -> bool:
        """Take a job; False where another process has it."""

    def release(self, job: str) -> None:
        """Give a job back."""

    def check(self, job: str) -> None:
        """FencedError if another process has taken the job since."""

    def final(self, job: str) -> contextlib.AbstractContextManager[None]:
        """Around a promotion or rejection, which no other may overlap. Raises FencedError."""

    def is_shared(self) -> bool:
        """Whether a worker that was given up for lost may still write into the job's directory."""


class JobLocks:
    """Jobs by their locks."""

    def __init__(self, root: Root) -> None:
        self._locks = locks.locks_of(root.private / "locks" / "jobs")
        self._fences = _Fences(root)

    def acquire(self, job: str) -> bool:
        if not self._locks.acquire(job):
            return False
        # A coordinator that died may have left a worker behind.
        self._fences.drop(job)
        return True

    def release(self, job: str) -> None:
        self._locks.release(job)

    def is_free(self, job: str) -> bool:
        """Whether no process holds a job's lock, this one included. Takes nothing."""
        return self._locks.is_free(job)

    def holder(self, job: str) -> int | None:
        """The process that holds a job's lock, as far as it is known."""
        return self._locks.holder(job)

    def check(self, job: str) -> None:
        pass

    def final(self, job: str) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def is_shared(self) -> bool:
        return False


class Fenced:
    """Jobs whose locks a coordinator holds, by their fencing numbers."""

    def __init__(self, root: Root) -> None:
        self._fences = _Fences(root)
        self._drawn: dict[str, str] = {}

    def acquire(self, job: str) -> bool:
        if job in self._drawn:
            return False
        self._drawn[job] = self._fences.draw(job)
        return True

    def release(self, job: str) -> None:
        self._drawn.pop(job, None)

    def check(self, job: str) -> None:
        self._fences.check(job, self._drawn[job])

    @contextlib.contextmanager
    def final(self, job: str) -> Iterator[None]:
        with self._fences.guarded(job):
            self.check(job)
            yield

    def is_shared(self) -> bool:
        return True


class _Fences:
    """The last number of each job, `.popbuild/fences/<job>`. Numbers are random and never come
    again, so a job without a file needs no memory of earlier ones."""

    def __init__(self, root: Root) -> None:
        self._folder = root.private / "fences"
        self._guards = locks.locks_of(root.private / "locks" / "fences")

    def draw(self, job: str) -> str:
        number = secrets.token_hex(8)
        with self.guarded(job):
            disk.make_folder(self._folder)
            disk.write(self._path(job), number.encode())
        return number

    def drop(self, job: str) -> None:
        """End the claim of every number."""
        if disk.stands(self._path(job)):
            with self.guarded(job):
                tree.remove(self._path(job))

    def check(self, job: str, number: str) -> None:
        try:
            last = disk.read(self._path(job)).decode()
        except FileNotFoundError:
            last = None
        if last != number:
            raise FencedError("the job was given to another worker", {"job": job})

    @contextlib.contextmanager
    def guarded(self, job: str) -> Iterator[None]:
        """Hold the guard, so that no new number is drawn."""
        deadline = time.monotonic() + _PATIENCE_S
        while not self._guards.acquire(job):
            if time.monotonic() > deadline:
                raise PopbuildError(
                    "a worker that promotes this job does not come to an end",
                    {"job": job},
                    hint="is a process stopped, or a machine of the cluster gone? End it",
                )
            time.sleep(_POLL_S)
        try:
            yield
        finally:
            self._guards.release(job)

    def _path(self, job: str) -> Path:
        return self._folder / job
