"""How a run of a job ends: it is promoted, rejected, or left in current/. The lock is held."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from popbuild.base.errors import BudgetError
from popbuild.base.paths import COMPLETE
from popbuild.base.redact import redact
from popbuild.build.events import JobResult
from popbuild.build.job_run import JobRun, Outcomes, TaskFailed, TaskRejected, TaskStopped
from popbuild.jobs import promotion, records, score_records
from popbuild.jobs.examine import Exam
from popbuild.model import status as states
from popbuild.model.clock import timestamp
from popbuild.model.problem import Problem


def finish(run: JobRun, outcomes: Outcomes) -> JobResult:
    """Promote the job, reject it, or leave it in current/."""
    exam, opened, services = run.exam, run.opened, run.services
    # One time, for all files that tell of this end.
    spent = outcomes.spent
    ended: dict[str, Any] = {"finishedAt": timestamp(), "usage": spent.usage.as_json()}
    failed, rejected = outcomes.first(TaskFailed), outcomes.first(TaskRejected)
    if failed is not None:
        message = redact(failed.error.message, services.environment)
        opened.change(lambda each: states.move_job(each, states.FAILED, error=message, **ended))
        return run.result("failed", outcomes, task=failed.task, error=failed.error)
    body = rejected.body if rejected is not None else None
    if body is None and exam.refused is not None:
        body = promotion.refusal_body(exam, exam.refused, run.id)
    if body is None:
        stays = _stay(run, outcomes, ended)
        if stays is not None:
            return stays
        body = _last_look(run)
    if body is not None:
        return _reject(run, outcomes, body, ended)
    opened.change(lambda each: states.move_job(each, states.COMPLETE, **ended), sync=True)
    line = promotion.run_line(
        exam,
        run.id,
        ended,
        built=outcomes.built,
        execution_ms=spent.execution_ms,
        refinements=spent.refinements,
        earlier=_built_earlier(run) if run.goes_on else None,
    )
    target = promotion.promote(services.around.root, run.folder, line, services.previous_kept)
    return run.result("complete", outcomes, target, frozen=exam.frozen)


def _stay(run: JobRun, outcomes: Outcomes, ended: Mapping[str, Any]) -> JobResult | None:
    """The result for a job that stays in current/, unfinished or undecided; None for any other."""
    opened, exam, stopped = run.opened, run.exam, outcomes.first(TaskStopped)
    if run.services.draining and _could_go_on(exam):
        opened.change(lambda each: states.move_job(each, states.RUNNING))
        return run.result("stopped", outcomes, notes=("taken up again at the next start",))
    if stopped is not None:
        error = stopped.error
        state = states.STOPPED if isinstance(error, BudgetError) else states.WAITING
        opened.change(lambda each: states.move_job(each, state, error=error.message, **ended))
        return run.result(state, outcomes, error=error)
    if run.services.claims.is_shared:
        # A worker that was given up for lost may have written here as well: the disk counts.
        for task in exam.pipeline.in_order:
            exam.look(task)
    asked = exam.questions
    if asked and (outcomes.held or exam.up_to_date()):
        opened.change(lambda each: states.move_job(each, states.WAITING, **ended))
        return run.result("waiting", outcomes, questions=asked, spares_others=True)
    if not exam.up_to_date():
        opened.change(lambda each: states.move_job(each, states.STOPPED, **ended))
        return run.result("built" if run.is_partial else "stopped", outcomes)
    return None


def _could_go_on(exam: Exam) -> bool:
    """Whether something is left to be built, or promoted, without a person's decision."""
    left = [task for task in exam.pipeline.tasks if not exam.up_to_date([task.id])]
    return bool(left) and not all(exam.held_by(task) for task in left)


def _last_look(run: JobRun) -> dict[str, Any] | None:
    """Judge every main artifact once more, and the scores that gates ask for: the body of a
    rejection, None if all pass."""
    for task in run.exam.pipeline.tasks:
        found = run.exam.judge(task)
        if found:
            known = {"pipelineId": run.id, "task": task.id, "stage": "finalValidation"}
            return promotion.rejection(run.job, found, **known)
    by_score = score_records.score_gate(run.exam)
    return promotion.score_refusal(run.exam, *by_score, run.id) if by_score is not None else None


def _reject(
    run: JobRun, outcomes: Outcomes, body: dict[str, Any], ended: Mapping[str, Any]
) -> JobResult:
    run.opened.change(lambda each: states.move_job(each, states.REJECTED, **ended), sync=True)
    body = {**body, "rejectedAt": ended["finishedAt"], "usage": ended["usage"]}
    target = promotion.promote_to_rejected(run.services.around.root, run.folder, body)
    problems = tuple(Problem.from_json(each) for each in body["problems"])
    return run.result("rejected", outcomes, target, task=body["task"], problems=problems)


def _built_earlier(run: JobRun) -> dict[str, str]:
    """The tasks whose results of earlier runs, which were not promoted, are promoted now; with the
    run."""
    good = run.services.around.root.job(COMPLETE, run.job)
    found: dict[str, str] = {}
    for task, letter in run.exam.letters.items():
        built_by = letter.body.get("pipelineId") if letter is not None else None
        if built_by is None or built_by == run.id:
            continue
        last = records.read_letter(good, task)
        if last is None or last.body.get("pipelineId") != built_by:
            found[task] = built_by
    return found
