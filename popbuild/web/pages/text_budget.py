"""The size of a page: texts and JSON are shortened, which the page says, and keys are masked."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from popbuild.base import jsonio
from popbuild.base.redact import redact, redact_value

MAX_TEXT = 64 * 1024  # characters of one text
MAX_PAGE = 512 * 1024  # of all texts about a job
MAX_NODES = 2_000  # values of one JSON document
MAX_SHOWN_DEPTH = 24
_MAX_LINE = 2_000  # of a problem, a reason, a name


@dataclass(frozen=True)
class Text:
    """The beginning of a text, and how many characters are left out."""

    shown: str
    left_out: int = 0


@dataclass(frozen=True)
class Tree:
    """A JSON value: `kind` is object, array, text or plain, `text` a leaf as it is shown. It has
    `count` members; `members` are those shown, each with its key or number."""

    kind: str
    text: str = ""
    count: int = 0
    members: tuple[tuple[str, Tree], ...] = ()
    cut: bool = False  # a text that goes on

    @property
    def whole(self) -> bool:
        """Whether nothing is left out."""
        shown = not self.cut and len(self.members) == self.count
        return shown and all(member.whole for _, member in self.members)


class Room:
    """The room of one page, which texts and JSON use up. Keys are masked before anything is cut:
    half a key would not be recognized."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._left = MAX_PAGE

    def text(self, text: str, most: int = MAX_TEXT, start: int = 0) -> Text:
        """As much of a text as there is room for, from `start`."""
        text = redact(text, self._environment)
        shown = text[start : start + min(most, self._left)]
        self._left -= len(shown)
        return Text("…" * (start > 0) + shown, max(len(text) - start - len(shown), 0))

    def tree(self, value: object) -> Tree:
        """As much of a JSON value as there is room for."""
        thinned = _Thinned(min(MAX_TEXT, self._left))
        tree = thinned.tree(redact_value(value, self._environment), 0)
        self._left -= thinned.taken
        return tree

    def masked(self, value: object) -> Any:
        """Dataclasses and JSON with every text masked and cut to a line."""
        texts = list(_texts(value))
        whole = "\n".join(texts)  # one check is enough for most data
        short = max(map(len, texts), default=0) <= _MAX_LINE
        if short and redact(whole, self._environment) == whole:
            return value
        return self._masked(value)

    def _masked(self, value: object) -> Any:
        if isinstance(value, Text | Tree):
            return value
        if isinstance(value, str):
            return self._line(value)
        if isinstance(value, tuple | list):
            return type(value)(self._masked(each) for each in value)
        if isinstance(value, dict):
            return {self._masked(key): self._masked(each) for key, each in value.items()}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            members = {name: self._masked(each) for name, each in _members(value)}
            return dataclasses.replace(value, **members)
        return value

    def _line(self, text: str) -> str:
        text = redact(text, self._environment)
        return text if len(text) <= _MAX_LINE else text[: _MAX_LINE - 1] + "…"


def _texts(value: object) -> Iterator[str]:
    """All texts that are neither masked nor cut yet."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _texts((*value, *value.values()))
    elif isinstance(value, tuple | list):
        for each in value:
            yield from _texts(each)
    elif dataclasses.is_dataclass(value) and not isinstance(value, Text | Tree | type):
        for _, each in _members(value):
            yield from _texts(each)


def _members(value: Any) -> Iterator[tuple[str, Any]]:
    names = (field.name for field in dataclasses.fields(value) if field.init)
    return ((name, getattr(value, name)) for name in names)


class _Thinned:
    """One JSON document, shortened to its own limits."""

    def __init__(self, chars: int) -> None:
        self._chars = chars
        self._nodes = MAX_NODES
        self.taken = 0

    def tree(self, value: object, depth: int) -> Tree:
        if isinstance(value, dict | list):
            kind = "object" if isinstance(value, dict) else "array"
            pairs = value.items() if isinstance(value, dict) else enumerate(value)
            return Tree(kind, count=len(value), members=tuple(self._members(pairs, depth)))
        if isinstance(value, str):
            shown = self._take(value)
            return Tree("text", shown, cut=len(shown) < len(value))
        return Tree("plain", self._take(jsonio.compact(value)))

    def _members(self, pairs: Iterable[tuple[Any, Any]], depth: int) -> Iterator[tuple[str, Tree]]:
        for key, member in pairs:
            if self._nodes <= 0 or self._chars <= 0 or depth >= MAX_SHOWN_DEPTH:
                return
            self._nodes -= 1
            yield self._take(str(key)), self.tree(member, depth + 1)

    def _take(self, text: str) -> str:
        shown = text[: self._chars]
        self._chars -= len(shown)
        self.taken += len(shown)
        return shown
