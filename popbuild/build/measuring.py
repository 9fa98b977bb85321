"""Measures the outputs of a job: at the end of its build, before it is promoted, and where it
stands if nothing else is to be done. Scores that hold are kept as they are."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import replace

from popbuild.base import disk, jsonio, tree
from popbuild.base.paths import JobFolder
from popbuild.base.redact import redact
from popbuild.build.events import JobResult
from popbuild.build.job_run import (
    BuildServices,
    JobRun,
    Outcomes,
    TaskFailed,
    TaskRejected,
    TaskStopped,
)
from popbuild.jobs import lookup, score_records, seals
from popbuild.jobs.examine import Exam
from popbuild.jobs.score_records import Expected, read_scores
from popbuild.model.pipeline import Task
from popbuild.model.scores import Score, TaskScores
from popbuild.task.score_code import measured
from popbuild.task.score_rules import ScoredDocuments


async def measured_after(building: Awaitable[None], run: JobRun, outcomes: Outcomes) -> None:
    """Wait for the tasks of a run, then measure what they made: a gate may ask for it."""
    await building
    await _measure_built(run, outcomes)


async def _measure_built(run: JobRun, outcomes: Outcomes) -> None:
    """Measure what a run made, in current/, once all of it stands and no person is to decide."""
    ended_badly = any(map(outcomes.first, (TaskFailed, TaskRejected, TaskStopped)))
    exam = run.exam
    if ended_badly or not exam.up_to_date() or exam.questions or exam.refused:
        return
    await asyncio.to_thread(_drop_old, exam)
    found = await _measure(run.services, exam, anew=run.services.options.always)
    if not found:
        return
    run.check()
    await asyncio.to_thread(_write, exam, found)


async def measured_in_place(
    services: BuildServices, job: lookup.Job, result: JobResult
) -> JobResult:
    """The result of a job with nothing to build, once its scores hold: they are measured where it
    stands, under its lock. The seal is renewed as it is for an accepted artifact."""
    names = job.unmeasured if result.outcome == "up to date" else ()
    if not names or job.exam is None:
        return result
    found = await _measure(services, job.exam, anew=False)
    with services.claims.final(job.id):
        await asyncio.to_thread(_write_sealed, job.exam, job.exam.folder, found)
    return replace(result, measured=names)


def _write_sealed(exam: Exam, folder: JobFolder, found: Mapping[str, TaskScores]) -> None:
    with seals.changing(folder, *(folder.scores(task) for task in found)):
        _write(exam, found)


def _write(exam: Exam, found: Mapping[str, TaskScores]) -> None:
    for task, scores in found.items():
        disk.write(exam.folder.scores(task), jsonio.dumps(scores.as_document(), sort=False))


def _drop_old(exam: Exam) -> None:
    """Remove the scores of tasks that are measured no more, or were skipped."""
    for task in exam.pipeline.tasks:
        if not score_records.is_measurable(exam, task):
            tree.remove(exam.folder.scores(task.id))


async def _measure(services: BuildServices, exam: Exam, *, anew: bool) -> dict[str, TaskScores]:
    """The scores of each task of which one does not hold; of all tasks, if `anew`."""
    expected = score_records.read_expected(exam.around.root, exam.folder.id)
    waiting = score_records.unmeasured(exam)
    found = {}
    for task in exam.pipeline.scored:
        if task.id in waiting or (anew and score_records.is_measurable(exam, task)):
            found[task.id] = await _of_task(services, exam, task, expected, anew=anew)
    return found


async def _of_task(
    services: BuildServices, exam: Exam, task: Task, expected: Expected, *, anew: bool
) -> TaskScores:
    scoring = task.scoring
    assert scoring is not None
    basis = score_records.basis_of(exam, task, scoring, expected)
    last = None if anew else read_scores(exam.folder, task.id)
    given = ScoredDocuments(exam.artifacts[task.id], exam.seed, expected.value, expected.problem)
    scores: dict[str, Score] = {}
    for name in scoring.names:
        known = last.scores.get(name) if last is not None else None
        if known is not None and known.basis == basis.of(name):
            scores[name] = known
            continue
        score = await measured(task, name, given)
        rule, seed, wanted, output = basis.of(name)
        reason = redact(score.reason, services.environment)
        scores[name] = replace(
            score, reason=reason, rule=rule, seed=seed, expected=wanted, output=output
        )
    return TaskScores(task.id, scores, basis.digest)
