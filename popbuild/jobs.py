"""Jobs on disk: which directory answers for a job, and every step of its life but the last: submit,
claim, letters."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from popbuild import disk, fingerprint, jsonio, locks, seals
from popbuild.claims import JobLocks
from popbuild.errors import InputError
from popbuild.exam import (
    BadSeed,
    Exam,
    Surroundings,
    examine,
    frozen_folder,
    read_json,
    read_letter,
    read_samples,
    read_seed,
)
from popbuild.fingerprint import brief
from popbuild.layout import (
    COMPLETE,
    CURRENT,
    FILE_KINDS,
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
from popbuild.model import status as states
from popbuild.model.clock import timestamp
from popbuild.model.decision import REJECTED as REFUSED
from popbuild.model.decision import STAGE as HUMAN_GATE
from popbuild.model.decision import Decision, Question
from popbuild.model.letter import FORMAT_VERSION, Letter, Usage, seal
from popbuild.model.pipeline import Pipeline, Task
from popbuild.model.problem import Problem

CLAIMED = ".claimed-seed.json"
SUBMITTED = "submit"  # the source of a job that has none under seeds/
PROMOTIONS = ".popbuild/promotions"  # below a root
_PLACES = (CURRENT, COMPLETE, REJECTED)
_DAMAGE = f"{STATUS} is damaged or altered"


@dataclass(frozen=True)
class Job:
    """A job as it stands: the directory that answers for it, if there is one yet.

    `state` is complete, running, stopped, failed, waiting, rejected, pending or new. `seed` is
    today's input; None with `bad_seed` where it cannot be read. `damage` says why its status cannot
    be used: the next build makes it anew. `removed` are tasks that its pipeline has no longer: the
    next build drops what they made. `bad_name` says why its ID cannot be one, `bad_link`
    which symbolic link its directory is or holds: nothing of it is read.
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

    @property
    def up_to_date(self) -> bool:
        whole = self.damage is None and not self.removed and self.bad_name is None
        return self.matches and whole

    @property
    def matches(self) -> bool:
        """Whether all its artifacts are as today's inputs want them, and promoted."""
        return self.state == COMPLETE and self.exam is not None and self.exam.up_to_date()

    @property
    def description(self) -> str:
        """The state in a few words: `complete`, `complete, stale: research`, `failed`, …"""
        if self.bad_name is not None:
            return f"bad name: {self.bad_name}"
        if self.bad_link is not None:
            return f"bad link: {self.bad_link}"
        if self.bad_seed is not None:
            return f"bad seed: {self.bad_seed.problems[0]}"
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
    return sorted(named(root.seeds, ".json"))


def known_jobs(root: Root) -> list[str]:
    """The IDs of all jobs of a root: seeds, and what stands in the four folders."""
    return sorted(_known(root))


def _known(root: Root) -> set[str]:
    found = {*named(root.seeds, ".json"), *named(root.data / PENDING, "-seed.json")}
    for state in (CURRENT, COMPLETE, REJECTED):
        with contextlib.suppress(FileNotFoundError), os.scandir(root.data / state) as entries:
            found.update(
                each.name for each in entries if _is_job(state, each.name) and each.is_dir()
            )
    return found


def named(folder: Path, ending: str) -> list[str]:
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
    same: dict[str, list[str]] = {job.casefold(): [] for job in ids}
    for job in _known(root):
        if (folded := job.casefold()) in same:
            same[folded].append(job)
    for job in ids:
        others = sorted(each for each in same[job.casefold()] if each != job)
        if others:
            names = ", ".join(map(shown_name, others))
            found.setdefault(job, f"differs from {names} only by upper and lower case")
    return found


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


def _link_of(root: Root, job: str) -> str | None:
    """A symbolic link that a job's directory is or holds, as it is shown; None if there is none."""
    links = (disk.first_link(root.at(job_place(state, job))) for state in _PLACES)
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
    except BadSeed as bad:
        state = REJECTED if REJECTED in present else (present or ["new"])[0]
        return Job(job, state, folders.get(state), None, None, None, bad)
    try:
        pipeline = around.config.pipeline_for(seed)
    except InputError as error:
        named = Problem(error.as_line(), "/pipeline")
        state = (present or ["new"])[0]
        return Job(job, state, None, None, None, None, BadSeed(place_of(root, job), (named,)))
    if COMPLETE in present:
        exam = examine(folders[COMPLETE], seed, pipeline, around)
        status = read_status(folders[COMPLETE])
        damage = None if status else _DAMAGE
        removed = _removed(status, pipeline) if status else ()
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


