"""A status that another program may have written by the storage document: whether it is ours, and
its readable parts."""

from __future__ import annotations

import json
from typing import Any

from popbuild.base.paths import FILE_KINDS
from popbuild.model.status import new_task

_NEW_TASK = frozenset(new_task())  # the keys that an entry of ours has from its start
_MOST = 1e18  # for a count: Python's JSON has Infinity as well
UNKNOWN_USAGE = {"inputTokens": None, "outputTokens": None, "cost": None}
# For a task with a folder and no entry: something ran.
NOTHING_SAID: dict[str, Any] = {"state": "unknown", "files": {kind: [] for kind in FILE_KINDS}}


def is_built_by_us(entry: object) -> bool:
    """Whether popbuild wrote how a task ended, with a usage as only popbuild writes it."""
    usage = entry.get("usage") if isinstance(entry, dict) else None
    return isinstance(usage, dict) and "storedCalls" in usage


def is_ours(body: Any) -> bool:
    """Whether popbuild wrote a status: it built a task, or all entries are as it starts them."""
    tasks = body.get("tasks") if isinstance(body, dict) else None
    entries = list(tasks.values()) if isinstance(tasks, dict) else []
    return any(map(is_built_by_us, entries)) or bool(
        entries
        and isinstance(body.get("id"), str)
        and all(isinstance(each, dict) and each.keys() >= _NEW_TASK for each in entries)
    )


def in_shape(body: dict[str, Any]) -> dict[str, Any]:
    """A status, also of another program, made safe to read: file names and entries of tasks of the
    wrong type are left out; all else stays."""
    tasks = body.get("tasks")
    entries = tasks.items() if isinstance(tasks, dict) else ()
    return {
        **body,
        "files": _names(body.get("files")),
        "tasks": {
            name: {**entry, "state": state_of(entry), "files": _names(entry.get("files"))}
            for name, entry in entries
            if isinstance(entry, dict) and _is_plain(name)
        },
    }


def _names(files: object) -> dict[str, list[str]]:
    """The files of each kind, without names that lead out of their folder."""
    found = {kind: files.get(kind) if isinstance(files, dict) else None for kind in FILE_KINDS}
    return {
        kind: [
            name
            for name in (names if isinstance(names, list) else ())
            if isinstance(name, str) and _is_plain(name)
        ]
        for kind, names in found.items()
    }


def _is_plain(name: str) -> bool:
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name


def state_of(entry: object) -> str:
    """A task's state as written, or `unknown`."""
    state = entry.get("state") if isinstance(entry, dict) else None
    return state if isinstance(state, str) else "unknown"


def is_amount(value: object) -> bool:
    """Whether a value can be a count, a time or a cost."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _MOST


def task_usage(entry: dict[str, Any]) -> dict[str, Any] | None:
    """A task's usage: None before anything ran; unknown if another program ran it and did not
    write it."""
    usage = entry.get("usage")
    if isinstance(usage, dict):
        return usage
    begins = entry.get("state") == "running" and entry.keys() >= _NEW_TASK
    return None if begins or entry.get("state", "pending") == "pending" else UNKNOWN_USAGE


def error_text(error: object) -> str | None:
    """An error as text: ours is a text, other programs' have a message and a stack."""
    if not isinstance(error, dict):
        return error if isinstance(error, str) else None
    parts = [error.get(name) for name in ("message", "stack")]
    message, stack = (part if isinstance(part, str) else "" for part in parts)
    text = stack if message in stack else f"{message}\n{stack}"
    return text.strip() or json.dumps(error, ensure_ascii=False)
