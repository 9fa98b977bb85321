"""Builds one task: decides whether it runs, then runs its stages."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from popbuild.base import disk, errors, tree
from popbuild.base.printing import in_our_words
from popbuild.build.job_run import JobRun, TaskOutcome, TaskSkipped, TaskSpent, TaskStopped
from popbuild.build.task_end import TaskAttempt, inputs_digest
from popbuild.jobs import lifecycle
from popbuild.jobs.fingerprint import Seen
from popbuild.jobs.item_receipts import ItemReceipts
from popbuild.jobs.staleness import Verdict
from popbuild.model import status as states
from popbuild.model.pipeline import Task
from popbuild.model.stage_names import STAGES
from popbuild.task.attempt import NotPassed, Skipped, StageLog, Work
from popbuild.task.cycle import run_task
from popbuild.task.each_item import run_items
from popbuild.task.input_views import OpenFilesView
from popbuild.task.read_trace import ReadTrace
from popbuild.task.task_files import Files

T = TypeVar("T")

_MAX_SAME = 3  # failures in a row that cost something, with one error
_MAX_KILLED = 5  # starts in a row whose process was killed
_KILLED = "the process ended before the task did"


async def build_task(run: JobRun, task: Task) -> TaskOutcome:
    """Make a task up to date. Raises FencedError if another worker has the job, and OSError."""
    verdict = run.exam.verdicts[task.id]
    options, events = run.services.options, run.services.events
    if verdict.frozen and not verdict.edited:
        events.task_frozen(run.job, task.id)
        return TaskSkipped(task.id, TaskSpent())  # `--always-execute` means everything else
    if verdict.edited and (verdict.frozen or not options.discard_edits):
        return await _keep_edit(run, task, verdict)
    failures = _failures(run, task)
    if failures["count"] >= failures["allowed"] and task.id not in run.exam.asked:
        times = {"times": failures["count"], "error": failures["error"]}
        return _wait_for_a_person(
            run,
            task,
            "the same error came again and again",
            times,
            f"change something, or popbuild retry {run.job} to try all the same",
        )
    return await _build(run, task, verdict)


async def _keep_edit(run: JobRun, task: Task, verdict: Verdict) -> TaskOutcome:
    """An artifact was edited by hand: it stands, unless its task is stale as well, or was
    skipped."""
    if verdict.skipped:
        return _wait_for_a_person(
            run,
            task,
            "an artifact stands where its task was skipped",
            {
                "artifact": run.services.around.root.show(run.folder.artifact(task.artifact)),
                "skipped": verdict.skipped,
            },
            "move the file away, or --discard-edits removes it",
        )
    if verdict.stale and not run.services.options.keep_edits:
        artifact = run.services.around.root.show(run.folder.artifact(task.artifact))
        return _wait_for_a_person(
            run,
            task,
            "an artifact was edited by hand, and its task became stale",
            {"artifact": artifact, "stale": str(verdict)},
            "--keep-edits keeps the file as it is, --discard-edits builds it anew",
        )
    await _to_its_end(
        asyncio.to_thread(lifecycle.reseal_letter, run.folder, run.exam, task, run.id, True)
    )
    run.opened.change(lambda each: states.move_task(each, task.id, "done"))
    run.exam.look(task)
    run.services.events.task_kept(run.job, task.id)
    return TaskSkipped(task.id, TaskSpent())


def _wait_for_a_person(
    run: JobRun, task: Task, message: str, values: Mapping[str, object], hint: str
) -> TaskStopped:
    values = {"job": run.job, "task": task.id, **values}
    return TaskStopped(task.id, TaskSpent(), errors.StoppedError(message, values, hint))


def _failures(run: JobRun, task: Task) -> dict[str, Any]:
    """How often in a row a task failed on today's inputs, and how often it may."""
    entry = run.opened.status["tasks"][task.id]
    if entry["state"] == "running" or "abandoned" in entry:
        # The process that started it was killed. Starts are counted, so that a task that takes its
        # process down with it cannot spend without end.
        failures = states.failed_again(entry, _KILLED, inputs_digest(run, task))
        run.opened.change(lambda each: states.move_task(each, task.id, "error", failures=failures))
    else:
        failures = entry.get("failures", {"count": 0, "error": "", "inputs": ""})
    if not failures["count"] or failures["inputs"] != inputs_digest(run, task):
        return {"count": 0, "error": "", "allowed": 1}
    return {**failures, "allowed": _MAX_KILLED if failures["error"] == _KILLED else _MAX_SAME}


async def _build(run: JobRun, task: Task, verdict: Verdict) -> TaskOutcome:
    attempt = TaskAttempt(run, task)
    why = verdict.brief if verdict.stale else "asked for"
    run.services.events.task_started(run.job, task.id, why)
    disk.make_folder(run.folder.task(task.id))
    # Before the task starts: half-done work must not look like an edit by hand.
    tree.remove(run.folder.letter(task.id))
    if not task.foreach:
        tree.remove(run.folder.items(task.id))  # from when it had items
    run.opened.start(
        lambda each: states.at_stage(
            states.move_task(each, task.id, "running", startedAt=attempt.started_at),
            task.id,
            STAGES[0],
        )
    )
    try:
        work = attempt.work = _work(attempt)
        with attempt.watch.measures():
            outcome = await (
                run_items(work, _receipts(attempt)) if task.foreach else run_task(work)
            )
        run.check()
    except errors.FencedError:
        raise
    except (errors.BudgetError, errors.DrainingError) as error:
        run.check()
        return await _to_its_end(asyncio.to_thread(attempt.stop, error))
    except Exception as error:
        run.check()
        ours = in_our_words(error)
        return await _to_its_end(asyncio.to_thread(attempt.fail, ours))
    if isinstance(outcome, NotPassed):
        return await _to_its_end(asyncio.to_thread(attempt.reject, work, outcome))
    if isinstance(outcome, Skipped):
        return await _to_its_end(attempt.keep_skipped(work, outcome))
    return await _to_its_end(attempt.keep_built(work, outcome))


def _receipts(attempt: TaskAttempt) -> ItemReceipts:
    """The receipts of the task's items, from earlier builds."""
    run, task = attempt.run, attempt.task.id
    receipts = ItemReceipts(run.folder.items(task), task, run.services.environment)
    if run.services.options.always:
        receipts.forget()
    attempt.receipts = receipts
    return receipts


def _work(attempt: TaskAttempt) -> Work:
    run, task = attempt.run, attempt.task
    services, opened = run.services, run.opened
    inputs, trace = run.exam.inputs(task), ReadTrace(services.templates.budget)
    artifacts = {each.artifact: each.id for each in run.exam.pipeline.tasks}
    views = OpenFilesView(inputs.inputs, trace, services.around.root)
    return Work(
        run=run.id,
        task=task,
        around=services.around,
        inputs=inputs,
        seen=Seen.of(task, inputs),
        opened=opened,
        claims=services.claims,
        files=Files(opened, task, artifacts, services.environment, views),
        templates=services.templates,
        calls=services.calls,
        watch=attempt.watch,
        trace=trace,
        log=StageLog(task.id, services.environment),
        tell_stage=functools.partial(services.events.stage, run.job, task.id),
    )


async def _to_its_end(writing: Coroutine[Any, Any, T]) -> T:
    """Wait until this is written, also if the task is cancelled meanwhile: the job's lock must be
    held until then. What was written counts."""
    task = asyncio.ensure_future(writing)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        if task.cancelled() or task.exception() is not None:
            raise
        return task.result()
