"""The schemas of every file format, and tasks' schemas compiled. Nothing reaches the network."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from popbuild.base import jsonio
from popbuild.base.errors import ConfigError, no_such
from popbuild.base.paths import PACKAGE
from popbuild.model.problem import parts_of, pointer_of, value_at
from popbuild.model.schema import validators
from popbuild.model.schema.dialects import (
    DEFAULT_DIALECT,
    REFERENCES,
    Dialect,
    children,
    dialect_of,
    inside,
    specification,
)
from popbuild.model.schema.references import (
    BASE,
    base_of,
    not_here,
    parts,
    paths_by_uri,
    whole,
)

if TYPE_CHECKING:
    import referencing


STORAGE_FORMATS = tuple(
    "seed extraction samples pipeline variant tests baseline registry task tasks-status output "
    "letter decision scores execution-logs items run runs-copy rejection seal archive".split()
)
_COMMON = "common"  # what several formats share
_URI = "urn:popbuild:schema:"
_COMMON_URI = f"{_URI}{_COMMON}"
_TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")
# What has another form in another draft.
_DIFFERENT = frozenset("items exclusiveMinimum exclusiveMaximum required dependencies".split())


@dataclass(frozen=True)
class Schema:
    """A schema with the name of the file it came from, ready to judge documents."""

    document: Any
    where: str
    validator: Any  # jsonschema's


def folder() -> Path:
    """Where the schema files lie: inside the wheel, or at the top of the checkout."""
    packaged = PACKAGE / "_schemas"
    return packaged if packaged.is_dir() else PACKAGE.parent / "schemas"


@functools.cache
def schema_bytes(name: str) -> bytes:
    """The bytes of a format's schema file."""
    return (folder() / f"{name}.schema.json").read_bytes()


@functools.cache
def for_format(name: str) -> Schema:
    """The compiled schema of one of FORMATS."""
    return _ours(json.loads(schema_bytes(name)), name)


@functools.cache
def for_settings() -> Schema:
    """The compiled schema of a task's settings, as every format that has settings refers to it."""
    return _ours({"$ref": f"{_COMMON_URI}#/$defs/settings"}, _COMMON)


def _ours(document: object, name: str) -> Schema:
    """A schema of ours, which a test checks: here that would take a third of a small run."""
    where = f"schemas/{name}.schema.json"
    return Schema(document, where, validators.validator(document, _registry(common()), {}))


def common() -> dict[str, Any]:
    """The schemas that formats refer to, by URI: their common parts, and the line of a run."""
    return {f"{_URI}{name}": json.loads(schema_bytes(name)) for name in (_COMMON, "run")}


def compile_schema(document: object, where: str, others: Mapping[str, Any] | None = None) -> Schema:
    """A schema ready to judge. It may refer to the `others`, by any names, with their own URIs.

    ConfigError if it is not valid, or refers to anything but these and the drafts' metaschemas:
    jsonschema would fetch that from the network while it validates.
    """
    return _compiled("", {"": document, **(others or {})}, lambda path: path or where)


def _compiled(path: str, documents: Mapping[str, Any], where: Callable[[str], str]) -> Schema:
    """The schema at `path`, which may refer to the other documents; `where` names a path in an
    error."""
    try:
        return _Compilation(path, documents, where).schema()
    except RecursionError:
        raise ConfigError("the schema is nested too deeply", {"file": where(path)}) from None


