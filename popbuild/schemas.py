"""The schemas of every file format, and compiled validators. Nothing here reaches the network."""

from __future__ import annotations

import difflib
import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urldefrag, urljoin

from popbuild import jsonio, keywords
from popbuild.errors import ConfigError, unknown
from popbuild.model.problem import pointer_of
from popbuild.redact import names_secret

if TYPE_CHECKING:
    import referencing
    from jsonschema.protocols import Validator

FORMATS = (
    "seed",
    "samples",
    "pipeline",
    "registry",
    "task",
    "tasks-status",
    "output",
    "letter",
    "decision",
    "execution-logs",
    "run",
    "runs-copy",
    "rejection",
    "seal",
    "archive",
)
_COMMON = "common"  # what several formats share
_URI = "urn:popbuild:schema:"
_COMMON_URI = f"{_URI}{_COMMON}"
_TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")
# Below these, names are fields of documents: a response format may ask for a `token`.
_FIELDS = frozenset({"properties", "patternProperties", "$defs", "definitions"})
_NAMED = frozenset({*_FIELDS, "dependentSchemas", "dependencies"})  # names, not keywords, in these
_LIMITS = ("max_tokens", "maxtokens", "max_completion_tokens")  # `max_token` is none of a secret
_DATA = frozenset({"const", "enum", "default", "examples"})  # a `$ref` in there refers to nothing
_BASE = "file:///"  # only a name: nothing is ever read from it


@dataclass(frozen=True)
class Schema:
    """A schema with the name of the file it came from, ready to judge documents."""

    document: Any
    where: str
    validator: Validator


def folder() -> Path:
    """Where the schema files lie: inside the wheel, or at the top of the checkout."""
    packaged = Path(__file__).parent / "_schemas"
    return packaged if packaged.is_dir() else Path(__file__).parent.parent / "schemas"


@functools.cache
def text_of(name: str) -> bytes:
    """The bytes of a format's schema file."""
    return (folder() / f"{name}.schema.json").read_bytes()


@functools.cache
def for_format(name: str) -> Schema:
    """The compiled schema of one of FORMATS."""
    return _ours(json.loads(text_of(name)), name)


@functools.cache
def for_settings() -> Schema:
    """The compiled schema of a task's settings, as every format that has settings refers to it."""
    return _ours({"$ref": f"{_COMMON_URI}#/$defs/settings"}, _COMMON)


def _ours(document: Any, name: str) -> Schema:
    """A schema of ours. It was checked by a test: here that would take a third of a small run."""
    registry = _registry(common()).with_resource("", _resource(document))
    where = f"schemas/{name}.schema.json"
    return Schema(document, where, _validator_class()(document, registry=registry))


def common() -> dict[str, Any]:
    """What formats refer to, by URI: their common parts, and the line of a run."""
    return {f"{_URI}{name}": json.loads(text_of(name)) for name in (_COMMON, "run")}


def compile_schema(
    document: Any, where: str, resources: Mapping[str, Any] | None = None, base: str = ""
) -> Schema:
    """A schema that can judge, or a ConfigError that says what is wrong with it.

    `resources` are further schemas by URI, for `$ref`, and `base` is this one's own URI. A
    reference to anything else is an error here and now: jsonschema by itself would fetch it from
    the network while it validates.
    """
    _check_schema(document, where)
    if isinstance(document, dict):
        base = urljoin(base, document.get("$id", base))
    registry = _registry(resources or {}).with_resource(base, _resource(document))
    _check_references(document, registry.resolver(base), where)
    anchored = {**document, "$id": base} if isinstance(document, dict) and base else document
    return Schema(document, where, _validator_class()(anchored, registry=registry))


def _check_schema(document: Any, where: str) -> None:
    # Imported here: it takes longer than a whole command that has nothing to do.
    import jsonschema

    try:
        _validator_class().check_schema(document, format_checker=_formats())
    except jsonschema.SchemaError as error:
        raise _wrong_schema(error, where) from None
    except RecursionError:
        raise ConfigError("the schema is nested too deeply", {"file": where}) from None


