"""Jobs on disk: which there are, which directory answers for each, and how it stands.

Over 300 lines: how a job stands, and which directory says so, are one question."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from popbuild.base import disk, paths
from popbuild.base.errors import ConfigError, InputError, NotOursError
from popbuild.base.paths import COMPLETE, CURRENT, REJECTED, JobFolder, Root
from popbuild.jobs import job_ids, job_state, records, score_records, staleness
from popbuild.jobs.examine import Exam, examine, examine_unbuilt
from popbuild.jobs.input_files import InputFiles
from popbuild.jobs.job_state import DAMAGE, damage_of, removed_tasks, standing_state
from popbuild.jobs.members import OUT_OF_DATE, Group, Groups, Member, SeedNames
from popbuild.jobs.rejections import rejection_stands
from popbuild.jobs.seed_files import BadSeed, key_problems
from popbuild.jobs.surroundings import Surroundings
from popbuild.model import status as states
from popbuild.model.decision import Question
from popbuild.model.job_groups import named_groups
from popbuild.model.pipeline import Pipeline
from popbuild.model.problem import Problem

BAD_NAME, BAD_LINK, BAD_SEED = "bad name", "bad link", "bad seed"
BAD_PIPELINE = "bad pipeline"


@dataclass(frozen=True)
class Job:
    """A job as it stands: the directory that answers for it, if there is one yet. `state` is
    complete, running, stopped, failed, waiting, rejected, pending or new. `seed` is today's; None
    with `bad_seed`. `damage` says why its status cannot be used, `removed` which tasks its pipeline
    no longer has: the next build mends both. `bad_name` says why its ID cannot be one, `bad_link`
    which symbolic link it is or holds, `broken` why its pipeline cannot be used. `files` are those
    that today's seed names, `jobs` the groups of other jobs; `cycle` the jobs, this one first, of
    which each is over the next, and the last over this one."""

    id: str
    state: str
    folder: JobFolder | None = None
    seed: dict[str, Any] | None = None
    pipeline: Pipeline | None = None
    exam: Exam | None = None
    bad_seed: BadSeed | None = None
    damage: str | None = None
    removed: tuple[str, ...] = ()
    bad_name: str | None = None
    bad_link: str | None = None
    broken: ConfigError | None = None
    files: InputFiles = field(default_factory=dict)
    jobs: Groups = field(default_factory=dict)
    cycle: tuple[str, ...] = ()

    @property
    def up_to_date(self) -> bool:
        whole = self.damage is None and not self.removed and self.bad_name is None
        return self.matches and whole

    @property
    def names(self) -> SeedNames:
        return SeedNames(self.files, self.jobs)

    @property
    def matches(self) -> bool:
        """Whether all its artifacts are as today's inputs want them, and promoted; and so are the
        scores that its gates ask for."""
        if self.state != COMPLETE or self.exam is None or not self.exam.up_to_date():
            return False
        return score_records.passes_by_score(self.exam)

    @property
    def unmeasured(self) -> tuple[str, ...]:
        """The tasks whose scores do not hold: the next run measures them. It makes nothing stale,
        but where a gate asks for a score."""
        return score_records.unmeasured(self.exam) if self.exam is not None else ()

    @property
    def all_input_places(self) -> list[str]:
        """Where the files of its seed stand below the root: what was read, and its own copies."""
        own: list[str] = []
        if self.exam is not None:
            folder = self.exam.around.root.job_place(self.state, self.id)
            own = [f"{folder}/{each}" for each in self.exam.input_places]
        return sorted({*own, *(each.place for each in self.files.values())})

    @property
    def bad(self) -> tuple[str, tuple[Problem, ...]] | None:
        """Why the job cannot be built: a BAD_ word and its problems. None where it can."""
        if self.bad_name is not None:
            return BAD_NAME, (Problem(self.bad_name),)
        if self.bad_link is not None:
            return BAD_LINK, (Problem(self.bad_link),)
        if self.bad_seed is not None:
            return BAD_SEED, self.bad_seed.problems
        if self.broken is not None and not self.is_not_ours:
            return BAD_PIPELINE, (Problem(self.broken.as_line(without=())),)
        return None

    @property
    def is_not_ours(self) -> bool:
        """Whether its pipeline is another program's: it can be looked at, and not built here."""
        return isinstance(self.broken, NotOursError)

    @property
    def description(self) -> str:
        """The state in a few words: `complete`, `complete, stale: research`, `failed`, …"""
        if self.bad is not None:
            what, problems = self.bad
            return f"{what}: {self._row}{problems[0]}"
        if self.is_not_ours:
            return f"{self.state}, cannot be built here"
        if self.exam is None or self.folder is None or self.up_to_date:
            return ", ".join([self.state, *self._to_measure, *self._skipped, *self._frozen])
        asked = self.questions
        held = {each.id for each in self.exam.pipeline.tasks if self.exam.held_by(each)}
        changed = [
            name
            for name, verdict in self.exam.verdicts.items()
            if verdict.stale and not (asked and name in held)
        ]
        parts = [] if asked and self.state == states.WAITING else [self.state]
        lists = {
            "waiting": [f"{each.task} ({staleness.brief(each.message)})" for each in asked],
            "stale": changed,
            "edited": [name for name, verdict in self.exam.verdicts.items() if verdict.edited],
            "no longer its task": self.removed,
        }
        parts += [f"{what}: {', '.join(names)}" for what, names in lists.items() if names]
        more = [*filter(None, [self.damage]), *self._to_measure, *self._skipped, *self._frozen]
        return ", ".join([*parts, *more])

    @property
    def as_built(self) -> tuple[str, ...]:
        """How to look at the job as it was built, where another environment makes it stale."""
        verdicts = self.exam.verdicts.values() if self.exam else ()
        return tuple(dict.fromkeys(each.as_built for each in verdicts if each.as_built))

    @property
    def questions(self) -> tuple[Question, ...]:
        """What the job waits for. Nothing while it is built, or once it is complete."""
        asks = self.state in (states.WAITING, states.STOPPED, states.FAILED)
        return self.exam.questions if asks and self.exam is not None else ()

    @property
    def _row(self) -> str:
        """Where a bad seed is a row of a table, or all of a table: the place, for a text."""
        where = "" if self.bad_seed is None else self.bad_seed.where
        is_known = where in ("", paths.seed_place(self.id)) or not where.startswith("seeds/")
        return "" if is_known else f"{where}: "

    @property
    def _to_measure(self) -> list[str]:
        """Which scores the next run measures, where nothing else is to be done."""
        is_next = self.exam is not None and self.exam.up_to_date()
        names = self.unmeasured if is_next and self.state == COMPLETE else ()
        return [f"scores to be measured: {', '.join(names)}"] if names else []

    @property
    def _skipped(self) -> list[str]:
        verdicts = self.exam.verdicts.items() if self.exam else ()
        names = [name for name, each in verdicts if each.skipped and not each.stale]
        return [f"skipped: {', '.join(names)}"] if names else []

    @property
    def _frozen(self) -> list[str]:
        names = self.exam.frozen if self.exam else ()
        return [f"frozen: {', '.join(names)}"] if names else []


