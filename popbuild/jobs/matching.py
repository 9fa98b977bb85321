"""Which jobs of a root a glob matches. The names are listed once, and again when a folder changed:
many jobs may be over ten thousand others."""

from __future__ import annotations

import bisect
import fnmatch
import re
import time

from popbuild.base import tree
from popbuild.base.paths import COMPLETE, CURRENT, PENDING, REJECTED, Root, name_problem
from popbuild.jobs import job_ids, job_state, row_seeds

_RESTED_NS = 100_000_000  # ten ticks of a file system's clock


class JobNames:
    """The IDs of a root's jobs, as one command looks at them again and again."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._look: object = None
        self._ids: list[str] = []
        self._with_source: frozenset[str] = frozenset()

    def matching(self, glob: str, own: str) -> list[str]:
        """The jobs that a glob of the job `own` means, orphans among them, sorted."""
        self._renew()
        begin = glob[: min((glob.find(sign) for sign in "*?[" if sign in glob), default=None)]
        first = bisect.bisect_left(self._ids, begin)
        last = bisect.bisect_right(self._ids, begin + "\U0010ffff", first)
        fits = re.compile(fnmatch.translate(glob)).match
        found = [each for each in self._ids[first:last] if fits(each) and each != own]
        return [each for each in found if name_problem(each) is None]

    def with_source(self, glob: str, own: str) -> list[str]:
        """Those of them for which there is a file, a row or a submission that they are built from:
        no orphans."""
        return [each for each in self.matching(glob, own) if self._has_source(each)]

    def _has_source(self, job: str) -> bool:
        if job in self._with_source:
            return True
        places = (self._root.job(state, job) for state in (CURRENT, COMPLETE, REJECTED))
        there = [each for each in places if each.path.is_dir()]
        return not any(job_state.is_orphan(self._root, each) for each in there)

    def _renew(self) -> None:
        look, _ = self._looked()
        if look == self._look:
            return
        self._ids = job_ids.known_jobs(self._root)
        waiting = tree.stems_in(self._root.data / PENDING, "-seed.json")
        self._with_source = frozenset(job_ids.known_seeds(self._root)).union(waiting)
        again, rested_ns = self._looked()
        # A change within a tick of the clock after another may not show.
        self._look = look if again == look and rested_ns > _RESTED_NS else None

    def _looked(self) -> tuple[object, int]:
        """The folders and tables as they are, and for how many nanoseconds none was changed."""
        newest, found = 0, []
        for path in (self._root.seeds, *self._root.folders()):
            try:
                it = path.stat()
            except OSError:
                found.append((0, 0))
                continue
            found.append((it.st_ino, it.st_mtime_ns))
            newest = max(newest, it.st_mtime_ns)
        tables, rested_ns = row_seeds.look_at_tables(self._root)
        return (found, tables), min(rested_ns, time.time_ns() - newest)
