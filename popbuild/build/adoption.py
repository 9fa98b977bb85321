"""A complete job of another program taken over as it is: letters for its artifacts, and no call.

What its tasks read is not known, so a letter names all that its task can have read: the whole seed,
every needed artifact, the task's files and settings of today. It is a build that builds nothing, on
a copy in current/: the job is adopted whole or not at all, and the original is kept for good.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from popbuild.base import disk, jsonio, tree
from popbuild.base.errors import GateError, InputError
from popbuild.base.paths import CURRENT, JobFolder, artifact_place
from popbuild.jobs import fingerprint, lifecycle, open_job, originals, promotion, records
from popbuild.jobs.config_archive import Objects
from popbuild.jobs.examine import Exam, examine
from popbuild.jobs.input_files import put_inputs
from popbuild.jobs.lookup import Job
from popbuild.jobs.surroundings import Surroundings
from popbuild.model import status as states
from popbuild.model.clock import run_id, seconds_at, timestamp
from popbuild.model.config.config import environment_of
from popbuild.model.letter import LETTER_VERSION, Usage, seal
from popbuild.model.pipeline import Task
from popbuild.model.problem import MISSING
from popbuild.model.schema import gate

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")  # as the storage document writes it
_MOST_MS = 1e12  # that a task can have taken: thirty years

# What another program's model did, and what it cost, is unknown.
UNMETERED = Usage(input_tokens=None, output_tokens=None, cost=None)


def adopt(
    job: Job, original: JobFolder, wanted: Collection[str], around: Surroundings
) -> list[str]:
    """Write letters for these tasks, and promote the job if that makes it up to date; gives the
    tasks. GateError if an artifact is missing or fails its gate. The caller holds the job's
    lock."""
    assert job.seed is not None
    assert job.pipeline is not None
    assert job.folder is not None
    exam = examine(job.folder, job.seed, job.pipeline, around, job.names)
    tasks = [
        task
        for task in job.pipeline.in_order
        if task.id in wanted and not exam.up_to_date([task.id])
    ]
    left = _Left(original, around, _as_told(original))
    left.check(exam, tasks)
    opened = _open(job, original, around)
    exam = examine(opened.folder, job.seed, job.pipeline, around, job.names)
    opened.catch_up(exam)  # with the letters that a command wrote which was killed
    Objects(around.root).keep(around.config.snapshot)
    for task in tasks:
        verdict = exam.look(task)
        if exam.letters[task.id] is not None:  # it was built here since
            lifecycle.reseal_letter(opened.folder, exam, task, None, verdict.edited)
            exam.look(task)
        else:
            if exam.digests[task.id] is None:
                data = jsonio.dumps(left.of_output(task))
                disk.write(opened.folder.artifact(task.artifact), data)
                opened.add_file(task.id, "artifacts", task.artifact)
                exam.look(task)
            _adopt(opened, exam, task, left.told.get(task.id, {}))
    _end(opened, exam, around)
    return [task.id for task in tasks]


# Whether it can be.


@dataclass(frozen=True)
class _Left:
    """What the other program left: its result, and its tasks' entries in its status."""

    original: JobFolder
    around: Surroundings
    told: Mapping[str, Any]

    def check(self, exam: Exam, tasks: Collection[Task]) -> None:
        """GateError unless each artifact is as the other program made it, and passes its gate."""
        job = exam.folder.id
        wrong = {task.id: why for task in tasks if (why := self._why_not(exam, task))}
        if wrong:
            raise GateError(
                "the job cannot be adopted as it is: nothing of it was",
                {"job": job, "folder": self.around.root.show(exam.folder.path), **wrong},
                hint=f"mend these, adopt the others (popbuild accept {job} TASK), or let "
                f"doit run job={job} build them: what stands there is kept",
            )

    def _why_not(self, exam: Exam, task: Task) -> str | None:
        """Why a task cannot be adopted, None where it can."""
        place = artifact_place(task.artifact)
        if exam.digests[task.id] is None:
            fits = self.of_output(task) is not MISSING
            return None if fits else self._missing(exam.folder, task)
        if exam.letters[task.id] is None and not self._is_as_it_was(exam.folder, task):
            return f"{place} is not what the other program made: build the task"
        if exam.artifacts[task.id] is None:
            return f"{place} is not valid JSON"
        problems = "; ".join(map(str, exam.judge(task)))
        return f"{place} does not pass its gate: {problems}" if problems else None

    def _missing(self, folder: JobFolder, task: Task) -> str:
        """Say that a task's artifact is not there, and which other file may hold it."""
        place = artifact_place(task.artifact)
        if disk.stands(folder.artifact(task.artifact)):
            return f"{place} cannot be read"
        said = f"{place} is missing"
        if made := ", ".join(self._made(task)):
            return f"{said}; the task made {made}: `artifact` in task.yaml can name one of them"
        if disk.is_regular(self.original.output(task.id)):
            output = f"tasks/{task.id}/output.json"
            return f"{said}; {output} holds nothing that a schema of the task passes"
        return said

    def _made(self, task: Task) -> list[str]:
        """The artifacts that a task made, as the other program's status says."""
        files = self.told.get(task.id, {}).get("files")
        names = files.get("artifacts") if isinstance(files, dict) else None
        return [str(name) for name in names] if isinstance(names, list) else []

    def of_output(self, task: Task) -> Any:
        """A task's artifact as its old output.json has it, else MISSING. That file may hold an
        error or half an answer, so only a schema can tell; and artifacts that the task made come
        first."""
        there = disk.stands(self.original.artifact(task.artifact))
        if there or task.answer != "json" or self._made(task):
            return MISSING
        schema, _ = self.around.schema(task)
        body = records.read_json(self.original.output(task.id))
        entry = body.get(task.id) if isinstance(body, dict) else None
        value = entry.get("content", MISSING) if isinstance(entry, dict) else MISSING
        if isinstance(value, str):
            try:
                value = jsonio.loads(value.encode(), task.artifact)
            except (InputError, UnicodeEncodeError):
                return MISSING
        if schema is None or value is MISSING:
            return MISSING
        problems = gate.judge_main(value, schema, of_items=bool(task.foreach))
        return MISSING if problems else value

    def _is_as_it_was(self, folder: JobFolder, task: Task) -> bool:
        """Whether an artifact is the other program's byte for byte, and not half of a build's."""
        one, other = folder.artifact(task.artifact), self.original.artifact(task.artifact)
        if disk.is_regular(other):
            return one == other or disk.read(one) == disk.read(other)
        value = self.of_output(task)
        return value is not MISSING and disk.read(one) == jsonio.dumps(value)


