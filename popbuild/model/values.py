"""What is compared of a value: its digest, or only its kind."""

from __future__ import annotations

from popbuild.base import jsonio
from popbuild.model.problem import MISSING, column_at, value_at, value_read


def value_digest(value: object) -> str:
    """The digest of a value, or ABSENT."""
    return jsonio.ABSENT if value is MISSING else jsonio.digest(value)


def kind_of(value: object) -> str:
    """What a template learns when it tests a value without reading it."""
    if value is MISSING:
        return jsonio.ABSENT
    if isinstance(value, dict):
        return "object"
    return "array" if isinstance(value, list) else "scalar"


def read_digest(kind: str, document: object, pointer: str) -> str:
    """The digest that a dependency on a place of a document has: `kind` is "seed", "seed-kind" or
    "seed-length", or one of another document."""
    if kind.endswith("-length"):
        value = value_at(document, pointer)
        return str(len(value)) if isinstance(value, list) else jsonio.ABSENT
    if kind.endswith("-kind"):
        column = column_at(document, pointer)
        if column is not None:
            return value_digest(list(map(kind_of, column)))
        return kind_of(value_at(document, pointer))
    return value_digest(value_read(document, pointer))
