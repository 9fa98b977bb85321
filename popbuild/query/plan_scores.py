"""Which judges a run asks, for a plan: each is priced as a task of its own, by its calls so far."""

from __future__ import annotations

from collections.abc import Iterator

from popbuild.base.errors import TaskError
from popbuild.jobs import score_records
from popbuild.jobs.examine import Exam
from popbuild.llm.request import Request
from popbuild.model.pipeline import Task
from popbuild.model.scoring import Judge
from popbuild.task.judging import judge_request, judge_settings
from popbuild.task.score_rules import ScoredDocuments

TO_JUDGE = "its output is to be judged"


def judges_to_ask(exam: Exam) -> Iterator[tuple[Task, Request | None, str]]:
    """Each judge that is asked once the job is built, as a task, with its request, None while its
    output is not known yet, and why."""
    expected = None
    for task in exam.pipeline.scored:
        scoring = task.scoring
        assert scoring is not None
        if exam.verdicts[task.id].stale:
            for name, judge in scoring.judges.items():
                yield _as_task(task, name, judge), None, TO_JUDGE
            continue
        waiting = score_records.why_unmeasured(exam, task)
        for name in [each for each in scoring.judges if each in waiting]:
            judge = scoring.judges[name]
            expected = expected or score_records.read_expected(exam.around.root, exam.folder.id)
            output = exam.artifacts[task.id]
            given = ScoredDocuments(output, exam.seed, expected.value, expected.problem)
            try:
                request = judge_request(exam.around, judge, given)
            except TaskError:
                continue  # nothing is asked: the score has no value, and says why
            yield _as_task(task, name, judge), request, waiting[name]


def _as_task(task: Task, name: str, judge: Judge) -> Task:
    settings = {"model": judge.model, **judge_settings(judge)}
    named = f"{task.id}:{name}"  # as the ledger has it
    return Task(named, name, task.folder, settings, (), "", "text", refinements=0)
