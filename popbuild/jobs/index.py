"""Which complete jobs are as they were at the last look: `.popbuild/index/jobs.json`.

A job's stamp is a digest over the stats of every file that its verdict is read from, and over all
else that it hangs on: the configuration, where models answer, popbuild itself. The index has the
stamps of jobs that were found complete, up to date, and with nothing left to do. A job that has the
same stamp still is. It also has the stamps and verdicts of complete jobs that are stale: a listing
shows them again, and everything else examines them. So whatever is in doubt costs a look, and never
gives a wrong answer:

- A file that is written to, or replaced by a copy or from a backup, has another inode or another
  time of change, which nobody can set.
- Two edits within one tick of the clock may have the same times. A stamp is kept only of files
  that had been at rest for some ticks, by the clock of their own file system.
- A clock that was moved back may come by the same time again: stamps from the future are dropped.
- A network file system may show stats of a minute ago: there, every job is examined.
- The file has its own digest. A damaged one, or one that cannot be read or written, is none.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from popbuild import __version__
from popbuild.base import disk, file_clock, fork_map, jsonio
from popbuild.base.errors import PopbuildError
from popbuild.base.paths import (
    COMPLETE,
    CURRENT,
    PACKAGE,
    PENDING,
    REJECTED,
    SEED,
    STATUS,
    artifact_place,
    job_place,
    letter_place,
    samples_place,
    seed_place,
)
from popbuild.jobs import lookup, staleness
from popbuild.jobs.examine import Exam, Surroundings, with_frozen
from popbuild.jobs.lookup import Job
from popbuild.jobs.staleness import Verdict
from popbuild.model.config.config import DEFAULT_PIPELINE
from popbuild.model.pipeline import Pipeline

# Folders of the code that decides what is stale.
_JUDGES = ("base", "model", "model/config", "model/schema", "llm", "jobs")
_VERSION = 3
_BYTES_A_JOB = 30_000  # of the index are read in the time that it takes to examine a job
_JOBS_A_PROCESS = 250  # are worth a process more
_MAX_REASONS = 4_000  # characters of a stale job's reasons that are kept
_TICKS_NS = 100_000_000  # ten ticks, and mostly more, of the clocks that file systems read
_COARSE_TICKS_NS = 4_000_000_000  # two of the coarsest: FAT's
_UP_TO_DATE = Verdict(())
_pack = struct.Struct("=qqqQQ").pack


@dataclass(frozen=True)
class _Watched:
    """What the verdicts on one pipeline's jobs are read from: places in a job's directory, and the
    digest of all that stands elsewhere."""

    pipeline: Pipeline
    places: tuple[str, ...]
    elsewhere: bytes


_Stale = tuple[str, Mapping[str, Verdict]]  # a row, and the verdict on each task
_Look = Callable[[str], os.stat_result | None]  # a path -> what stands there, None for nothing


class Index:
    """The index as one command uses it, in a `with`: at its end, what was learned is written down.

    `ids` are the jobs that the command looks at. A few among many are examined, which takes less
    time than to read the index.
    """

    def __init__(self, around: Surroundings, ids: Collection[str]) -> None:
        self._around = around
        self._path = around.root.private / "index" / "jobs.json"
        self._watched: dict[str, _Watched | None] = {}
        self._rows: dict[str, str] = {}  # job -> <pipeline>:<the digest of its stamp>
        self._stale: dict[str, _Stale] = {}  # as they were when the last look found them so
        self._learned = False
        self._met: set[str] = set()  # those whose row was found by this very command
        self._now: file_clock.Moment | None = None
        self._unsettled: frozenset[str] = frozenset()
        if len(ids) > 1 and _size(self._path) <= len(ids) * _BYTES_A_JOB:
            with contextlib.suppress(OSError):
                self._unsettled = _unsettled(around)
                self._now = file_clock.now(self._path.parent)
        if self._now is not None:
            self._rows, self._stale = _read(self._path, self._now)
            known = self._rows.keys() | self._stale.keys() | self._unsettled
            self._meet([job for job in ids if job not in known])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._learned and self._now is not None:
            with contextlib.suppress(OSError):  # then the next command examines once more
                good = set(_names(self._around.root.data / COMPLETE))
                rows = {job: row for job, row in self._rows.items() if job in good}
                stale = {job: each for job, each in self._stale.items() if job in good}
                _write(self._path, self._now, rows, stale)

    def find(self, job: str) -> Job:
        """`jobs.find`, without opening a file of a job that is as it was. Of such a one the state
        and the verdicts are known: neither its seed nor its artifacts were read."""
        pipeline = self.knows(job)
        if pipeline is None:
            return self.examine(job)
        return self._as_it_was(job, pipeline, dict.fromkeys(pipeline.names, _UP_TO_DATE))

    def show(self, job: str) -> Job:
        """`find` for a listing, which shows a stale job that is as it was without opening it. A
        build needs more of that than the verdicts."""
        row, verdicts = self._stale.get(job, (None, {}))
        pipeline = self._same(job, row)
        if pipeline is None or verdicts.keys() != set(pipeline.names):
            return self.find(job)
        return self._as_it_was(job, pipeline, dict(verdicts))

    def _as_it_was(self, job: str, pipeline: Pipeline, verdicts: dict[str, Verdict]) -> Job:
        folder = self._around.root.job(COMPLETE, job)
        exam = Exam(folder, None, pipeline, self._around, verdicts=verdicts)
        return Job(job, COMPLETE, folder, None, pipeline, exam)

    def knows(self, job: str) -> Pipeline | None:
        """The pipeline of a job that is as it was: complete and up to date, with nothing left to
        do. None for any other."""
        return self._same(job, self._rows.get(job))

    def _same(self, job: str, row: str | None) -> Pipeline | None:
        """The pipeline of a job that is as its row has it."""
        if row is None or job in self._unsettled:
            return None
        name, _, digest = row.rpartition(":")
        watched = self._watch(name)
        if watched is None:
            return None
        same = job in self._met or self._stamp(job, watched, _look) == digest
        return watched.pipeline if same else None

    def examine(self, job: str) -> Job:
        """`jobs.find`; what a complete job turns out to be is known from the next command on, if
        its files are at rest."""
        if self._now is None or job in self._unsettled:
            return lookup.find(job, self._around)
        with disk.noting_reads() as seen:
            found = lookup.find(job, self._around)
            if found.seed is None or found.folder is None:
                return found
            holds_seed = lookup.holds_seed(found.folder, found.seed)
            stale = None if found.up_to_date else _stale_verdicts(found)
            if stale is None and not (found.up_to_date and holds_seed):
                return found
        name = found.seed.get("pipeline", DEFAULT_PIPELINE)
        watched = self._watch(name)
        if watched is not None and self._are_at_rest(seen.values()):
            # The stats of what was read, and not of what stands there a moment later.
            self._keep(job, f"{name}:{self._stamp(job, watched, seen.get)}", stale)
        return found

    def _meet(self, strangers: Sequence[str]) -> None:
        """Examine many jobs of which nothing is known on all processors. What this shows of
        complete ones is known from now on, the others are still to be examined."""
        count = min(fork_map.processors(), len(strangers) // _JOBS_A_PROCESS)
        if count > 1:
            shares = [strangers[number::count] for number in range(count)]
            for found in fork_map.each(self._learn, shares):
                rows, told = found or ({}, {})
                stale = _stale_of(told)
                self._learned = self._learned or bool(rows or stale)
                self._rows |= rows
                self._stale |= stale
                self._met.update(rows, stale)

    def _learn(self, ids: Sequence[str]) -> tuple[dict[str, str], dict[str, Any]]:
        """The rows that these jobs turn out to have, and the stale ones, both as JSON."""
        for job in ids:
            # What is wrong here is said when the job's turn comes.
            with contextlib.suppress(PopbuildError, OSError):
                self.examine(job)
        rows = {job: self._rows[job] for job in ids if job in self._rows}
        return rows, _as_json({job: self._stale[job] for job in ids if job in self._stale})

    def _keep(self, job: str, row: str, stale: Mapping[str, Verdict] | None) -> None:
        """A job that was up to date stays known beside its stale one: an edit may be undone."""
        if stale is not None and self._stale.get(job) != (row, stale):
            self._stale[job] = row, stale
            self._learned = True
        elif stale is None and self._rows.get(job) != row:
            self._rows[job] = row
            self._learned = True

    def _are_at_rest(self, files: Iterable[os.stat_result | None]) -> bool:
        """Whether none of these files was changed during the last ticks of its file system, so that
        a change from now on shows in its times."""
        if self._now is None:
            return False
        # A clock that shows no part of a second finer than 10 ms may well have none.
        ticks = _TICKS_NS if self._now.time_ns % 10_000_000 else _COARSE_TICKS_NS
        limit, device = self._now.time_ns - ticks, self._now.device
        # Another file system has a clock of its own, and this one says nothing about it.
        return all(it and it.st_ctime_ns < limit and it.st_dev == device for it in files)

    def _stamp(self, job: str, watched: _Watched, look: _Look) -> str:
        """A digest over what a job's files look like. One that is missing belongs to it too."""
        root = self._around.root
        folder = root.at(job_place(COMPLETE, job))
        parts = [watched.elsewhere]
        sources = root.at(seed_place(job)), root.at(samples_place(job))
        for path in (*sources, *[f"{folder}/{each}" for each in watched.places]):
            it = look(path)
            parts.append(
                b"missing"
                if it is None
                else _pack(it.st_size, it.st_mtime_ns, it.st_ctime_ns, it.st_ino, it.st_dev)
            )
        return hashlib.blake2b(b"".join(parts), digest_size=16).hexdigest()

    def _watch(self, name: str) -> _Watched | None:
        """What is watched for the jobs of a pipeline; None if there is none of this name."""
        if name not in self._watched:
            pipeline = self._around.config.pipelines.get(name)
            self._watched[name] = None if pipeline is None else _watched(self._around, pipeline)
        return self._watched[name]


