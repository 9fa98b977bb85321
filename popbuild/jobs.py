"""Jobs on disk: which directory answers for a job, and every step of its life: submit, claim,
letters, promotion, rejection, runs.jsonl."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from popbuild import disk, fingerprint, jsonio, seals
from popbuild.errors import InputError, UsageError
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
from popbuild.layout import (
    COMPLETE,
    CURRENT,
    FILE_KINDS,
    REJECTED,
    JobFolder,
    Root,
    file_name_problem,
    name_problem,
    shown_name,
)
from popbuild.model import status as states
from popbuild.model.clock import timestamp
from popbuild.model.letter import FORMAT_VERSION, Letter, Usage, seal
from popbuild.model.pipeline import Pipeline, Task
from popbuild.model.problem import Problem

_PREVIOUS_KEPT = 1
_MAX_DIGITS = 4  # of how many previous results are kept
_NUMBERED = re.compile(r"(\d{6})-")
CLAIMED = ".claimed-seed.json"
_DAMAGE = "tasks-status.json is damaged or altered"


@dataclass(frozen=True)
class Job:
    """A job as it stands: the directory that answers for it, if there is one yet.

    `state` is complete, running, stopped, failed, waiting, rejected, pending or new. `seed` is
    today's input; None with `bad_seed` where it cannot be read. `damage` says why its status cannot
    be used: the next build makes it anew. `removed` are tasks that its pipeline has no longer: the
    next build drops what they made. `bad_name` says why its ID cannot be one.
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
        if self.bad_seed is not None:
            return f"bad seed: {self.bad_seed.problems[0]}"
        if self.exam is None or self.folder is None or self.up_to_date:
            return ", ".join([self.state, *self._frozen])
        changed = [name for name, verdict in self.exam.verdicts.items() if verdict.stale]
        edited = [name for name, verdict in self.exam.verdicts.items() if verdict.edited]
        parts = [self.state]
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
    def _frozen(self) -> list[str]:
        names = self.exam.frozen if self.exam else ()
        return [f"frozen: {', '.join(names)}"] if names else []


def known_seeds(root: Root) -> list[str]:
    """The IDs of the jobs that have a source under seeds/."""
    return sorted(_named(root.seeds, ".json"))


def _named(folder: Path, ending: str) -> Iterator[str]:
    with contextlib.suppress(FileNotFoundError):
        for path in folder.iterdir():
            if path.name.endswith(ending) and not path.name.startswith("."):
                yield path.name.removesuffix(ending)


def known_jobs(root: Root) -> list[str]:
    """The IDs of all jobs of a root: seeds, and what stands in the four folders."""
    found = {*_named(root.seeds, ".json"), *_named(root.data / "pending", "-seed.json")}
    for state in (CURRENT, COMPLETE, REJECTED):
        with contextlib.suppress(FileNotFoundError):
            found.update(
                path.name
                for path in (root.data / state).iterdir()
                if not path.name.startswith(".") and path != root.runs and path.is_dir()
            )
    return sorted(found)


def bad_names(root: Root) -> dict[str, str]:
    """The jobs of a root whose ID cannot be one, each with the reason."""
    known = known_jobs(root)
    found = {job: problem for job in known if (problem := name_problem(job))}
    by_folded: dict[str, list[str]] = {}
    for job in known:
        by_folded.setdefault(job.casefold(), []).append(job)
    for same in by_folded.values():
        for job in same if len(same) > 1 else ():
            others = ", ".join(shown_name(each) for each in same if each != job)
            found.setdefault(job, f"differs from {others} only by upper and lower case")
    return found


def find_all(names: Iterable[str], around: Surroundings) -> Iterator[Job]:
    """`find` for the jobs of a listing, which has those too that no command builds."""
    bad = bad_names(around.root)
    for name in names:
        yield dataclasses.replace(find(name, around), bad_name=bad.get(name))


def place_of(root: Root, job: str) -> str:
    """The file or folder that makes a job known, as a person should read it."""
    folders = [root.job(state, job).path for state in (CURRENT, COMPLETE, REJECTED)]
    for path in (root.seed(job), root.pending(job), *folders):
        if disk.stands(path):
            return shown_name(root.show(path))
    return job


