"""Jobs on disk: which there are, which directory answers for each, and how it stands."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from popbuild.base import disk, jsonio, tree
from popbuild.base.errors import ConfigError, InputError, NotOursError
from popbuild.base.paths import (
    COMPLETE,
    CURRENT,
    PENDING,
    REJECTED,
    RUNS,
    SEED,
    STATUS,
    JobFolder,
    Root,
    file_name_problem,
    job_place,
    name_problem,
    pending_place,
    seed_place,
    shown_name,
)
from popbuild.base.redact import key_in_name, redact
from popbuild.jobs import staleness
from popbuild.jobs.claims import JobLocks
from popbuild.jobs.examine import (
    BadSeed,
    Exam,
    Surroundings,
    examine,
    key_problems,
    read_json,
    read_seed,
)
from popbuild.jobs.foreign import is_foreign, shown_status
from popbuild.jobs.staleness import brief
from popbuild.model import status as states
from popbuild.model.decision import REJECTED as REFUSED
from popbuild.model.decision import STAGE as HUMAN_GATE
from popbuild.model.decision import Question
from popbuild.model.pipeline import Pipeline
from popbuild.model.problem import Problem

CLAIMED = ".claimed-seed.json"
SUBMITTED = "submit"  # the source of a job that has none under seeds/
PROMOTIONS = ".popbuild/promotions"  # below a root
_PLACES = (CURRENT, COMPLETE, REJECTED)
BAD_NAME, BAD_LINK, BAD_SEED = "bad name", "bad link", "bad seed"
BAD_PIPELINE = "bad pipeline"
_DAMAGE = f"{STATUS} is damaged or altered"


@dataclass(frozen=True)
class Job:
    """A job as it stands: the directory that answers for it, if there is one yet.

    `state` is complete, running, stopped, failed, waiting, rejected, pending or new. `seed` is
    today's input; None with `bad_seed` where it cannot be read. `damage` says why its status cannot
    be used: the next build makes it anew. `removed` are tasks that its pipeline has no longer: the
    next build drops what they made. `bad_name` says why its ID cannot be one, `bad_link`
    which symbolic link its directory is or holds: nothing of it is read. `broken` is why its
    pipeline cannot be used.
    """

    id: str
    state: str
    folder: JobFolder | None
    seed: dict[str, Any] | None
    pipeline: Pipeline | None
    exam: Exam | None
    bad_seed: BadSeed | None = None
    damage: str | None = None
    removed: tuple[str, ...] = ()
    bad_name: str | None = None
    bad_link: str | None = None
    broken: ConfigError | None = None

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
        """What of it cannot be built, `bad name`, `bad link` or `bad seed`, with its problems; None
        where it can."""
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
            return f"{what}: {problems[0]}"
        if self.is_not_ours:
            return f"{self.state}, cannot be built here"
        if self.exam is None or self.folder is None or self.up_to_date:
            return ", ".join([self.state, *self._frozen])
        asked = self.questions
        held = {each.id for each in self.exam.pipeline.tasks if self.exam.held_by(each)}
        changed = [
            name
            for name, verdict in self.exam.verdicts.items()
            if verdict.stale and not (asked and name in held)
        ]
        edited = [name for name, verdict in self.exam.verdicts.items() if verdict.edited]
        parts = [self.state]
        if asked:
            waiting = ", ".join(f"{each.task} ({brief(each.message)})" for each in asked)
            parts = [] if self.state == states.WAITING else parts
            parts.append(f"waiting: {waiting}")
        if changed:
            parts.append(f"stale: {', '.join(changed)}")
        if edited:
            parts.append(f"edited: {', '.join(edited)}")
        if self.removed:
            parts.append(f"no longer its task: {', '.join(self.removed)}")
        if self.damage:
            parts.append(self.damage)
        return ", ".join([*parts, *self._frozen])

    @property
    def as_built(self) -> tuple[str, ...]:
        """How to look at the job as it was built, where another environment makes it stale."""
        verdicts = self.exam.verdicts.values() if self.exam else ()
        return tuple(dict.fromkeys(each.as_built for each in verdicts if each.as_built))

    @property
    def questions(self) -> tuple[Question, ...]:
        """What the job waits for a person to decide; nothing while it is built, and once it is
        complete: a gate that was added since asks at the next build."""
        asks = self.state in (states.WAITING, states.STOPPED, states.FAILED)
        return self.exam.questions if asks and self.exam is not None else ()

    @property
    def _frozen(self) -> list[str]:
        names = self.exam.frozen if self.exam else ()
        return [f"frozen: {', '.join(names)}"] if names else []


def known_seeds(root: Root) -> list[str]:
    """The IDs of the jobs that have a source under seeds/."""
    return sorted(stems_in(root.seeds, ".json"))


def known_jobs(root: Root) -> list[str]:
    """The IDs of all jobs of a root: seeds, and what stands in the four folders."""
    return sorted(_known(root))


def _known(root: Root) -> set[str]:
    found = {*stems_in(root.seeds, ".json"), *stems_in(root.data / PENDING, "-seed.json")}
    for state in (CURRENT, COMPLETE, REJECTED):
        with contextlib.suppress(FileNotFoundError), os.scandir(root.data / state) as entries:
            found.update(
                each.name for each in entries if _is_job(state, each.name) and each.is_dir()
            )
    return found


def stems_in(folder: Path, ending: str) -> list[str]:
    """What the files of a folder that end like this are named for."""
    try:
        with os.scandir(folder) as entries:
            names = [each.name for each in entries if each.name.endswith(ending)]
    except FileNotFoundError:
        return []
    return [name.removesuffix(ending) for name in names if not name.startswith(".")]


def _is_job(state: str, name: str) -> bool:
    return not name.startswith(".") and (state, name) != (COMPLETE, RUNS)


def is_known(root: Root, job: str) -> bool:
    """Whether there is a job of this ID, without a look at the others."""
    if not job or job.startswith(".") or "/" in job:
        return False
    sources = (seed_place(job), pending_place(job))
    return any(disk.stands(root.at(place)) for place in sources) or any(
        _is_job(state, job) and disk.is_folder(root.at(job_place(state, job)))
        for state in (CURRENT, COMPLETE, REJECTED)
    )


def bad_names(root: Root, ids: Collection[str]) -> dict[str, str]:
    """Those of these jobs whose ID cannot be one, each with the reason."""
    found = {job: problem for job in ids if (problem := name_problem(job))}
    for job, others in alike(root, ids).items():
        names = ", ".join(map(shown_name, others))
        found.setdefault(job, f"differs from {names} only by upper and lower case")
    return found


def alike(root: Root, ids: Collection[str]) -> dict[str, list[str]]:
    """Those of these jobs of which there are others whose ID differs only by case, with these."""
    same: dict[str, list[str]] = {job.casefold(): [] for job in ids}
    for job in _known(root) if ids else ():
        if (folded := job.casefold()) in same:
            same[folded].append(job)
    others = {job: sorted({*same[job.casefold()]} - {job}) for job in ids}
    return {job: names for job, names in others.items() if names}


def place_of(root: Root, job: str) -> str:
    """The file or folder that makes a job known, as a person should read it."""
    folders = [root.job(state, job).path for state in (CURRENT, COMPLETE, REJECTED)]
    for path in (root.seed(job), root.pending(job), *folders):
        if disk.stands(path):
            return shown_name(root.show(path))
    return job


def refuse_links(root: Root, job: str) -> None:
    """InputError where a job's directory is a symbolic link, or holds one. It is moved, replaced,
    read and written: nothing of it may stand elsewhere, whoever it came from."""
    link = _link_of(root, job)
    if link is not None:
        is_job = link in [shown_name(job_place(state, job)) for state in _PLACES]
        raise InputError(
            f"a job's directory {'is' if is_job else 'holds'} a symbolic link",
            {"job": job, "link": link},
            hint="put what it points to in its place, or remove it",
        )


def refuse_keys(job: str, environment: Mapping[str, str]) -> None:
    """InputError where an ID holds a key. It names folders, and stands in the ledger and in lists:
    nothing may be written for such a job."""
    found = key_in_name(job, environment)
    if found is not None:
        raise InputError(
            "a job's ID holds a key",
            {"job": redact(job, environment), "found": found},
            hint="give its seed another name",
        )


def _link_of(root: Root, job: str) -> str | None:
    """A symbolic link that a job's directory is or holds, as it is shown; None if there is none."""
    links = (tree.first_link(root.at(job_place(state, job))) for state in _PLACES)
    link = next((each for each in links if each is not None), None)
    return None if link is None else shown_name(root.show(Path(link)))


