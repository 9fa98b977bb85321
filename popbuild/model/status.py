"""tasks-status.json as data: states, the file index, and the one place where a state changes.

Functions never change a status: they return a copy, which shares all that stayed the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from popbuild.base.paths import FILE_KINDS

# A job in current/ is running, stopped, failed, or waits for a person.
RUNNING, STOPPED, FAILED, WAITING = "running", "stopped", "failed", "waiting"
COMPLETE, REJECTED = "complete", "rejected"
ABANDONED = "no process builds it any more: the next run goes on from there"

TASK_STATES = ("pending", "running", "done", "error")
_TASK_MOVES = {
    # done: by `accept`, or with a kept edit; error: its process died, found at the next start
    "pending": {"running", "done", "error"},
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
JOB_STATES = frozenset(_JOB_MOVES)
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
        "tasks": {task: new_task() for task in tasks},
    }


def new_task() -> dict[str, Any]:
    """A task's entry before anything ran."""
    return {
        "state": "pending",
        "attempts": 0,
        "files": {kind: [] for kind in FILE_KINDS},
        "artifacts": [],
        "executionTime": 0,
        "refinementAttempts": 0,
    }


def start_run(status: Status, run: str, name: str, tasks: Iterable[str]) -> Status:
    """A further run of a job: a new pipeline ID, and only the tasks that are still configured."""
    known = status["tasks"]
    status = move_job(status, RUNNING, pipelineId=run, name=name, current=None)
    status["tasks"] = {task: known.get(task) or new_task() for task in tasks}
    for key in ("finishedAt", "error", "currentStage"):
        status.pop(key, None)
    return status


def move_job(status: Status, state: str, **more: Any) -> Status:
    """A copy with the job in another state. ValueError for an illegal change."""
    if state not in _JOB_MOVES[status["state"]]:
        raise ValueError(f"a job cannot go from {status['state']} to {state}")
    status = {key: value for key, value in status.items() if key != "abandoned"}
    return {**status, "state": state, **more}


def move_task(status: Status, task: str, state: str, **more: Any) -> Status:
    """A copy with a task in another state and at no stage. ValueError for an illegal change.

    A task that starts becomes the job's `current`: of parallel tasks, the last one started.
    """
    entry = status["tasks"][task]
    if state not in _TASK_MOVES[entry["state"]]:
        raise ValueError(f"task {task} cannot go from {entry['state']} to {state}")
    entry = {**entry, "state": state}
    for key in ("abandoned", "currentStage", "skipped", "reason"):
        entry.pop(key, None)
    if status.get("current") == task:
        status = _at(status, None)
    if state == "running":
        status = {**_at(status, None), "current": task}
        entry["attempts"] += 1
        for key in ("endedAt", "error"):
            entry.pop(key, None)
    if state == "done":
        entry.pop("failures", None)
    return _with_task(status, task, {**entry, **more})


def at_stage(status: Status, task: str, stage: str) -> Status:
    """A copy with a running task at this stage; also the job, if it is the current task."""
    entry = {**status["tasks"][task], "currentStage": stage}
    status = _at(status, stage) if status["current"] == task else status
    return _with_task(status, task, entry)


def _at(status: Status, stage: str | None) -> Status:
    """A copy with the job's stage, after its current task."""
    body: Status = {}
    for key, value in status.items():
        if key != "currentStage":
            body[key] = value
        if key == "current" and stage is not None:
            body["currentStage"] = stage
    return body


def cut_short(status: Status, state: str, error: str) -> Status:
    """A copy with no running task; a running job is in the given state."""
    for task, entry in status["tasks"].items():
        if entry["state"] == "running":
            status = move_task(status, task, "pending")
    return move_job(status, state, error=error) if status["state"] == RUNNING else status


def abandoned(status: Status) -> Status:
    """A copy for a job whose process died: the job is stopped, its running tasks are pending, and
    both are marked. An orchestrator takes such a job up, and does not restart a task for ever that
    kills its process."""
    for task, entry in status["tasks"].items():
        if entry["state"] == "running":
            status = move_task(status, task, "pending", abandoned=True)
    return move_job({**status, "state": RUNNING}, STOPPED, error=ABANDONED, abandoned=True)


