"""runs.jsonl beside our own copy: which result must stand, and which lines are wrong."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from popbuild.base import disk, jsonio
from popbuild.base.paths import Root
from popbuild.jobs.run_log import RunLine, body_of, bytes_at, is_line, is_whole, job_of, json_of


def _stamp(root: Root) -> list[tuple[int, int, int] | None]:
    """Changes whenever runs.jsonl or our copy are written to."""
    return [disk.stamp(path) for path in (root.runs, root.runs_copy)]


@dataclass(frozen=True)
class Flaw:
    """A wrong line, of a job or of an unknown one."""

    job: str | None
    what: str
    altered: bool = True


class Runs:
    """runs.jsonl line by line, beside our own copy of it, as they are now."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._stamp = _stamp(root)
        # Our copy first: it gets its line last, so that all of its lines are in what is read next.
        copy, data = bytes_at(root.runs_copy), bytes_at(root.runs)
        self._ended = not data or data.endswith(b"\n")
        self._lines = data.removesuffix(b"\n").split(b"\n") if data else []
        self._bodies = [body_of(line) for line in self._lines]
        self._here: dict[str, RunLine] = {}  # by run, the first line where there are several
        for body in self._bodies:
            if body is not None and is_whole(body):
                self._here.setdefault(body["pipelineId"], body)
        self._ours: dict[str, RunLine] = {}
        self._removed: set[str] = set()
        self._restored: dict[str, RunLine] = {}  # by job, where that is newer than its last run
        for body in filter(None, map(json_of, copy.split(b"\n"))):
            if not is_whole(body):
                continue
            match body:
                case {"pipelineId": str(run)}:
                    self._ours[run] = body
                    self._removed.discard(job_of(body))
                    self._restored.pop(job_of(body), None)
                case {"removed": str(job)}:
                    self._removed.add(job)
                    self._restored.pop(job, None)
                case {"restored": str(job)}:
                    line = body.get("line")
                    self._removed.discard(job)
                    if isinstance(line, dict) and is_line(line):
                        self._restored[job] = line
        restored = {line["pipelineId"]: line for line in self._restored.values()}
        known = {**self._here, **restored, **self._ours}
        self._by_run: dict[object, RunLine] = dict(known.items())
        self._by_seal = {line["seal"]: line for line in known.values() if "seal" in line}
        self._last_here = {job_of(line): line for line in self._here.values()}
        self._last_ours = {job_of(line): line for line in self._ours.values()}

    def again(self) -> Runs:
        """The same as they are now; this very object where nothing was written since."""
        return self if _stamp(self._root) == self._stamp else Runs(self._root)

    def last(self, job: str) -> RunLine | None:
        """The line of the last run that was promoted or restored as this job: its result must
        stand. Our copy decides where it has the last line of runs.jsonl, since lines may have been
        removed behind it; otherwise runs.jsonl came from elsewhere, and decides."""
        if job in self._restored:
            return self._restored[job]
        here = self._last_here.get(job)
        if here is None or here["pipelineId"] in self._ours:
            return self._last_ours.get(job)
        return here

    def result(self, promoted: str | None, run: object) -> RunLine | None:
        """The line of a result, of any job: by its seal, else by its run."""
        return self._by_seal.get(promoted) or self._by_run.get(run)

    def missing(self, standing: Iterable[str]) -> tuple[list[str], list[str]]:
        """The jobs that were promoted and do not stand here: those that we saw promoted here and
        that were not removed on purpose, and those that only runs.jsonl names."""
        known = {*self._last_here, *self._last_ours, *self._restored}
        jobs = sorted(known - {*standing, *self._removed, ""})
        missed = [job for job in jobs if self.is_missed(job)]
        return missed, [job for job in jobs if job not in missed]

    def is_missed(self, job: str) -> bool:
        """Whether we saw this job promoted here last, and it was not removed on purpose."""
        last = self.last(job)
        ours = last is not None and (last["pipelineId"] in self._ours or job in self._restored)
        return ours and job not in self._removed

    def flaws(self, job: str | None = None) -> list[Flaw]:
        """All flaws; with a job, those of its lines."""
        return [each for each in self._flaws if job is None or each.job == job]

    @functools.cached_property
    def _flaws(self) -> list[Flaw]:
        return list(self._look())

    def _look(self) -> Iterator[Flaw]:
        seen: dict[str, int] = {}
        for number, (line, body) in enumerate(zip(self._lines, self._bodies, strict=True), 1):
            if body is None:
                yield self._unreadable(number, line)
                continue
            run, job = body["pipelineId"], job_of(body)
            if not is_whole(body) or ("digest" in body and jsonio.compact(body).encode() != line):
                yield Flaw(job, f"line {number} was altered: it does not have its own digest")
            if run in seen and job:  # another program's job keeps its ID when it is started again
                yield Flaw(job, f"line {number} repeats the run of line {seen[run]}")
            seen.setdefault(run, number)
            if run in self._ours and "digest" not in body:
                yield Flaw(job, f"line {number} was altered: its digest is missing")
        for run in sorted(self._ours.keys() - seen.keys()):
            yield Flaw(job_of(self._ours[run]), f"the line of the run {run} is missing")
        yield from self._out_of_order()
        if not self._ended:
            yield Flaw(None, "its last line has no end")

    def _unreadable(self, number: int, line: bytes) -> Flaw:
        # A line that is added again after a crash may name another one above it.
        start = line.partition(b',"after":')[0]
        if line and any(each != line and each.startswith(start) for each in self._lines):
            what = f"line {number} was cut short by a crash, and written again"
            return Flaw(None, what, altered=False)
        return Flaw(None, f"line {number} is not one that popbuild wrote")

    def _out_of_order(self) -> Iterator[Flaw]:
        """Each line names the one above it. A name that is nowhere was removed, or altered."""
        places = {
            body["digest"]: number
            for number, body in enumerate(self._bodies, 1)
            if body is not None and isinstance(body.get("digest"), str)
        }
        told = None in self._bodies or bool(self._ours.keys() - self._here.keys())
        for number, body in enumerate(self._bodies, 1):
            above = body.get("after") if body is not None else None
            place = places.get(above, 0) if isinstance(above, str) else 0
            if body is None or above is None or 0 < place < number:
                continue
            if place:
                what = f"line {number} stands above line {place}, which it came after"
                yield Flaw(job_of(body), what)
            elif not told:
                yield Flaw(job_of(body), f"the line that was above line {number} is missing")
