"""Whether a job that is over others can be built: which of these lack."""

from __future__ import annotations

from collections.abc import Mapping

from popbuild.base import errors
from popbuild.base.errors import PopbuildError, StoppedError
from popbuild.build.events import JobResult
from popbuild.jobs.lookup import Job
from popbuild.jobs.members import Group, named_few
from popbuild.model import status as states
from popbuild.model.job_groups import least_share

_MAX_NAMED = 20  # jobs in an error


def result_without(job: Job) -> JobResult | None:
    """The result for a job that cannot be built without some of those that it is over. None where
    it can: it then goes on without the others. All that can be built of them has been."""
    if not job.jobs or job.exam is None:
        return None
    error = next(filter(None, (_error_of(job, group) for group in job.jobs.values())), None)
    if error is None:
        job.exam.go_on_without()
        return None
    waits = any(states.WAITING in group.others.values() for group in job.jobs.values())
    outcome = "waiting" if waits else "stopped"
    return JobResult(job.id, outcome, error=error, spares_others=True)


def _error_of(job: Job, group: Group) -> PopbuildError | None:
    assert job.seed is not None
    where = {"job": job.id, "jobs": f"{group.name}: {group.glob}"}
    if not group.members and not group.others:
        hint = "a glob is held against the IDs of jobs, which popbuild list shows"
        return errors.InputError("no job matches", where, hint)
    waiting = [each for each, state in group.others.items() if state == states.WAITING]
    if waiting:
        return StoppedError(
            "jobs that this one is over wait for a person",
            {**where, "waiting": named_few(waiting, _MAX_NAMED)},
            hint=f"popbuild approve {waiting[0]}, or reject it; then run this one again",
        )
    if not group.lacks(least_share(job.seed)):
        return None
    return StoppedError(
        "jobs that this one is over are not up to date",
        {**where, **_by_state(group.others)},
        hint='build or mend them, or let the seed go on without: "missing": "skip"',
    )


def _by_state(others: Mapping[str, str]) -> dict[str, object]:
    found: dict[str, list[str]] = {}
    for job, state in others.items():
        found.setdefault(state, []).append(job)
    return {state: named_few(jobs, _MAX_NAMED) for state, jobs in found.items()}