def failed_again(entry: dict[str, Any], error: str, inputs: str) -> dict[str, Any]:
    """A task's `failures` after one more: how often in a row it failed with this error on the same
    inputs, given by their digest."""
    last = entry.get("failures", {})
    same = last.get("error") == error and last.get("inputs") == inputs
    return {"count": last.get("count", 0) + 1 if same else 1, "error": error, "inputs": inputs}


def without_failures(status: Status) -> Status:
    """A copy without the `failures` of tasks."""
    tasks = {
        name: {key: value for key, value in entry.items() if key != "failures"}
        for name, entry in status["tasks"].items()
    }
    return {**status, "tasks": tasks}


def add_file(status: Status, task: str, kind: str, name: str) -> Status:
    """A copy with a file in the indexes of the job and the task."""
    return _with_names(status, task, kind, lambda names: names if name in names else [*names, name])


def by_kind(files: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Sorted names of files by their kind."""
    files = sorted(files)
    return {kind: [name for its, name in files if its == kind] for kind in FILE_KINDS}


def drop_file(status: Status, task: str, kind: str, name: str) -> Status:
    """A copy with a file in neither index."""
    return _with_names(status, task, kind, lambda names: [each for each in names if each != name])


def drop_name(status: Status, kind: str, name: str) -> Status:
    """A copy without a file in any index."""
    for task in status["tasks"]:
        status = drop_file(status, task, kind, name)
    rest = [each for each in status["files"][kind] if each != name]
    return {**status, "files": {**status["files"], kind: rest}}


def without_files(status: Status, kinds: Iterable[str]) -> Status:
    """A copy without files of these kinds in any index."""
    none: dict[str, list[str]] = {kind: [] for kind in kinds}
    tasks = {
        task: {**entry, "files": {**entry["files"], **none}}
        for task, entry in status["tasks"].items()
    }
    return {**status, "files": {**status["files"], **none}, "tasks": tasks}


def add_ownerless(status: Status, kind: str, name: str) -> Status:
    """A copy with a file in the job's index alone, if its task is no longer configured."""
    files = status["files"]
    return {**status, "files": {**files, kind: [*files[kind], name]}}


def _with_names(
    status: Status, task: str, kind: str, change: Callable[[list[str]], list[str]]
) -> Status:
    files, entry = status["files"], status["tasks"][task]
    own = entry["files"]
    status = _with_task(status, task, {**entry, "files": {**own, kind: change(own[kind])}})
    return {**status, "files": {**files, kind: change(files[kind])}}


def _with_task(status: Status, task: str, entry: dict[str, Any]) -> Status:
    return {**status, "tasks": {**status["tasks"], task: entry}}


def usable(body: Any) -> bool:
    """Whether a document can serve as a status; attempts and the job's state, which old ones lack,
    may be absent."""
    try:
        return (
            _lists_names(body["files"])
            and isinstance(body["createdAt"], str)
            and body.get("state", STOPPED) in _JOB_MOVES
            and all(
                entry["state"] in TASK_STATES
                and _lists_names(entry["files"])
                and isinstance(entry.get("attempts", 0), int)
                and _counts(entry.get("failures"))
                for entry in body["tasks"].values()
            )
        )
    except (KeyError, TypeError, AttributeError):
        return False


def _lists_names(files: Any) -> bool:
    return all(
        isinstance(files[kind], list) and all(isinstance(name, str) for name in files[kind])
        for kind in FILE_KINDS
    )


def _counts(failures: Any) -> bool:
    return failures is None or (
        isinstance(failures["count"], int)
        and isinstance(failures["error"], str)
        and isinstance(failures["inputs"], str)
    )


def any_running(status: Status) -> bool:
    """Whether a task is under way."""
    return any(entry["state"] == "running" for entry in status["tasks"].values())


def owner(status: Status, kind: str, name: str) -> str | None:
    """The task that a file belongs to, whatever the case of its name."""
    for task, entry in status["tasks"].items():
        if any(each.casefold() == name.casefold() for each in entry["files"][kind]):
            return str(task)
    return None
