"""runs.jsonl beside our own copy: which result must stand, and which lines are wrong.

Both grow for as long as the root is used, so neither is kept in memory: each is read once, side by
side, and what is kept of a line is its run and where it stands. A line is read again when it is
asked for.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from popbuild.base import disk, jsonio
from popbuild.base.paths import Root
from popbuild.jobs.run_lines import LogLines
from popbuild.jobs.run_log import RunLine, body_of, is_line, is_whole, job_of, json_of


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
        self._copy, self._log = LogLines(root.runs_copy), LogLines(root.runs)
        self._here: dict[str, int] = {}  # run -> the number of its first whole line
        self._torn: dict[str, int] = {}  # run -> the number of its first line that is not whole
        self._ours: dict[str, int] = {}  # run -> the number of its last line in our copy
        self._by_seal: dict[bytes, str] = {}  # a seal's short digest -> run
        self._last_here: dict[str, str] = {}  # job -> its last run
        self._last_ours: dict[str, str] = {}
        self._removed: set[str] = set()
        self._restored: dict[str, RunLine] = {}  # by job, where that is newer than its last run
        self._brought: dict[str, RunLine] = {}  # run -> its line, which only an archive had
        self._seen_flaws: list[tuple[int, Flaw | bytes]] = []  # by line; bytes are unreadable
        self._undigested: list[tuple[int, str, str]] = []  # number, run, job of lines without one
        self._is_chained = True  # each line names the one just above it
        self._read_both()

    def _read_both(self) -> None:
        ours, above = self._our_runs(), None
        waiting = next(ours, None)
        for number, line in self._log:
            body = body_of(line)
            is_intact = body is not None and _is_intact(line, body)
            above = self._take_here(number, line, body, is_intact=is_intact, above=above)
            # Mostly our copy has the same line next: it is parsed once.
            if waiting is not None and waiting[1] == line:
                self._take_ours(waiting[0], body, is_intact=is_intact)
                waiting = next(ours, None)
        while waiting is not None:
            self._take_ours(waiting[0], json_of(waiting[1]))
            waiting = next(ours, None)
        for brought in self._restored.values():
            if brought["pipelineId"] not in self._ours:
                self._brought[brought["pipelineId"]] = brought
                self._note_seal(brought)

    def _our_runs(self) -> Iterator[tuple[int, bytes]]:
        """The lines of our copy that may be runs; notes the others when their turn comes."""
        for number, line in self._copy:
            if b'"removedAt"' in line or b'"restoredAt"' in line:
                self._take_ours(number, json_of(line))
            else:
                yield number, line

    def _take_here(
        self,
        number: int,
        line: bytes,
        body: dict[str, Any] | None,
        *,
        is_intact: bool,
        above: object,
    ) -> object:
        """Note a line of runs.jsonl; gives its digest, which the next one names."""
        if body is None:
            self._is_chained = False
            self._seen_flaws.append((number, line))
            return None
        run, job = body["pipelineId"], job_of(body)
        is_whole_body = is_intact or is_whole(body)
        if not is_intact:
            what = f"line {number} was altered: it does not have its own digest"
            self._seen_flaws.append((number, Flaw(job, what)))
        before = min(filter(None, (self._here.get(run), self._torn.get(run))), default=0)
        if before and job:  # another program's job keeps its ID when it is started again
            what = f"line {number} repeats the run of line {before}"
            self._seen_flaws.append((number, Flaw(job, what)))
        if "digest" not in body:
            self._undigested.append((number, run, job))
        if is_whole_body and run not in self._here:
            self._here[run] = number
            self._last_here[job] = run
            self._note_seal(body)
        elif not is_whole_body:
            self._torn.setdefault(run, number)
        follows = body.get("after") in (None, above)
        self._is_chained = self._is_chained and is_intact and not before and follows
        return body.get("digest")

    def _take_ours(
        self, number: int, body: dict[str, Any] | None, *, is_intact: bool = False
    ) -> None:
        """Note a line of our copy: a run, or a job that was removed or restored."""
        if body is None or not (is_intact or is_whole(body)):
            return
        match body:
            case {"pipelineId": str(run)}:
                if run not in self._ours:
                    self._last_ours[job_of(body)] = run
                self._ours[run] = number
                self._note_seal(body)
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

    def _note_seal(self, line: RunLine) -> None:
        if "seal" in line:
            self._by_seal[_short(line["seal"])] = line["pipelineId"]

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
        if here is None or here in self._ours:
            ours = self._last_ours.get(job)
            return None if ours is None else self._line_ours(ours)
        return self._line_here(here)

    def result(self, promoted: str | None, run: object) -> RunLine | None:
        """The line of a result, of any job: by its seal, else by its run."""
        sealed = None if promoted is None else self._line(self._by_seal.get(_short(promoted)))
        return sealed if sealed and sealed.get("seal") == promoted else self._line(run)

    def _line(self, run: object) -> RunLine | None:
        """The line of a run: as our copy has it, or an archive, or runs.jsonl."""
        if not isinstance(run, str):
            return None
        return self._line_ours(run) or self._brought.get(run) or self._line_here(run)

    def _line_here(self, run: str) -> RunLine | None:
        return self._log.body_at(self._here.get(run))

    def _line_ours(self, run: str) -> RunLine | None:
        return self._copy.body_at(self._ours.get(run))

    def missing(self, standing: Iterable[str]) -> tuple[list[str], list[str]]:
        """The jobs that were promoted and do not stand here: those that we saw promoted here and
        that were not removed on purpose, and those that only runs.jsonl names."""
        known = {*self._last_here, *self._last_ours, *self._restored}
        jobs = sorted(known - {*standing, *self._removed, ""})
        missed = [job for job in jobs if self.is_missed(job)]
        return missed, sorted({*jobs} - {*missed})

    def is_missed(self, job: str) -> bool:
        """Whether we saw this job promoted here last, and it was not removed on purpose."""
        here = self._last_here.get(job)
        is_ours = job in self._last_ours and (here is None or here in self._ours)
        return (is_ours or job in self._restored) and job not in self._removed

    def flaws(self, job: str | None = None) -> list[Flaw]:
        """All flaws; with a job, those of its lines."""
        return [each for each in self._flaws if job is None or each.job == job]

    @functools.cached_property
    def _flaws(self) -> list[Flaw]:
        return list(self._look())

    def _look(self) -> Iterator[Flaw]:
        found = [*self._seen_flaws]
        for number, run, job in self._undigested:
            if run in self._ours:
                flaw = Flaw(job, f"line {number} was altered: its digest is missing")
                found.append((number, flaw))
        for number, each in sorted(found, key=lambda flaw: flaw[0]):
            yield self._unreadable(number, each) if isinstance(each, bytes) else each
        for run in sorted(self._ours.keys() - self._here.keys() - self._torn.keys()):
            line = self._line_ours(run)
            yield Flaw(job_of(line or {}), f"the line of the run {run} is missing")
        if not self._is_chained:
            yield from self._out_of_order()
        if not self._log.has_end:
            yield Flaw(None, "its last line has no end")

    def _unreadable(self, number: int, line: bytes) -> Flaw:
        # A line that is added again after a crash may name another one above it.
        start = line.partition(b',"after":')[0]
        if line and any(each != line and each.startswith(start) for _, each in self._log):
            what = f"line {number} was cut short by a crash, and written again"
            return Flaw(None, what, altered=False)
        return Flaw(None, f"line {number} is not one that popbuild wrote")

    def _out_of_order(self) -> Iterator[Flaw]:
        """Each line names the one above it. A name that is nowhere was removed, or altered."""
        bodies = [(number, body_of(line)) for number, line in self._log]
        places = {
            body["digest"]: number
            for number, body in bodies
            if body is not None and isinstance(body.get("digest"), str)
        }
        told = any(body is None for _, body in bodies)
        told = told or bool(self._ours.keys() - self._here.keys())
        for number, body in bodies:
            above = body.get("after") if body is not None else None
            place = places.get(above, 0) if isinstance(above, str) else 0
            if body is None or above is None or 0 < place < number:
                continue
            if place:
                what = f"line {number} stands above line {place}, which it came after"
                yield Flaw(job_of(body), what)
            elif not told:
                yield Flaw(job_of(body), f"the line that was above line {number} is missing")


def _short(seal: object) -> bytes:
    """A seal's digest in 16 bytes: there are as many as runs."""
    return hashlib.blake2b(str(seal).encode(), digest_size=16).digest()


def _is_intact(line: bytes, body: dict[str, Any]) -> bool:
    """Whether a run's line is byte for byte as it was written; one from before lines had digests
    cannot tell."""
    if "digest" not in body:
        return True
    try:
        if jsonio.compact(body).encode() != line:
            return False
    except (ValueError, RecursionError):  # NaN, half a character
        return False
    # What was digested is mostly the line without the digest, which is there already as bytes.
    rest = line.replace(f'"digest":"{body["digest"]}",'.encode(), b"", 1)
    return jsonio.digest_bytes(rest) == body["digest"] or is_whole(body)