def _todays_seed(job: str, root: Root) -> dict[str, Any]:
    """The source under seeds/, else what waits in pending/, else the job's own copy, the newest
    first: what was claimed, what is built or was rejected since, and the last good result's."""
    source = seed_place(job)
    claimed = f"{job_place(CURRENT, job)}/{CLAIMED}"
    own = [f"{job_place(state, job)}/{SEED}" for state in (CURRENT, REJECTED, COMPLETE)]
    for place in (source, pending_place(job), claimed, *own):
        try:
            return read_seed(root.at(place), place, ours=place != source)
        except FileNotFoundError:
            continue
    raise BadSeed(job, (Problem("the job has no seed.json"),))


def _state_of(root: Root, folder: JobFolder, state: str) -> str:
    """The state of a job that is not complete. It runs as long as somebody holds its lock: a
    process that was killed could not write down that it stopped."""
    if state == REJECTED:
        return REJECTED
    found = state_in(folder)
    if found in (states.FAILED, states.WAITING) or (
        found == states.RUNNING and _held(root, folder)
    ):
        return str(found)
    # Without a readable status a claim was cut short: it goes on like any stopped job.
    return states.STOPPED


def _held(root: Root, folder: JobFolder) -> bool:
    try:
        return not JobLocks(root).is_free(folder.id)
    except OSError:
        return True  # somebody else's root, which we may only read: its status has the word


def read_status(folder: JobFolder) -> states.Status | None:
    """A job's status, or None where it is missing or cannot be used."""
    body = read_json(folder.at(STATUS))
    return body if states.usable(body) else None


def _damage(folder: JobFolder) -> str | None:
    return None if read_status(folder) else _DAMAGE


def _removed(status: states.Status, pipeline: Pipeline) -> tuple[str, ...]:
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
    if fingerprint.changes(last, fingerprint.current(last, task, inputs), task, inputs):
        return None
    return task.id if rejection.get("refinementAttempts", 0) >= task.refinements else None


# Changing a job. The caller holds the job's lock.


class OpenJob:
    """A job in current/ that this process builds: its status, written through here alone."""

    def __init__(self, folder: JobFolder, status: states.Status) -> None:
        self.folder = folder
        self._status = status
        self._lock = threading.Lock()  # stages write files from their own threads

    @property
    def status(self) -> states.Status:
        return self._status

    def change(
        self,
        change: Callable[[states.Status], states.Status],
        *,
        sync: bool = False,
        followed: bool = False,
    ) -> None:
        """Apply one legal change and write it down. One that is `followed` by another at once is
        written with that one, unless a task still runs: that may take long."""
        with self._lock:
            self._status = change(self._status)
            if followed and not states.any_running(self._status):
                return
            disk.write(self.folder.status, jsonio.dumps(self._status, sort=False), sync=sync)

    def catch_up(self, exam: Exam) -> None:
        """Say "done" of the tasks whose letter was written just before a crash: the letter is the
        truth, and its task is not built again."""
        for task, letter in exam.letters.items():
            done = self._status["tasks"][task]["state"] == "done"
            if letter is None or done or exam.verdicts[task].stale:
                continue
            self.change(functools.partial(_say_done, letter=letter))

    def leave(self, state: str, error: str) -> None:
        """The last word of a build that was cut short, where the disk lets us: the job is in this
        state, and its tasks that were under way wait to be started again."""
        with contextlib.suppress(OSError):
            self.change(functools.partial(states.cut_short, state=state, error=error))

    def add_file(self, task: str, kind: str, name: str) -> None:
        """Index a file. Written with the next change of state: the folder is the truth."""
        with self._lock:
            self._status = states.add_file(self._status, task, kind, name)

    def owner(self, kind: str, name: str) -> str | None:
        return states.owner(self._status, kind, name)

    def drop_old_files(self, task: str, keep: set[tuple[str, str]]) -> None:
        """Remove the files of earlier attempts that the last one did not write."""
        with self._lock:
            files = self._status["tasks"][task]["files"]
            found = {(kind, name) for kind in FILE_KINDS for name in files[kind]}
            for kind, name in found - keep:
                if file_name_problem(name) is None:  # whoever wrote the status
                    disk.remove(self.folder.files(kind) / name)
                self._status = states.drop_file(self._status, task, kind, name)