def find(job: str, around: Surroundings) -> Job:
    """Which directory answers for a job, and how it stands against today's inputs.

    complete/ if it matches the inputs; otherwise current/, then rejected/, then complete/ as
    stale. Reads; writes nothing, and nothing of a job that a link leads out of.
    """
    root = around.root
    folders = {
        state: root.job(state, job)
        for state in (COMPLETE, CURRENT, REJECTED)
        if disk.is_folder(root.at(job_place(state, job)))
    }
    present = list(folders)
    link = _link_of(root, job)
    if link is not None:
        return Job(job, (present or ["new"])[0], None, None, None, None, bad_link=link)
    try:
        seed = _todays_seed(job, root)
        if problems := key_problems(seed, around.config.environment):
            raise BadSeed(place_of(root, job), problems)
    except BadSeed as bad:
        state = REJECTED if REJECTED in present else (present or ["new"])[0]
        return Job(job, state, folders.get(state), None, None, None, bad)
    try:
        pipeline = around.config.pipeline_for(seed)
    except ConfigError as error:
        return _of_broken(job, root, seed, error)
    except InputError as error:
        named = Problem(error.as_line(), "/pipeline")
        state = (present or ["new"])[0]
        return Job(job, state, None, None, None, None, BadSeed(place_of(root, job), (named,)))
    if COMPLETE in present:
        exam = examine(folders[COMPLETE], seed, pipeline, around)
        status = shown_status(folders[COMPLETE])
        damage = None if status or is_foreign(folders[COMPLETE]) else _DAMAGE
        removed = removed_tasks(status, pipeline) if status else ()
        complete = Job(
            job,
            COMPLETE,
            folders[COMPLETE],
            seed,
            pipeline,
            exam,
            damage=damage,
            removed=removed,
        )
        if complete.matches:
            return complete
    for state in (CURRENT, REJECTED):
        if state in present:
            folder = folders[state]
            exam = examine(folder, seed, pipeline, around)
            found = _state_of(root, folder, state)
            # A claim that was cut short, and a job whose seed was rejected, have no status yet.
            damage = _damage(folder) if disk.stands(folder.status) else None
            return Job(job, found, folder, seed, pipeline, exam, damage=damage)
    if COMPLETE in present:
        return complete
    state = "pending" if root.pending(job).exists() else "new"
    nothing = examine(root.job(CURRENT, job), seed, pipeline, around)
    return Job(job, state, None, seed, pipeline, nothing)