def find(job: str, around: Surroundings, above: tuple[str, ...] = ()) -> Job:
    """Which directory answers for a job, and how it stands: complete/ if it matches the inputs,
    else current/, rejected/, or complete/ as stale. Writes nothing; reads nothing behind a link.
    `above` are the jobs for which it is looked at, each over the next one."""
    root, folders = around.root, _folders(job, around.root)
    found = _inputs_of(job, around, folders)
    if found.pipeline is not None and named_groups(found.seed):
        found = _with_jobs(found, around, above)
    seed, pipeline = found.seed, found.pipeline
    if seed is None or pipeline is None:
        return found
    complete = _complete(found, folders[COMPLETE], around) if COMPLETE in folders else None
    if complete is not None and complete.matches:
        return complete
    for place in (CURRENT, REJECTED):
        if place in folders:
            folder = folders[place]
            exam = examine(folder, seed, pipeline, around, found.names)
            state = standing_state(root, folder, place)
            # A claim that was cut short, and a job whose seed was rejected, have no status yet.
            damage = damage_of(folder) if disk.stands(folder.status) else None
            return replace(found, state=state, folder=folder, exam=exam, damage=damage)
    if complete is not None:
        return complete
    folder = root.job(CURRENT, job)
    nothing = examine_unbuilt(folder, seed, pipeline, around, found.names)
    return replace(found, state=_unbuilt(job, root), exam=nothing)