def _say_done(status: states.Status, letter: Letter) -> states.Status:
    """A copy in which a task is done, as its letter has it."""
    execution = letter.body.get("execution", {})
    more = {
        "endedAt": execution.get("endedAt", timestamp()),
        "executionTime": execution.get("executionTime", 0),
        "refinementAttempts": letter.refinements,
        "usage": letter.body.get("usage"),
        "artifacts": states.LEGACY_ARTIFACTS,
    }
    status = states.move_task(status, letter.task, "done", **more)
    indexed = status["tasks"][letter.task]["files"]
    earlier = {(kind, name) for kind in FILE_KINDS for name in indexed[kind]} - {*letter.files}
    for kind, name in earlier if letter.files else ():
        status = states.drop_file(status, letter.task, kind, name)
    for kind, name in letter.files:
        owner = states.owner(status, kind, name)
        if owner is None and file_name_problem(name) is None:
            status = states.add_file(status, letter.task, kind, name)
    return status


def prepare_root(root: Root) -> None:
    """Make the four folders and the private one; refuse if they are not on one file system, or if
    a promotion would find something else where it adds its line: by then all is paid for."""
    for folder in root.folders():
        disk.make_folder(folder)
    disk.make_folder(root.private)
    disk.require_one_file_system([*root.folders(), root.private])
    for path in (root.runs, root.runs_copy):
        if disk.stands(path) and not disk.is_regular(path):
            raise InputError(
                "runs are written down in a file, and something else stands in its place",
                {"file": root.show(path)},
                hint="move it away; popbuild makes the file anew",
            )


def doubts_about_locks(root: Root) -> str | None:
    """What to tell a person where the locks of a root keep nobody apart; None where they do."""
    reason = locks.why_not_held(root.private / "locks")
    if reason is None:
        return None
    return (
        f"warning: locks do not hold on the file system of {root.show(root.private)}/ ({reason}): "
        "run one command at a time, or what two build may be paid for twice"
    )


def make_folders(folder: JobFolder) -> None:
    """Everything inside a job's directory that is always there."""
    for kind in FILE_KINDS:
        disk.make_folder(folder.files(kind))
    disk.make_folder(folder.path / "tasks")


def submit(root: Root, job: str, data: bytes) -> None:
    """Queue a seed: `pending/{id}-seed.json`, whole or not at all."""
    disk.write(root.pending(job), data)


def claim(root: Root, job: str) -> None:
    """Take a job's seed out of pending/, if there is one: a rename.

    The claimed file stays beside the job's own files until seed.json is written anew: a crash in
    between loses nothing, the next claim finds it there.
    """
    folder = root.job(CURRENT, job)
    disk.make_folder(folder.path)
    # One that a crash left there is older than what waits, and its time has passed.
    with contextlib.suppress(FileNotFoundError):
        disk.rename(root.pending(job), folder.path / CLAIMED)


def finish_claim(folder: JobFolder) -> None:
    """The seed is in place: the claimed file has done its work."""
    disk.remove(folder.path / CLAIMED)


def _finish_removals(folder: JobFolder) -> None:
    """Remove what a prune took out of the index before it was killed. The seal says that these
    files go, and a build drops the seal."""
    status, sealed = read_status(folder), seals.read(folder)
    if status is None or sealed is None:
        return
    for name in sealed.get("changing", ()):
        top, _, rest = name.partition("/")
        kind, _, file = rest.partition("/")
        ours = top == "files" and kind in FILE_KINDS and file_name_problem(file) is None
        if ours and file not in status["files"][kind]:
            disk.remove(folder.path / name)


