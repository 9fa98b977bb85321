"""The items of a task with `foreach`: which there are, what names each, and what is read of them.

If the expression names a list of a document, the task depends on what its items read, to the field.
Of a list that is computed it depends on all that computing it read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from popbuild.base import jsonio
from popbuild.base.errors import InputError, TaskError
from popbuild.base.redact import key_in_name
from popbuild.jobs.fingerprint import Seen, read_digest
from popbuild.model.item import Item
from popbuild.model.pipeline import Task
from popbuild.model.problem import MISSING, pointer_of, value_at
from popbuild.task.input_views import documents
from popbuild.task.read_trace import Items, ReadTrace
from popbuild.task.reads import list_behind, plain
from popbuild.task.templates.render import Templates

_MAX_NAMED = 5  # items in an error
_KEY_CHARS = 16  # of a digest, where nothing names the items


@dataclass(frozen=True)
class Expansion:
    """The items of a task, in their order. `listed` is the list of a document that they are, with
    the document's name in dependencies; None where they were computed."""

    items: tuple[Item, ...]
    listed: tuple[str, Items] | None = None

    def note(self, task: Task, owns: Iterable[str], trace: ReadTrace) -> None:
        """Note what the task depends on by its items: what names them, and what they read of
        themselves, `item:/text` for one."""
        if self.listed is None:
            return  # it follows from what was read to compute them
        document, items = self.listed
        trace.counted(document, items.pointer.removesuffix("/*"), self.items)
        named = _key_pointer(task.key) if task.key else ""
        trace.read(document, items.pointer + named, MISSING, items)
        for own in owns:
            # A list in an item, over which a prompt loops, is read whole.
            kind, _, pointer = own.partition("/*")[0].partition(":")
            if kind == "item-kind" and "/*" not in own:
                trace.looked(document, items.pointer + pointer, {}, items)
            elif kind in ("item", "item-kind", "item-length"):
                trace.read(document, items.pointer + pointer, MISSING, items)


def expand(
    task: Task, seen: Seen, trace: ReadTrace, templates: Templates, environment: Mapping[str, str]
) -> Expansion:
    """The items of a task. Raises TaskError for what is no list, for too many items, and for items
    that `key` does not name."""
    where = {"task": task.id, "foreach": task.foreach}
    try:
        found = templates.expressions.value_of(task.foreach, documents(seen, trace))
    except TaskError as error:
        raise TaskError(error.message, {**where, **error.values}, error.hint) from None
    for path, digest in templates.expressions.compiled(task.foreach).files.items():
        trace.file(path, digest)
    listed = None
    behind = list_behind(found)
    if behind is not None:
        document, pointer, values = behind
        listed = document, Items(pointer, values)
    else:
        values = _computed(found, where)
    if len(values) > task.max_items:
        raise TaskError(
            "more items than a task may have",
            {**where, "found": f"{len(values):,}", "allowed": f"{task.max_items:,}"},
            hint="nothing was sent: max_items in task.yaml allows more",
        )
    keys = list(_keys(task, values, where))
    for key in keys:
        secret = key_in_name(key, environment)
        if secret is not None:
            raise TaskError("the key of an item is a secret", {**where, "found": secret})
    items = (Item(key, value, at) for at, (key, value) in enumerate(zip(keys, values, strict=True)))
    return Expansion(tuple(items), listed)


def _computed(found: object, where: Mapping[str, object]) -> list[Any]:
    found = plain(found)
    if isinstance(found, Iterator | tuple):
        found = list(found)
    if not isinstance(found, list):
        kind = type(found).__name__
        raise TaskError(
            "foreach gives no list",
            {**where, "found": _KINDS.get(kind, kind)},
            hint="name a list of the seed, of an artifact, or the chunks of a file",
        )
    try:
        return [jsonio.in_order(jsonio.normal(plain(each), "foreach")) for each in found]
    except InputError as error:
        raise TaskError(
            "an item is not JSON", {**where, "found": error.as_line(("where", "file"))}
        ) from None


_KINDS = {
    "NoneType": "nothing",
    "dict": "an object",
    "str": "a text",
    "int": "a number",
    "float": "a number",
}


def _key_pointer(key: str) -> str:
    return pointer_of([*key.split(".")])


def _keys(task: Task, values: Sequence[Any], where: Mapping[str, object]) -> Iterator[str]:
    """The key of each item: the text or number that `key` names, else a part of its digest, so that
    equal items have one."""
    if not task.key:
        yield from (jsonio.digest(each)[7 : 7 + _KEY_CHARS] for each in values)
        return
    named = [value_at(each, _key_pointer(task.key)) for each in values]
    bad = {at: each for at, each in enumerate(named) if not _is_name(each)}
    if bad:
        found = ((f"item {at}", _said(each)) for at, each in list(bad.items())[:_MAX_NAMED])
        raise TaskError(
            "an item has no key" if len(bad) == 1 else f"{len(bad):,} items have no key",
            {**where, "key": task.key, **dict(found)},
            hint="a key is a text or a whole number",
        )
    keys = list(map(str, named))
    twice = {key: count for key, count in Counter(keys).items() if count > 1}
    if twice:
        places = {key: [at for at, each in enumerate(keys) if each == key] for key in twice}
        found = ((f"key {key!r}", f"items {_places(places[key])}") for key in twice)
        raise TaskError(
            "items have the same key",
            {**where, "key": task.key, **dict(list(found)[:_MAX_NAMED])},
            hint="a key names one item; without `key` equal items are one",
        )
    yield from keys


def _is_name(value: object) -> bool:
    return (isinstance(value, str) and value.strip() != "") or type(value) is int


def _said(value: object) -> str:
    return "nothing" if value is MISSING else jsonio.compact(value)[:40]


def _places(places: Sequence[int]) -> str:
    shown = ", ".join(map(str, places[:_MAX_NAMED]))
    return shown + (f" and {len(places) - _MAX_NAMED} more" if len(places) > _MAX_NAMED else "")


def own_digest(dependency: str, item: Item) -> str:
    """Today's digest of a dependency on an item itself."""
    kind, _, pointer = dependency.partition(":")
    if kind == "position":
        return str(item.position)
    return read_digest(kind, item.value, pointer)
