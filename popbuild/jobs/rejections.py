"""Whether what rejected a job is still so, and building it again would ask for the same."""

from __future__ import annotations

from popbuild.jobs import fingerprint, staleness
from popbuild.jobs.examine import Exam
from popbuild.jobs.score_records import score_gate, unmeasured
from popbuild.model import scoring
from popbuild.model.decision import REJECTED as REFUSED
from popbuild.model.decision import STAGE as HUMAN_GATE


def rejection_stands(exam: Exam, rejection: object) -> str | None:
    """The task whose rejection still holds: all its dependencies are as they were, and all above
    it is up to date. None when something changed, so that a run is worth its money."""
    if not isinstance(rejection, dict):
        return None
    name = rejection.get("task")
    last = rejection.get("fingerprint")
    if name not in exam.pipeline.names or not isinstance(last, dict):
        return None
    task = exam.pipeline.task(name)
    if rejection.get("stage") == HUMAN_GATE:
        return task.id if exam.standing(task) == REFUSED else None
    if rejection.get("stage") == scoring.SCORE_STAGE:
        by_score = score_gate(exam) if exam.up_to_date() and not unmeasured(exam) else None
        return by_score[0].id if by_score is not None else None
    if not exam.up_to_date(exam.pipeline.upstream(name)):
        return None
    inputs = exam.inputs(task)
    if staleness.changes(last, fingerprint.current(last, task, inputs), task, inputs):
        return None
    if "declinedBy" in rejection:  # by these models; one that was added since may well answer
        return task.id if rejection["declinedBy"] == [task.model, *task.fallbacks] else None
    return task.id if rejection.get("refinementAttempts", 0) >= task.refinements else None