@functools.cache
def _formats() -> Any:
    """The metaschema's formats, by what will use them: Python's own regular expressions warn of
    some, and refuse others."""
    import jsonschema

    checker = jsonschema.FormatChecker(formats=())
    checker.checks("regex")(
        lambda each: not isinstance(each, str) or keywords.pattern_problem(each) is None
    )
    checker.checks("uri-reference", raises=ValueError)(
        lambda each: not isinstance(each, str) or bool(urljoin(_BASE, each))
    )
    return checker


def _check_references(document: Any, resolver: Any, where: str) -> None:
    """Every reference leads to a schema, also from there on: one that is found under `default`,
    say, was never looked at as one."""
    import referencing.exceptions

    seen: set[int] = set()
    waiting = [(document, resolver)]
    while waiting:
        current, resolver = waiting.pop()
        for reference in references(current):
            try:
                found = resolver.lookup(reference)
            except (referencing.exceptions.Unresolvable, ValueError, TypeError):
                raise not_here(where, reference) from None
            if not isinstance(found.contents, dict | bool):
                raise not_here(where, reference)
            if id(found.contents) not in seen:
                seen.add(id(found.contents))
                _check_schema(found.contents, where)
                waiting.append((found.contents, found.resolver))


def not_here(where: str, reference: str) -> ConfigError:
    """The error of a schema that refers to something unknown."""
    return ConfigError(
        "a schema refers to something that is not here",
        {"file": where, "$ref": reference},
        hint="a reference may name a file beside the schema, or a place inside it; "
        "nothing is fetched from the network",
    )


def _wrong_schema(error: Any, where: str) -> ConfigError:
    place = list(error.absolute_path)
    values: dict[str, object] = {"file": where, "at": "#" + pointer_of(place)}
    if place[-1:] == ["type"] and isinstance(error.instance, str):
        values.update(unknown("type", error.instance, _TYPES))
    elif error.validator == "format":
        values["found"] = f"{error.instance!r}, which is no {error.validator_value}"
    else:
        values["found"] = error.message
    return ConfigError("not a valid JSON Schema", values)


def compile_task_schema(
    path: str, documents: Mapping[str, Any], where: str
) -> tuple[Schema, set[str]]:
    """The schema at `path` among JSON documents by path, and the paths that it refers to.

    A relative `$ref` is looked up beside the schema, as a URL would be.
    """
    by_uri = paths_by_uri(documents)
    used: set[str] = set()
    waiting = [path]
    while waiting:
        current = waiting.pop()
        base = base_of(current, documents[current])
        for reference in references(documents[current]):
            target = by_uri.get(whole(base, reference)[0])
            if target is not None and target != path and target not in used:
                used.add(target)
                waiting.append(target)
    resources = {uri: documents[each] for uri, each in by_uri.items() if each in {path, *used}}
    for each in sorted(used):
        # Otherwise what is wrong with it would be found after the model was paid.
        compile_schema(documents[each], where.removesuffix(path) + each, resources, _BASE + each)
    return compile_schema(documents[path], where, resources, _BASE + path), used


def paths_by_uri(documents: Mapping[str, Any]) -> dict[str, str]:
    """The path of each document, by its place and by its `$id`."""
    found = {base_of(path, document): path for path, document in documents.items()}
    return found | {_BASE + path: path for path in documents}


def base_of(path: str, document: Any) -> str:
    """What relative references in a document are relative to."""
    own = document.get("$id") if isinstance(document, dict) else None
    return whole(_BASE + path, own)[0] if isinstance(own, str) else _BASE + path


def whole(base: str, reference: str) -> tuple[str, str]:
    """A reference as a URI and its fragment; as it stands where it is none, so that nothing has
    this name."""
    try:
        url, fragment = urldefrag(urljoin(base, reference))
    except ValueError:
        return reference, ""
    return url, fragment


def references(document: Any) -> Iterator[str]:
    """Every `$ref` and `$dynamicRef` in a schema."""
    for _, part in parts(document):
        for keyword in ("$ref", "$dynamicRef"):
            if isinstance(part.get(keyword), str):
                yield part[keyword]


