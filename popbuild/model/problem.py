"""A problem: one violation that a gate found, and its place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Problem:
    """`pointer` is a JSON Pointer into the document, `schema_path` one into the schema."""

    message: str
    pointer: str = ""
    schema_path: str | None = None

    def as_json(self) -> dict[str, Any]:
        value: dict[str, Any] = {"message": self.message, "pointer": self.pointer}
        if self.schema_path is not None:
            value["schemaPath"] = self.schema_path
        return value

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Problem:
        return Problem(value["message"], value.get("pointer", ""), value.get("schemaPath"))

    def __str__(self) -> str:
        return f"{self.pointer}: {self.message}" if self.pointer else self.message


def pointer_of(parts: list[str | int]) -> str:
    """A JSON Pointer (RFC 6901) from its parts."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def parts_of(pointer: str) -> list[str]:
    """The parts of a JSON Pointer; ValueError if it does not begin with a slash."""
    if not pointer:
        return []
    if not pointer.startswith("/"):
        raise ValueError(f"a JSON Pointer begins with /, this does not: {pointer!r}")
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer[1:].split("/")]


MISSING: Any = object()  # from `value_at`, if a document has no such place


def value_at(document: object, pointer: str) -> Any:
    """The value at a JSON Pointer, or MISSING."""
    for part in parts_of(pointer):
        if isinstance(document, dict) and part in document:
            document = document[part]
        elif isinstance(document, list) and part.isdecimal() and int(part) < len(document):
            document = document[int(part)]
        else:
            return MISSING
    return document


def column_at(document: object, pointer: str) -> list[Any] | None:
    """What each item of a list has at a place, MISSING where it has none, for a pointer such as
    `/rows/*/name`; None for a pointer to one value: an object may have a key `*`."""
    if "/*" not in pointer:
        return None
    parts = parts_of(pointer)
    for place, part in enumerate(parts):
        items = value_at(document, pointer_of([*parts[:place]])) if part == "*" else None
        if isinstance(items, list):
            rest = pointer_of([*parts[place + 1 :]])
            return [value_at(each, rest) for each in items]
    return None


def value_read(document: object, pointer: str) -> Any:
    """The value at a pointer, or MISSING. For the items of a list, `/rows/*/name`, it is the list
    of what each has there: `[name]`, or `[]` where it has nothing."""
    column = column_at(document, pointer)
    return value_at(document, pointer) if column is None else in_column(column)


def column_items(pointer: str, value: Any) -> Any:
    """What `value_read` gave for the items of a list, as a plain list, with None where an item had
    nothing; any other value as it is."""
    is_column = isinstance(value, list) and all(isinstance(e, list) and len(e) < 2 for e in value)
    if "/*" not in pointer or not is_column:
        return value
    return [each[0] if each else None for each in value]


def in_column(values: Iterable[Any]) -> list[list[Any]]:
    """What the items of a list have at one place, as a JSON value."""
    return [[] if value is MISSING else [value] for value in values]
