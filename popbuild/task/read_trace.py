"""What a task reads, noted as dependencies: values to the field, files, what it learned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from popbuild.base.jsonio import ABSENT
from popbuild.jobs.fingerprint import LISTED, kind_of, value_digest
from popbuild.model.problem import in_column, value_at
from popbuild.task.templates.bounds import RenderBudget


class ReadTrace:
    """The dependencies that a task read, by name; see fingerprint.py for the names. `known` are
    digests of documents that other traces of the same inputs have too."""

    def __init__(self, budget: RenderBudget, known: dict[str, str] | None = None) -> None:
        self._digests: dict[str, str] = {}
        self._known = {} if known is None else known
        self.budget = budget  # of the templates: copying a value takes time

    def read(self, document: str, pointer: str, value: Any, items: Items | None = None) -> None:
        """A value was read; `document` is "seed" or "artifact:<task>". It is one of those that all
        `items` have there."""
        name = f"{document}:{pointer}"
        # Documents do not change while they are read, and a template looks before it reads.
        if name in self._digests:
            return
        known = self._known if document != "item" else self._digests
        if name not in known:
            found = value
            if items is not None:
                found = in_column(items.column(pointer))
                self.budget.walk(found)
            known[name] = value_digest(found)
        self._digests[name] = known[name]

    def looked(self, document: str, pointer: str, value: Any, items: Items | None = None) -> None:
        """A template looked at a place: of a container it learned only the kind."""
        if not isinstance(value, dict | list):
            self.read(document, pointer, value, items)
            return
        name = _learned("kind", document, pointer)
        if name not in self._digests:
            found = None if items is None else list(map(kind_of, items.column(pointer)))
            self._digests[name] = kind_of(value) if found is None else value_digest(found)

    def counted(self, document: str, pointer: str, items: Sequence[Any]) -> None:
        """A template learned how many items a list has."""
        self._digests[_learned("length", document, pointer)] = str(len(items))

    def needs(self, tasks: Iterable[str]) -> None:
        """The task learned which artifacts there are: those of all needed tasks."""
        self._digests["needs"] = value_digest(list(tasks))

    def inputs(self, names: Iterable[str]) -> None:
        """The task learned which files the seed names."""
        self._digests["inputs"] = value_digest(sorted(names))

    def knows(self, document: str, pointer: str) -> bool:
        """Whether this value was read before: to digest a long text takes a while."""
        return f"{document}:{pointer}" in self._digests

    def position(self, number: int) -> None:
        """The task learned where in the list its item stands."""
        self._digests["position"] = str(number)

    def take(self, dependencies: Mapping[str, str]) -> None:
        """Note what was found to be a dependency elsewhere."""
        self._digests.update(dependencies)

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
        there = [key for key, digest in self._digests.items() if digest != ABSENT]
        return {
            key: digest
            for key, digest in self._digests.items()
            if _place_of(key) == key or not any(_tells(each, key) for each in there)
        }


def _learned(what: str, document: str, pointer: str) -> str:
    """The name of a dependency on what is known of a value without reading it."""
    kind, colon, task = document.partition(":")
    return f"{kind}-{what}{colon}{task}:{pointer}"


def _place_of(dependency: str) -> str:
    """The name that reading the value has, of which this may tell only the kind or the length."""
    kind, colon, rest = dependency.partition(":")
    return kind.partition("-")[0] + colon + rest


def _tells(known: str, learned: str) -> bool:
    """Whether a dependency on what is there says which kind of value stands at a place, or how many
    items it has: it is on the same place, or on one below it. A number may be an index or a key, so
    it says nothing; what all items of a list have says how many there are."""
    read, place = _place_of(known), _place_of(learned)
    if "-kind:" in known and "/*/" not in known:
        return False
    if read == place:
        return known != learned
    part = read.removeprefix(place + "/").partition("/")[0]
    is_below = read.startswith(place + "/")
    return is_below and (part == "*" or ("-kind:" in learned and not part.isdecimal()))


class Items:
    """The items of the list at `pointer`, over which a template loops."""

    __slots__ = ("_below", "_items", "pointer")

    def __init__(self, pointer: str, items: Sequence[Any]) -> None:
        self.pointer = f"{pointer}/*"
        self._below = len(self.pointer)
        self._items = items

    def column(self, pointer: str) -> list[Any]:
        """What each of them has at a pointer that begins with this one; MISSING where it has
        nothing."""
        below = pointer[self._below :]
        return [value_at(each, below) for each in self._items]