def _with_jobs(found: Job, around: Surroundings, above: tuple[str, ...]) -> Job:
    """A job with those that it is over, each looked at. One that is over itself has a bad seed."""
    chain, names, globs = (*above, found.id), around.names, named_groups(found.seed)
    others, members = dict[str, str](), dict[str, Member]()
    below = (names.with_source(glob, found.id) for glob in globs.values())
    for each in dict.fromkeys(itertools.chain(*below)):
        if each in above:
            return _in_a_cycle(found, chain[chain.index(each) :], around.root)
        pipeline, state = around.known(each), around.others.get(each)
        if pipeline is not None:
            at, artifacts = around.root.job(COMPLETE, each), pipeline.artifacts
            members[each] = Member(each, at, artifacts, has_own_seed=True)
            continue
        if state:
            others[each] = state
            continue
        other = find(each, around, chain)
        if found.id in other.cycle:
            return _in_a_cycle(found, other.cycle, around.root)
        if other.up_to_date and other.folder and other.pipeline:
            members[each] = Member(each, other.folder, other.pipeline.artifacts)
        else:
            others[each] = state_of_other(other)
    groups = (
        Group.of(name, glob, around.root, names.matching(glob, found.id), members, others)
        for name, glob in globs.items()
    )
    return replace(found, jobs={group.name: group for group in groups})


def _in_a_cycle(found: Job, cycle: tuple[str, ...], root: Root) -> Job:
    problem = Problem(f"jobs wait for each other: {' -> '.join((*cycle, cycle[0]))}", "/jobs")
    bad = BadSeed(job_ids.place_of(root, found.id), (problem,))
    return replace(found, seed=None, pipeline=None, bad_seed=bad, cycle=cycle)


def state_of_other(job: Job) -> str:
    """The state of a job that is not up to date, for one that is over it."""
    if job.bad is not None:
        return job.bad[0]
    if job.state == REJECTED and job.exam and job.folder:
        rejection = records.read_json(job.folder.rejection)
        return REJECTED if rejection_stands(job.exam, rejection) else OUT_OF_DATE
    return OUT_OF_DATE if job.state == COMPLETE else job.state


def find_inputs(job: str, around: Surroundings) -> Job:
    """A job with its seed and its pipeline, or what is wrong with them. Not examined."""
    return _inputs_of(job, around, _folders(job, around.root))


def _folders(job: str, root: Root) -> dict[str, JobFolder]:
    """The directories that a job has."""
    return {
        state: root.job(state, job)
        for state in (COMPLETE, CURRENT, REJECTED)
        if disk.is_folder(root.at(root.job_place(state, job)))
    }


def _inputs_of(job: str, around: Surroundings, folders: Mapping[str, JobFolder]) -> Job:
    root, first = around.root, next(iter(folders), "new")
    link = job_ids.link_of(root, job)
    if link is not None:
        return Job(job, first, bad_link=link)
    try:
        seed, place = job_state.todays_seed(root, job)
        files = around.inputs.find(job, seed, place)
        if problems := key_problems(seed, around.config.environment):
            raise BadSeed(job_ids.place_of(root, job), problems)
    except BadSeed as bad:
        state = REJECTED if REJECTED in folders else first
        return Job(job, state, folders.get(state), bad_seed=bad)
    try:
        pipeline = around.config.pipeline_for(seed)
        return Job(job, first, seed=seed, pipeline=pipeline, files=files)
    except ConfigError as error:
        # Not examined.
        there = next((each for each in (CURRENT, REJECTED, COMPLETE) if each in folders), None)
        if there is None:
            return Job(job, _unbuilt(job, root), seed=seed, broken=error)
        state = standing_state(root, folders[there], there)
        return Job(job, state, folders[there], seed, broken=error)
    except InputError as error:
        named = Problem(error.as_line(), "/pipeline")
        return Job(job, first, bad_seed=BadSeed(job_ids.place_of(root, job), (named,)))


def _complete(found: Job, folder: JobFolder, around: Surroundings) -> Job:
    """A job as its good result stands."""
    assert found.pipeline is not None
    status = records.shown_status(folder)
    return replace(
        found,
        state=COMPLETE,
        folder=folder,
        exam=examine(folder, found.seed, found.pipeline, around, found.names),
        damage=None if status or records.is_foreign(folder) else DAMAGE,
        removed=removed_tasks(status, found.pipeline) if status else (),
    )


def _unbuilt(job: str, root: Root) -> str:
    return "pending" if root.pending(job).exists() else "new"


def standing_status(job: Job) -> states.Status | None:
    """The status of a job as it stands: stopped, if it says running and the lock is free."""
    status = records.shown_status(job.folder) if job.folder else None
    if status is None or job.state != states.STOPPED or status.get("state") != states.RUNNING:
        return status
    return states.abandoned(status)
