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

from popbuild.base import disk, locks, tree
from popbuild.base.errors import FencedError, PopbuildError
from popbuild.base.paths import Root

_POLL_S = 0.01
_PATIENCE_S = 60.0  # with a drawn number or a promotion, which take milliseconds


class JobLocks:
    """Jobs by their locks."""

    is_shared = False  # whether a worker that was given up may still write into a job's directory

    def __init__(self, root: Root) -> None:
        self._locks = locks.locks_of(root.own / "locks" / "jobs")
        self._fences = Fenced(root)

    def acquire(self, job: str) -> bool:
        """Take a job; False where another process has it."""
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
        """FencedError if another process has taken the job since: a lock cannot be taken away."""

    def final(self, job: str) -> contextlib.AbstractContextManager[None]:
        """Around a promotion or rejection, which no other may overlap. Raises FencedError."""
        return contextlib.nullcontext()


class Fenced:
    """Jobs whose locks a coordinator holds, by their fencing numbers. `.popbuild/fences/<job>` has
    the last one. Numbers are random, so a job without a file needs no memory of earlier ones."""

    is_shared = True

    def __init__(self, root: Root) -> None:
        self._folder = root.own / "fences"
        self._guards = locks.locks_of(root.own / "locks" / "fences")
        self._drawn: dict[str, str] = {}

    def acquire(self, job: str) -> bool:
        if job in self._drawn:
            return False
        number = secrets.token_hex(8)
        with self._guarded(job):
            disk.make_folder(self._folder)
            disk.write(self._folder / job, number.encode())
        self._drawn[job] = number
        return True

    def release(self, job: str) -> None:
        self._drawn.pop(job, None)

    def drop(self, job: str) -> None:
        """End the claim of every number."""
        if disk.stands(self._folder / job):
            with self._guarded(job):
                tree.remove(self._folder / job)

    def check(self, job: str) -> None:
        try:
            last = disk.read(self._folder / job).decode()
        except FileNotFoundError:
            last = None
        if last != self._drawn[job]:
            raise FencedError("the job was given to another worker", {"job": job})

    @contextlib.contextmanager
    def final(self, job: str) -> Iterator[None]:
        with self._guarded(job):
            self.check(job)
            yield

    @contextlib.contextmanager
    def _guarded(self, job: str) -> Iterator[None]:
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


Claims = JobLocks | Fenced  # of one process, for the jobs that it builds
