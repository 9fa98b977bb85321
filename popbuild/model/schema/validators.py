"""jsonschema's validators, a class for each draft: the one importer of jsonschema.

We replace keywords of jsonschema that are slow or fail on hostile documents: a person writes the
schema, but a model writes the documents. jsonschema is imported in functions, since that takes
longer than a whole command with nothing to do.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from popbuild.base.redact import names_secret
from popbuild.model.schema import keywords
from popbuild.model.schema.dialects import DEFAULT_DIALECT, DIALECTS, Dialect

if TYPE_CHECKING:
    import referencing
    from jsonschema.protocols import Validator

_LIMITS = ("max_tokens", "maxtokens", "max_completion_tokens")  # `max_token` is a slip, no secret
# Below these, names are fields of documents: a response format may ask for a `token`.
_FIELDS = frozenset({"properties", "patternProperties", "$defs", "definitions"})


def standard() -> referencing.Registry[Any]:
    """The drafts' metaschemas, which a schema may refer to. It has no retriever, so that nothing
    else is ever fetched."""
    import jsonschema_specifications

    found: referencing.Registry[Any] = jsonschema_specifications.REGISTRY
    return found


def schema_problem(document: object, dialect: Dialect) -> Any:
    """The first error of a schema by its draft's metaschema, as jsonschema's; None if it is
    valid."""
    import jsonschema

    try:
        _kind(dialect).check_schema(document, format_checker=_formats())
    except jsonschema.SchemaError as error:
        return error
    return None


@functools.cache
def _formats() -> Any:
    """The metaschema's formats, checked by the code that will use them: Python's own regular
    expressions warn of some patterns, and refuse others."""
    import jsonschema

    checker = jsonschema.FormatChecker(formats=())
    checker.checks("regex")(
        lambda each: not isinstance(each, str) or keywords.pattern_problem(each) is None
    )
    checker.checks("uri-reference", raises=ValueError)(
        lambda each: not isinstance(each, str) or bool(urljoin("file:///", each))
    )
    return checker


def validator(
    document: object, registry: referencing.Registry[Any], drafts: Mapping[int, Dialect]
) -> Validator:
    """A validator for a schema. `drafts` has the draft of each schema that it may reach, by the
    `id` of its object; all others are 2020-12."""
    dialects = set(drafts.values()) or {DEFAULT_DIALECT}
    if len(dialects) == 1:
        kind = _kind(dialects.pop())
    else:
        kinds = {each: _new_kind(each) for each in dialects}
        by_schema = {number: kinds[each] for number, each in drafts.items()}
        for each in kinds.values():
            each.evolve = _evolve(by_schema)
        kind = by_schema.get(id(document)) or next(iter(kinds.values()))
    found: Validator = kind(document, registry=registry)
    return found


@functools.cache
def _kind(dialect: Dialect) -> Any:
    """The class of the validators of a draft, for schemas of this draft alone."""
    kind = _new_kind(dialect)
    kind.evolve = _evolve({})
    return kind


def _evolve(kinds: Mapping[int, Any]) -> Callable[..., Any]:
    """How a validator becomes that of another schema. jsonschema's own goes by `$schema` alone,
    which many schemas lack, and to classes without our keywords."""

    def evolve(self: Any, **changes: Any) -> Any:
        schema = changes.get("schema", self.schema)
        kind = kinds.get(id(schema), type(self))
        resolver = changes.get("_resolver", self._resolver)
        return kind(schema, registry=self._registry, _resolver=resolver)

    return evolve


def _new_kind(dialect: Dialect) -> Any:
    import jsonschema

    classes: list[Any] = [
        jsonschema.Draft202012Validator,
        jsonschema.Draft201909Validator,
        jsonschema.Draft7Validator,
        jsonschema.Draft6Validator,
        jsonschema.Draft4Validator,
    ]
    base = dict(zip(DIALECTS, classes, strict=True))[dialect]
    own = {name: word for name, word in _OWN.items() if name in base.VALIDATORS}
    extend: Any = jsonschema.validators.extend  # has no types
    kind = extend(base, {**own, "noSecrets": _no_secrets})
    kind.dialect = dialect
    return kind


def _error(message: str, **more: Any) -> Any:
    import jsonschema

    return jsonschema.ValidationError(message, **more)


def _pattern(_validator: object, pattern: str, instance: object, _schema: object) -> Iterator[Any]:
    if not isinstance(instance, str):
        return
    try:
        if not keywords.matches(pattern, instance):
            yield _error(f"{instance!r} does not match {pattern!r}")
    except TimeoutError as error:
        yield _too_slow(pattern, error)


def _format(_validator: object, name: object, instance: Any, _schema: object) -> Iterator[Any]:
    from popbuild.model.schema.text_formats import TEXT_FORMATS

    known = TEXT_FORMATS.get(name) if isinstance(instance, str) and isinstance(name, str) else None
    if known is not None and not known.check(instance):
        yield _error(f"is not {known.what}")


def _pattern_properties(
    validator: Any, patterns: Mapping[str, Any], instance: object, _schema: object
) -> Iterator[Any]:
    if not isinstance(instance, dict):
        return
    for pattern, subschema in patterns.items():
        for key, value in instance.items():
            try:
                matches = keywords.matches(pattern, key)
            except TimeoutError as error:
                yield _too_slow(pattern, error)
                return
            if matches:
                yield from validator.descend(value, subschema, path=key, schema_path=pattern)


def _additional_properties(
    validator: object, allowed: object, instance: object, schema: Mapping[str, Any]
) -> Iterator[Any]:
    if not isinstance(instance, dict):
        return
    patterns = schema.get("patternProperties", {})
    try:
        extras = [
            key
            for key in instance
            if key not in schema.get("properties", {})
            and not any(keywords.matches(pattern, key) for pattern in patterns)
        ]
    except TimeoutError:
        return  # patternProperties reports it
    yield from _rest(validator, allowed, instance, extras)


def _unevaluated_properties(
    validator: object, allowed: object, instance: object, schema: Mapping[str, Any]
) -> Iterator[Any]:
    if isinstance(instance, dict):
        seen = keywords.evaluated(validator, instance, schema, own=True)
        extras = [key for key in instance if key not in seen]
        yield from _rest(validator, allowed, instance, extras)


def _unevaluated_items(
    validator: object, allowed: object, instance: object, schema: Mapping[str, Any]
) -> Iterator[Any]:
    if isinstance(instance, list):
        seen = keywords.evaluated(validator, instance, schema, own=True)
        extras = [number for number in range(len(instance)) if number not in seen]
        yield from _rest(validator, allowed, instance, extras)


def _rest(validator: Any, allowed: Any, instance: Any, extras: Sequence[Any]) -> Iterator[Any]:
    """The errors of the entries that no other keyword judges: `allowed` is their schema."""
    if allowed is False and extras:
        shown = ", ".join(map(repr, extras))
        if isinstance(instance, list):
            first, last = extras[0], extras[-1]
            shown = f"items {first} to {last}" if len(extras) > 1 else f"item {first}"
        yield _error(f"not allowed: {shown}")
    else:
        for key in extras:
            yield from validator.descend(instance[key], allowed, path=key)


def _multiple_of(_validator: object, divisor: Any, instance: Any, _schema: object) -> Iterator[Any]:
    if keywords.is_number(instance) and not keywords.is_multiple(instance, divisor):
        yield _error(f"{instance!r} is not a multiple of {divisor!r}")


def _unique_items(
    _validator: object, wanted: object, instance: object, _schema: object
) -> Iterator[Any]:
    again = keywords.first_again(instance) if wanted and isinstance(instance, list) else None
    if again is not None:
        first, second = again
        yield _error(f"must be unique, but item {second} is item {first} again")


def _no_secrets(
    _validator: object, _wanted: object, instance: object, _schema: object
) -> Iterator[Any]:
    """Settings are written to letters, the store and the index: keys must not be among them."""
    waiting: list[tuple[list[str | int], Any]] = [([], instance)]
    while waiting:
        place, value = waiting.pop()
        if isinstance(value, list):
            waiting.extend(([*place, number], each) for number, each in enumerate(value))
        if not isinstance(value, dict):
            continue
        for name, each in value.items():
            is_field = bool(place) and place[-1] in _FIELDS and isinstance(each, dict | bool)
            if names_secret(name) and not is_field:
                message = "not allowed here: a secret; it belongs in the environment or in .env"
                if difflib.get_close_matches(name.casefold(), _LIMITS, n=1, cutoff=0.9):
                    message = "not allowed here: did you mean 'maxTokens'? It reads as a secret"
                yield _error(message, path=[*place, name])
            else:
                waiting.append(([*place, name], each))


def _too_slow(pattern: str, error: TimeoutError) -> Any:
    limit = f"{keywords.PATTERN_TIMEOUT_S:g} s"
    return _error(f"matching {pattern!r} took longer than {limit}", cause=error)


_OWN: dict[str, Callable[[Any, Any, Any, Any], Iterator[Any]]] = {
    "pattern": _pattern,
    "format": _format,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "unevaluatedProperties": _unevaluated_properties,
    "unevaluatedItems": _unevaluated_items,
    "multipleOf": _multiple_of,
    "uniqueItems": _unique_items,
}
