"""Where the references in a schema lead, and a schema with its files as one document."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urldefrag, urljoin

from popbuild.base.errors import ConfigError
from popbuild.model.problem import MISSING, pointer_of, value_at
from popbuild.model.schema import validators
from popbuild.model.schema.dialects import (
    DEFAULT_DIALECT,
    REFERENCES,
    Dialect,
    children,
    dialect_named,
    dialect_of,
    own_uri,
)

BASE = "file:///"  # only a name: nothing is ever read from it
# Names, not keywords, in these.
_NAMED = frozenset(
    "properties patternProperties $defs definitions dependentSchemas dependencies".split()
)
_DATA = frozenset({"const", "enum", "default", "examples"})  # a `$ref` in there refers to nothing


def paths_by_uri(documents: Mapping[str, Any], default: Dialect) -> dict[str, str]:
    """The path of each document, by the URIs of its place and its own."""
    found = {base_of(path, document, default): path for path, document in documents.items()}
    return found | {BASE + path: path for path in documents}


def base_of(path: str, document: object, default: Dialect) -> str:
    """What relative references in a document are relative to."""
    own = own_uri(document, _draft_of(document, default))
    return whole(BASE + path, own)[0] if own is not None else BASE + path


def _draft_of(document: object, default: Dialect) -> Dialect:
    """The draft of a JSON file, which may not be a schema: many others have a `$schema` too."""
    found = dialect_named(document.get("$schema")) if isinstance(document, dict) else None
    return found or default


def whole(base: str, reference: str) -> tuple[str, str]:
    """A reference as a URI and its fragment. One that is not a URI is returned as it stands, and
    then names nothing."""
    # A fragment alone is relative to this document, whatever kind of URI it has.
    full = base + reference if reference.startswith("#") else reference
    try:
        url, fragment = urldefrag(urljoin(base, full))
    except ValueError:
        return reference, ""
    return url, fragment


@dataclass(frozen=True)
class Part:
    """An object in a schema that may be a schema: not the value of a `const`, say, nor an object
    whose keys are names. Its references are relative to `base`; `own` says that it has its own URI
    and is not the top."""

    pointer: str
    schema: dict[str, Any]
    base: str
    own: bool

    @property
    def references(self) -> list[str]:
        found = [self.schema.get(word) for word in REFERENCES]
        return [each for each in found if isinstance(each, str)]


def parts(path: str, document: object, default: Dialect) -> Iterator[Part]:
    """Every part of a document, also under unknown keywords, where a reference may lead."""
    dialect = _draft_of(document, default)
    waiting = [("", document, base_of(path, document, default), False)]
    while waiting:
        pointer, value, base, real = waiting.pop()
        if isinstance(value, list):
            waiting.extend((f"{pointer}/{n}", each, base, False) for n, each in enumerate(value))
        if not isinstance(value, dict):
            continue
        own = own_uri(value, dialect) if real else None
        base = base if own is None else whole(base, own)[0]
        yield Part(pointer, value, base, own is not None)
        schemas = {place for place, _ in children(value, dialect)}
        waiting += [
            (pointer + place, each, base, place in schemas) for place, each in _within(value)
        ]


def _within(part: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """All below an object that may be a schema, without data."""
    for keyword, value in part.items():
        place = pointer_of([keyword])
        if keyword in _NAMED and isinstance(value, dict):
            yield from ((place + pointer_of([name]), each) for name, each in value.items())
        elif isinstance(value, list) and keyword not in _DATA:
            yield from ((f"{place}/{number}", each) for number, each in enumerate(value))
        elif keyword not in _DATA:
            yield place, value


def not_here(where: str, reference: str) -> ConfigError:
    """The error of a schema that refers to something unknown."""
    return ConfigError(
        "a schema refers to something that is not here",
        {"file": where, "$ref": reference},
        hint="a reference may name a file beside the schema, or a place inside it; "
        "nothing is fetched from the network",
    )


# A schema and the files that it refers to as one document: what a model is sent. The gate judges by
# the files themselves; a provider has none of them.

_ANCHORS = ("$anchor", "$dynamicAnchor")
_UNMOVABLE = frozenset(REFERENCES) - {"$ref"}  # where they lead depends on the document around


def bundle(path: str, used: Iterable[str], documents: Mapping[str, Any], where: str) -> Any:
    """The schema at `path` together with the documents that it `used`, all valid: their content
    goes under `$defs`, and each `$ref` becomes a JSON Pointer into the one document.

    ConfigError for words that mean something else in another document: `$dynamicRef`,
    `$recursiveRef`, and an `$id` inside one.
    """
    document = documents[path]
    names = _names(used, document)
    if not names:
        return document
    places = {path: ""} | {each: f"/$defs/{name}" for each, name in names.items()}
    draft = dialect_of(document, DEFAULT_DIALECT, where)
    folder = where.removesuffix(path)
    root, *others = (_moved(each, documents, places, draft, folder + each) for each in places)
    root["$defs"] = {**root.get("$defs", {}), **dict(zip(names.values(), others, strict=True))}
    return root


def _names(used: Iterable[str], document: object) -> dict[str, str]:
    """A name under the document's `$defs` for each path: its file's, numbered if taken."""
    taken = set(document.get("$defs", ())) if isinstance(document, dict) else set()
    found = {}
    for path in sorted(used):
        stem = path.rpartition("/")[2].removesuffix(".json").removesuffix(".schema")
        name = plain = re.sub(r"[^A-Za-z0-9_-]", "_", stem)
        number = 1
        while name in taken:
            number += 1
            name = f"{plain}_{number}"
        taken.add(name)
        found[path] = name
    return found


def _moved(
    path: str,
    documents: Mapping[str, Any],
    places: Mapping[str, str],
    draft: Dialect,
    where: str,
) -> Any:
    """A copy of a document with references into the bundle."""
    document = copy.deepcopy(documents[path])
    uris = paths_by_uri(documents, draft)
    for part in list(parts(path, document, draft)):
        schema = part.schema
        unmovable = schema.keys() & (_UNMOVABLE | {"$id"} if part.pointer else _UNMOVABLE)
        if unmovable or part.own:
            raise ConfigError(
                "a schema cannot be sent to a model together with the files it refers to",
                {"file": where, "at": f"#{part.pointer}", "found": min(unmovable, default="id")},
                hint="write a plain $ref in its place, or all of it into one file",
            )
        if isinstance(schema.get("$ref"), str):
            url, fragment = whole(part.base, schema["$ref"])
            target = uris.get(url, "")
            place = _pointer(fragment, documents[target]) if target in places else None
            if place is not None:
                schema["$ref"] = f"#{places[target]}{place}"
            elif url not in validators.standard():
                raise not_here(where, schema["$ref"])
        for anchor in _ANCHORS:
            schema.pop(anchor, None)
    if places[path] and isinstance(document, dict):
        document.pop("$id", None)
        document.pop("$schema", None)
    return document


def _pointer(fragment: str, document: object) -> str | None:
    """A fragment as a JSON Pointer in a URI; None if it leads nowhere."""
    if not fragment or fragment.startswith("/"):
        return fragment if value_at(document, unquote(fragment)) is not MISSING else None
    for part in parts("", document, DEFAULT_DIALECT):
        if fragment in (part.schema.get(name) for name in _ANCHORS):
            return quote(part.pointer)
    return None
