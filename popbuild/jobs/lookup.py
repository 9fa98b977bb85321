"""Jobs on disk: which there are, which directory answers for each, and how it stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from popbuild.base import disk, jsonio, paths
from popbuild.base.errors import ConfigError, InputError, NotOursError
from popbuild.base.paths import COMPLETE, CURRENT, REJECTED, SEED, JobFolder, Root
from popbuild.jobs import fingerprint, job_ids, records, row_seeds, staleness
from popbuild.jobs.examine import Exam, examine, examine_unbuilt
from popbuild.jobs.input_files import InputFiles
from popbuild.jobs.job_state import CLAIMED, DAMAGE, damage_of, removed_tasks, standing_state
from popbuild.jobs.seed_files import BadSeed, key_problems, read_seed
from popbuild.jobs.surroundings import Surroundings
from popbuild.model import status as states
from popbuild.model.decision import REJECTED as REFUSED
from popbuild.model.decision import STAGE as HUMAN_GATE
from popbuild.model.decision import Question
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
    that today's seed names."""

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

    @property
    def up_to_date(self) -> bool:
        whole = self.damage is None and not self.removed and self.bad_name is None
        return self.matches and whole

    @property
    def matches(self) -> bool:
        """Whether all its artifacts are as today's inputs want them, and promoted."""
        return self.state == COMPLETE and self.exam is not None and self.exam.up_to_date()

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
            return ", ".join([self.state, *self._skipped, *self._frozen])
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
        more = [*filter(None, [self.damage]), *self._skipped, *self._frozen]
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
    def _skipped(self) -> list[str]:
        verdicts = self.exam.verdicts.items() if self.exam else ()
        names = [name for name, each in verdicts if each.skipped and not each.stale]
        return [f"skipped: {', '.join(names)}"] if names else []

    @property
    def _frozen(self) -> list[str]:
        names = self.exam.frozen if self.exam else ()
        return [f"frozen: {', '.join(names)}"] if names else []


def find(job: str, around: Surroundings) -> Job:
    """Which directory answers for a job, and how it stands: complete/ if it matches the inputs,
    else current/, rejected/, or complete/ as stale. Writes nothing; reads nothing behind a link."""
    root, folders = around.root, _folders(job, around.root)
    found = _inputs_of(job, around, folders)
    seed, pipeline = found.seed, found.pipeline
    if seed is None or pipeline is None:
        return found
    complete = _complete(found, folders[COMPLETE], around) if COMPLETE in folders else None
    if complete is not None and complete.matches:
        return complete
    for place in (CURRENT, REJECTED):
        if place in folders:
            folder = folders[place]
            exam = examine(folder, seed, pipeline, around, found.files)
            state = standing_state(root, folder, place)
            # A claim that was cut short, and a job whose seed was rejected, have no status yet.
            damage = damage_of(folder) if disk.stands(folder.status) else None
            return replace(found, state=state, folder=folder, exam=exam, damage=damage)
    if complete is not None:
        return complete
    nothing = examine_unbuilt(root.job(CURRENT, job), seed, pipeline, around, found.files)
    return replace(found, state=_unbuilt(job, root), exam=nothing)


def find_inputs(job: str, around: Surroundings) -> Job:
    """A job with its seed and its pipeline, or what is wrong with them. Not examined."""
    return _inputs_of(job, around, _folders(job, around.root))


def _folders(job: str, root: Root) -> dict[str, JobFolder]:
    """The directories that a job has."""
    return {
        state: root.job(state, job)
        for state in (COMPLETE, CURRENT, REJECTED)
        if disk.is_folder(root.at(paths.job_place(state, job)))
    }


def _inputs_of(job: str, around: Surroundings, folders: Mapping[str, JobFolder]) -> Job:
    root, first = around.root, next(iter(folders), "new")
    link = job_ids.link_of(root, job)
    if link is not None:
        return Job(job, first, bad_link=link)
    try:
        seed, place = _todays_seed(job, root)
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
        exam=examine(folder, found.seed, found.pipeline, around, found.files),
        damage=None if status or records.is_foreign(folder) else DAMAGE,
        removed=removed_tasks(status, found.pipeline) if status else (),
    )


def _unbuilt(job: str, root: Root) -> str:
    return "pending" if root.pending(job).exists() else "new"


def _todays_seed(job: str, root: Root) -> tuple[dict[str, Any], str]:
    """A job's seed and its place: the source under seeds/, else what waits in pending/, else the
    job's own copy, the newest first: what was claimed, what is built or was rejected since, and the
    last good result's."""
    source = paths.seed_place(job)
    claimed = f"{paths.job_place(CURRENT, job)}/{CLAIMED}"
    own = [f"{paths.job_place(state, job)}/{SEED}" for state in (CURRENT, REJECTED, COMPLETE)]
    limits = {source: jsonio.MAX_BYTES, paths.pending_place(job): jsonio.MAX_QUEUED_BYTES}
    row = row_seeds.of_row(root, job)
    if row is not None:
        if disk.stands(root.at(source)) and source not in row_seeds.table_files(root):
            raise BadSeed(source, (Problem(f"{row.place} makes a job of the same ID"),))
        return row.seed(job), row.place
    for place in (*limits, claimed, *own):
        try:
            most = limits.get(place, jsonio.MAX_OWN_BYTES)
            return read_seed(root.at(place), place, max_bytes=most), place
        except FileNotFoundError:
            continue
    what = "the job has no seed.json: put it into seeds/, or move its folder away"
    raise BadSeed(job, (Problem(what),))


def standing_status(job: Job) -> states.Status | None:
    """The status of a job as it stands: stopped, if it says running and the lock is free."""
    status = records.shown_status(job.folder) if job.folder else None
    if status is None or job.state != states.STOPPED or status.get("state") != states.RUNNING:
        return status
    return states.abandoned(status)


def rejection_stands(exam: Exam, rejection: object) -> str | None:
    """The task whose rejection still holds: all its dependencies are as they were, and all above
    it is up to date. None when something changed, so that a run is worth its money."""
    if not isinstance(rejection, dict):
        return None
    name = rejection.get("task")
    last = rejection.get("fingerprint")
    if name not in exam.pipeline.names or not isinstance(last, dict):
        return None
    task = exam.pipeline.task(name)
    if rejection.get("stage") == HUMAN_GATE:
        return task.id if exam.standing(task) == REFUSED else None
    if not exam.up_to_date(exam.pipeline.upstream(name)):
        return None
    inputs = exam.inputs(task)
    if staleness.changes(last, fingerprint.current(last, task, inputs), task, inputs):
        return None
    if "declinedBy" in rejection:  # by these models; one that was added since may well answer
        return task.id if rejection["declinedBy"] == [task.model, *task.fallbacks] else None
    return task.id if rejection.get("refinementAttempts", 0) >= task.refinements else None
