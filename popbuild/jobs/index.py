"""Which complete jobs are as they were at the last look: `.popbuild/index/jobs.json`.

The index has the stamps (`stamps.py`) of jobs that were found complete and up to date: a job with
the same stamp still is. It also has the stamps and verdicts of complete jobs that are stale, or
have skipped tasks, for listings. A doubt costs a look, and never gives a wrong answer:

- A file that is written to, or replaced, has another inode or another time of change, which cannot
  be set. Two edits within one tick of the clock may have the same times, so a stamp is kept only of
  files that had been at rest for some ticks, by the clock of their own file system.
- A clock that was moved back may come by the same time again: stamps from the future are dropped.
- A network file system may show stats of a minute ago: there, every job is examined.
- The file has its own digest. One that is damaged, or cannot be read or written, is ignored.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Self

from popbuild.base import file_clock, fork_map, tree
from popbuild.base.errors import PopbuildError
from popbuild.base.paths import COMPLETE, CURRENT, PENDING, REJECTED, job_place
from popbuild.base.read_notes import noting_reads
from popbuild.jobs import job_ids, job_state, lookup, records, stamps
from popbuild.jobs.examine import Exam
from popbuild.jobs.input_files import differing_inputs
from popbuild.jobs.staleness import Verdict
from popbuild.jobs.surroundings import Surroundings
from popbuild.model.config.config import DEFAULT_PIPELINE
from popbuild.model.pipeline import Pipeline

_BYTES_A_JOB = 30_000  # of the index are read in the time that it takes to examine a job
_JOBS_A_PROCESS = 250  # are worth a process more
_MAX_REASONS = 4_000  # characters of a stale job's reasons that are kept
_UP_TO_DATE = Verdict(())


class Index:
    """The index as one command uses it, in a `with`: what it learned is written at its end. `ids`
    are the jobs that the command looks at: a few among many are examined, which is faster."""

    def __init__(self, around: Surroundings, ids: Collection[str]) -> None:
        self._around = around
        self._path = around.root.private / "index" / "jobs.json"
        self._watch = functools.cache(self._watched_of)
        self._rows: dict[str, str] = {}  # job -> <pipeline>:<the digest of its stamp>
        self._stale: dict[str, stamps.StaleRow] = {}  # and those with skipped tasks, as they were
        self._inputs: stamps.Places = {}  # of jobs whose seeds name files
        self._learned = False
        self._met: set[str] = set()  # those whose row was found by this very command
        self._now: file_clock.Moment | None = None
        self._unsettled: frozenset[str] = frozenset()
        file = stamps.stat_at(str(self._path))
        if len(ids) > 1 and (file is None or file.st_size <= len(ids) * _BYTES_A_JOB):
            with contextlib.suppress(OSError):
                self._unsettled = _unsettled(around)
                self._now = file_clock.now(self._path.parent)
        if self._now is not None:
            self._rows, self._stale, self._inputs = stamps.read_index(self._path, self._now)
            known = self._rows.keys() | self._stale.keys() | self._unsettled
            # Only complete jobs have rows: any other is examined when its turn comes.
            complete = {*tree.stems_in(around.root.data / COMPLETE, "")}
            self._meet([job for job in ids if job in complete and job not in known])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._learned and self._now is not None:
            with contextlib.suppress(OSError):  # then the next command examines once more
                good = set(tree.stems_in(self._around.root.data / COMPLETE, ""))
                rows = {job: row for job, row in self._rows.items() if job in good}
                stale = {job: each for job, each in self._stale.items() if job in good}
                inputs = {job: each for job, each in self._inputs.items() if job in good}
                stamps.write_index(self._path, self._now, rows, stale, inputs)

    def find(self, job: str) -> lookup.Job:
        """`lookup.find`, but without opening a file of a job that is as it was, nor its seed."""
        pipeline = self.knows(job)
        if pipeline is None:
            return self.examine(job)
        return self._as_it_was(job, pipeline, dict.fromkeys(pipeline.names, _UP_TO_DATE))

    def show(self, job: str) -> lookup.Job:
        """`find` for a listing: a stale job that is as it was is shown by its verdicts alone."""
        row, verdicts = self._stale.get(job, (None, {}))
        pipeline = self._same(job, row)
        if pipeline is None or verdicts.keys() != set(pipeline.names):
            return self.find(job)
        return self._as_it_was(job, pipeline, dict(verdicts))

    def _as_it_was(self, job: str, pipeline: Pipeline, verdicts: dict[str, Verdict]) -> lookup.Job:
        folder = self._around.root.job(COMPLETE, job)
        own = f"{job_place(COMPLETE, job)}/"
        places = [each for each in self._inputs.get(job, ()) if each.startswith(own)]
        inputs = tuple(each.removeprefix(own) for each in places)
        exam = Exam(folder, None, pipeline, self._around, verdicts=verdicts, input_places=inputs)
        return lookup.Job(job, COMPLETE, folder, None, pipeline, exam)

    def knows(self, job: str) -> Pipeline | None:
        """The pipeline of a job that is as it was: complete, and up to date. None for any other."""
        return self._same(job, self._rows.get(job))

    def _same(self, job: str, row: str | None) -> Pipeline | None:
        """The pipeline of a job that is as its row has it."""
        if row is None or job in self._unsettled:
            return None
        name, _, digest = row.rpartition(":")
        watched = self._watch(name)
        if watched is None:
            return None
        root = self._around.root
        inputs = self._inputs.get(job, ())
        if job in self._met:
            return watched.pipeline
        same = stamps.stamp_of(root, job, watched, stamps.stat_at, inputs) == digest
        return watched.pipeline if same else None

    def examine(self, job: str) -> lookup.Job:
        """`lookup.find`. The next command knows a complete job from it whose files are at rest."""
        if self._now is None or job in self._unsettled:
            return lookup.find(job, self._around)
        with noting_reads() as seen:
            found = lookup.find(job, self._around)
            if found.seed is None or found.folder is None:
                return found
            holds_seed = job_state.holds_seed(found.folder, found.seed)
            holds_all = holds_seed and not differing_inputs(found.folder, found.files)
            told = _told_verdicts(found)
            if told is None and not (found.up_to_date and holds_all):
                return found
        name = found.seed.get("pipeline", DEFAULT_PIPELINE)
        watched = self._watch(name)
        if watched is not None and self._are_at_rest(seen.values()):
            # The stats of what was read, and not of what stands there a moment later.
            inputs = _input_places(found)
            stamp = stamps.stamp_of(self._around.root, job, watched, seen.get, inputs)
            row = f"{name}:{stamp}"
            self._keep(job, row if found.up_to_date and holds_all else None, inputs)
            if told is not None and self._stale.get(job) != (row, told):
                self._stale[job] = row, told
                self._learned = True
        return found

    def _meet(self, strangers: Sequence[str]) -> None:
        """Examine many unknown jobs on all processors. Complete ones are known from now on."""
        count = min(fork_map.processors(), len(strangers) // _JOBS_A_PROCESS)
        if count > 1:
            shares = [strangers[number::count] for number in range(count)]
            for found in fork_map.each(self._learn, shares):
                rows, told, inputs = found or ({}, {}, {})
                stale = stamps.stale_rows(told)
                self._learned = self._learned or bool(rows or stale)
                self._rows |= rows
                self._stale |= stale
                self._inputs |= inputs
                self._met.update(rows, stale)

    def _learn(self, ids: Sequence[str]) -> tuple[dict[str, str], dict[str, Any], stamps.Places]:
        """The rows that these jobs turn out to have, the stale ones, and their files, as JSON."""
        for job in ids:
            # An error is reported when the job's turn comes.
            with contextlib.suppress(PopbuildError, OSError):
                self.examine(job)
        rows = {job: self._rows[job] for job in ids if job in self._rows}
        told = {job: self._stale[job] for job in ids if job in self._stale}
        inputs = {job: self._inputs[job] for job in ids if job in self._inputs}
        return rows, stamps.rows_as_json(told), inputs

    def _keep(self, job: str, row: str | None, inputs: list[str]) -> None:
        """The row of a job that is up to date. It stays known beside that of the stale job: an edit
        may be undone."""
        if inputs:
            self._inputs[job] = inputs
        else:
            self._inputs.pop(job, None)
        if row is not None and self._rows.get(job) != row:
            self._rows[job] = row
            self._learned = True

    def _are_at_rest(self, files: Iterable[os.stat_result | None]) -> bool:
        """Whether these files rested for some ticks: a later change shows in their times."""
        now = self._now
        return now is not None and all(it is not None and now.has_passed(it) for it in files)

    def _watched_of(self, name: str) -> stamps.Watched | None:
        """What is watched for a pipeline's jobs; None if the pipeline does not exist."""
        pipeline = self._around.config.pipelines.get(name)
        return None if pipeline is None else stamps.watched_of(self._around, pipeline)


