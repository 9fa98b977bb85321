"""What commands change for a person: accepted and frozen tasks, exported artifacts."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from popbuild.base import disk
from popbuild.base.errors import GateError, InputError, UsageError, no_such
from popbuild.base.paths import COMPLETE, Root
from popbuild.build import adoption
from popbuild.jobs import lifecycle, promotion, records
from popbuild.jobs.examine import Exam, examine
from popbuild.jobs.lookup import Job
from popbuild.jobs.selection import require_task, select
from popbuild.model.config import config
from popbuild.query import describe
from popbuild.query.describe import files_of, find_job, folder_of, refuse_bad


def export(root: Root, job: Job, target: Path, artifact: str | None = None) -> Path:
    """Copy a complete job's final artifact (the last task's, or a named one) to a path. A job that
    another program built is exported whether up to date or not, since that is unknown."""
    if job.is_not_ours:
        if job.state != COMPLETE:
            raise InputError("the job is not complete", {"job": job.id, "state": job.description})
        return _export(job, artifact or _last_artifact(job), target)
    refuse_bad(job)
    if not job.up_to_date or job.exam is None:
        raise InputError(
            f"the job is not {'up to date' if job.state == COMPLETE else 'complete'}",
            {"job": job.id, "state": job.description},
            hint=f"doit run job={job.id}",
        )
    last = job.exam.pipeline.tasks[-1]
    if artifact is None and (why := job.exam.skipped(last.id)):
        raise UsageError(
            "the job's last task was skipped: it has no artifact",
            {"job": job.id, "task": last.id, "skipped": why},
            hint="--artifact names another one",
        )
    return _export(job, artifact or last.artifact, target)


def _last_artifact(job: Job) -> str:
    """The artifact that another program made last: its status lists them as they were written."""
    listed = [file.name for file in files_of(job) if file.kind == "artifacts"]
    if not listed:
        raise UsageError("the job has no artifact", {"job": job.id, "path": folder_of(job).path})
    return listed[-1]


def _export(job: Job, name: str, target: Path) -> Path:
    found = {each.name: each.path for each in files_of(job) if each.kind == "artifacts"}
    if name not in found:
        raise UsageError("no such artifact", no_such("artifact", name, found))
    if not disk.stands(found[name]):
        there = [each for each, path in found.items() if disk.stands(path)]
        raise InputError(
            "the artifact is in the index, and not there",
            {"job": job.id, "missing": name, "known": ", ".join(there) or "none"},
            hint="--artifact names another one",
        )
    if target.is_dir():
        target = target / name
    hand_over(target, disk.read(found[name]))
    return target


def hand_over(target: Path, data: bytes) -> None:
    """Write a file that a person asked for, wherever. UsageError if its folder is missing."""
    if not target.parent.is_dir():
        raise UsageError("no such folder", {"folder": target.parent})
    disk.write(target, data, sync=False)


def accept(root: Root, name: str, tasks: Iterable[str] = ()) -> list[str]:
    """Write new letters for what stands there and passes its gate, so that it is up to date; gives
    the tasks. A complete job of another program is adopted: see adoption.py."""
    describe.check_known(root, name)
    with lifecycle.job_lock(root, name):
        kept = promotion.previous_kept(config.environment_of(root, os.environ))
        promotion.finish_promotion(root, name, kept)
        job = find_job(root, name)
        refuse_bad(job)
        folder = folder_of(job)
        assert job.seed is not None
        assert job.pipeline is not None
        exam = examine(folder, job.seed, job.pipeline, describe.around(root), job.files)
        wanted = list(tasks) or list(job.pipeline.names)
        for each in wanted:
            require_task(job.pipeline, each, name)
        complete = root.job(COMPLETE, name)
        if records.is_foreign(complete):
            return adoption.adopt(job, complete, wanted, exam.around)
        if records.is_foreign(folder):
            raise InputError(
                "another program left this job, and it is not complete",
                {"job": name, "state": job.description},
                hint=f"doit run job={name} builds it: what stands there is kept",
            )
        accepted = []
        for task in job.pipeline.in_order:
            verdict = exam.look(task)
            if task.id not in wanted or not (verdict.stale or verdict.edited):
                continue
            _check_accept(exam, task)
            lifecycle.reseal_letter(folder, exam, task, None, verdict.edited)
            exam.look(task)
            accepted.append(task.id)
        lifecycle.refresh_copies(root, folder, job.seed, job.files)
        return accepted


def freeze(root: Root, pattern: str, task: str) -> dict[str, tuple[str, ...]]:
    """Let a task of a job, or of every job that a glob matches, not be rebuilt whatever changes;
    gives the frozen tasks of each. All of them or none: it must have been built in each."""
    found = {}
    for job in _all_with_task(root, pattern, task):
        assert job.exam is not None
        built = job.exam.digests[task] is not None or job.exam.skipped(task)
        if job.exam.letters[task] is None or not built:
            raise UsageError(
                "there is nothing to freeze: the task was never built",
                {"job": job.id, "task": task},
                hint=f"doit run {job.id}:{task}",
            )
        found[job.id] = {**job.exam.frozen_from, task: job.exam.made_from(task)}
    return _set_frozen(root, found)


def thaw(root: Root, pattern: str, task: str) -> dict[str, tuple[str, ...]]:
    """Let a frozen task be rebuilt again, of a job or of every job that a glob matches and where it
    is frozen; gives those of each that are still frozen."""
    frozen = {}
    for job in _all_with_task(root, pattern, task):
        assert job.exam is not None
        frozen[job.id] = dict(job.exam.frozen_from)
    found = {job: tasks for job, tasks in frozen.items() if task in tasks}
    if not found:
        others = ", ".join(sorted(set().union(*frozen.values())))
        raise UsageError(
            "the task is not frozen",
            {"job": pattern, "task": task, "frozen": others or "nothing"},
        )
    for tasks in found.values():
        del tasks[task]
    return _set_frozen(root, found)


def _all_with_task(root: Root, pattern: str, task: str) -> Iterator[Job]:
    """The jobs that a pattern means, whose seeds can be read and which all have this task."""
    globs = any(sign in pattern for sign in "*?[") and ":" not in pattern
    for name in select(root, None, [pattern]) if globs else [pattern]:
        yield describe.with_task(root, name, task)


def _set_frozen(
    root: Root, tasks_by_job: Mapping[str, Mapping[str, Mapping[str, Any]]]
) -> dict[str, tuple[str, ...]]:
    with contextlib.ExitStack() as held:
        for job in tasks_by_job:
            held.enter_context(lifecycle.job_lock(root, job))
        for job, tasks in tasks_by_job.items():
            lifecycle.set_frozen(root, job, tasks)
    return {job: tuple(sorted(tasks)) for job, tasks in tasks_by_job.items()}


def _check_accept(exam: Exam, task: Any) -> None:
    where = {"job": exam.folder.id, "task": task.id, "artifact": task.artifact}
    if exam.digests[task.id] is None:
        skipped = exam.skipped(task.id)
        raise InputError(
            "there is nothing to accept",
            {**where, "missing": task.artifact, **({"skipped": skipped} if skipped else {})},
            f"doit run {exam.folder.id}:{task.id} decides it anew" if skipped else None,
        )
    if exam.letters[task.id] is None:
        raise InputError(
            "there is no letter to go by",
            where,
            hint="what the task read is not known, so it has to be built once",
        )
    problems = exam.judge(task)
    if problems:
        listed = {f"problem {n}": str(each) for n, each in enumerate(problems, 1)}
        raise GateError("the artifact does not pass its gate", {**where, **listed})