def find_all(names: Collection[str], around: Surroundings) -> Iterator[Job]:
    """`Index.show` for the jobs of a listing, which has those too that no command builds."""
    bad = lookup.bad_names(around.root, names)
    with Index(around, names) as index:
        for name in names:
            job = index.show(name)
            yield dataclasses.replace(job, bad_name=bad[name]) if name in bad else job


def _stale_verdicts(job: Job) -> Mapping[str, Verdict] | None:
    """The verdicts on a complete job that is stale, if they hang on nothing but what its stamp is
    made of: decisions at human gates, for one, are not part of it."""
    if job.state != COMPLETE or job.exam is None or job.bad or job.damage or job.removed:
        return None
    if job.exam.pipeline.gated or job.exam.frozen:
        return None
    verdicts = job.exam.verdicts
    length = sum(len(reason) for each in verdicts.values() for reason in each.reasons)
    return dict(verdicts) if length <= _MAX_REASONS else None


def _unsettled(around: Surroundings) -> frozenset[str]:
    """The jobs that are more than a directory in complete/: a seed waits, a build is under way or
    was rejected, a promotion was cut short, a task is frozen. These are examined."""
    root = around.root
    pending = [name.removesuffix("-seed.json") for name in _names(root.data / PENDING)]
    notes = [name.removesuffix(".json") for name in _names(root.path / lookup.PROMOTIONS)]
    built = (*_names(root.data / CURRENT), *_names(root.data / REJECTED))
    return with_frozen(root).union(pending, notes, built)