def _of_broken(job: str, root: Root, seed: dict[str, Any], error: ConfigError) -> Job:
    """A job whose pipeline cannot be used: what stands there, held against nothing."""
    for place in (CURRENT, REJECTED, COMPLETE):
        folder = root.job(place, job)
        if disk.is_folder(folder.path):
            state = COMPLETE if place == COMPLETE else _state_of(root, folder, place)
            return Job(job, state, folder, seed, None, None, broken=error)
    state = "pending" if root.pending(job).exists() else "new"
    return Job(job, state, None, seed, None, None, broken=error)


def _todays_seed(job: str, root: Root) -> dict[str, Any]:
    """The source under seeds/, else what waits in pending/, else the job's own copy, the newest
    first: what was claimed, what is built or was rejected since, and the last good result's."""
    source = seed_place(job)
    claimed = f"{job_place(CURRENT, job)}/{CLAIMED}"
    own = [f"{job_place(state, job)}/{SEED}" for state in (CURRENT, REJECTED, COMPLETE)]
    limits = {source: jsonio.MAX_BYTES, pending_place(job): jsonio.MAX_QUEUED_BYTES}
    for place in (*limits, claimed, *own):
        try:
            most = limits.get(place, jsonio.MAX_OWN_BYTES)
            return read_seed(root.at(place), place, max_bytes=most)
        except FileNotFoundError:
            continue
    what = "the job has no seed.json: put it into seeds/, or move its folder away"
    raise BadSeed(job, (Problem(what),))


