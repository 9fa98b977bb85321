"""How an attempt at a task ends on disk: files, then the log, the letter, and the status.

Only what waits for the disk goes to a thread: every system call there gives the interpreter away
and must get it back from the event loop, which costs more than a small write.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from popbuild import __version__
from popbuild.base import commits, disk, jsonio
from popbuild.base.errors import PopbuildError, StoppedError
from popbuild.base.redact import redact
from popbuild.base.stopwatch import Stopwatch
from popbuild.build.job_run import JobRun
from popbuild.build.outcomes import TaskBuilt, TaskFailed, TaskRejected, TaskSpent, TaskStopped
from popbuild.jobs import lifecycle, promotion
from popbuild.jobs.fingerprint import fixed
from popbuild.model import status as states
from popbuild.model.clock import timestamp
from popbuild.model.letter import LETTER_VERSION, Usage, open_letter, seal
from popbuild.model.pipeline import Task
from popbuild.task.attempt import Built, NotPassed, Work

_MAX_MESSAGE = 500  # characters of problems in a status


@dataclass(frozen=True)
class TaskAttempt:
    """One attempt at one task. `watch` measures the task's own work."""

    run: JobRun
    task: Task
    watch: Stopwatch

    def spent(self, work: Work | None, refinements: int = 0) -> TaskSpent:
        """The cost so far."""
        return TaskSpent(Usage.of(work.made if work else []), self.watch.worked_ms, refinements)

    def fingerprint(self, work: Work) -> dict[str, str]:
        return {
            **fixed(self.task, self.run.exam.inputs(self.task)),
            **work.trace.dependencies(),
        }


def inputs_digest(run: JobRun, task: Task) -> str:
    """The inputs for which failures in a row are counted: another try makes sense once they have
    changed."""
    inputs = run.exam.inputs(task)
    fallbacks = list(task.fallbacks)  # which another try may well be about
    return jsonio.digest([fixed(task, inputs), inputs.seed, dict(inputs.artifacts), fallbacks])


async def keep_built(attempt: TaskAttempt, work: Work, built: Built, started_at: str) -> TaskBuilt:
    """The output passed every gate: all files become durable, and the letter after them."""
    run, task = attempt.run, attempt.task
    folder, opened = run.folder, run.opened
    spent, ended_at = attempt.spent(work, built.cycles), timestamp()
    prepared = [work.files.prepare_main(built.output)]
    try:
        opened.drop_old_files(task.id, work.files.written)
        lifecycle.write_output(folder, task, built.output, run.id)
        _write_log(attempt, work)
        body = _letter(attempt, work, built, (started_at, ended_at), spent)
        prepared.append(lifecycle.prepare_letter(folder, task.id, body))
        # No other file is written again once the letter stands.
        others = commits.unsynced(_unsynced(attempt, work))
    except BaseException:
        for each in prepared:
            disk.discard_prepared(each)
        raise
    await run.services.calls.commits.add((others, *prepared))
    receipt = open_letter(body, task.id)
    assert receipt is not None
    run.exam.settle(task, built.output, receipt)
    _end(attempt, "done", spent, endedAt=ended_at)
    run.services.events.task_done(
        run.job, task.id, spent.usage, spent.execution_ms, spent.refinements
    )
    return TaskBuilt(task.id, spent)


def reject_task(attempt: TaskAttempt, work: Work, outcome: NotPassed) -> TaskRejected:
    """Note that the last try did not pass a gate."""
    run, task = attempt.run, attempt.task
    spent = attempt.spent(work, outcome.cycles)
    _write_log(attempt, work)
    message = "; ".join(str(problem) for problem in outcome.problems)[:_MAX_MESSAGE]
    _end(attempt, "error", spent, message)
    more = {"declinedBy": [task.model, *task.fallbacks]} if outcome.declined else {}
    body = promotion.rejection(
        run.job,
        outcome.problems,
        pipelineId=run.id,
        task=task.id,
        stage=outcome.stage,
        answer=outcome.answer,
        refinementAttempts=outcome.cycles,
        fingerprint=attempt.fingerprint(work),
        calls=[call.as_json() for call in work.made],
        **more,
    )
    run.services.events.task_failed(run.job, task.id, message)
    return TaskRejected(task.id, spent, body)


