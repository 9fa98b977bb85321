"""Which tasks a run reaches: those that no person holds back, and no condition leaves out."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from popbuild.base.errors import TaskError
from popbuild.jobs.examine import Exam
from popbuild.jobs.fingerprint import Seen
from popbuild.model.decision import APPROVED
from popbuild.model.item import Item
from popbuild.model.letter import Letter
from popbuild.model.pipeline import Task
from popbuild.model.problem import MISSING
from popbuild.query.estimate import NOTHING
from popbuild.query.planned import PlannedTask
from popbuild.task.conditions import NotKnownYet, condition_text, is_about_items, why_skipped
from popbuild.task.read_trace import ReadTrace
from popbuild.task.templates.render import Templates


def would_skip(
    exam: Exam,
    task: Task,
    templates: Templates,
    unknown: Collection[str] = (),
    item: Item | None = None,
) -> str | None:
    """Why a task, or an item of it, would be skipped, by the artifacts that stand; None where it
    would not. Raises NotKnownYet where that depends on a task whose artifact is `unknown`,
    TaskError for a condition that fails."""
    if not task.when or is_about_items(task, templates.expressions) != (item is not None):
        return None
    given = Seen.of(task, exam.inputs(task)), ReadTrace(templates.budget), templates.expressions
    return why_skipped(task, *given, exam.around.config.environment, item=item, unknown=unknown)


def sure_skips(exam: Exam, wanted: Collection[str], templates: Templates) -> dict[str, PlannedTask]:
    """The stale tasks that a run will skip for sure. Those below are judged as they are then."""
    found = {}
    for task in exam.pipeline.in_order:
        verdict = exam.verdicts[task.id]
        if not task.when or task.id not in wanted or not verdict.stale or verdict.edited:
            continue
        try:
            why = would_skip(exam, task, templates, _to_be_built(exam, task))
        except TaskError:
            continue
        if why is not None:
            nothing = (NOTHING,) * 4
            basis = f"skipped: {why}"
            found[task.id] = PlannedTask(task.id, True, verdict.reasons, 0, *nothing, basis)
            exam.settle(task, MISSING, Letter(task.id, {}, {}, 0, skipped=why))
            for each in exam.pipeline.in_order:
                if task.id in exam.pipeline.upstream(each.id):
                    exam.look(each)
    return found


def _to_be_built(exam: Exam, task: Task) -> list[str]:
    return [name for name in task.needs if exam.verdicts[name].stale]


def open_condition(exam: Exam, task: Task, templates: Templates) -> str:
    """Why it is not known whether a task will be skipped; empty where it is."""
    try:
        would_skip(exam, task, templates, _to_be_built(exam, task))
    except NotKnownYet:
        return f"; only {condition_text(task)}"
    except TaskError as error:
        return f"; its condition fails: {error.message}"
    return ""


def may_pass(exam: Exam, task: Task) -> bool:
    """Whether tasks below a human gate may be built without a further decision: the artifact was
    approved, and a rebuild may give it again."""
    standing, decision = exam.standing(task), exam.decisions.get(task.id)
    if standing is None and exam.verdicts[task.id].stale:
        return decision is not None and decision.decision == APPROVED
    return standing == APPROVED


def only_above(reason: str, stale: Iterable[str]) -> bool:
    """Whether a reason is about an artifact that will be rebuilt, and may come out the same."""
    return reason.startswith(("upstream ", *(f"artifact:{name}:" for name in stale)))
