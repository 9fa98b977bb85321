"""The items of a task on a page: how each ended, with what was asked and answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from popbuild.base.paths import JobFolder
from popbuild.jobs.item_receipts import read_receipts
from popbuild.model.problem import Problem
from popbuild.query import untrusted
from popbuild.web.pages.shown_calls import ShownMessage, shown_messages
from popbuild.web.pages.text_budget import Room, Text, Tree

_MOST = 200  # items of a task
_MAX_CHARS = 4 * 1024  # of a prompt, and of an answer


@dataclass(frozen=True)
class ShownItem:
    """An item by its receipt: its last prompt and answer. Without problems it passed its gate, and
    `output` is its document; `skipped` says why it was left out."""

    key: str
    refinements: int
    problems: tuple[Problem, ...]
    skipped: str
    output: Tree | None
    prompt: tuple[ShownMessage, ...]
    answer: Text | None


@dataclass(frozen=True)
class TaskItems:
    """The items of a task, failed ones first. `left_out` counts those that are not shown."""

    task: str
    label: str
    count: int
    failed: int
    items: tuple[ShownItem, ...]
    left_out: int


def items_of(folder: JobFolder, task: str, label: str, room: Room) -> TaskItems | None:
    """The items of a task; None if it has none."""
    last = {body["key"]: body for body in read_receipts(folder.items(task))}
    if not last:
        return None
    bodies = sorted(last.values(), key=lambda body: "problems" not in body)
    failed = sum("problems" in body for body in bodies)
    shown = tuple(_item(body, room) for body in bodies[:_MOST])
    return TaskItems(task, label, len(bodies), failed, shown, len(bodies) - len(shown))


def _item(body: Mapping[str, Any], room: Room) -> ShownItem:
    prompts, answers = (untrusted.list_in(body, name) for name in ("prompts", "answers"))
    messages = prompts[-1] if prompts and isinstance(prompts[-1], list) else []
    return ShownItem(
        key=str(body["key"]),
        refinements=int(untrusted.number_in(body.get("refinementAttempts"))),
        problems=untrusted.problems(body.get("problems")),
        skipped=str(body.get("reason", "")),
        output=room.tree(body["output"]) if "output" in body else None,
        prompt=tuple(shown_messages(messages, room)),
        answer=room.text(str(answers[-1]), _MAX_CHARS) if answers else None,
    )
