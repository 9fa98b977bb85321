"""Measures the outputs of a job: at the end of its build, before it is promoted, and where it
stands if nothing else is to be done. Scores that hold are kept as they are."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import replace

from popbuild.base import disk, jsonio, tree
from popbuild.base.errors import BudgetError, DrainingError, FencedError, PopbuildError
from popbuild.base.redact import redact
from popbuild.build.events import JobResult
from popbuild.build.job_run import (
    BuildServices,
    JobRun,
    Outcomes,
    TaskFailed,
    TaskMeasured,
    TaskRejected,
    TaskSpent,
    TaskStopped,
)
from popbuild.jobs import lookup, score_log, score_records, seals
from popbuild.jobs.examine import Exam
from popbuild.llm.ledger import Origin
from popbuild.model.letter import Call, Usage
from popbuild.model.pipeline import Task
from popbuild.model.scores import Score, TaskScores
from popbuild.model.scoring import Scoring
from popbuild.task.judging import judged
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
    measuring = _Measuring(run.services, exam, run.id, anew=run.services.options.always)
    try:
        await measuring.run()
    except (BudgetError, DrainingError) as error:
        outcomes.all.append(TaskStopped(measuring.at, measuring.spent, error))
    except FencedError:
        raise
    except PopbuildError as error:
        outcomes.all.append(TaskFailed(measuring.at, measuring.spent, error))
    else:
        if measuring.made:
            outcomes.all.append(TaskMeasured(measuring.at, measuring.spent))
    run.check()
    await asyncio.to_thread(_write, exam, measuring.found)


async def measured_in_place(
    services: BuildServices, job: lookup.Job, result: JobResult
) -> JobResult:
    """The result of a job with nothing to build, once its scores hold: they are measured where it
    stands, under its lock. The seal is renewed as it is for an accepted artifact."""
    names = job.unmeasured if result.outcome == "up to date" else ()
    if not names or job.exam is None:
        return result
    letters = (job.exam.letters[name] for name in names)
    run = next((str(each.body.get("pipelineId", "")) for each in letters if each), "")
    measuring = _Measuring(services, job.exam, run, anew=False)
    await measuring.run()
    with services.claims.final(job.id):
        await asyncio.to_thread(_write_sealed, job.exam, measuring.found)
        await asyncio.to_thread(score_log.log_scores, job.exam, run)
    return replace(result, measured=names, usage=measuring.spent.usage)


def _write_sealed(exam: Exam, found: Mapping[str, TaskScores]) -> None:
    with seals.changing(exam.folder, *map(exam.folder.scores, found)):
        _write(exam, found)


def _write(exam: Exam, found: Mapping[str, TaskScores]) -> None:
    for task, scores in found.items():
        disk.write(exam.folder.scores(task), jsonio.dumps(scores.as_document(), sort=False))


def _drop_old(exam: Exam) -> None:
    """Remove the scores of tasks that are measured no more, or were skipped."""
    for task in exam.pipeline.tasks:
        if not score_records.is_measurable(exam, task):
            tree.remove(exam.folder.scores(task.id))


class _Measuring:
    """Measures one job. `found` are the scores of the tasks of which one did not hold, `at` the
    task that is measured just now, `made` the calls of judges, of the run with the ID `run`."""

    def __init__(self, services: BuildServices, exam: Exam, run: str, *, anew: bool) -> None:
        self._services, self._exam, self._run, self._anew = services, exam, run, anew
        self._expected = score_records.read_expected(exam.around.root, exam.folder.id)
        self.found: dict[str, TaskScores] = {}
        self.at = ""
        self.made: list[Call] = []

    @property
    def spent(self) -> TaskSpent:
        return TaskSpent(Usage.of(self.made))

    async def run(self) -> None:
        """Measure the tasks of which a score does not hold; all of them, if `anew`. Raises
        PopbuildError where a judge cannot be asked."""
        exam = self._exam
        waiting = score_records.unmeasured(exam)
        for task in exam.pipeline.scored:
            if task.id in waiting or (self._anew and score_records.is_measurable(exam, task)):
                self.at = task.id
                self.found[task.id] = await self._of_task(task)

    async def _of_task(self, task: Task) -> TaskScores:
        exam, expected, scoring = self._exam, self._expected, task.scoring
        assert scoring is not None
        basis = score_records.basis_of(exam, task, scoring, expected)
        last = None if self._anew else score_records.read_scores(exam.folder, task.id)
        given = ScoredDocuments(
            exam.artifacts[task.id], exam.seed, expected.value, expected.problem
        )
        scores: dict[str, Score] = {}
        for name in scoring.names:
            known = last.scores.get(name) if last is not None else None
            if known is not None and known.basis == basis.of(name):
                scores[name] = known
                continue
            score = await self._one(task, scoring, name, given)
            rule, seed, wanted, output = basis.of(name)
            reason = redact(score.reason, self._services.environment)
            scores[name] = replace(
                score, reason=reason, rule=rule, seed=seed, expected=wanted, output=output
            )
        return TaskScores(task.id, scores, basis.digest)

    async def _one(self, task: Task, scoring: Scoring, name: str, given: ScoredDocuments) -> Score:
        judge = scoring.judges.get(name)
        if judge is None:
            return await measured(task, name, given)
        pipeline = str(self._exam.seed.get("pipeline", ""))
        # A name of its own: plans learn from the calls of a task.
        origin = Origin(self._run, self._exam.folder.id, f"{task.id}:{name}", pipeline)
        calls = self._services.calls
        score, made = await judged(calls, self._exam.around, task, judge, given, origin)
        self.made += made
        return score