def fail_task(attempt: TaskAttempt, work: Work | None, error: PopbuildError) -> TaskFailed:
    """Note that the attempt crashed."""
    run, task = attempt.run, attempt.task
    environment = run.services.environment
    error.values.setdefault("task", task.id)
    message = redact(str(error), environment)
    spent = attempt.spent(work)
    more: dict[str, Any] = {}
    if work is not None:
        _write_log(attempt, work)
    if error.spent or spent.usage.calls:
        entry = run.opened.status["tasks"][task.id]
        said = redact(error.as_line(without=("task", "tries", "retry after")), environment)
        more["failures"] = states.failed_again(entry, said, inputs_digest(run, task))
    _end(attempt, "error", spent, message, **more)
    run.services.events.task_failed(run.job, task.id, error.message)
    return TaskFailed(task.id, spent, error)


def stop_task(attempt: TaskAttempt, work: Work | None, error: StoppedError) -> TaskStopped:
    """Leave the task pending. Its answers are stored, and the next run continues from there."""
    run, task = attempt.run, attempt.task
    error.values.setdefault("task", task.id)
    spent = attempt.spent(work)
    if work is not None:
        _write_log(attempt, work)
    _end(attempt, "pending", spent)
    run.services.events.task_failed(run.job, task.id, error.message)
    return TaskStopped(task.id, spent, error)


def _letter(
    attempt: TaskAttempt, work: Work, built: Built, times: tuple[str, str], spent: TaskSpent
) -> dict[str, Any]:
    started_at, ended_at = times
    of_calls = [warning for call in work.made for warning in call.warnings]
    return seal(
        {
            "formatVersion": LETTER_VERSION,
            "task": attempt.task.id,
            "pipelineId": attempt.run.id,
            "fingerprint": attempt.fingerprint(work),
            "outputs": _outputs(attempt, work, built.output),
            "files": states.by_kind(work.files.written),
            "configuration": attempt.task.configuration,
            "execution": {
                "startedAt": started_at,
                "endedAt": ended_at,
                "executionTime": round(spent.execution_ms, 2),
                "popbuild": __version__,
            },
            "calls": [call.as_json() for call in work.made],
            "usage": spent.usage.as_json(),
            "refinementAttempts": built.cycles,
            "validation": work.validation,
            "warnings": list(dict.fromkeys([*of_calls, *work.warnings])),
            "edited": False,
        }
    )


def _end(attempt: TaskAttempt, state: str, spent: TaskSpent, error: str = "", **more: Any) -> None:
    run, task = attempt.run, attempt.task.id
    there = run.folder.task(task)
    more = {
        "endedAt": timestamp(),
        **more,
        "executionTime": round(spent.execution_ms, 2),
        "refinementAttempts": spent.refinements,
        "usage": spent.usage.as_json(),
        "artifacts": [name for name in states.LEGACY_ARTIFACTS if (there / name).exists()],
    }
    if error:
        more["error"] = error
    # What follows is the start of the next task, or the end of the job.
    run.opened.change(lambda each: states.move_task(each, task, state, **more), followed=True)


def _write_log(attempt: TaskAttempt, work: Work) -> None:
    path = attempt.run.folder.execution_logs(attempt.task.id)
    disk.write(path, jsonio.dumps(work.log, sort=False), sync=False)


def _unsynced(attempt: TaskAttempt, work: Work) -> list[Path]:
    """The files that the task wrote and that are not durable yet. A stage may have removed some."""
    folder, task = attempt.run.folder, attempt.task.id
    written = [folder.files(kind) / name for kind, name in sorted(work.files.written)]
    own = [folder.output(task), folder.execution_logs(task)]
    return [path for path in [*written, *own] if disk.is_regular(path)]


def _outputs(attempt: TaskAttempt, work: Work, output: Any) -> dict[str, str]:
    """The main artifact's digest by its value, every other's by its bytes."""
    main = attempt.task.artifact
    found = {
        name: jsonio.digest_bytes(disk.read(attempt.run.folder.artifact(name)))
        for kind, name in sorted(work.files.written)
        if kind == "artifacts" and name != main
    }
    found[main] = jsonio.digest(output)
    return found
