"""`approve` and `reject`: a person's decision at a task's human gate, kept with the job.

The job is set to running first, and the decision written after that. Killed in between, it runs
with its lock free: the next build finds the gate open, and waits again.
"""

from __future__ import annotations

import functools
import getpass
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from popbuild.base import disk, jsonio
from popbuild.base.errors import InputError, StoppedError, UsageError, no_such
from popbuild.base.paths import COMPLETE, CURRENT, JobFolder, Root
from popbuild.base.redact import redact
from popbuild.jobs import job_state, lifecycle, promotion
from popbuild.jobs.examine import Exam
from popbuild.jobs.lookup import Job
from popbuild.jobs.open_job import OpenJob
from popbuild.jobs.selection import require_task
from popbuild.model import status as states
from popbuild.model.clock import timestamp
from popbuild.model.decision import APPROVED, OPEN, REJECTED, Decision, in_words
from popbuild.model.pipeline import Task
from popbuild.query import describe

_MAX_NAME = 200
_MAX_NOTE = 4_000


@dataclass(frozen=True)
class HumanAnswer:
    """A person's answer besides yes or no. With `of`, it counts for that question alone."""

    task: str | None = None
    note: str | None = None
    by: str | None = None
    of: str | None = None


@dataclass(frozen=True)
class Decided:
    """A decision, made just now or `before`; where the job is now, and the tasks still waiting."""

    job: str
    decision: Decision
    before: bool
    path: str
    waiting: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {
            "job": self.job,
            **self.decision.as_json(),
            "before": self.before,
            "path": self.path,
            "waiting": list(self.waiting),
        }

    def lines(self) -> Iterator[str]:
        """As a person reads it, with what comes next."""
        was = "was " if self.before else ""
        yield f"{self.job}: {self.decision.task} {was}{in_words(self.decision.as_json())}"
        if self.decision.decision == REJECTED:
            yield f"  -> {self.path}"
        elif self.waiting:
            yield f"waiting: {', '.join(self.waiting)}"
        elif not self.before:
            yield f"next: doit run job={self.job}"


def approve(root: Root, job: str, answer: HumanAnswer) -> Decided:
    """Approve what a task made, so that others can be built from it; also after a rejection, but
    then not with `of`. Raises UsageError where nothing waits, StoppedError where the question has
    changed or another person has answered it otherwise, and LockedError."""
    return _decide(root, job, APPROVED, answer)


def reject(root: Root, job: str, answer: HumanAnswer) -> Decided:
    """Reject what a task made: the job goes to rejected/. As `approve`, also after an approval."""
    return _decide(root, job, REJECTED, answer)


def _decide(root: Root, name: str, said: str, answer: HumanAnswer) -> Decided:
    who = _checked_name(answer.by if answer.by is not None else default_name())
    why = _checked_note(answer.note)
    _examined(describe.find_job(root, name))
    with lifecycle.job_lock(root, name):
        job = describe.find_job(root, name)
        exam = _examined(job)
        chosen = _chosen(job, exam, said, _asked(job, exam, said, answer))
        why = redact(why, exam.around.config.environment) if why else None
        before = exam.standing(chosen) == said
        decision = exam.decisions.get(chosen.id)
        if not before or decision is None:
            decision = Decision(
                chosen.id, said, who, timestamp(), why, _artifacts(job, exam, chosen)
            )
            _go_on(job, exam.folder)
            body = jsonio.dumps(decision.as_document(), sort=False)
            disk.write(exam.folder.decision(chosen.id), body)
            exam.look(chosen)
        folder = exam.folder
        if said == REJECTED and folder == root.job(CURRENT, name):
            folder = _move(root, exam, chosen)
        waiting = tuple(each.task for each in exam.questions)
        return Decided(name, decision, before, root.show(folder.path), waiting)


def _examined(job: Job) -> Exam:
    describe.refuse_bad(job)
    assert job.exam is not None
    return job.exam


def _asked(job: Job, exam: Exam, said: str, answer: HumanAnswer) -> str | None:
    """The name of the task that an answer is for, by the digest of its question if it gives one.
    StoppedError if that has changed, or another person has decided otherwise since."""
    if answer.of is None:
        return answer.task
    found = (each for each in exam.pipeline.gated if exam.asked_of(each) == answer.of)
    task = next((each for each in found if answer.task in (None, each.id)), None)
    standing = exam.standing(task) if task is not None else None
    if task is None or standing is None:
        raise StoppedError(
            "what is asked about is not what it was any more",
            {"job": job.id, "state": job.description},
            hint="look at it again, then decide",
        )
    decision = exam.decisions.get(task.id)
    if standing not in (OPEN, said) and decision is not None:
        raise StoppedError(
            "another person has decided otherwise since",
            {"job": job.id, "task": task.id, "found": in_words(decision.as_json())},
            hint=f"popbuild {'approve' if said == APPROVED else 'reject'} {job.id} "
            f"--task {task.id} decides anew",
        )
    return task.id