def open_job(
    folder: JobFolder,
    job: str,
    run: str,
    seed: Mapping[str, Any],
    pipeline: Pipeline,
    source: str | None,
) -> OpenJob:
    """Start a run of a job that stands in current/: its status says running from here on.

    `source` is where its seed came from, None where that is what its status says, if anything."""
    make_folders(folder)
    _finish_removals(folder)
    seals.remove(folder)
    status = read_status(folder)
    if status is not None:
        status.setdefault("id", job)
        for entry in status["tasks"].values():
            entry.setdefault("attempts", 0)
        status = _drop_removed(status, folder, pipeline)
        status.setdefault("state", states.STOPPED)
        if status["state"] not in (states.RUNNING, states.COMPLETE, states.REJECTED):
            status["state"] = states.STOPPED
        status = states.start_run(status, run, seed["name"], pipeline.names)
    else:
        status = states.new(run, job, seed["name"], pipeline.names, timestamp())
        status = _indexed_anew(status, folder, pipeline)
    if source is not None:
        status["source"] = source
    opened = OpenJob(folder, status)
    opened.change(lambda each: each)
    return opened


def _drop_removed(status: states.Status, folder: JobFolder, pipeline: Pipeline) -> states.Status:
    """The status without the files of tasks that the pipeline has no longer, and so is the folder:
    a clean build has none of them. The last good result has, among the previous ones."""
    for task in _removed(status, pipeline):
        for kind in FILE_KINDS:
            for name in status["tasks"][task]["files"][kind]:
                if file_name_problem(name) is None:
                    disk.remove(folder.files(kind) / name)
                status = states.drop_file(status, task, kind, name)
        if name_problem(task) is None:
            disk.remove(folder.task(task))
    return status


def _indexed_anew(status: states.Status, folder: JobFolder, pipeline: Pipeline) -> states.Status:
    """A new status with what the folder tells: a task that has its letter is done, and every file
    is in the index. A file belongs to the task whose letter names it, all else to the longest task
    name that it begins with."""
    built = {path.name for path in (folder.path / "tasks").iterdir() if path.is_dir()}
    letters = {name: read_letter(folder, name) for name in {*built, *pipeline.names}}
    owners = {task.artifact: task.id for task in pipeline.tasks}
    for name, letter in letters.items():
        owners.update(dict.fromkeys(letter.outputs if letter else (), name))
        if letter is not None and name in pipeline.names:
            status = _say_done(status, letter)
    for kind in FILE_KINDS:
        for file in sorted(path.name for path in folder.files(kind).glob("[!.]*")):
            if states.owner(status, kind, file) is not None:
                continue  # as its task's letter has it
            owner = owners.get(file) if kind == "artifacts" else None
            status = _index(status, kind, file, owner, letters)
    return status


def _index(
    status: states.Status, kind: str, file: str, owner: str | None, tasks: Collection[str]
) -> states.Status:
    begins = [name for name in tasks if file.startswith(f"{name}-")]
    owner = owner or max(begins, key=len, default=None)
    if owner is not None and owner in status["tasks"]:
        return states.add_file(status, owner, kind, file)
    return states.add_ownerless(status, kind, file)


def index_anew(status: states.Status, folder: JobFolder, kind: str, file: str) -> states.Status:
    """A copy of a job's status with a file that is in no index: by its task's letter, or its
    name."""
    letters = {task: read_letter(folder, task) for task in status["tasks"]}
    owners = {each: task for task, letter in letters.items() if letter for each in letter.files}
    return _index(status, kind, file, owners.get((kind, file)), letters)


def source_of(root: Root, job: str, folder: JobFolder | None) -> str | None:
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


def refresh_seed(root: Root, folder: JobFolder, seed: Mapping[str, Any]) -> None:
    """Nobody read what changed in the seed, if anything did: no run, only the copy that matches its
    source; what waited in pending/ is taken."""
    if not holds_seed(folder, seed):
        with seals.changing(folder, folder.seed):
            write_seed(folder, seed)
    disk.remove(root.pending(folder.id))


def forget_failures(folder: JobFolder) -> None:
    """Let tasks that failed in a row be tried again."""
    status = states.forget_failures(read_json(folder.status))
    disk.write(folder.status, jsonio.dumps(status, sort=False))


def write_seed(folder: JobFolder, seed: Mapping[str, Any]) -> None:
    """The job's own copy of its seed, written anew."""
    disk.write(folder.seed, jsonio.dumps(seed, sort=False))