def _state_of(root: Root, folder: JobFolder, state: str) -> str:
    """The state of a job that is not complete. It runs as long as somebody holds its lock: a
    process that was killed could not write down that it stopped."""
    if state == REJECTED:
        return REJECTED
    found = state_in(folder)
    if found not in (states.RUNNING, states.STOPPED, states.FAILED, states.WAITING):
        found = _state_of_tasks(folder)
    if found == states.RUNNING and is_foreign(folder):
        return states.RUNNING  # no lock of ours tells
    if found in (states.FAILED, states.WAITING) or (
        found == states.RUNNING and _held(root, folder)
    ):
        return str(found)
    # Without a readable status a claim was cut short: it goes on like any stopped job.
    return states.STOPPED


def _state_of_tasks(folder: JobFolder) -> str | None:
    """The state of another program's job that does not say it, or not in our words."""
    status = shown_status(folder) if is_foreign(folder) else None
    found = {entry["state"] for entry in status["tasks"].values()} if status else set()
    said = {*found, state_in(folder)} if status else set()
    if not said.isdisjoint({states.FAILED, "error"}):
        return states.FAILED
    return states.RUNNING if states.RUNNING in found else None


def _held(root: Root, folder: JobFolder) -> bool:
    try:
        return not JobLocks(root).is_free(folder.id)
    except OSError:
        return True  # somebody else's root, which we may only read: its status has the word


def read_status(folder: JobFolder) -> states.Status | None:
    """A job's status, or None where it is missing or cannot be used."""
    body = read_json(folder.at(STATUS))
    return body if states.usable(body) else None


def standing_status(job: Job) -> states.Status | None:
    """The status of a job as it stands: where it says running and the job's lock is free, that
    it is stopped. The next command that holds the lock writes that down."""
    status = shown_status(job.folder) if job.folder else None
    if status is None or job.state != states.STOPPED or status.get("state") != states.RUNNING:
        return status
    return states.abandoned(status)


def _damage(folder: JobFolder) -> str | None:
    return None if read_status(folder) or is_foreign(folder) else _DAMAGE


def removed_tasks(status: states.Status, pipeline: Pipeline) -> tuple[str, ...]:
    """The tasks that a job was built with, and that its pipeline has no longer."""
    known = pipeline.names
    return tuple(name for name in status["tasks"] if name not in known)


def state_in(folder: JobFolder) -> Any:
    """The state in a job's own status, None where it cannot be read."""
    body = read_json(folder.status)
    return body.get("state") if isinstance(body, dict) else None


def rejection_stands(exam: Exam, rejection: Any) -> str | None:
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
    if staleness.changes(last, staleness.current(last, task, inputs), task, inputs):
        return None
    if "declinedBy" in rejection:  # by these models; one that was added since may well answer
        return task.id if rejection["declinedBy"] == [task.model, *task.fallbacks] else None
    return task.id if rejection.get("refinementAttempts", 0) >= task.refinements else None


def seed_source(root: Root, job: str, folder: JobFolder | None) -> str | None:
    """Where today's seed of a job comes from: the name of its file under seeds/, or SUBMITTED;
    None for a job that was built before and has no such file any more."""
    if disk.stands(root.seed(job)):
        return root.seed(job).name
    waits = [root.pending(job), root.job(CURRENT, job).path / CLAIMED]
    return SUBMITTED if folder is None or any(map(disk.stands, waits)) else None


def is_orphan(root: Root, folder: JobFolder) -> bool:
    """Whether a job was built from a file under seeds/ that is gone. One that was submitted never
    had one; where a job does not say what it came from, it is none."""
    source = None
    for place in (folder.rejection, folder.status):  # a bad seed never had a status
        body = read_json(place)
        if source is None and isinstance(body, dict):
            source = body.get("source")
    if not isinstance(source, str) or not source.endswith(".json") or file_name_problem(source):
        return False
    places = [root.seeds / source, root.seed(folder.id), root.pending(folder.id)]
    return not any(map(disk.stands, places))


def holds_seed(folder: JobFolder, seed: Mapping[str, Any]) -> bool:
    """Whether the job's own copy of its seed says the same, as JSON: to Python, 1 is true too."""
    own = read_json(folder.at(SEED))
    return _as_text(own) == _as_text(seed)


_as_text = json.JSONEncoder(sort_keys=True).encode
