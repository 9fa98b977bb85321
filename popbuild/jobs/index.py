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
import hashlib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Self

from popbuild.base import disk, file_clock, fork_map, tree
from popbuild.base.errors import PopbuildError
from popbuild.base.paths import COMPLETE
from popbuild.base.read_notes import noting_reads
from popbuild.jobs import job_ids, job_state, lookup, row_seeds, stamps
from popbuild.jobs.examine import Exam
from popbuild.jobs.input_files import differing_inputs
from popbuild.jobs.members import Group, Groups, Member
from popbuild.jobs.seed_files import BadSeed
from popbuild.jobs.staleness import Verdict
from popbuild.jobs.surroundings import Surroundings
from popbuild.model.config.config import DEFAULT_PIPELINE
from popbuild.model.job_groups import named_groups
from popbuild.model.pipeline import Pipeline

_BYTES_A_JOB = 30_000  # of the index are read in the time that it takes to examine a job
_JOBS_A_PROCESS = 250  # are worth a process more
_UP_TO_DATE = Verdict(())


class Index:
    """The index as one command uses it, in a `with`: what it learned is written at its end. `ids`
    are the jobs that the command looks at: a few among many are examined, which is faster."""

    def __init__(self, around: Surroundings, ids: Collection[str]) -> None:
        self._around = around
        self._path = around.root.own / "index" / "jobs.json"
        self._watch = functools.cache(self._watched_of)
        self._rows: dict[str, str] = {}  # job -> <pipeline>:<the digest of its stamp>
        self._stale: dict[str, stamps.StaleRow] = {}  # and those with skipped tasks, as they were
        self._inputs: stamps.Places = {}  # of jobs whose seeds name files
        self._over: stamps.Globs = {}  # of jobs that are over others
        self._known: dict[str, Pipeline | None] = {}
        self._learned = False
        self._met: set[str] = set()  # those whose row was found by this very command
        self._now: file_clock.Moment | None = None
        self._unsettled: frozenset[str] = frozenset()
        self._moment: stamps.OneMoment | None = None  # in which the command looks at all jobs
        self._held = contextlib.ExitStack()
        file = disk.look(str(self._path))
        if len(ids) > 1 and (file is None or file.st_size <= len(ids) * _BYTES_A_JOB):
            with contextlib.suppress(OSError):
                self._unsettled = stamps.unsettled_jobs(around.root)
                self._now = file_clock.now(self._path.parent)
        if self._now is not None:
            read = stamps.read_index(self._path, self._now)
            self._rows, self._stale, self._inputs, self._over = read
            known = self._rows.keys() | self._stale.keys() | self._unsettled
            # Only complete jobs have rows: any other is examined when its turn comes.
            complete = {*tree.stems_in(around.root.data / COMPLETE, "")}
            self._meet([job for job in ids if job in complete and job not in known])

    def __enter__(self) -> Self:
        self._around.known = self.knows
        if self._rows or self._stale:
            look = self._held.enter_context(disk.looking_below(self._around.root.path))
            self._moment = stamps.OneMoment(self._around.root, look)
        return self

    def __exit__(self, *_error: object) -> None:
        self._around.known = self._still_knows
        self._moment = None
        self._held.close()
        self._around.others.clear()
        self._met.clear()
        if self._learned and self._now is not None:
            with contextlib.suppress(OSError):  # then the next command examines once more
                good = set(tree.stems_in(self._around.root.data / COMPLETE, ""))
                rows = {job: row for job, row in self._rows.items() if job in good}
                stale = {job: each for job, each in self._stale.items() if job in good}
                inputs = {job: each for job, each in self._inputs.items() if job in good}
                over = {job: each for job, each in self._over.items() if job in good}
                stamps.write_index(self._path, self._now, rows, stale, inputs, over)

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
        own = f"{self._around.root.job_place(COMPLETE, job)}/"
        places = [each for each in self._inputs.get(job, ()) if each.startswith(own)]
        inputs = tuple(each.removeprefix(own) for each in places)
        exam = Exam(folder, None, pipeline, self._around, verdicts=verdicts, input_places=inputs)
        exam.jobs = self._groups(job)
        return lookup.Job(job, COMPLETE, folder, None, pipeline, exam)

    def _groups(self, job: str) -> Groups:
        """The jobs that a job which is as it was is over."""
        found, root, names = {}, self._around.root, self._around.names
        for name, glob in self._over.get(job, {}).items():
            known = {each: self.knows(each) for each in names.with_source(glob, job)}
            members = [
                Member(each, root.job(COMPLETE, each), pipeline.artifacts, has_own_seed=True)
                for each, pipeline in known.items()
                if pipeline is not None
            ]
            found[name] = Group(name, glob, root, members, {})
        return found

    def knows(self, job: str) -> Pipeline | None:
        """The pipeline of a job that is as it was: complete, and up to date. None for any other.
        Looked at once: a command asks several times."""
        if job not in self._known:
            self._known[job] = None  # meanwhile: jobs may be over each other
            self._known[job] = self._same(job, self._rows.get(job))
        return self._known[job]

    def _still_knows(self, job: str) -> Pipeline | None:
        """The same at a later time, at which jobs may have been built, and tables changed."""
        self._known.clear()
        return self.knows(job)

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
        members = self._members_of(job, self._over.get(job, {}))
        if members is None:
            return None
        if job in self._met:
            return watched.pipeline
        if self._moment is not None:
            stats = self._moment.stats_of(job, watched, inputs)
        else:
            own = row_seeds.digest_of_row(root, job)
            stats = stamps.stats_of(root, job, watched, inputs, own, disk.look)
        return watched.pipeline if stamps.stamp_of(watched, stats, members) == digest else None

    def _members_of(self, job: str, globs: Mapping[str, str]) -> bytes | None:
        """A digest over the stamps of the jobs that a job is over, orphans among them; None where
        one of these is not known. What makes an orphan of a job is in its stamp, too, but for its
        table."""
        if not globs:
            return b""
        tables, _ = row_seeds.look_at_tables(self._around.root)
        parts = [name for name, is_broken, _ in tables if is_broken]
        for name, glob in sorted(globs.items()):
            parts.append(f"{name}:{glob}")
            for each in self._around.names.matching(glob, job):
                if self.knows(each) is None or each not in self._rows:
                    return None
                parts += (each, self._rows[each])
        return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).digest()

    def examine(self, job: str) -> lookup.Job:
        """`lookup.find`. The next command knows a complete job from it whose files are at rest."""
        self._learn_of_others(job)
        if self._now is None or job in self._unsettled:
            return self._noted(lookup.find(job, self._around))
        row = row_seeds.digest_of_row(self._around.root, job)
        with noting_reads() as seen:
            found = lookup.find(job, self._around)
            self._noted(found)
            if found.seed is None or found.folder is None:
                return found
            holds_seed = job_state.holds_seed(found.folder, found.seed)
            holds_all = holds_seed and not differing_inputs(found.folder, found.files)
            holds_all = holds_all and not found.unmeasured
            if found.up_to_date and holds_all:
                self._known[job] = found.pipeline
            is_sound = found.state == COMPLETE and not (found.bad or found.damage or found.removed)
            is_told = is_sound and not found.unmeasured
            told = stamps.told_verdicts(found.exam) if is_told and found.exam else None
            if told is None and not (found.up_to_date and holds_all):
                return found
        name = found.seed.get("pipeline", DEFAULT_PIPELINE)
        watched = self._watch(name)
        is_same_row = row_seeds.digest_of_row(self._around.root, job) == row
        if watched is not None and is_same_row and self._are_at_rest(seen.values()):
            # The stats of what was read, and not of what stands there a moment later.
            inputs, globs = found.all_input_places, named_groups(found.seed)
            members = self._members_of(job, globs)
            if members is not None:
                root = self._around.root
                stats = stamps.stats_of(root, job, watched, inputs, row, seen.get)
                known = f"{name}:{stamps.stamp_of(watched, stats, members)}"
                self._keep(job, known if found.up_to_date and holds_all else None, inputs, globs)
                if told is not None and self._stale.get(job) != (known, told):
                    self._stale[job] = known, told
                    self._learned = True
        return found

    def _learn_of_others(self, job: str) -> None:
        """Examine the jobs that a job is over before it: then each is looked at once."""
        if self._now is None or not job_state.may_be_over(self._around.root, job):
            return
        self._around.others.setdefault(job, "")  # meanwhile: jobs may be over each other
        with contextlib.suppress(BadSeed):
            for glob in named_groups(job_state.todays_seed(self._around.root, job)[0]).values():
                for each in self._around.names.matching(glob, job):
                    if self.knows(each) is None and each not in self._around.others:
                        self.examine(each)
        self._around.others.pop(job, None)

    def _noted(self, job: lookup.Job) -> lookup.Job:
        """A job that was looked at, noted for those that are over it."""
        if not job.up_to_date and not job.cycle:
            self._around.others[job.id] = lookup.state_of_other(job)
        return job

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
            with contextlib.suppress(PopbuildError, OSError, BadSeed):
                # Else it is looked at once these are known.
                if not job_state.may_be_over(self._around.root, job):
                    self.examine(job)
        rows = {job: self._rows[job] for job in ids if job in self._rows}
        told = {job: self._stale[job] for job in ids if job in self._stale}
        inputs = {job: self._inputs[job] for job in ids if job in self._inputs}
        return rows, stamps.rows_as_json(told), inputs

    def _keep(self, job: str, row: str | None, inputs: list[str], globs: dict[str, str]) -> None:
        """The row of a job that is up to date. It stays known beside that of the stale job: an edit
        may be undone."""
        self._inputs.pop(job, None)
        self._over.pop(job, None)
        self._inputs |= {job: inputs} if inputs else {}
        self._over |= {job: globs} if globs else {}
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
