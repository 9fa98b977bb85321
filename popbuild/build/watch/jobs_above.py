"""The jobs over others that an orchestrator takes up as these end, here or elsewhere."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable

from popbuild.base.paths import COMPLETE, REJECTED, Root
from popbuild.build.events import JobResult
from popbuild.build.watch.waiting import Waiting
from popbuild.jobs.over_others import OverOthers

_Inodes = dict[tuple[str, str], int]  # of directories, by state and job


class JobsAbove:
    """The jobs over others, and which of them are due."""

    def __init__(self, root: Root, waiting: Waiting) -> None:
        self._waiting = waiting
        self._over = OverOthers(root)
        self._ends = EndedJobs(root)
        self._by_others: set[str] = set()  # due since another command built one below
        self._under_way: set[str] = set()  # those of them that are built
        self.look, self.look_at = self._over.look, self._over.look_at

    def take_due(self, job: str) -> bool:
        """Whether a job is to be built because of one that it is over; once."""
        self._under_way |= self._by_others & {job}
        self._by_others.discard(job)
        return self._over.take_due(job)

    def has_to_wait(self, job: str, *busy: Iterable[str]) -> bool:
        """Whether a job that it is over comes first: one of the `busy`, or one that another process
        builds."""
        return self._over.has_to_wait(job, *busy, self._waiting.under_way())

    def ended_elsewhere(self, jobs: Collection[str] | None, own: Collection[str]) -> list[str]:
        """The jobs that are due since one of these, or of all, ended. Not those of our own that are
        built: their results tell."""
        ended = self._ends.since(jobs, but=own)
        found = [above for job in ended for above in self._over.ended(job)]
        self._by_others.update(found)
        return found

    def ended(self, result: JobResult, *, is_new: bool) -> list[str]:
        """The jobs that are due since our build of one ended: with something new, or with what
        another command had just built."""
        by_another = bool(self._ends.since([result.id])) and result.outcome == "up to date"
        return self._over.ended(result.id) if is_new or by_another else []

    def is_to_be_told(self, result: JobResult) -> bool:
        """Whether the end of a job is worth a word: not where jobs below are still to be built by
        another command. The next of them that ends is heard."""
        is_by_others = result.id in self._under_way
        self._under_way.discard(result.id)
        return not (is_by_others and result.spares_others)


class EndedJobs:
    """The jobs in complete/ and rejected/, as they were when they were last looked at. A promotion
    puts another directory in the place of the old one, which is still there at that moment."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._inodes = self._all()

    def since(self, jobs: Collection[str] | None = None, but: Collection[str] = ()) -> list[str]:
        """The jobs, of these or of all, that ended since they were last looked at. `but` these are
        not looked at."""
        now = self._all() if jobs is None else self._of(jobs)
        before = {at: inode for at, inode in self._inodes.items() if jobs is not None or at in now}
        now = {at: inode for at, inode in now.items() if at[1] not in but}
        self._inodes = before | now
        return sorted({at[1] for at, inode in now.items() if before.get(at) != inode})

    def _all(self) -> _Inodes:
        found: _Inodes = {}
        for state in (COMPLETE, REJECTED):
            folder = self._root.data / state
            with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
                found |= {(state, each.name): each.inode() for each in entries}
        return found

    def _of(self, jobs: Collection[str]) -> _Inodes:
        found: _Inodes = {}
        for state in (COMPLETE, REJECTED):
            for job in jobs:
                with contextlib.suppress(FileNotFoundError):
                    found[state, job] = os.lstat(self._root.job(state, job).path).st_ino
        return found
