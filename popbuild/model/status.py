"""tasks-status.json as data: states, the file index, and the one place where a state changes."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from popbuild.layout import FILE_KINDS

# A job in current/ is running, stopped, failed, or waits for a person.
RUNNING, STOPPED, FAILED, WAITING = "running", "stopped", "failed", "waiting"
COMPLETE, REJECTED = "complete", "rejected"

TASK_STATES = ("pending", "running", "done", "error")
_TASK_MOVES = {
    "pending": {"running", "done"},  # done: `accept`, or an artifact kept by hand
    "running": {"running", "done", "error", "pending"},  # running again: a crash left it so
    "done": {"running", "pending", "done"},
    "error": {"running", "pending", "done"},
}
_JOB_MOVES = {
    RUNNING: {RUNNING, STOPPED, FAILED, WAITING, COMPLETE, REJECTED},
    STOPPED: {RUNNING, STOPPED},
    FAILED: {RUNNING, STOPPED},
    WAITING: {RUNNING, STOPPED},
    COMPLETE: {RUNNING},
    REJECTED: {RUNNING},
}
LEGACY_ARTIFACTS = ["output.json", "letter.json", "execution-logs.json"]

Status = dict[str, Any]


def new(run: str, job: str, name: str, tasks: Iterable[str], now: str) -> Status:
    """The status of a job that has just been claimed."""
    return {
        "pipelineId": run,
        "id": job,
        "name": name,
        "state": RUNNING,
        "current": None,
        "createdAt": now,
        "files": {kind: [] for kind in FILE_KINDS},
        "tasks": {task: _new_task() for task in tasks},
    }


def _new_task() -> dict[str, Any]:
    return {
        "state": "pending",
        "attempts": 0,
        "files": {kind: [] for kind in FILE_KINDS},
        "artifacts": [],
        "executionTime": 0,
        "refinementAttempts": 0,
    }


def start_run(status: Status, run: str, name: str, tasks: Iterable[str]) -> Status:
    """A further run of a job: a new pipeline ID; tasks that are no longer configured are dropped
    from the list, their files stay in the index."""
    status = move_job(status, RUNNING)
    known = status["tasks"]
    status["pipelineId"], status["name"], status["current"] = run, name, None
    status["tasks"] = {task: known.get(task) or _new_task() for task in tasks}
    for key in ("finishedAt", "error"):
        status.pop(key, None)
    return status


def move_job(status: Status, state: str, **more: Any) -> Status:
    """A copy with the job in another state; ValueError if that is not a legal change."""
    if state not in _JOB_MOVES[status["state"]]:
        raise ValueError(f"a job cannot go from {status['state']} to {state}")
    status = copy.deepcopy(status)
    status.update(state=state, **more)
    return status


def move_task(status: Status, task: str, state: str, **more: Any) -> Status:
    """A copy with a task in another state; ValueError if that is not a legal change.

    A task that starts becomes the job's `current`: with parallel tasks, the last one started.
    """
    entry = status["tasks"][task]
    if state not in _TASK_MOVES[entry["state"]]:
        raise ValueError(f"task {task} cannot go from {entry['state']} to {state}")
    status = copy.deepcopy(status)
    entry = status["tasks"][task]
    entry["state"] = state
    if state == "running":
        status["current"] = task
        entry["attempts"] += 1
        for key in ("endedAt", "error"):
            entry.pop(key, None)
    entry.update(more)
    return status


def add_file(status: Status, task: str, kind: str, name: str) -> Status:
    """A copy with a file in the job's and the task's index."""
    status = copy.deepcopy(status)
    for names in (status["files"][kind], status["tasks"][task]["files"][kind]):
        if name not in names:
            names.append(name)
    return status


def owner(status: Status, kind: str, name: str) -> str | None:
    """The task that a file belongs to; names differ without regard to case."""
    for task, entry in status["tasks"].items():
        if any(each.casefold() == name.casefold() for each in entry["files"][kind]):
            return str(task)
    return None
