"""runs.jsonl, a line for each promotion, and our own copy of it: what must stand in complete/.

Each line has its own digest and the one of the line above it. Our copy in .popbuild/ tells of lines
that were taken away, and has a line too for each job that was removed on purpose, or that
came back from an archive.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from popbuild.base import disk, jsonio, locks, tree
from popbuild.base.errors import InputError
from popbuild.base.paths import COMPLETE, Root
from popbuild.model.clock import name_stamp, timestamp
from popbuild.model.letter import is_sealed, seal

RunLine = Mapping[str, Any]

_MOST_A_LINE = 2_048  # bytes of a line, mostly fewer
_TAIL = 1 << 20  # bytes at the end of runs.jsonl in which its last line is found


def add(root: Root, line: RunLine, *, once: bool = False) -> None:
    """Add a run's line to runs.jsonl and to our copy. With `once`, it may be there already."""
    with _turn(root):
        there = _line_of(root.runs, line["pipelineId"]) if once else None
        above = _last_digest(root.runs)
        new = there or seal({**line, "after": above} if above else dict(line))
        data = jsonio.compact(new).encode() + b"\n"
        if there is None:
            disk.append(root.runs, data)
        if not once or _line_of(root.runs_copy, line["pipelineId"]) is None:
            disk.append(root.runs_copy, data, sync=False)


def take_over(root: Root, lines: Sequence[RunLine], *, really: bool) -> int:
    """Add the lines of another program's runs.jsonl that are not there yet; gives how many. Each
    says what it said, with its digest and that of the line above it, as ours have. Without `really`
    they are only counted."""
    with _turn(root) if really else contextlib.nullcontext():
        there = {_said(body) for body in _bodies(root.runs)}
        new, above = [], _last_digest(root.runs)
        for said in dict.fromkeys(map(_said, lines)):
            if said not in there:
                body = json.loads(said)
                new.append(seal({**body, "after": above} if above else body))
                above = new[-1]["digest"]
        if really:
            _append(root.runs, new)
            wanted, copied = set(map(_said, lines)), set(map(_said, _bodies(root.runs_copy)))
            ours = [body for body in _bodies(root.runs) if _said(body) in wanted - copied]
            _append(root.runs_copy, ours)
        return len(new)


def _said(line: RunLine) -> str:
    """What a line says, without what ties it to the one above it."""
    return jsonio.compact({name: line[name] for name in line if name not in ("after", "digest")})


def _bodies(path: Path) -> list[dict[str, Any]]:
    return [body for line in _bytes_of(path).split(b"\n") if (body := body_of(line)) is not None]


def _append(path: Path, lines: Sequence[RunLine]) -> None:
    if lines:
        disk.append(path, b"".join(jsonio.compact(line).encode() + b"\n" for line in lines))


def removed(root: Root, job: str) -> None:
    """Write into our copy that a complete job is removed on purpose; before it is."""
    line = seal({"removed": job, "removedAt": timestamp()})
    with _turn(root):
        disk.append(root.runs_copy, jsonio.compact(line).encode() + b"\n")


def restored(root: Root, job: str, line: RunLine | None) -> None:
    """Write into our copy that a result came back from an archive; after it did. `line` is the one
    of the run that made it, if the archive has it: from now on that result must stand."""
    body = {"restored": job, "restoredAt": timestamp(), "line": dict(line) if line else None}
    with _turn(root):
        disk.append(root.runs_copy, jsonio.compact(seal(body)).encode() + b"\n")


def is_torn(root: Root, path: Path) -> bool:
    """Whether runs.jsonl, or our copy, has no end, or a line in it was cut short that the other one
    has whole."""
    lines = _bytes_of(path).split(b"\n")
    return bool(lines[-1] or _cut_short(root, path, lines))


def mend(root: Root, path: Path) -> None:
    """Make lines of runs.jsonl, or of our copy, whole that were cut short, from the other one; a
    last line that it has not is cut off."""
    with _turn(root):
        *lines, last = _bytes_of(path).split(b"\n")
        whole = _cut_short(root, path, [*lines, last])
        if last and (len(lines) in whole or _json_of(last) is not None):
            lines.append(last)
        lines = [whole.get(number, line) for number, line in enumerate(lines)]
        disk.write(path, b"".join(line + b"\n" for line in lines))


