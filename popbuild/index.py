"""Which complete jobs are as they were when somebody last looked: `.popbuild/index/jobs.json`.

A job's stamp is a digest over the stats of every file that its verdict is read from, and over all
else that it hangs on: the configuration, where models answer, popbuild itself. The index has the
stamps of jobs that were found complete, up to date, and with nothing left to do. A job that has the
same stamp still is; every other job is examined. So whatever is in doubt costs a look, and never
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

from popbuild import __version__, disk, fingerprint, forks, jobs, jsonio
from popbuild.config import DEFAULT
from popbuild.errors import PopbuildError
from popbuild.exam import Exam, Surroundings
from popbuild.fingerprint import Verdict
from popbuild.jobs import Job
from popbuild.layout import (
    COMPLETE,
    CURRENT,
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
from popbuild.model.pipeline import Pipeline

_VERSION = 2
_BYTES_A_JOB = 30_000  # of the index are read in the time that it takes to examine a job
_JOBS_A_PROCESS = 250  # are worth a process more
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
        self._learned = False
        self._met: set[str] = set()  # those whose row was found by this very command
        self._now: disk.Moment | None = None
        self._unsettled: frozenset[str] = frozenset()
        if len(ids) > 1 and _size(self._path) <= len(ids) * _BYTES_A_JOB:
            with contextlib.suppress(OSError):
                self._unsettled = _unsettled(around)
                self._now = disk.now(self._path.parent)
        if self._now is not None:
            self._rows = _read(self._path, self._now)
            self._meet([job for job in ids if job not in self._rows and job not in self._unsettled])

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
                _write(self._path, self._now, rows)

    def find(self, job: str) -> Job:
        """`jobs.find`, without opening a file of a job that is as it was. Of such a one the state
        and the verdicts are known: neither its seed nor its artifacts were read."""
        pipeline = self.knows(job)
        if pipeline is None:
            return self.examine(job)
        folder = self._around.root.job(COMPLETE, job)
        verdicts = dict.fromkeys(pipeline.names, _UP_TO_DATE)
        exam = Exam(folder, None, pipeline, self._around, verdicts=verdicts)
        return Job(job, COMPLETE, folder, None, pipeline, exam)

    def knows(self, job: str) -> Pipeline | None:
        """The pipeline of a job that is as it was: complete and up to date, with nothing left to
        do. None for any other."""
        row = self._rows.get(job)
        if row is None or job in self._unsettled:
            return None
        name, _, digest = row.rpartition(":")
        watched = self._watch(name)
        if watched is None:
            return None
        same = job in self._met or self._stamp(job, watched, _look) == digest
        return watched.pipeline if same else None

    def examine(self, job: str) -> Job:
        """`jobs.find`; a job that turns out to have nothing to do is known from the next command
        on, if its files are at rest."""
        if self._now is None or job in self._unsettled:
            return jobs.find(job, self._around)
        with disk.noting_reads() as seen:
            found = jobs.find(job, self._around)
            if not found.up_to_date or found.seed is None or found.folder is None:
                return found
            if not jobs.holds_seed(found.folder, found.seed):
                return found
        name = found.seed.get("pipeline", DEFAULT)
        watched = self._watch(name)
        if watched is not None and self._are_at_rest(seen.values()):
            # The stats of what was read, and not of what stands there a moment later.
            self._keep(job, f"{name}:{self._stamp(job, watched, seen.get)}")
        return found

    def _meet(self, strangers: Sequence[str]) -> None:
        """Examine many jobs of which nothing is known on all processors. Those that this shows to
        have nothing to do are known from now on, the others are still to be examined."""
        count = min(forks.processors(), len(strangers) // _JOBS_A_PROCESS)
        if count > 1:
            shares = [strangers[number::count] for number in range(count)]
            for rows in forks.each(self._rows_of, shares):
                for job, row in (rows or {}).items():
                    self._keep(job, row)
                    self._met.add(job)

    def _rows_of(self, ids: Sequence[str]) -> dict[str, str]:
        for job in ids:
            # What is wrong here is said when the job's turn comes.
            with contextlib.suppress(PopbuildError, OSError):
                self.examine(job)
        return {job: self._rows[job] for job in ids if job in self._rows}

    def _keep(self, job: str, row: str) -> None:
        if self._rows.get(job) != row:
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
    """`Index.find` for the jobs of a listing, which has those too that no command builds."""
    bad = jobs.bad_names(around.root, names)
    with Index(around, names) as index:
        for name in names:
            job = index.find(name)
            yield dataclasses.replace(job, bad_name=bad[name]) if name in bad else job


def _unsettled(around: Surroundings) -> frozenset[str]:
    """The jobs that are more than a directory in complete/: a seed waits, a build is under way or
    was rejected, a promotion was cut short, a task is frozen. These are examined."""
    root = around.root
    pending = [name.removesuffix("-seed.json") for name in _names(root.data / PENDING)]
    notes = [name.removesuffix(".json") for name in _names(root.path / jobs.PROMOTIONS)]
    built = (*_names(root.data / CURRENT), *_names(root.data / REJECTED))
    return around.with_frozen.union(pending, notes, built)


def _watched(around: Surroundings, pipeline: Pipeline) -> _Watched:
    places = [SEED, STATUS]
    for task in pipeline.tasks:
        places += [letter_place(task.id), artifact_place(task.artifact)]
    elsewhere = jsonio.digest(
        [
            _own_code(),
            fingerprint.STAGES_VERSION,
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
    package, found = Path(__file__).parent, []
    with contextlib.suppress(OSError):  # not installed as files
        for folder in (package, package / "model", package / "llm"):
            for each in os.scandir(folder):
                if each.name.endswith(".py"):
                    status = each.stat()
                    found.append((each.name, status.st_size, status.st_mtime_ns))
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


def _read(path: Path, now: disk.Moment) -> dict[str, str]:
    """The rows of an index; none where it is missing, damaged, another version's, or from the
    future, as the clock has it."""
    try:
        digest, _, data = disk.read(path).partition(b"\n")
        if digest.decode() != jsonio.digest_bytes(data):
            return {}
        body = json.loads(data)
        if body["formatVersion"] != _VERSION or body["recorded"] > now.time_ns:
            return {}
        rows: dict[str, str] = body["jobs"]
    except (OSError, ValueError, KeyError, TypeError, PopbuildError):
        return {}
    return rows


def _write(path: Path, now: disk.Moment, rows: Mapping[str, str]) -> None:
    body = {"formatVersion": _VERSION, "recorded": now.time_ns, "jobs": rows}
    data = json.dumps(body, separators=(",", ":")).encode()
    disk.write(path, jsonio.digest_bytes(data).encode() + b"\n" + data, sync=False)
