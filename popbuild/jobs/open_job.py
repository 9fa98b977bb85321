"""A job that this process builds: its directory in current/, and its status. The caller holds the
job's lock."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from popbuild.base import disk, jsonio, tree
from popbuild.base.paths import FILE_KINDS, JobFolder, file_name_problem, name_problem
from popbuild.jobs import job_state, originals, records, seals
from popbuild.jobs.examine import Exam
from popbuild.model import status as states
from popbuild.model.clock import timestamp
from popbuild.model.letter import Letter
from popbuild.model.pipeline import Pipeline


class OpenJob:
    """A job in current/ that this process builds: its status, written through here alone."""

    def __init__(self, folder: JobFolder, status: states.Status) -> None:
        self.folder = folder
        self.status = status
        self._is_ahead = False  # of the disk, by a stage or the start of a task
        self._is_owed = False  # the start of a task is not written yet
        self._lock = threading.Lock()  # stages write files from their own threads

    def change(
        self,
        change: Callable[[states.Status], states.Status],
        *,
        sync: bool = False,
        followed: bool = False,
    ) -> None:
        """Apply a legal change and write it down; if `followed`, with the next, unless a task
        runs."""
        with self._lock:
            self.status = change(self.status)
            if followed and not states.any_running(self.status):
                return
            self._write(sync=sync)

    def start(self, change: Callable[[states.Status], states.Status]) -> None:
        """Apply the start of a task. `show_stage` writes it, before the task does anything that
        counts: most tasks are at their call before anyone could look."""
        with self._lock:
            self.status = change(self.status)
            self._is_ahead = self._is_owed = True

    def at_stage(self, task: str, stage: str) -> None:
        """Note which stage a task is at. Most are over before `show_stage` is asked to write it."""
        with self._lock:
            self.status = states.at_stage(self.status, task, stage)
            self._is_ahead = True

    def show_stage(self) -> None:
        """Write down the stage that was noted, for commands that look. Raises OSError where the
        start of a task cannot be written: starts are counted."""
        with self._lock:
            try:
                if self._is_ahead:
                    self._write(sync=False)
            except OSError:
                if self._is_owed:
                    raise

    def _write(self, *, sync: bool) -> None:
        disk.write(self.folder.status, jsonio.dumps(self.status, sort=False), sync=sync)
        self._is_ahead = self._is_owed = False

    def catch_up(self, exam: Exam) -> None:
        """Mark tasks as done whose letter was written just before a crash: the letter decides."""
        for task, letter in exam.letters.items():
            if letter is None or exam.verdicts[task].stale:
                continue
            entry = self.status["tasks"][task]
            same = bool(entry.get("skipped")) == bool(letter.skipped)
            if entry["state"] != "done" or not same:
                self.change(functools.partial(_say_done, letter=letter))

    def leave(self, state: str, error: str) -> None:
        """Note that a build was cut short, if the disk lets us: its running tasks wait again."""
        with contextlib.suppress(OSError):
            self.change(functools.partial(states.cut_short, state=state, error=error))

    def add_file(self, task: str, kind: str, name: str) -> None:
        """Index a file. Written with the next change of state: the folder is the truth."""
        with self._lock:
            self.status = states.add_file(self.status, task, kind, name)

    def owner(self, kind: str, name: str) -> str | None:
        return states.owner(self.status, kind, name)

    def drop_old_files(self, task: str, keep: Collection[tuple[str, str]]) -> None:
        """Remove the files of earlier attempts that the last one did not write."""
        with self._lock:
            self.status = _without_files(self.status, self.folder, task, keep)


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
    if letter.skipped:
        made = [name for name in states.LEGACY_ARTIFACTS if name != "output.json"]
        more |= {"artifacts": made, "skipped": True, "reason": letter.skipped}
    status = states.move_task(status, letter.task, "done", **more)
    earlier = _indexed(status, letter.task).difference(letter.files)
    for kind, name in earlier if letter.files or letter.skipped else ():
        status = states.drop_file(status, letter.task, kind, name)
    for kind, name in letter.files:
        owner = states.owner(status, kind, name)
        if owner is None and file_name_problem(name) is None:
            status = states.add_file(status, letter.task, kind, name)
    return status


def _finish_removals(folder: JobFolder) -> None:
    """Remove the files that a killed prune took out of the index: the seal names them."""
    status, sealed = job_state.read_status(folder), seals.read_seal(folder)
    if status is None or sealed is None:
        return
    for name in sealed.get("changing", ()):
        top, _, rest = name.partition("/")
        kind, _, file = rest.partition("/")
        ours = top == "files" and kind in FILE_KINDS and file_name_problem(file) is None
        if ours and file not in status["files"][kind]:
            tree.remove(folder.path / name)


def open_job(
    folder: JobFolder,
    job: str,
    run: str,
    seed: Mapping[str, Any],
    pipeline: Pipeline,
    source: str | None,
) -> OpenJob:
    """Start a run of a job in current/: its status says running from here on. `source` is where its
    seed came from, None where that is what its status says, if anything."""
    foreign = records.is_foreign(folder)
    for path in (*map(folder.files, FILE_KINDS), folder.path / "tasks"):
        disk.make_folder(path)
    _finish_removals(folder)
    tree.remove(folder.seal)  # it vouches for the last result only
    status = job_state.read_status(folder)
    if foreign:
        made_at = status["createdAt"] if status is not None else timestamp()
        status = states.new(run, job, seed["name"], pipeline.names, made_at)
        status = _indexed_anew(status, folder, pipeline, by_name=False)
        status["source"] = originals.IMPORTED
    elif status is not None:
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
    """Drop the tasks that the pipeline no longer has, from the status and from the folder."""
    for task in job_state.removed_tasks(status, pipeline):
        status = _without_files(status, folder, task, ())
        if name_problem(task) is None:
            tree.remove(folder.task(task))
    return status


def _without_files(
    status: states.Status, folder: JobFolder, task: str, keep: Collection[tuple[str, str]]
) -> states.Status:
    """The status without a task's files, but those to keep; and so is the folder."""
    for kind, name in _indexed(status, task).difference(keep):
        if file_name_problem(name) is None:  # the status may be damaged
            tree.remove(folder.files(kind) / name)
        status = states.drop_file(status, task, kind, name)
    return status


