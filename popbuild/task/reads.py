"""What a prompt reads, to the field.

Templates get seed and artifacts as views. A view notes each place that is read, absent ones too.
Printing a view reads it whole; so does looping over an object. A loop over a list of objects gives
views of them: what is read of one counts as read of all. Scalars are always plain values, so
nothing leaks past a filter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from popbuild.model.problem import MISSING, parts_of, pointer_of, value_at
from popbuild.task.read_trace import Items, ReadTrace

_WHERE = {"artifact": "artifacts", "input": "files"}


class _View:
    """A container in a document that notes what is read from it."""

    __slots__ = ("_document", "_items", "_pointer", "_trace", "_value")

    @property
    def _place(self) -> str:
        """Its place as a template writes it: `seed.data`."""
        kind, _, task = self._document.partition(":")
        where = f"{_WHERE[kind]}.{task}" if task else kind
        return ".".join([where, *parts_of(self._pointer)])

    def __init__(
        self,
        value: Any,
        document: str,
        pointer: str,
        trace: ReadTrace,
        items: Items | None = None,
    ) -> None:
        self._value = value
        self._document = document
        self._pointer = pointer
        self._trace = trace
        self._items = items

    # With an underscore: templates must not find what a dict or a list does not have.
    def _whole(self) -> Any:
        """A plain copy; the whole value counts as read."""
        self._trace.read(self._document, self._pointer, self._value, self._items)
        self._trace.budget.walk(self._value)
        return _copied(self._value)

    def _at(self, part: str | int) -> Any:
        pointer = self._pointer + pointer_of([part])
        value = value_at(self._value, pointer_of([part]))
        self._trace.looked(self._document, pointer, value, self._items)
        return view(value, self._document, pointer, self._trace, self._items)

    def __len__(self) -> int:
        return len(self._whole())

    def __iter__(self) -> Iterator[Any]:
        return iter(self._whole())

    def __bool__(self) -> bool:
        return bool(self._whole())

    def __str__(self) -> str:
        return str(self._whole())

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        return bool(self._whole() == plain(other))

    def __lt__(self, other: object) -> bool:
        return bool(self._whole() < plain(other))

    def __gt__(self, other: object) -> bool:
        return bool(self._whole() > plain(other))

    __hash__ = None  # type: ignore[assignment]  # like the dict or list that it stands for


class ObjectView(_View, Mapping[str, Any]):
    """An object of a document."""

    __slots__ = ()

    def __getitem__(self, key: str) -> Any:
        # Keys are texts: `["0"]` may be there, `[0]` never is.
        value = self._at(key) if isinstance(key, str) else MISSING
        if value is MISSING:
            raise KeyError(key)
        return value

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._at(key) is not MISSING

    # Lists, which print their items.

    def keys(self) -> Any:
        return list(self)

    def values(self) -> Any:
        return list(self._whole().values())

    def items(self) -> Any:
        return list(self._whole().items())


class ArtifactsView(ObjectView):
    """The artifacts of the needed tasks by task. Each is a separate document; `absent` are needed
    tasks that have none."""

    __slots__ = ("absent",)

    def __init__(
        self, values: Mapping[str, Any], trace: ReadTrace, absent: Collection[str] = ()
    ) -> None:
        super().__init__(values, "artifacts", "", trace)
        self.absent = absent

    def _note_names(self) -> None:
        self._trace.needs(self._value)

    def _whole(self) -> Any:
        return {task: plain(each) for task, each in self.items()}

    def _at(self, part: str | int) -> Any:
        if part in self._value:
            self._trace.looked(f"artifact:{part}", "", self._value[part])
            return view(self._value[part], f"artifact:{part}", "", self._trace)
        if part in self.absent:
            self._trace.read(f"artifact:{part}", "", MISSING)
            return MISSING
        self._note_names()
        return MISSING

    def __iter__(self) -> Iterator[Any]:
        self._note_names()
        return iter(self._value)

    def __len__(self) -> int:
        self._note_names()
        return len(self._value)

    def __bool__(self) -> bool:
        return len(self) > 0

    def values(self) -> Any:
        return [self[task] for task in self]

    def items(self) -> Any:
        return [(task, self[task]) for task in self]


class ArrayView(_View, Sequence[Any]):
    """An array of a document. One inside of a loop's item is read whole by a loop over it."""

    __slots__ = ()

    def __len__(self) -> int:
        if self._items is not None:
            return len(self._whole())
        self._trace.counted(self._document, self._pointer, self._value)
        return len(self._value)

    def __bool__(self) -> bool:
        return len(self) > 0

    def __iter__(self) -> Iterator[Any]:
        are_objects = all(isinstance(each, dict) for each in self._value)
        if self._items is not None or not are_objects or not self._value:
            return iter(self._whole())
        self._trace.counted(self._document, self._pointer, self._value)
        self._trace.budget.work(len(self._value))
        items = Items(self._pointer, self._value)
        return (
            view(each, self._document, items.pointer, self._trace, items) for each in self._value
        )

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, int) and 0 <= index < len(self._value):
            return self._at(int(index))  # true is 1, as in every list
        return self._whole()[index]


def _copied(value: Any) -> Any:
    """A copy of a document. `copy.deepcopy`, for values of any kind, takes ten times as long."""
    if isinstance(value, dict):
        return {key: _copied(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_copied(each) if isinstance(each, dict | list) else each for each in value]
    return value


def view(
    value: Any, document: str, pointer: str, trace: ReadTrace, items: Items | None = None
) -> Any:
    """A view of a container; a scalar or MISSING is itself."""
    if isinstance(value, dict):
        return ObjectView(value, document, pointer, trace, items)
    if isinstance(value, list):
        return ArrayView(value, document, pointer, trace, items)
    return value


def list_behind(value: object) -> tuple[str, str, list[Any]] | None:
    """The document and the place of the list that a view stands for, with its items; None for all
    else, and for a list in an item of another one."""
    if not isinstance(value, ArrayView) or value._items is not None:
        return None
    return value._document, value._pointer, value._value


def plain(value: Any) -> Any:
    """The plain value behind a view, read whole."""
    return value._whole() if isinstance(value, _View) else value
