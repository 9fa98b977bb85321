"""What a prompt reads, to the field.

Templates get seed and artifacts as views. A view notes each place that is read, absent ones too.
Looping over a view, printing it or passing it to a filter reads it whole, and gives plain copies.
Scalars are always plain values, so nothing leaks past a filter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from popbuild.base.jsonio import ABSENT
from popbuild.jobs.fingerprint import LISTED, kind_of, value_digest
from popbuild.model.problem import MISSING, parts_of, pointer_of, value_at
from popbuild.task.templates.bounds import RenderBudget


class ReadTrace:
    """The dependencies that a task read, by name; see staleness.py for the names."""

    def __init__(self, budget: RenderBudget) -> None:
        self._digests: dict[str, str] = {}
        self.budget = budget  # of the templates: copying a value takes time

    def read(self, document: str, pointer: str, value: Any) -> None:
        """A value was read; `document` is "seed" or "artifact:<task>"."""
        name = f"{document}:{pointer}"
        # Documents do not change while they are read, and a template looks before it reads.
        if name not in self._digests:
            self._digests[name] = value_digest(value)

    def looked(self, document: str, pointer: str, value: Any) -> Any:
        """A template looked at a place: of a container it learned only the kind. Gives a view."""
        if isinstance(value, dict | list):
            kind, colon, task = document.partition(":")
            self._digests[f"{kind}-kind{colon}{task}:{pointer}"] = kind_of(value)
        else:
            self.read(document, pointer, value)
        return view(value, document, pointer, self)

    def needs(self, tasks: Iterable[str]) -> None:
        """The task learned which artifacts there are: those of these needed tasks."""
        self._digests["needs"] = value_digest(list(tasks))

    def inputs(self, names: Iterable[str]) -> None:
        """The task learned which files the seed names."""
        self._digests["inputs"] = value_digest(sorted(names))

    def knows(self, document: str, pointer: str) -> bool:
        """Whether this value was read before: to digest a long text takes a while."""
        return f"{document}:{pointer}" in self._digests

    def job(self, job: str) -> None:
        self._digests["job"] = job

    def file(self, path: str, digest: str) -> None:
        """A file under pipeline-config/ was used, or looked for."""
        self._digests[f"file:{path}"] = digest

    def fallback(self, model: str) -> None:
        """A model answered that is asked only because the task lists it."""
        self._digests[f"fallback:{model}"] = LISTED

    def dependencies(self) -> dict[str, str]:
        """Everything noted, without what follows from the rest: a value that was read implies that
        the objects around it exist."""
        reads = [key for key in self._digests if "-kind:" not in key]
        return {
            key: value
            for key, value in self._digests.items()
            if "-kind:" not in key
            or not any(
                _tells(each, key.replace("-kind:", ":", 1)) and self._digests[each] != ABSENT
                for each in reads
            )
        }


def _tells(read: str, place: str) -> bool:
    """Whether a value that was read says which kind of value stands at a place: the same place, or
    one above it. A number may be an index or a key, so it says nothing."""
    if read == place:
        return True
    part = read.removeprefix(place + "/").partition("/")[0]
    return read.startswith(place + "/") and not part.isdecimal()


_WHERE = {"artifact": "artifacts", "input": "files"}


class _View:
    """A container in a document that notes what is read from it."""

    __slots__ = ("_document", "_pointer", "_trace", "_value")

    @property
    def _place(self) -> str:
        """Its place as a template writes it: `seed.data`."""
        kind, _, task = self._document.partition(":")
        where = f"{_WHERE[kind]}.{task}" if task else kind
        return ".".join([where, *parts_of(self._pointer)])

    def __init__(self, value: Any, document: str, pointer: str, trace: ReadTrace) -> None:
        self._value = value
        self._document = document
        self._pointer = pointer
        self._trace = trace

    # With an underscore: templates must not find what a dict or a list does not have.
    def _whole(self) -> Any:
        """A plain copy; the whole value counts as read."""
        self._trace.read(self._document, self._pointer, self._value)
        self._trace.budget.walk(self._value)
        return _copied(self._value)

    def _at(self, part: str | int) -> Any:
        pointer = self._pointer + pointer_of([part])
        value = value_at(self._value, pointer_of([part]))
        return self._trace.looked(self._document, pointer, value)

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
            return self._trace.looked(f"artifact:{part}", "", self._value[part])
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
    """An array of a document."""

    __slots__ = ()

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


def view(value: Any, document: str, pointer: str, trace: ReadTrace) -> Any:
    """A view of a container; a scalar or MISSING is itself."""
    if isinstance(value, dict):
        return ObjectView(value, document, pointer, trace)
    if isinstance(value, list):
        return ArrayView(value, document, pointer, trace)
    return value


def plain(value: Any) -> Any:
    """The plain value behind a view, read whole."""
    return value._whole() if isinstance(value, _View) else value
