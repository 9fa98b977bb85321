"""Which jobs follow where one that they are over changes: for what goes on and hears of changes."""

from __future__ import annotations

import contextlib
import fnmatch
from collections.abc import Iterable

from popbuild.base import disk
from popbuild.base.paths import Root
from popbuild.jobs import job_ids, job_state
from popbuild.jobs.seed_files import BadSeed
from popbuild.model.job_groups import named_groups


class OverOthers:
    """The jobs that are over others, as their seeds were when they were last looked at."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._marks: dict[str, object] = {}
        self._globs: dict[str, tuple[str, ...]] = {}
        self._due: set[str] = set()  # one that they are over ended with something new

    def look(self) -> None:
        """Read the seeds that are new, or were changed."""
        known = job_ids.known_jobs(self._root)
        self.look_at(known)
        for job in self._globs.keys() - {*known}:
            del self._globs[job]

    def look_at(self, jobs: Iterable[str]) -> None:
        """The same of these jobs alone."""
        for job in jobs:
            mark = disk.stamp(self._root.seed(job)), disk.stamp(self._root.pending(job))
            if self._marks.get(job) == mark:
                continue
            self._marks[job] = mark
            self._globs.pop(job, None)
            if not job_state.may_be_over(self._root, job):
                continue
            with contextlib.suppress(BadSeed):
                globs = named_groups(job_state.todays_seed(self._root, job)[0]).values()
                self._globs |= {job: tuple(globs)} if globs else {}

    def ended(self, job: str) -> list[str]:
        """The jobs that are to be built since this one ended with something new."""
        found = self.above(job)
        self._due.update(found)
        return found

    def take_due(self, job: str) -> bool:
        """Whether a job is to be built because of one that it is over; once."""
        is_due = job in self._due
        self._due.discard(job)
        return is_due

    def above(self, job: str) -> list[str]:
        """The jobs that are over this one."""
        return [each for each in self._globs if self._is_over(each, job)]

    def has_to_wait(self, job: str, *busy: Iterable[str]) -> bool:
        """Whether one of the `busy` jobs comes before this one. In a circle, which is an error that
        a build tells, none waits."""
        if job not in self._globs:
            return False
        before = {each for jobs in busy for each in jobs if self._is_over(job, each)}
        return bool(before and before - self.all_above(job))

    def _is_over(self, job: str, other: str) -> bool:
        globs = self._globs.get(job, ())
        return job != other and any(fnmatch.fnmatchcase(other, glob) for glob in globs)

    def all_above(self, job: str) -> set[str]:
        """The jobs that are over this one, and over these."""
        found: set[str] = set()
        waiting = [job]
        while waiting:
            above = set(self.above(waiting.pop())) - found
            found |= above
            waiting += above
        return found
