"""The items of a task as they are now: which there are, which are to be run, and how each ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from popbuild.base.errors import UsageError, no_such
from popbuild.jobs.examine import Exam
from popbuild.jobs.fingerprint import Seen
from popbuild.jobs.item_receipts import ItemReceipts
from popbuild.jobs.lookup import Job
from popbuild.model.item import Item
from popbuild.model.pipeline import Task
from popbuild.query.describe import folder_of
from popbuild.task.item_plan import ItemPlan
from popbuild.task.items import Expansion, expand
from popbuild.task.read_trace import ReadTrace
from popbuild.task.templates.render import Templates

_MAX_NAMED = 5  # keys in an error


@dataclass(frozen=True)
class ItemList:
    """`read` are the dependencies of the list itself."""

    expansion: Expansion
    plan: ItemPlan
    read: Mapping[str, str]

    @property
    def distinct(self) -> list[Item]:
        """One item for each key."""
        return list({item.key: item for item in self.expansion.items}.values())

    def waiting(self) -> dict[str, tuple[str, ...]]:
        """The keys of the items that are to be run, each with its reasons."""
        found = ((item.key, self.plan.reasons(item)) for item in self.distinct)
        return {key: reasons for key, reasons in found if reasons}

    def item(self, key: str, task: Task) -> Item:
        """The item with this key. UsageError if there is none."""
        for each in self.expansion.items:
            if each.key == key:
                return each
        raise no_item(key, task, [each.key for each in self.distinct])


def list_items(exam: Exam, task: Task, templates: Templates) -> ItemList:
    """The items of a task of an examined job. Raises TaskError where there is no list."""
    inputs, trace = exam.inputs(task), ReadTrace(templates.budget)
    environment = exam.around.config.environment
    expansion = expand(task, Seen.of(task, inputs), trace, templates, environment)
    receipts = ItemReceipts(exam.folder.items(task.id), task.id, environment)
    return ItemList(expansion, ItemPlan(task, inputs, receipts), trace.dependencies())


def receipt_of(job: Job, task: Task, key: str) -> dict[str, Any]:
    """How an item ended, as its receipt says. UsageError if it has none."""
    require_items(task)
    folder = folder_of(job)
    receipts = ItemReceipts(folder.items(task.id), task.id, {})
    if key not in receipts.by_key:
        raise no_item(key, task, list(receipts.by_key))
    return receipts.body(receipts.by_key[key])


def no_item(key: str, task: Task, known: list[str]) -> UsageError:
    """The error for a key that no item of a task has."""
    values = no_such("item", key, known[:_MAX_NAMED], where={"task": task.id})
    return UsageError("no such item", values)


def require_items(task: Task) -> None:
    """UsageError for a task that does not run once for each item of a list."""
    if not task.foreach:
        raise UsageError(
            "the task has no items",
            {"task": task.id},
            hint="items belong to tasks with `foreach` in task.yaml",
        )
