"""What keeps a job from being built that is over others, as a plan says it."""

from __future__ import annotations

from popbuild.jobs.examine import Exam
from popbuild.jobs.members import waits_of
from popbuild.model import status as states
from popbuild.model.job_groups import least_share

OTHERS = "other jobs"  # among the tasks above one, none of which can have this name
_MAY_COME = frozenset({"stale", "new", "pending", states.RUNNING, states.FAILED, states.STOPPED})


def obstacle(exam: Exam, *, only: bool) -> str:
    """Why a run would not build a job, whatever it makes of those below; empty where it may. With
    `only`, it makes nothing of these."""
    if not exam.jobs or exam.seed is None:  # or as it was at the last look: up to date
        return ""
    share = least_share(exam.seed)
    if only and not any(group.lacks(share) for group in exam.jobs.values()):
        exam.go_on_without()
    waiting = [e for g in exam.jobs.values() for e, s in g.others.items() if s == states.WAITING]
    if waiting:
        return f"waits for jobs that wait for a person: {', '.join(waiting)}"
    hopeless = {}
    for name, group in exam.jobs.items():
        count = 0 if only else sum(state in _MAY_COME for state in group.others.values())
        if group.lacks(share, count):
            hopeless[name] = group
    said = waits_of(hopeless, share)
    return f"not built: {'; '.join(said)}" if said else ""
