"""Where the references in a schema lead: URIs, and every part of a file that may be a schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urldefrag, urljoin

from popbuild.model.problem import pointer_of
from popbuild.model.schema.dialects import REFERENCES, Dialect, children, dialect_named, own_uri

BASE = "file:///"  # only a name: nothing is ever read from it
# Names, not keywords, in these.
_NAMED = frozenset(
    "properties patternProperties $defs definitions dependentSchemas dependencies".split()
)
_DATA = frozenset({"const", "enum", "default", "examples"})  # a `$ref` in there refers to nothing


def paths_by_uri(documents: Mapping[str, Any], default: Dialect) -> dict[str, str]:
    """The path of each document, by its place and by its own URI."""
    found = {base_of(path, document, default): path for path, document in documents.items()}
    return found | {BASE + path: path for path in documents}


def base_of(path: str, document: Any, default: Dialect) -> str:
    """What relative references in a document are relative to."""
    own = own_uri(document, _draft_of(document, default))
    return whole(BASE + path, own)[0] if own is not None else BASE + path


def _draft_of(document: Any, default: Dialect) -> Dialect:
    """The draft of a JSON file that need not be a schema: many others have a `$schema`."""
    found = dialect_named(document.get("$schema")) if isinstance(document, dict) else None
    return found or default


def whole(base: str, reference: str) -> tuple[str, str]:
    """A reference as a URI and its fragment; as it stands where it is none, so that nothing has
    this name."""
    # What a fragment alone is relative to is this document, whatever kind of URI it has.
    full = base + reference if reference.startswith("#") else reference
    try:
        url, fragment = urldefrag(urljoin(base, full))
    except ValueError:
        return reference, ""
    return url, fragment


@dataclass(frozen=True)
class Part:
    """An object in a schema that may be a schema itself: no value of a `const`, say, and no object
    that has names of a person's own. `base` is what its references are relative to; `own` whether
    it has a URI of its own below the top."""

    pointer: str
    schema: dict[str, Any]
    base: str
    own: bool

    @property
    def references(self) -> list[str]:
        found = [self.schema.get(word) for word in REFERENCES]
        return [each for each in found if isinstance(each, str)]


def parts(path: str, document: Any, default: Dialect) -> Iterator[Part]:
    """Every part of a document, those under unknown keywords too: a reference may lead there."""
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
    """What stands below an object that may be a schema, apart from data."""
    for keyword, value in part.items():
        place = pointer_of([keyword])
        if keyword in _NAMED and isinstance(value, dict):
            yield from ((place + pointer_of([name]), each) for name, each in value.items())
        elif isinstance(value, list) and keyword not in _DATA:
            yield from ((f"{place}/{number}", each) for number, each in enumerate(value))
        elif keyword not in _DATA:
            yield place, value