def find(job: str, around: Surroundings) -> Job:
    """Which directory answers for a job, and how it stands against today's inputs.

    complete/ if it matches the inputs; otherwise current/, then rejected/, then complete/ as
    stale. Reads; writes nothing.
    """
    root = around.root
    folders = {state: root.job(state, job) for state in (COMPLETE, CURRENT, REJECTED)}
    present = [state for state, folder in folders.items() if folder.path.is_dir()]
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
            exam, found = examine(folder, seed, pipeline, around), _state_of(folder, state)
            # A claim that was cut short, and a job whose seed was rejected, have no status yet.
            damage = _damage(folder) if disk.stands(folder.status) else None
            return Job(job, found, folder, seed, pipeline, exam, damage=damage)
    if COMPLETE in present:
        return complete
    state = "pending" if root.pending(job).exists() else "new"
    nothing = examine(folders[CURRENT], seed, pipeline, around)
    return Job(job, state, None, seed, pipeline, nothing)


def _todays_seed(job: str, root: Root) -> dict[str, Any]:
    """The source under seeds/, else what waits in pending/, else the job's own copy, the newest
    first: what was claimed, what is built or was rejected since, and the last good result's."""
    claimed = root.job(CURRENT, job).path / CLAIMED
    own = [root.job(state, job).seed for state in (CURRENT, REJECTED, COMPLETE)]
    for path in (root.seed(job), root.pending(job), claimed, *own):
        try:
            return read_seed(path, root.show(path), ours=path != root.seed(job))
        except FileNotFoundError:
            continue
    raise BadSeed(job, (Problem("the job has no seed.json"),))


def _state_of(folder: JobFolder, state: str) -> str:
    if state == REJECTED:
        return REJECTED
    found = _state_in(folder)
    # Without a readable status a claim was cut short: it goes on like any stopped job.
    return str(found) if found in (states.RUNNING, states.FAILED, states.WAITING) else "stopped"


def read_status(folder: JobFolder) -> states.Status | None:
    """A job's status, or None where it is missing or cannot be used."""
    body = read_json(folder.status)
    return body if states.usable(body) else None


def _damage(folder: JobFolder) -> str | None:
    return None if read_status(folder) else _DAMAGE


def _removed(status: states.Status, pipeline: Pipeline) -> tuple[str, ...]:
    """The tasks that a job was built with, and that its pipeline has no longer."""
    known = pipeline.names
    return tuple(name for name in status["tasks"] if name not in known)


def _state_in(folder: JobFolder) -> Any:
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
    return states.move_task(status, letter.task, "done", **more)


def prepare_root(root: Root) -> None:
    """Make the four folders and the private one; refuse if they are not on one file system."""
    for folder in root.folders():
        disk.make_folder(folder)
    disk.make_folder(root.private)
    disk.require_one_file_system([*root.folders(), root.private])


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


def open_job(
    folder: JobFolder, job: str, run: str, seed: Mapping[str, Any], pipeline: Pipeline
) -> OpenJob:
    """Start a run of a job that stands in current/: its status says running from here on."""
    make_folders(folder)
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
    is in the index. An output belongs to the task whose letter names it, all else to the longest
    task name that it begins with."""
    built = {path.name for path in (folder.path / "tasks").iterdir() if path.is_dir()}
    letters = {name: read_letter(folder, name) for name in {*built, *pipeline.names}}
    owners = {task.artifact: task.id for task in pipeline.tasks}
    for name, letter in letters.items():
        owners.update(dict.fromkeys(letter.outputs if letter else (), name))
        if letter is not None and name in pipeline.names:
            status = _say_done(status, letter)
    for kind in FILE_KINDS:
        for file in sorted(path.name for path in folder.files(kind).glob("[!.]*")):
            begins = [name for name in letters if file.startswith(f"{name}-")]
            owner = owners.get(file) if kind == "artifacts" else None
            owner = owner or max(begins, key=len, default=None)
            if owner in pipeline.names:
                status = states.add_file(status, owner, kind, file)
            else:
                status = states.add_ownerless(status, kind, file)
    return status


def holds_seed(folder: JobFolder, seed: Mapping[str, Any]) -> bool:
    """Whether the job's own copy of its seed says the same, as JSON: to Python, 1 is true too."""
    own = read_json(folder.seed)
    return json.dumps(own, sort_keys=True) == json.dumps(seed, sort_keys=True)


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