class _Compilation:
    """Schemas that refer to each other, checked in full before one of them judges: otherwise an
    error would be found after the model was paid."""

    def __init__(
        self, path: str, documents: Mapping[str, Any], where: Callable[[str], str]
    ) -> None:
        self._path = path
        self._document = documents[path]
        self._where = where
        default = dialect_of(documents[path], DEFAULT_DIALECT, where(path))
        # Copies, since `$schema` is rewritten in them as `referencing` knows it.
        self._documents = {each: copy.deepcopy(body) for each, body in documents.items()}
        self._dialects = {
            each: dialect_of(body, default, where(each)) for each, body in self._documents.items()
        }
        self._drafts: dict[int, Dialect] = {}  # of each schema, by the `id` of its object
        self._to_follow: list[tuple[str, Dialect, Any, str]] = []
        self._registry = validators.standard().with_resources(
            (uri, specification(self._dialects[each]).create_resource(body))
            for each, body in self._documents.items()
            for uri in dict.fromkeys((BASE + each, base_of(each, body, default)))
        )

    def schema(self) -> Schema:
        for path, body in self._documents.items():
            where, dialect = self._where(path), self._dialects[path]
            self._check_valid(body, dialect, where)
            for _, part, draft in inside(body, dialect, where):
                if isinstance(part.get("$schema"), str):
                    part["$schema"] = draft.uri
            resolver = self._registry.resolver(base_of(path, body, dialect))
            self._look_through(body, dialect, resolver, where)
        while self._to_follow:
            self._follow(*self._to_follow.pop())
        whole = {"$ref": base_of(self._path, self._document, self._dialects[self._path])}
        self._drafts[id(whole)] = self._dialects[self._path]
        judge = validators.validator(whole, self._registry, self._drafts)
        return Schema(self._document, self._where(self._path), judge)

    def _check_valid(self, document: object, dialect: Dialect, where: str) -> None:
        """Check each schema by the metaschema of its own draft."""
        checked = copy.deepcopy(document)
        for _, part, draft in list(inside(checked, dialect, where)):
            for place, each in list(children(part, draft)):
                if dialect_of(each, draft, where) != draft:
                    self._check_valid(each, dialect_of(each, draft, where), where)
                    *above, last = parts_of(place)
                    holder = value_at(part, pointer_of([*above]))
                    holder[int(last) if isinstance(holder, list) else last] = {}
        error = validators.schema_problem(checked, dialect)
        if error is not None:
            raise _wrong_schema(error, dialect, where)

    def _look_through(self, schema: object, dialect: Dialect, resolver: Any, where: str) -> None:
        """Note the draft of a schema and of all schemas in it, and their references."""
        waiting = [(schema, dialect, resolver)]
        while waiting:
            schema, dialect, resolver = waiting.pop()
            if not isinstance(schema, dict) or id(schema) in self._drafts:
                continue
            self._drafts[id(schema)] = dialect
            for word in REFERENCES:
                if word in dialect.keywords and isinstance(schema.get(word), str):
                    self._to_follow.append((schema[word], dialect, resolver, where))
            for _, each in children(schema, dialect):
                if not isinstance(each, dict):
                    continue
                resource = specification(dialect).create_resource(each)
                below = resolver.in_subresource(resource)
                waiting.append((each, dialect_of(each, dialect, where), below))

    def _follow(self, reference: str, dialect: Dialect, resolver: Any, where: str) -> None:
        """Check that a reference leads to a schema, and look through that too: one under `default`,
        say, was not taken for a schema yet."""
        import referencing.exceptions

        try:
            found = resolver.lookup(reference)
            around = found.resolver.lookup("#").contents
        except (referencing.exceptions.Unresolvable, ValueError, TypeError):
            raise not_here(where, reference) from None
        if not isinstance(found.contents, dict | bool):
            raise not_here(where, reference)
        if id(found.contents) not in self._drafts:
            draft = self._drafts.get(id(around)) or dialect_of(around, dialect, where)
            draft = dialect_of(found.contents, draft, where)
            self._check_valid(found.contents, draft, where)
            self._look_through(found.contents, draft, found.resolver, where)


def _wrong_schema(error: Any, dialect: Dialect, where: str) -> ConfigError:
    place = list(error.absolute_path)
    values: dict[str, object] = {"file": where, "at": "#" + pointer_of(place)}
    if place[-1:] == ["type"] and isinstance(error.instance, str):
        values.update(no_such("type", error.instance, _TYPES))
    elif error.validator == "format":
        values["found"] = f"{error.instance!r}, which is not a valid {error.validator_value}"
    else:
        values["found"] = error.message
    hint = f"it is read as {dialect.name}; $schema names another draft, draft-07 for one"
    other = any(str(each) in _DIFFERENT for each in place[-1:])
    return ConfigError("not a valid JSON Schema", values, hint if other else None)


def compile_task_schema(
    path: str, documents: Mapping[str, Any], where: str
) -> tuple[Schema, set[str]]:
    """The schema at `path` among JSON documents by path, and the paths that it refers to. A
    relative `$ref` is resolved beside the schema, as a URL is."""
    folder = where.removesuffix(path)
    default = dialect_of(documents[path], DEFAULT_DIALECT, where)
    by_uri = paths_by_uri(documents, default)
    used: set[str] = set()
    waiting = [path]
    while waiting:
        current = waiting.pop()
        for part in parts(current, documents[current], default):
            for reference in part.references:
                target = by_uri.get(whole(part.base, reference)[0])
                if target is not None and target not in (path, *used):
                    used.add(target)
                    waiting.append(target)
    found = {each: documents[each] for each in (path, *sorted(used))}
    return _compiled(path, found, lambda each: folder + each), used


def _registry(resources: Mapping[str, Any]) -> referencing.Registry[Any]:
    import referencing

    draft = specification(DEFAULT_DIALECT)
    pairs = [(uri, draft.create_resource(each)) for uri, each in resources.items()]
    # An empty registry has no retriever: what is not in it cannot be fetched.
    empty: referencing.Registry[Any] = referencing.Registry()
    return empty.with_resources(pairs)


def version() -> str:
    """One digest over all schema files: documents are validated anew when it changes."""
    return jsonio.digest_bytes(b"".join(schema_bytes(name) for name in (*STORAGE_FORMATS, _COMMON)))
