"""`popbuild retry`: another sample for the task that rejected a job, or for items of a task."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from popbuild.base import disk, jsonio
from popbuild.base.errors import UsageError
from popbuild.base.paths import CURRENT, REJECTED, Root
from popbuild.jobs import job_state, lifecycle, records
from popbuild.jobs.item_receipts import ItemReceipts
from popbuild.jobs.lookup import Job
from popbuild.model import status as states
from popbuild.model.pipeline import Task
from popbuild.query.describe import find_job, folder_of, pipeline_with, refuse_bad
from popbuild.query.item_list import no_item, require_items


def retry(root: Root, name: str, *, failed: bool = False, item: str | None = None) -> str:
    """Let the rejected task draw a new sample at the next run, or a task that failed again and
    again be tried once more. `name` is a job, or `job:task`. Of a task with items those that
    `failed` draw anew, or the one with the key `item`. Says what happens."""
    job, _, named = name.partition(":")
    if failed or item is not None or named:
        return _draw_items(root, job, _task_with_items(find_job(root, job), named), item)
    task, rejection = check_retry(root, job)
    if rejection is None:
        with lifecycle.job_lock(root, job):
            path = root.job(CURRENT, job).status
            status = states.without_failures(records.read_json(path))
            disk.write(path, jsonio.dumps(status, sort=False))
        return f"{task} is tried again"
    found = find_job(root, job)
    if found.pipeline is not None and task in found.pipeline.names:
        rejected = found.pipeline.task(task)
        if rejected.foreach and not found.questions:
            return _draw_items(root, job, rejected, None)
    with lifecycle.job_lock(root, job):
        # A dependency like any other: the rejection does not hold the task back any more.
        known = records.read_samples(root, job).get(task, root.variant.draw)
        lifecycle.set_samples(root, job, {task: _next(known, rejection.get("calls", ()))})
    return f"{task} draws another sample"


def _next(known: int, calls: Iterable[Any]) -> int:
    drawn = (int(call["sample"]) for call in calls if isinstance(call, dict))
    return max([known, *drawn]) + 1


def _task_with_items(job: Job, name: str) -> Task:
    """The task of this name, or without a name the job's only one with items."""
    pipeline = pipeline_with(job, name or None)
    if name:
        require_items(pipeline.task(name))
        return pipeline.task(name)
    with_items = [task for task in pipeline.tasks if task.foreach]
    if len(with_items) != 1:
        raise UsageError(
            "which task's items?",
            {"job": job.id, "with items": ", ".join(task.id for task in with_items) or "none"},
            hint=f"popbuild retry {job.id}:TASK --failed",
        )
    return with_items[0]


def _draw_items(root: Root, job: str, task: Task, key: str | None) -> str:
    with lifecycle.job_lock(root, job):
        found = find_job(root, job)
        if found.is_not_ours:
            refuse_bad(found)
        receipts = ItemReceipts(folder_of(found).items(task.id), task.id, {})
        known = receipts.by_key
        if key is not None and key not in known:
            raise no_item(key, task, list(known))
        failed = [each for each in known.values() if each.failed]
        chosen = failed if key is None else [known[key]]
        if not chosen:
            raise UsageError(
                "no item of the task failed",
                {"job": job, "task": task.id, "items": len(known)},
                hint="--item KEY draws another sample for one that did not",
            )
        samples = records.read_samples(root, job)
        drawn = {f"{task.id}:{each.key}": receipts.body(each)["calls"] for each in chosen}
        least = samples.get(task.id, root.variant.draw)
        lifecycle.set_samples(
            root,
            job,
            {name: _next(max(least, samples.get(name, 0)), calls) for name, calls in drawn.items()},
        )
    said = f"item {chosen[0].key}" if len(chosen) == 1 else f"{len(chosen):,} items"
    return f"{said} of {task.id} draw{'s' * (len(chosen) == 1)} another sample"


def check_retry(root: Root, name: str) -> tuple[str, dict[str, Any] | None]:
    """The task that `retry` is about, and the job's rejection, if any. UsageError for others."""
    job = find_job(root, name)
    if job.is_not_ours:
        refuse_bad(job)
    rejection = records.read_json(root.job(REJECTED, name).rejection)
    failed = _failed_again(root, name)
    if rejection is None and failed is not None:
        return failed, None
    if not isinstance(rejection, dict):
        raise UsageError(
            "the job is not rejected",
            {"job": name, "state": job.description},
            hint=f"popbuild reject {name} says no to what waits; then retry draws another sample"
            if job.questions
            else f"doit run job={name} goes on with a job that failed or stopped",
        )
    task = rejection.get("task")
    if not isinstance(task, str):
        raise UsageError(
            "the seed was rejected, not a task",
            {"job": name},
            hint=f"mend the seed, then doit run job={name}",
        )
    return task, rejection


def _failed_again(root: Root, name: str) -> str | None:
    """The task of a job in current/ that failed in a row, or None."""
    status = job_state.read_status(root.job(CURRENT, name))
    entries = status["tasks"] if status else {}
    return next((task for task, entry in entries.items() if "failures" in entry), None)
