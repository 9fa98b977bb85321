"""A schema and the files that it refers to as one document: what a model is sent.

The gate judges by the files themselves. A provider has none of them, so it gets their content under
`$defs`, and each `$ref` as a JSON Pointer into the one document.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, unquote

from popbuild.base.errors import ConfigError
from popbuild.model.problem import MISSING, value_at
from popbuild.model.schema import validators
from popbuild.model.schema.dialects import DEFAULT_DIALECT, REFERENCES, Dialect, dialect_of
from popbuild.model.schema.references import parts, paths_by_uri, whole
from popbuild.model.schema.schemas import not_here

_ANCHORS = ("$anchor", "$dynamicAnchor")
_UNMOVABLE = frozenset(REFERENCES) - {"$ref"}  # where they lead depends on what is around them


def bundle(path: str, used: Iterable[str], documents: Mapping[str, Any], where: str) -> Any:
    """The schema at `path` with the documents that it `used`, all of them valid; itself where it
    used none.

    Raises ConfigError for what means something else in another document: `$dynamicRef`,
    `$recursiveRef`, and an `$id` inside of one.
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


def _names(used: Iterable[str], document: Any) -> dict[str, str]:
    """A name under the document's `$defs` for each path: that of its file, numbered if taken."""
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
    """A copy of a document whose references say where everything stands in the bundle."""
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


def _pointer(fragment: str, document: Any) -> str | None:
    """A fragment as a JSON Pointer, as it stands in a URI; None where it leads nowhere."""
    if not fragment or fragment.startswith("/"):
        return fragment if value_at(document, unquote(fragment)) is not MISSING else None
    for part in parts("", document, DEFAULT_DIALECT):
        if fragment in (part.schema.get(name) for name in _ANCHORS):
            return quote(part.pointer)
    return None