def parts(document: Any, pointer: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object in a schema that may be a schema itself, with the JSON Pointer to it: no value
    of a `const`, say, and no object that has names of a person's own."""
    if isinstance(document, list):
        for number, each in enumerate(document):
            yield from parts(each, f"{pointer}/{number}")
    if not isinstance(document, dict):
        return
    yield pointer, document
    for keyword, value in document.items():
        place = pointer + pointer_of([keyword])
        if keyword in _NAMED and isinstance(value, dict):
            for name, each in value.items():
                yield from parts(each, place + pointer_of([name]))
        elif keyword not in _DATA:
            yield from parts(value, place)


def _resource(document: Any) -> referencing.Resource[Any]:
    import referencing.jsonschema

    return referencing.jsonschema.DRAFT202012.create_resource(document)


def _registry(resources: Mapping[str, Any]) -> referencing.Registry[Any]:
    import referencing

    pairs = [(uri, _resource(document)) for uri, document in resources.items()]
    # An empty registry has no retriever: what is not in it cannot be fetched.
    empty: referencing.Registry[Any] = referencing.Registry()
    return empty.with_resources(pairs)


@functools.cache
def _validator_class() -> Any:
    """Draft 2020-12, with keywords of our own where jsonschema's are slow, or fail, on a document
    of a stranger's: a schema is a person's own, but what it judges comes from a model."""
    import jsonschema

    extend: Any = jsonschema.validators.extend  # has no types
    own = {
        "pattern": _pattern,
        "patternProperties": _pattern_properties,
        "additionalProperties": _additional_properties,
        "multipleOf": _multiple_of,
        "uniqueItems": _unique_items,
        "noSecrets": _no_secrets,
    }
    return extend(jsonschema.Draft202012Validator, own)


def _pattern(_validator: Any, pattern: str, instance: Any, _schema: Any) -> Iterator[Any]:
    import jsonschema

    if not isinstance(instance, str):
        return
    try:
        if not keywords.matches(pattern, instance):
            yield jsonschema.ValidationError(f"{instance!r} does not match {pattern!r}")
    except TimeoutError as error:
        yield _too_slow(pattern, error)


def _pattern_properties(
    validator: Any, patterns: Mapping[str, Any], instance: Any, _schema: Any
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
    validator: Any, allowed: Any, instance: Any, schema: Mapping[str, Any]
) -> Iterator[Any]:
    import jsonschema

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
        return  # patternProperties has said so
    if allowed is False and extras:
        yield jsonschema.ValidationError(f"not allowed: {', '.join(map(repr, extras))}")
    elif isinstance(allowed, dict):
        for key in extras:
            yield from validator.descend(instance[key], allowed, path=key)


def _multiple_of(_validator: Any, divisor: Any, instance: Any, _schema: Any) -> Iterator[Any]:
    import jsonschema

    if keywords.is_number(instance) and not keywords.is_multiple(instance, divisor):
        yield jsonschema.ValidationError(f"{instance!r} is not a multiple of {divisor!r}")


def _unique_items(_validator: Any, wanted: Any, instance: Any, _schema: Any) -> Iterator[Any]:
    import jsonschema

    again = keywords.first_again(instance) if wanted and isinstance(instance, list) else None
    if again is not None:
        first, second = again
        yield jsonschema.ValidationError(f"must be unique, but item {second} is item {first} again")


def _no_secrets(_validator: Any, _wanted: Any, instance: Any, _schema: Any) -> Iterator[Any]:
    """Settings stand in letters, in the store and in the index: keys must not be among them."""
    import jsonschema

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
                yield jsonschema.ValidationError(message, path=[*place, name])
            else:
                waiting.append(([*place, name], each))


def _too_slow(pattern: str, error: TimeoutError) -> Any:
    import jsonschema

    message = f"matching {pattern!r} took longer than {keywords.PATTERN_TIMEOUT_S:g} s"
    return jsonschema.ValidationError(message, cause=error)


def version() -> str:
    """One digest over all schema files: what was validated under another set counts anew."""
    return jsonio.digest_bytes(b"".join(text_of(name) for name in (*FORMATS, _COMMON)))