def _indexed(status: states.Status, task: str) -> set[tuple[str, str]]:
    """The kind and the name of each file in a task's index."""
    files = status["tasks"][task]["files"]
    return {(kind, name) for kind in FILE_KINDS for name in files[kind]}


def _indexed_anew(
    status: states.Status, folder: JobFolder, pipeline: Pipeline, *, by_name: bool = True
) -> states.Status:
    """A new status with what the folder tells: tasks with a letter are done, every file is indexed.
    A file's owner is the task whose letter names it or whose main artifact it is, else, `by_name`,
    the longest task name that it begins with: its next build takes the file away."""
    built = {path.name for path in (folder.path / "tasks").iterdir() if path.is_dir()}
    letters = {name: records.read_letter(folder, name) for name in {*built, *pipeline.names}}
    owners = {task.artifact: task.id for task in pipeline.tasks}
    for name, letter in letters.items():
        owners.update(dict.fromkeys(letter.outputs if letter else (), name))
        if letter is not None and name in pipeline.names:
            status = _say_done(status, letter)
    for kind in FILE_KINDS:
        for file in sorted(path.name for path in folder.files(kind).glob("[!.]*")):
            if not by_name and not can_be_listed(folder.files(kind) / file):
                continue
            if states.owner(status, kind, file) is not None:
                continue  # as its task's letter has it
            owner = owners.get(file) if kind == "artifacts" else None
            status = _index(status, kind, file, owner, letters if by_name else ())
    return status


def can_be_listed(path: Path) -> bool:
    """Whether the index can list this: other programs leave folders and odd names, too."""
    return file_name_problem(path.name) is None and disk.is_regular(path)


def _index(
    status: states.Status, kind: str, file: str, owner: str | None, tasks: Collection[str]
) -> states.Status:
    begins = [name for name in tasks if file.startswith(f"{name}-")]
    owner = owner or max(begins, key=len, default=None)
    if owner is not None and owner in status["tasks"]:
        return states.add_file(status, owner, kind, file)
    return states.add_ownerless(status, kind, file)


def index_anew(status: states.Status, folder: JobFolder, kind: str, file: str) -> states.Status:
    """The status with a file that is in no index: by its task's letter, or its name."""
    letters = {task: records.read_letter(folder, task) for task in status["tasks"]}
    owners = {each: task for task, letter in letters.items() if letter for each in letter.files}
    return _index(status, kind, file, owners.get((kind, file)), letters)
