"""Keywords of JSON Schema in bounded time, exactly: patterns, multiples, unique items, and which
parts of a value other keywords have judged.

jsonschema's own hang on a hostile text (26 characters take 5.5 s), compare each item with each
other one (3,000 objects take 6 s), or fail on an integer of 400 digits. This file does not know
jsonschema.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from popbuild.base import jsonio
from popbuild.model.schema.dialects import specification

if TYPE_CHECKING:
    import regex

PATTERN_TIMEOUT_S = 1.0


def matches(pattern: str, text: str) -> bool:
    """Whether a pattern of JSON Schema is found in a text. Raises TimeoutError."""
    return _compiled(pattern).search(text, timeout=PATTERN_TIMEOUT_S) is not None


def pattern_problem(pattern: str) -> str | None:
    """Why a pattern cannot be matched, or None."""
    import regex

    try:
        _compiled(pattern)
    except (regex.error, ValueError, OverflowError, RecursionError) as error:
        return str(error) or type(error).__name__
    return None


@functools.lru_cache(maxsize=1_000)
def _compiled(pattern: str) -> regex.Pattern[str]:
    """A pattern as ECMA-262 means it; one that ECMA-262 does not know, such as `(?i)`, as Python
    means it: `validate` names those, and their meaning never changes."""
    import regex

    from popbuild.model.schema import ecma

    try:
        return regex.compile(ecma.translate(pattern).python)
    except ecma.NotEcmaError:
        return regex.compile(_as_python(pattern))


def _as_python(pattern: str) -> str:
    """A pattern for Python in which `$` is the end only, not also before a final newline."""
    parts: list[str] = []
    in_class = False
    for part in re.findall(r"\\.|.", pattern, re.DOTALL):
        in_class = part == "[" or (in_class and part != "]")
        parts.append(r"\Z" if part == "$" and not in_class else part)
    return "".join(parts)


def is_number(value: object) -> bool:
    """Whether a value is a number in JSON; in Python, true is one too."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_multiple(number: float, divisor: float) -> bool:
    """Whether a number is a multiple of another, both as written in decimal: 0.3 is one of 0.1."""
    return Fraction(str(number)) % Fraction(str(divisor)) == 0


def first_again(items: list[Any]) -> tuple[int, int] | None:
    """The places of an item and its first repetition; None if all items differ. In JSON Schema 1
    and 1.0 are equal, 1 and true are not."""
    seen: dict[str, int] = {}
    for number, item in enumerate(items):
        key = jsonio.compact(_plain(item))
        if key in seen:
            return seen[key], number
        seen[key] = number
    return None


def _plain(value: object) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return value


# What `unevaluatedProperties` and `unevaluatedItems` ask.


def evaluated(
    validator: Any, instance: Any, schema: Any, *, own: bool = False
) -> frozenset[Any] | set[Any]:
    """The keys, or the numbers of the items, that a schema which holds has judged. `own` marks the
    schema whose `unevaluated…` asks."""
    if not isinstance(schema, dict):
        return frozenset()
    look = _keys_judged if isinstance(instance, dict) else _items_judged
    found = look(validator, instance, schema, own=own)
    for below, resolver in _in_place(validator, instance, schema):
        evolved = validator.evolve(schema=below, _resolver=resolver)
        found |= evaluated(evolved, instance, below)
    return found


def _in_place(
    validator: Any, instance: object, schema: Mapping[str, Any]
) -> Iterator[tuple[Any, Any]]:
    """The schemas in a schema that judge the same value and hold, each with its resolver."""
    from referencing.jsonschema import lookup_recursive_ref

    here = validator._resolver
    words = validator.VALIDATORS
    for word in ("$ref", "$dynamicRef"):
        if word in schema and word in words:
            resolved = here.lookup(schema[word])
            yield resolved.contents, resolved.resolver
    if "$recursiveRef" in schema and "$recursiveRef" in words:
        resolved = lookup_recursive_ref(here)
        yield resolved.contents, resolved.resolver
    several = [each for word in ("allOf", "anyOf", "oneOf") for each in schema.get(word, ())]
    if isinstance(instance, dict):
        dependent = schema.get("dependentSchemas", {})
        several += [each for name, each in dependent.items() if name in instance]
    if "if" in schema:
        holds = _holds(validator, instance, schema["if"])
        several += [schema["if"]] if holds else []
        several += [schema[word] for word in ("then" if holds else "else",) if word in schema]
    for each in several:
        if isinstance(each, dict) and _holds(validator, instance, each):
            resource = specification(validator.dialect).create_resource(each)
            yield each, here.in_subresource(resource)


def _holds(validator: Any, instance: Any, schema: Any) -> bool:
    return next(validator.descend(instance, schema), None) is None


def _keys_judged(
    _validator: object, instance: dict[str, Any], schema: Mapping[str, Any], *, own: bool
) -> set[Any]:
    if "additionalProperties" in schema or ("unevaluatedProperties" in schema and not own):
        return set(instance)
    found = {key for key in schema.get("properties", {}) if key in instance}
    try:
        found.update(
            key
            for pattern in schema.get("patternProperties", {})
            for key in instance
            if matches(pattern, key)
        )
    except TimeoutError:
        return set(instance)  # patternProperties reports it
    return found


def _items_judged(
    validator: Any, instance: list[Any], schema: Mapping[str, Any], *, own: bool
) -> set[Any]:
    everything = set(range(len(instance)))
    items = schema.get("items")
    if "unevaluatedItems" in schema and not own:
        return everything
    if items is not None and (not isinstance(items, list) or "additionalItems" in schema):
        return everything
    first = items if isinstance(items, list) else schema.get("prefixItems", ())
    found = set(range(min(len(first), len(instance))))
    if "contains" in schema and "prefixItems" in validator.VALIDATORS:  # from 2020-12 on
        found.update(
            number
            for number, each in enumerate(instance)
            if _holds(validator, each, schema["contains"])
        )
    return found
