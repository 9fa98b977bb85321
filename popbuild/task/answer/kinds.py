"""Which values a schema can take, by their types alone: this tells a citation from a document."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from popbuild.model.problem import MISSING, value_at

_EMPTY: dict[str, Any] = {
    "object": {},
    "array": [],
    "string": "",
    "number": 0,
    "boolean": False,
    "null": None,
}
_ALL = frozenset(_EMPTY)
# A schema with these and without `type` would accept every other type, which is not meant.
_HINTS = {
    "object": {"properties", "required", "patternProperties", "additionalProperties"},
    "array": {"items", "prefixItems", "minItems", "maxItems"},
}
_MAX_DEPTH = 16  # of references and combinations; anything deeper passes


@dataclass(frozen=True)
class Kinds:
    """A schema as one document; None takes any value."""

    schema: Any = None

    @functools.cached_property
    def types(self) -> frozenset[str]:
        """The JSON types that a document may have: `integer` is `number` here."""
        if self.schema is None:
            return _ALL
        found = {name for name, empty in _EMPTY.items() if _takes(self.schema, empty, self.schema)}
        hints = {name for name, words in _HINTS.items() if words & _keywords(self.schema)}
        return frozenset(hints if found == _ALL and hints else found)

    @property
    def are_known(self) -> bool:
        """Whether the schema says anything about types."""
        return self.types != _ALL

    @functools.cached_property
    def item_types(self) -> frozenset[str]:
        """The JSON types that the items of an array may have."""
        if self.schema is None:
            return _ALL
        return frozenset(
            name for name, empty in _EMPTY.items() if _takes(self.schema, [empty], self.schema)
        )

    def take(self, value: object) -> bool:
        """Whether a value has a type that the schema takes. An array of numbers is a citation where
        items cannot be numbers; any other item of a wrong type is left to the gate."""
        if type_of(value) not in self.types:
            return False
        if not isinstance(value, list) or not value or "number" in self.item_types:
            return True
        return any(type_of(each) != "number" for each in value)

    def __str__(self) -> str:
        return " or ".join(sorted(self.types)) or "nothing"


def type_of(value: object) -> str:
    """The JSON type of a value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "object" if isinstance(value, dict) else "array"


def _takes(schema: object, value: object, root: object, depth: int = 0) -> bool:
    """Whether a schema takes a value, by types and items of arrays alone."""
    if not isinstance(schema, dict) or depth > _MAX_DEPTH:
        return schema is not False

    def fits(other: object, item: object = value) -> bool:
        return _takes(other, item, root, depth + 1)

    if type_of(value) not in _named(schema):
        return False
    target = _target(schema, root)
    items = schema.get("items", True)
    if isinstance(items, list) or "prefixItems" in schema:
        items = True  # each item has its own schema
    return (
        fits(target)
        and all(map(fits, _list(schema, "allOf")))
        and ("anyOf" not in schema or any(map(fits, _list(schema, "anyOf"))))
        and ("oneOf" not in schema or any(map(fits, _list(schema, "oneOf"))))
        and (items is True or not isinstance(value, list) or all(fits(items, e) for e in value))
    )


def _named(schema: dict[str, Any]) -> frozenset[str]:
    """The types that `type`, `const` and `enum` leave."""
    found = _ALL
    if "type" in schema:
        names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        found &= {"number" if name == "integer" else name for name in names}
    if "const" in schema:
        found &= {type_of(schema["const"])}
    if "enum" in schema:
        found &= set(map(type_of, _list(schema, "enum")))
    return found


def _target(schema: dict[str, Any], root: object) -> Any:
    """The target of `$ref` in this document; True, which takes anything, without one."""
    reference = schema.get("$ref")
    if not isinstance(reference, str) or not reference.startswith("#"):
        return True
    pointer = unquote(reference[1:])
    found = value_at(root, pointer) if pointer[:1] in ("", "/") else MISSING
    return True if found is MISSING else found


def _list(schema: dict[str, Any], keyword: str) -> list[Any]:
    value = schema.get(keyword, [])
    return value if isinstance(value, list) else []


def _keywords(schema: object) -> set[str]:
    """The keywords at the top of a schema, and of what it refers to."""
    found: set[str] = set()
    root = schema
    for _ in range(_MAX_DEPTH):
        if not isinstance(schema, dict):
            break
        found |= schema.keys()
        schema = _target(schema, root)
    return found