def find_all(names: Collection[str], around: Surroundings) -> Iterator[lookup.Job]:
    """`Index.show` for the jobs of a listing, which has those too that no command builds."""
    bad = job_ids.bad_names(around.root, names)
    with Index(around, names) as index:
        for name in names:
            job = index.show(name)
            yield dataclasses.replace(job, bad_name=bad[name]) if name in bad else job


def _input_places(job: lookup.Job) -> list[str]:
    """Where the files of a job's seed stand: what was read, and the job's own copies."""
    folder = job_place(job.state, job.id)
    own = [f"{folder}/{each}" for each in (job.exam.input_places if job.exam else ())]
    return sorted({*own, *(each.place for each in job.files.values())})


def _told_verdicts(job: lookup.Job) -> Mapping[str, Verdict] | None:
    """The verdicts on a complete job that is stale or has skipped tasks, if its stamp covers all
    that decided them."""
    if job.state != COMPLETE or job.exam is None or job.bad or job.damage or job.removed:
        return None
    if job.exam.pipeline.gated or job.exam.frozen:
        return None
    verdicts = job.exam.verdicts
    if job.up_to_date and not any(each.skipped for each in verdicts.values()):
        return None
    length = sum(len(reason) for each in verdicts.values() for reason in each.reasons)
    return dict(verdicts) if length <= _MAX_REASONS else None


def _unsettled(around: Surroundings) -> frozenset[str]:
    """The jobs that are more than a directory in complete/: a seed waits, a build is under way or
    was rejected, a promotion was cut short, a task is frozen. These are examined."""
    data, notes = around.root.data, around.root.path / job_ids.PROMOTIONS
    return frozenset(tree.stems_in(data / PENDING, "-seed.json")).union(
        *(tree.stems_in(folder, ".json") for folder in (notes, records.frozen_folder(around.root))),
        *(tree.stems_in(data / state, "") for state in (CURRENT, REJECTED)),
    )