def write_output(
    folder: JobFolder, task: Task, value: Any, run: str, *, sync: bool = False
) -> None:
    """output.json of the storage format (section 5): the artifact as text."""
    whole_text = isinstance(value, dict) and value.keys() == {"content"}
    text = value["content"] if whole_text and isinstance(value["content"], str) else None
    body = {
        task.id: {
            "content": text if text is not None else jsonio.compact(value),
            "metadata": {"artifact": task.artifact, "model": task.model, "pipelineId": run},
            "timestamp": timestamp(),
        }
    }
    disk.write(folder.output(task.id), jsonio.dumps(body, sort=False), sync=sync)


def prepare_letter(folder: JobFolder, task: str, body: Mapping[str, Any]) -> disk.Prepared:
    """The receipt, to be written after everything that it vouches for; valid once committed."""
    disk.make_folder(folder.task(task))
    return disk.prepare(folder.letter(task), jsonio.dumps(dict(body), sort=False))


def write_letter(folder: JobFolder, task: str, body: Mapping[str, Any]) -> None:
    """The receipt, durably."""
    disk.put(prepare_letter(folder, task, body), sync=True)


def keep(folder: JobFolder, exam: Exam, task: Task, run: str | None, edited: bool) -> None:
    """Write a new letter for what stands there: `accept`, and edits that are kept.

    The dependencies are those of the last letter, with today's digests.
    """
    last = exam.letters[task.id]
    value = exam.artifacts[task.id]
    body = dict(last.body) if last else _empty_letter(task)
    now = fingerprint.current(last.fingerprint if last else {}, task, exam.inputs(task))
    if last is not None and run is not None and exam.verdicts[task.id].frozen:
        # What it was made from stays what it was: thawed, it is as stale as before.
        now = dict(last.fingerprint)
    outputs = {**(last.outputs if last else {}), task.artifact: jsonio.digest(value)}
    body.update(fingerprint=now, outputs=outputs, edited=edited or body.get("edited", False))
    if run is not None:
        body["pipelineId"] = run
    changed = [folder.letter(task.id)]
    if edited:
        changed += [folder.artifact(task.artifact), folder.output(task.id)]
    with seals.changing(folder, *changed):
        if edited:
            write_output(folder, task, value, run or "", sync=True)
        write_letter(folder, task.id, seal(body))


def write_decision(folder: JobFolder, decision: Decision) -> None:
    """What a person said about a task, durably."""
    disk.write(folder.decision(decision.task), jsonio.dumps(decision.as_document(), sort=False))


def _empty_letter(task: Task) -> dict[str, Any]:
    """The letter of an artifact that popbuild did not make, before its fingerprint."""
    return {
        "formatVersion": FORMAT_VERSION,
        "task": task.id,
        "fingerprint": {},
        "outputs": {},
        "configuration": task.configuration,
        "calls": [],
        "usage": Usage().as_json(),
        "refinementAttempts": 0,
        "validation": [],
        "warnings": [],
        "edited": False,
    }


def drop_letter(folder: JobFolder, task: str) -> None:
    """Before a task starts: what it leaves half done must not look like an edit by hand."""
    disk.remove(folder.letter(task))


def set_frozen(root: Root, job: str, tasks: Mapping[str, Mapping[str, Any]]) -> None:
    """The tasks of a job that are not rebuilt whatever changes, each with the values that it was
    made from; none thaws all."""
    path = frozen_folder(root) / f"{job}.json"
    if tasks:
        disk.make_folder(path.parent)
        disk.write(path, jsonio.dumps(tasks))
    else:
        disk.remove(path)


class Samples:
    """Which draw each task of a job is at, in samples/<job>.json: a source, as the seed is.

    A file a job: the job's lock guards it, and two retries of two jobs lose nothing.
    """

    def __init__(self, root: Root) -> None:
        self._root = root

    def get(self, job: str, task: str) -> int:
        return read_samples(self._root, job).get(task, 0)

    def set(self, job: str, task: str, sample: int) -> None:
        path = self._root.samples(job)
        samples = {**read_samples(self._root, job), task: sample}
        disk.make_folder(path.parent)
        disk.write(path, jsonio.dumps(samples))