def _cut_short(root: Root, path: Path, lines: Sequence[bytes]) -> dict[int, bytes]:
    """The lines, from 0, that are the beginning of one that the other file has, with that one."""
    broken = {n: line for n, line in enumerate(lines) if line and _json_of(line) is None}
    other = _bytes_of(root.runs if path == root.runs_copy else root.runs_copy) if broken else b""
    here, found = set(lines), dict[int, bytes]()
    missing = [line for line in other.split(b"\n")[:-1] if line not in here]
    for number, line in broken.items():
        whole = next((each for each in missing if each.startswith(line)), None)
        if whole is not None:
            found[number] = whole
            missing.remove(whole)
    return found


def start_anew(root: Root) -> None:
    """Before a promotion into a root without any result, and without runs.jsonl: they were deleted,
    to be made again. What our copy says of them must not be missed: it is set aside."""
    if disk.stands(root.runs) or not disk.stands(root.runs_copy):
        return
    with _turn(root):
        # Looked at again: another job, promoted at the same time, may have done it.
        first = disk.stands(root.runs_copy) and not disk.stands(root.runs)
        if first and not complete_jobs(root):
            stamp = name_stamp()
            tree.rename_new(root.runs_copy, root.private / f"runs-{stamp}.jsonl")


def _turn(root: Root) -> AbstractContextManager[None]:
    """Jobs are promoted side by side; the order of the lines must be the same in both files."""
    return locks.turn(root.private / "locks" / "runs")


def _last_digest(path: Path) -> str | None:
    """The digest of the last line that is whole; None where there is none, or it has none."""
    for line in reversed(disk.read_end(path, _TAIL).split(b"\n")):
        body = body_of(line)
        if body is not None:
            digest = body.get("digest")
            return digest if isinstance(digest, str) else None
    return None


def _line_of(path: Path, run: str) -> dict[str, Any] | None:
    lines = (body_of(line) for line in _bytes_of(path).split(b"\n"))
    return next((body for body in lines if body is not None and body["pipelineId"] == run), None)


def recent(root: Root, most: int) -> list[RunLine]:
    """The last runs, the newest first. What is no line of a run is passed over."""
    lines = disk.read_end(root.runs, most * _MOST_A_LINE).split(b"\n")
    bodies = (body_of(line) for line in reversed(lines))
    return list(itertools.islice((body for body in bodies if body is not None), most))


def body_of(line: bytes) -> dict[str, Any] | None:
    """A run's line as JSON, or None for what is none."""
    body = _json_of(line)
    return body if body is not None and isinstance(body.get("pipelineId"), str) else None


def _json_of(line: bytes) -> dict[str, Any] | None:
    try:
        body = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def _bytes_of(path: Path) -> bytes:
    try:
        return disk.read(path)
    except (OSError, InputError):
        return b""


def _stamp(root: Root) -> list[tuple[int, int, int] | None]:
    """What tells whether runs.jsonl or our copy were written to, without reading them."""
    return [disk.stamp(path) for path in (root.runs, root.runs_copy)]


def is_line(body: dict[str, Any]) -> bool:
    """Whether this is the line of a run, as it was written."""
    return isinstance(body.get("pipelineId"), str) and _is_whole(body)


def _is_whole(body: dict[str, Any]) -> bool:
    """Whether a line has its own digest, or is from before lines had one."""
    return "digest" not in body or is_sealed(body)


def complete_jobs(root: Root) -> list[str]:
    """The jobs that stand in complete/."""
    try:
        entries = list((root.data / COMPLETE).iterdir())
    except FileNotFoundError:
        return []
    return sorted(
        path.name
        for path in entries
        if not path.name.startswith(".") and path.is_dir() and not path.is_symlink()
    )


@dataclass(frozen=True)
class Flaw:
    """What is wrong with the lines of a job, or of no job that could be told."""

    job: str | None
    what: str
    altered: bool = True