def _as_told(original: JobFolder) -> Mapping[str, Any]:
    """The tasks' entries in the other program's status."""
    status = records.read_json(original.status)
    tasks = status.get("tasks") if isinstance(status, dict) else None
    entries = tasks.items() if isinstance(tasks, dict) else ()
    return {name: entry for name, entry in entries if isinstance(entry, dict)}


# What is written.


def _open(job: Job, original: JobFolder, around: Surroundings) -> open_job.OpenJob:
    """The job in current/, as a build begins; the other program's directory is kept."""
    assert job.seed is not None
    assert job.pipeline is not None
    assert job.folder is not None
    root = around.root
    current = root.job(CURRENT, job.id)
    originals.keep_original(root, original)
    if job.folder != current:
        if job.folder == original:
            tree.copy_folder(original.path, current.path)
        else:
            tree.rename_new(job.folder.path, current.path)
    tree.remove(current.rejection)
    put_inputs(root, current, job.files)
    lifecycle.write_seed(current, job.seed)
    return open_job.open_job(current, job.id, run_id(), job.seed, job.pipeline, None)


def _adopt(opened: open_job.OpenJob, exam: Exam, task: Task, told: Mapping[str, Any]) -> None:
    """Write a task's letter, and say that it is done."""
    inputs = exam.inputs(task)
    read = {
        "seed:": "",
        **{f"artifact:{name}:": "" for name in task.needs},
        **{f"input:{name}:/digest": "" for name in inputs.inputs},
    }
    now = fingerprint.current({**fingerprint.fixed(task, inputs), **read}, task, inputs)
    times = _times(told)
    body: dict[str, Any] = {
        "formatVersion": LETTER_VERSION,
        "task": task.id,
        "pipelineId": opened.status["pipelineId"],
        "fingerprint": now,
        "outputs": {task.artifact: jsonio.digest(exam.artifacts[task.id])},
        "files": states.by_kind([("artifacts", task.artifact)]),
        "configuration": {},
        **({"execution": times} if times else {}),
        "calls": [],
        "usage": UNMETERED.as_json(),
        "refinementAttempts": 0,
        "validation": [],
        "warnings": [],
        "edited": False,
        "adopted": True,
    }
    lifecycle.write_letter(opened.folder, task.id, seal(body))
    more = {**times, "usage": UNMETERED.as_json(), "artifacts": states.LEGACY_ARTIFACTS}
    opened.change(functools.partial(states.move_task, task=task.id, state="done", **more))
    exam.look(task)


def _times(told: Mapping[str, Any]) -> dict[str, Any]:
    """When the other program ran a task, and how long; nothing if its status lacks any of it."""
    found = {key: told.get(key) for key in ("startedAt", "endedAt")}
    took = told.get("executionTime")
    is_number = isinstance(took, int | float) and not isinstance(took, bool)
    if not is_number or not 0 <= float(took or 0) < _MOST_MS:
        return {}
    if not all(_TIME.fullmatch(str(at)) and seconds_at(at) for at in found.values()):
        return {}
    return {**found, "executionTime": took}


def _end(opened: open_job.OpenJob, exam: Exam, around: Surroundings) -> None:
    """Promote a job that is up to date; leave one in current/ where the rest is to be built."""
    if not exam.up_to_date():
        opened.change(lambda each: states.move_job(each, states.STOPPED))
        return
    ended = {"finishedAt": timestamp(), "usage": UNMETERED.as_json()}
    opened.change(lambda each: states.move_job(each, states.COMPLETE, **ended), sync=True)
    line = promotion.run_line(exam, opened.status["pipelineId"], ended)
    kept = promotion.previous_kept(environment_of(around.root, os.environ))
    promotion.promote(around.root, opened.folder, line, kept)
