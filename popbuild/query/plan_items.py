"""What the items of a task would cost: the sum of those that are to be run, or, while the list is
not known yet, of as many as the task may have."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from popbuild.base.errors import TaskError
from popbuild.jobs.examine import Exam
from popbuild.llm.request import Message
from popbuild.model.item import Item
from popbuild.model.pipeline import Task
from popbuild.query.estimate import NOTHING
from popbuild.query.item_list import ItemList, list_items
from popbuild.query.planned import PlannedTask
from popbuild.query.preview import render_preview
from popbuild.query.reached import would_skip
from popbuild.task.conditions import is_about_items
from popbuild.task.templates.render import Templates

# Prices one item: its messages, if they are known, and its key.
PriceItem = Callable[[list[Message] | None, str], PlannedTask]


def plan_items(
    exam: Exam, task: Task, templates: Templates, stale: Collection[str], price: PriceItem
) -> PlannedTask:
    """A task with items. `stale` are the tasks above it that will or may be built anew."""
    found = _known(exam, task, templates, stale)
    if found is None:
        return _unknown(exam, task, price)
    if stale:  # what the items are asked may change
        keys = [item.key for item in found.distinct]
        planned = _sum([price(None, key) for key in keys], f"{len(keys):,} items", task)
        return _or_nothing(planned) if _filters(task, templates) else planned
    waiting = found.waiting()
    items = [
        item
        for item in found.distinct
        if item.key in waiting and not _is_left_out(exam, task, templates, item)
    ]
    priced = [price(_messages(exam, task, templates, item), item.key) for item in items]
    return _sum(priced, f"{len(items):,} of {len(found.distinct):,} items", task)


def _known(exam: Exam, task: Task, templates: Templates, stale: Collection[str]) -> ItemList | None:
    """The items, if nothing that is still to be built decides which there are."""
    try:
        found = list_items(exam, task, templates)
    except TaskError:
        return None
    above = tuple(f"artifact{kind}:{name}:" for name in stale for kind in ("", "-kind", "-length"))
    document = found.expansion.listed[0] + ":" if found.expansion.listed else ""
    is_open = document.startswith(above) or any(each.startswith(above) for each in found.read)
    return None if is_open else found


def _messages(exam: Exam, task: Task, templates: Templates, item: Item) -> list[Message] | None:
    try:
        return render_preview(exam, task, templates, item)
    except TaskError:
        return None


def _filters(task: Task, templates: Templates) -> bool:
    return bool(task.when) and is_about_items(task, templates.expressions)


def _is_left_out(exam: Exam, task: Task, templates: Templates, item: Item) -> bool:
    try:
        return would_skip(exam, task, templates, item=item) is not None
    except TaskError:
        return False  # it may be sent, as far as is known


def _or_nothing(planned: PlannedTask) -> PlannedTask:
    """The same, if its condition may leave all items out."""
    return replace(
        planned,
        calls=planned.calls.from_nothing(),
        input_tokens=planned.input_tokens.from_nothing(),
        output_tokens=planned.output_tokens.from_nothing(),
        cost=planned.cost and planned.cost.from_nothing(),
    )


def _unknown(exam: Exam, task: Task, price: PriceItem) -> PlannedTask:
    one, most = price(None, ""), task.max_items
    letter = exam.last_letter(task)
    items = letter.body.get("items") if letter is not None else None
    last = f", {items['count']:,} at the last build" if items else ""
    return replace(
        one,
        stored=None,
        calls=one.calls.times(0, most),
        input_tokens=one.input_tokens.times(0, most),
        output_tokens=one.output_tokens.times(0, most),
        cost=one.cost and one.cost.times(0, most),
        basis=f"at most {most:,} items (max_items){last}; each {one.basis}",
    )


def _sum(priced: Sequence[PlannedTask], items: str, task: Task) -> PlannedTask:
    if not priced:
        return PlannedTask(task.id, True, (), 0, *(NOTHING,) * 4, f"{items}: nothing is sent")
    costs = [each.cost for each in priced if each.cost is not None]
    stored = [each.stored for each in priced if each.stored is not None]
    first = priced[0]
    return replace(
        first,
        stored=sum(stored) if len(stored) == len(priced) else None,
        calls=sum((each.calls for each in priced), NOTHING),
        input_tokens=sum((each.input_tokens for each in priced), NOTHING),
        output_tokens=sum((each.output_tokens for each in priced), NOTHING),
        cost=sum(costs, NOTHING) if len(costs) == len(priced) else None,
        basis=f"{items}: {first.basis}",
        lacking=any(each.lacking for each in priced),
    )
