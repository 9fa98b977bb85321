"""What `unevaluatedProperties` and `unevaluatedItems` ask: which parts of a value were judged.

jsonschema's own match patterns without a limit of time, and look each item up in a list.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from popbuild.model.schema import keywords
from popbuild.model.schema.dialects import specification


def evaluated(
    validator: Any, instance: Any, schema: Any, *, own: bool = False
) -> frozenset[Any] | set[Any]:
    """The keys, or the numbers of the items, that a schema which holds has judged. `own` is the
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
    validator: Any, instance: Any, schema: Mapping[str, Any]
) -> Iterator[tuple[Any, Any]]:
    """The schemas in a schema that judge the same value, and hold; each with its resolver."""
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
    _validator: Any, instance: dict[str, Any], schema: Mapping[str, Any], *, own: bool
) -> set[Any]:
    if "additionalProperties" in schema or ("unevaluatedProperties" in schema and not own):
        return set(instance)
    found = {key for key in schema.get("properties", {}) if key in instance}
    try:
        found.update(
            key
            for pattern in schema.get("patternProperties", {})
            for key in instance
            if keywords.matches(pattern, key)
        )
    except TimeoutError:
        return set(instance)  # patternProperties has said so
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