def _watched(around: Surroundings, pipeline: Pipeline) -> _Watched:
    places = [SEED, STATUS]
    for task in pipeline.tasks:
        places += [letter_place(task.id), artifact_place(task.artifact)]
    elsewhere = jsonio.digest(
        [
            _own_code(),
            staleness.STAGES_VERSION,
            [dataclasses.asdict(task) for task in pipeline.tasks],
            [dataclasses.astuple(around.model_place(task)) for task in pipeline.tasks],
            around.config.snapshot.digests,
        ]
    )
    return _Watched(pipeline, tuple(places), elsewhere.encode())


def _look(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except OSError:
        return None


def _own_code() -> list[Any]:
    """popbuild itself: another version of it may judge otherwise, and so may another edit of it."""
    found = []
    with contextlib.suppress(OSError):  # not installed as files
        for folder in _JUDGES:
            for each in os.scandir(PACKAGE / folder):
                if each.name.endswith(".py"):
                    status = each.stat()
                    found.append((f"{folder}/{each.name}", status.st_size, status.st_mtime_ns))
    return [__version__, sorted(found)]


def _names(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries]
    except FileNotFoundError:
        return []


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _read(path: Path, now: file_clock.Moment) -> tuple[dict[str, str], dict[str, _Stale]]:
    """The rows of an index, and the verdicts on stale jobs; none where it is missing, damaged,
    another version's, or from the future, as the clock has it."""
    try:
        digest, _, data = disk.read(path).partition(b"\n")
        if digest.decode() != jsonio.digest_bytes(data):
            return {}, {}
        body = json.loads(data)
        if body["formatVersion"] != _VERSION or body["recorded"] > now.time_ns:
            return {}, {}
        rows: dict[str, str] = body["jobs"]
        stale = _stale_of(body["stale"])
    except (OSError, ValueError, KeyError, TypeError, PopbuildError):
        return {}, {}
    return rows, stale


def _write(
    path: Path, now: file_clock.Moment, rows: Mapping[str, str], stale: Mapping[str, _Stale]
) -> None:
    body = {
        "formatVersion": _VERSION,
        "recorded": now.time_ns,
        "jobs": rows,
        "stale": _as_json(stale),
    }
    data = json.dumps(body, separators=(",", ":")).encode()
    disk.write(path, jsonio.digest_bytes(data).encode() + b"\n" + data, sync=False)


def _as_json(stale: Mapping[str, _Stale]) -> dict[str, Any]:
    return {
        job: (row, {name: (it.reasons, it.edited, it.as_built) for name, it in verdicts.items()})
        for job, (row, verdicts) in stale.items()
    }


def _stale_of(body: Mapping[str, Any]) -> dict[str, _Stale]:
    found: dict[str, _Stale] = {}
    for job, (row, told) in body.items():
        verdicts = {
            name: Verdict(tuple(reasons), edited=edited, as_built=as_built)
            for name, (reasons, edited, as_built) in told.items()
        }
        found[job] = row, verdicts
    return found