def write_output(folder: JobFolder, task: Task, value: Any, run: str) -> None:
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
    disk.write(folder.output(task.id), jsonio.dumps(body, sort=False), sync=False)


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
            write_output(folder, task, value, run or "")
        write_letter(folder, task.id, seal(body))


def _empty_letter(task: Task) -> dict[str, Any]:
    """The letter of an artifact that popbuild did not make, before its fingerprint."""
    return {
        "formatVersion": FORMAT_VERSION,
        "task": task.id,
        "fingerprint": {},
        "outputs": {},
        "configuration": dict(task.settings),
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


def previous_kept(environment: Mapping[str, str]) -> int:
    """How many previous good results of a job are kept: POPBUILD_KEEP_PREVIOUS, or one.

    Raises UsageError for what is no such number.
    """
    text = environment.get("POPBUILD_KEEP_PREVIOUS")
    if not text:
        return _PREVIOUS_KEPT
    if not (text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS):
        allowed = f"a whole number, 0 or more, by default {_PREVIOUS_KEPT}"
        raise UsageError(
            "not a number that this variable can have",
            {"POPBUILD_KEEP_PREVIOUS": text, "allowed": allowed},
            hint="it says how many previous good results of each job are kept",
        )
    return int(text)


def promote(root: Root, folder: JobFolder, run_line: Mapping[str, Any], kept: int) -> JobFolder:
    """Seal a job that passed every gate, move it from current/ to complete/, and log the run.

    An existing good result is exchanged in one step and set aside; `kept` of them are kept. A note
    in .popbuild/ is written first: if a crash comes before the log's line, `finish_promotion` adds
    it.
    """
    job = folder.id
    note = _promotion_note(root, job)
    target = root.job(COMPLETE, job)
    line = seal({**run_line, "seal": seals.write(folder, target)})
    disk.make_folder(note.parent)
    disk.write(note, jsonio.dumps(line, sort=False))
    if not disk.rename_new(folder.path, target.path):
        disk.exchange(folder.path, target.path)
        _set_aside(root, folder, kept)
    _log_run(root, line)
    disk.remove(note)
    return target


def finish_promotion(root: Root, job: str, kept: int) -> None:
    """Finish a promotion that a crash cut short: set the last good result aside, add the line,
    once. Forget one that did not happen."""
    note = _promotion_note(root, job)
    if not note.exists():
        return
    line = read_json(note)
    status = read_json(root.job(COMPLETE, job).status)
    if isinstance(line, dict) and isinstance(status, dict):
        run = line.get("pipelineId")
        if run is not None and status.get("pipelineId") == run:
            left = root.job(CURRENT, job)
            if _state_in(left) == states.COMPLETE:
                _set_aside(root, left, kept)
            _log_run(root, line, once=True)
    disk.remove(note)


def unfinished_promotions(root: Root) -> list[str]:
    """The jobs that are being promoted, or whose promotion a crash cut short."""
    return sorted(_named(_promotion_note(root, "any").parent, ".json"))


def is_promotion_unfinished(root: Root, job: str) -> bool:
    """Whether a job is being promoted, or a crash cut that short."""
    return disk.stands(_promotion_note(root, job))


def _promotion_note(root: Root, job: str) -> Path:
    return root.private / "promotions" / f"{job}.json"


def _log_run(root: Root, line: Mapping[str, Any], *, once: bool = False) -> None:
    """Add a run's line to runs.jsonl, and to our own copy, by which `verify` finds a line that
    somebody took away. With `once`, it may be there already."""
    data = jsonio.compact(dict(line)).encode() + b"\n"
    for path, sync in ((root.runs, True), (root.runs_copy, False)):
        if not once or all(run["pipelineId"] != line["pipelineId"] for run in _runs_in(path)[0]):
            disk.append(path, data, sync=sync)


def read_runs(root: Root) -> tuple[list[dict[str, Any]], int]:
    """Every run of runs.jsonl once, and how many lines could not be read."""
    return _runs_in(root.runs)


def _runs_in(path: Path) -> tuple[list[dict[str, Any]], int]:
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return [], 0
    runs: dict[str, dict[str, Any]] = {}
    bad = 0
    for line in lines:
        try:
            body = json.loads(line)
            runs.setdefault(body["pipelineId"], body)
        except (ValueError, KeyError, TypeError):
            bad += bool(line.strip())
    return list(runs.values()), bad


def _set_aside(root: Root, folder: JobFolder, kept: int) -> None:
    """Keep the previous good result in .popbuild/previous/<id>/, and no more than are wanted."""
    shelf = root.private / "previous" / folder.id
    if kept:
        disk.make_folder(shelf)
        newest = next(iter(previous_results(root, folder.id)), None)
        number = _number_of(newest.path) + 1 if newest is not None else 1
        stamp = timestamp().replace(":", "-").replace(".", "-")
        disk.rename_new(folder.path, shelf / f"{number:06d}-{stamp}")
    disk.remove(folder.path)
    for result in previous_results(root, folder.id)[kept:]:
        disk.remove(result.path)


def previous_results(root: Root, job: str) -> list[JobFolder]:
    """The good results of a job that later ones replaced, as far as they are kept, newest first.

    They are numbered, since the clock may be moved back.
    """
    try:
        found = [each for each in (root.private / "previous" / job).iterdir() if each.is_dir()]
    except FileNotFoundError:
        return []
    shown = [path for path in found if not path.name.startswith(".")]
    shown.sort(key=lambda path: (_number_of(path), path.name), reverse=True)
    return [JobFolder(path) for path in shown]


def _number_of(path: Path) -> int:
    """0 for one that was kept before they were numbered."""
    match = _NUMBERED.match(path.name)
    return int(match[1]) if match else 0


def reject(root: Root, folder: JobFolder, body: Mapping[str, Any]) -> JobFolder:
    """Move a job to rejected/ with its rejection.json; an older rejection of it is replaced."""
    disk.write(folder.rejection, jsonio.dumps(dict(body), sort=False))
    target = root.job(REJECTED, folder.id)
    if not disk.rename_new(folder.path, target.path):
        disk.exchange(folder.path, target.path)
        disk.remove(folder.path)
    return target


def reject_seed(root: Root, job: str, bad: BadSeed) -> JobFolder:
    """A seed that cannot be read goes to rejected/ with its problems, byte for byte.

    One that waited in pending/ is moved; one under seeds/ is the user's own and is copied. What
    an earlier rejection left of the job stays beside it.
    """
    target = root.job(REJECTED, job)
    body = jsonio.dumps(rejection(job, None, None, None, bad.problems, None, 0, {}), sort=False)
    if target.path.is_dir():
        _take_seed(root, job, target.seed)
        disk.write(target.rejection, body)
        return target
    folder = JobFolder(target.path.parent / f".tmp-{job}")
    disk.remove(folder.path)
    disk.make_folder(folder.path)
    _take_seed(root, job, folder.seed)
    disk.write(folder.rejection, body)
    disk.rename_new(folder.path, target.path)
    return target


def _take_seed(root: Root, job: str, target: Path) -> None:
    """Put today's source of a job where its own copy belongs, as it is. What is no file (a link, a
    folder) or cannot be read stays in seeds/."""
    source, pending = root.seed(job), root.pending(job)
    if disk.stands(source):
        if disk.is_regular(source):
            with contextlib.suppress(PermissionError):
                disk.copy_file(source, target)
    elif disk.stands(pending):
        disk.remove(target)
        disk.rename_new(pending, target)
        if disk.is_regular(target):
            target.chmod(disk.file_mode())


def rejection(
    job: str,
    run: str | None,
    task: str | None,
    stage: str | None,
    problems: Iterable[Problem],
    answer: str | None,
    refinements: int,
    fingerprint: Mapping[str, str],
    **more: Any,
) -> dict[str, Any]:
    """The body of rejection.json."""
    return {
        "formatVersion": 1,
        "id": job,
        "pipelineId": run,
        "rejectedAt": timestamp(),
        "task": task,
        "stage": stage,
        "problems": [problem.as_json() for problem in problems],
        "answer": answer,
        "refinementAttempts": refinements,
        "fingerprint": dict(fingerprint),
        **more,
    }


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