class Runs:
    """runs.jsonl line by line, beside our own copy of it, as they are now."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._stamp = _stamp(root)
        # Our copy first: it gets its line last, so that all of its lines are in what is read next.
        copy, data = _bytes_of(root.runs_copy), _bytes_of(root.runs)
        self._ended = not data or data.endswith(b"\n")
        self._lines = data.removesuffix(b"\n").split(b"\n") if data else []
        self._bodies = [body_of(line) for line in self._lines]
        self._here: dict[str, RunLine] = {}  # by run, the first line where there are several
        for body in self._bodies:
            if body is not None and _is_whole(body):
                self._here.setdefault(body["pipelineId"], body)
        self._ours: dict[str, RunLine] = {}
        self._removed: set[str] = set()
        self._restored: dict[str, RunLine] = {}  # by job, where that is newer than its last run
        for body in filter(None, map(_json_of, copy.split(b"\n"))):
            if not _is_whole(body):
                continue
            if isinstance(body.get("pipelineId"), str):
                self._ours[body["pipelineId"]] = body
                self._removed.discard(_job_of(body))
                self._restored.pop(_job_of(body), None)
            elif isinstance(body.get("removed"), str):
                self._removed.add(body["removed"])
                self._restored.pop(body["removed"], None)
            elif isinstance(body.get("restored"), str):
                self._take_restored(body["restored"], body.get("line"))
        restored = {line["pipelineId"]: line for line in self._restored.values()}
        known = {**self._here, **restored, **self._ours}
        self._by_run: dict[object, RunLine] = dict(known.items())
        self._by_seal = {line["seal"]: line for line in known.values() if "seal" in line}
        self._last_here = {_job_of(line): line for line in self._here.values()}
        self._last_ours = {_job_of(line): line for line in self._ours.values()}

    def _take_restored(self, job: str, line: Any) -> None:
        self._removed.discard(job)
        if isinstance(line, dict) and is_line(line):
            self._restored[job] = line

    def again(self) -> Runs:
        """The same as they are now; this very object where nothing was written since."""
        return self if _stamp(self._root) == self._stamp else Runs(self._root)

    def last(self, job: str) -> RunLine | None:
        """The line of the last run that was promoted as this job: its result must stand.

        What was restored from an archive since then is that result. By our copy where it knows the
        last line that is here, since lines may have been taken away
        behind that; by runs.jsonl where it does not, which then came from elsewhere.
        """
        if job in self._restored:
            return self._restored[job]
        here = self._last_here.get(job)
        if here is None or here["pipelineId"] in self._ours:
            return self._last_ours.get(job)
        return here

    def result(self, promoted: str | None, run: object) -> RunLine | None:
        """The line of a result, of whichever job: by its seal, else by its run."""
        return self._by_seal.get(promoted) or self._by_run.get(run)

    def missing(self, standing: Iterable[str]) -> tuple[list[str], list[str]]:
        """The jobs that were promoted and do not stand here: those that we saw promoted here and
        nobody removed on purpose, and those of which only runs.jsonl tells."""
        known = {*self._last_here, *self._last_ours, *self._restored}
        jobs = sorted(known - {*standing, *self._removed, ""})
        return (
            [job for job in jobs if self.is_missed(job)],
            [job for job in jobs if not self.is_missed(job)],
        )

    def is_missed(self, job: str) -> bool:
        """Whether we saw this job promoted here last, and nobody removed it on purpose."""
        last = self.last(job)
        ours = last is not None and (last["pipelineId"] in self._ours or job in self._restored)
        return ours and job not in self._removed

    def flaws(self, job: str | None = None) -> list[Flaw]:
        """What is wrong with the lines; with a job, with its lines only."""
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
            run, job = body["pipelineId"], _job_of(body)
            if not _is_whole(body) or ("digest" in body and jsonio.compact(body).encode() != line):
                yield Flaw(job, f"line {number} was altered: it does not have its own digest")
            if run in seen and job:  # another program's job keeps its ID when it is started again
                yield Flaw(job, f"line {number} repeats the run of line {seen[run]}")
            seen.setdefault(run, number)
            if run in self._ours and "digest" not in body:
                yield Flaw(job, f"line {number} was altered: its digest is missing")
        for run in sorted(self._ours.keys() - seen.keys()):
            yield Flaw(_job_of(self._ours[run]), f"the line of the run {run} is missing")
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
        """Each line names the one that was above it; others may have come between, from elsewhere.
        One that names a line which is nowhere: that one was taken away, or altered and told of."""
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
                yield Flaw(_job_of(body), what)
            elif not told:
                yield Flaw(_job_of(body), f"the line that was above line {number} is missing")


def _job_of(line: RunLine) -> str:
    """A line's job; lines of long ago do not say."""
    job = line.get("id")
    return job if isinstance(job, str) else ""