def _chosen(job: Job, exam: Exam, said: str, name: str | None) -> Task:
    """The task that is meant: the one that is named, or the only one that waits."""
    gated = {task.id: task for task in exam.pipeline.gated}
    where = {"job": job.id}
    if name is not None:
        require_task(exam.pipeline, name, job.id)
        if name not in gated:
            raise UsageError(
                "the task has no human gate",
                no_such("task", name, gated, where=where),
                hint="a gate with a message, in its task.yaml, makes one",
            )
        standing = exam.standing(gated[name])
        if exam.skipped(name) and not exam.verdicts[name].stale:
            raise UsageError(
                "there is nothing to decide about: the task was skipped",
                {**where, "task": name, "skipped": exam.skipped(name)},
            )
        if standing is None and job.state != COMPLETE:
            raise UsageError(
                "there is nothing to decide about yet: the task is to be built",
                {**where, "task": name, "stale": str(exam.verdicts[name])},
                hint=f"doit run {job.id}:{name}",
            )
        found = [name] if standing == said or job.state != COMPLETE else []
    else:
        found = _candidates(job, exam, said)
    if not found:
        raise UsageError(
            "the job does not wait for a person",
            {**where, "state": job.description},
            hint="popbuild list says which jobs wait",
        )
    return gated[found[0]]


def _candidates(job: Job, exam: Exam, said: str) -> list[str]:
    """The tasks that an answer without a name may be for, the likeliest first."""
    by_standing: dict[str | None, list[str]] = {OPEN: [], APPROVED: [], REJECTED: []}
    for task in exam.pipeline.gated:
        if exam.skipped(task.id):
            continue
        by_standing.setdefault(exam.standing(task), []).append(task.id)
    # Asked under its lock, a job that was about to go on is said to run.
    opened = [] if job.state in (COMPLETE, states.REJECTED) else by_standing[OPEN]
    if len(opened) > 1:
        raise UsageError(
            "several tasks wait",
            {"job": job.id, "tasks": ", ".join(opened)},
            hint=f"--task {opened[0]} says which",
        )
    # Any person can take a rejection back.
    return [*opened, *by_standing[said], *(by_standing[REJECTED] if said == APPROVED else ())]


def _artifacts(job: Job, exam: Exam, task: Task) -> dict[str, str]:
    """The digests of the artifacts to decide about. InputError if one of the gate's is missing."""
    found = exam.decided_about(task)
    missing = [name for name, digest in found.items() if not digest.startswith("sha256:")]
    if missing:
        raise InputError(
            "an artifact that the gate names is not there",
            {"job": job.id, "task": task.id, "missing": ", ".join(missing)},
            hint=f"correct `artifacts` in pipeline-config/{task.folder}/task.yaml",
        )
    return found


def _go_on(job: Job, folder: JobFolder) -> None:
    """Set a waiting job to running. One that failed or was stopped is not started by this."""
    status = job_state.read_status(folder)
    if status is None:
        raise InputError(
            "the job's status is damaged",
            {"job": job.id},
            hint=f"doit run job={job.id} makes it anew",
        )
    waits = status.get("state") == states.WAITING and "error" not in status
    if waits and job.state == states.WAITING:
        OpenJob(folder, status).change(_running, sync=True)


_running = functools.partial(states.move_job, state=states.RUNNING)


def _move(root: Root, exam: Exam, task: Task) -> JobFolder:
    """Move a job whose artifact was rejected to rejected/."""
    status = job_state.read_status(exam.folder) or {}
    status.setdefault("state", states.STOPPED)  # one from before there were any
    opened = OpenJob(exam.folder, status)
    if status["state"] != states.RUNNING:
        opened.change(_running)
    body = promotion.refusal_body(exam, task, status["pipelineId"])
    at = body["rejectedAt"]
    opened.change(lambda each: states.move_job(each, REJECTED, finishedAt=at), sync=True)
    return promotion.promote_to_rejected(root, exam.folder, body)


def default_name() -> str:
    """The name of the person who decides, where --by gives none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a process whose user has no name
        return f"user {os.getuid()}"


def _checked_name(text: str) -> str:
    text = text.strip()
    if not text or len(text) > _MAX_NAME or not text.isprintable():
        raise UsageError(
            "--by must be a name",
            {"found": text[:_MAX_NAME] or "nothing"},
            hint=f"one line, at most {_MAX_NAME} characters",
        )
    return text


def _checked_note(text: str | None) -> str | None:
    """A note, stripped; None if it is empty."""
    text = (text or "").strip()
    if len(text) > _MAX_NOTE:
        found = {"found": f"{len(text):,} characters", "allowed": f"{_MAX_NOTE:,}"}
        raise UsageError("--note is too long", found)
    return text.encode("utf-8", "backslashreplace").decode() or None
