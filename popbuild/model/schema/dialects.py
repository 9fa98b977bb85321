"""The drafts of JSON Schema that a schema may be written in: their names and keywords.

A schema names its draft with `$schema`. Without one it has the draft of the schema that refers to
it, or 2020-12.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from popbuild.base.errors import ConfigError
from popbuild.model.problem import pointer_of

# What a keyword's value holds.
_VALUE, _ONE, _LIST, _NAMED, _ITEMS, _DEPENDENCIES = range(6)

_DRAFT_04: dict[str, int] = {
    **dict.fromkeys("id $schema $ref title description default".split(), _VALUE),
    **dict.fromkeys("multipleOf maximum exclusiveMaximum minimum exclusiveMinimum".split(), _VALUE),
    **dict.fromkeys("maxLength minLength pattern maxItems minItems uniqueItems".split(), _VALUE),
    **dict.fromkeys("maxProperties minProperties required enum type format".split(), _VALUE),
    **dict.fromkeys("additionalItems additionalProperties not".split(), _ONE),
    **dict.fromkeys("allOf anyOf oneOf".split(), _LIST),
    **dict.fromkeys("definitions properties patternProperties".split(), _NAMED),
    "items": _ITEMS,
    "dependencies": _DEPENDENCIES,
}
_DRAFT_06 = {
    **{word: kind for word, kind in _DRAFT_04.items() if word != "id"},
    **dict.fromkeys("$id const examples".split(), _VALUE),
    **dict.fromkeys("contains propertyNames".split(), _ONE),
}
_DRAFT_07 = {
    **_DRAFT_06,
    **dict.fromkeys("$comment readOnly writeOnly contentMediaType".split(), _VALUE),
    **dict.fromkeys("if then else".split(), _ONE),
    "contentEncoding": _VALUE,
}
_2019_09 = {
    **{word: kind for word, kind in _DRAFT_07.items() if word != "dependencies"},
    **dict.fromkeys("$anchor $recursiveRef $recursiveAnchor $vocabulary".split(), _VALUE),
    **dict.fromkeys("dependentRequired maxContains minContains deprecated".split(), _VALUE),
    **dict.fromkeys("unevaluatedItems unevaluatedProperties contentSchema".split(), _ONE),
    **dict.fromkeys("$defs dependentSchemas".split(), _NAMED),
}
_2020_12 = {
    **{
        word: kind
        for word, kind in _2019_09.items()
        if word not in ("additionalItems", "$recursiveRef", "$recursiveAnchor")
    },
    **dict.fromkeys("$dynamicRef $dynamicAnchor".split(), _VALUE),
    "items": _ONE,
    "prefixItems": _LIST,
}


@dataclass(frozen=True)
class Dialect:
    """A draft: its name, its URI without `#`, its keywords, and that of a schema's own URI. In
    `old` drafts, keywords beside a `$ref` are ignored."""

    name: str
    uri: str
    keywords: Mapping[str, int]
    id: str = "$id"
    old: bool = False

    def __hash__(self) -> int:
        return hash(self.uri)


DEFAULT_DIALECT = Dialect("2020-12", "https://json-schema.org/draft/2020-12/schema", _2020_12)
DIALECTS = (
    DEFAULT_DIALECT,
    Dialect("2019-09", "https://json-schema.org/draft/2019-09/schema", _2019_09),
    Dialect("draft-07", "http://json-schema.org/draft-07/schema", _DRAFT_07, old=True),
    Dialect("draft-06", "http://json-schema.org/draft-06/schema", _DRAFT_06, old=True),
    Dialect("draft-04", "http://json-schema.org/draft-04/schema", _DRAFT_04, "id", old=True),
)
_BY_URI = {each.uri.partition("://")[2]: each for each in DIALECTS}
REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")


def specification(dialect: Dialect) -> Any:
    """A draft as `referencing` knows it: where its schemas, URIs and anchors are."""
    import referencing.jsonschema

    return referencing.jsonschema.specification_with(dialect.uri)


def dialect_named(uri: object) -> Dialect | None:
    """The draft that a `$schema` names, with http or https, with or without a final `#`."""
    if not isinstance(uri, str):
        return None
    scheme, _, rest = uri.partition("://")
    return _BY_URI.get(rest.removesuffix("#")) if scheme.lower() in ("http", "https") else None


def dialect_of(document: object, default: Dialect, where: str, pointer: str = "") -> Dialect:
    """The draft of a schema. ConfigError for an unknown one."""
    if not isinstance(document, dict) or not isinstance(document.get("$schema"), str):
        return default
    found = dialect_named(document["$schema"])
    if found is None:
        known = "\n".join(f"{each.uri} ({each.name})" for each in DIALECTS)
        at = {"at": f"#{pointer}/$schema"} if pointer else {}
        raise ConfigError(
            "a schema is written in a draft that is not known here",
            {"file": where, **at, "$schema": document["$schema"], "known": known},
            hint="name one of these; vocabularies and metaschemas of one's own are not supported",
        )
    return found


def own_uri(schema: object, dialect: Dialect) -> str | None:
    """A schema's own URI, to which its references are relative; None if it has none."""
    if not isinstance(schema, dict) or (dialect.old and "$ref" in schema):
        return None
    found = schema.get(dialect.id)
    if not isinstance(found, str) or (dialect.old and found.startswith("#")):  # that is an anchor
        return None
    return found.removesuffix("#")


def children(schema: Mapping[str, Any], dialect: Dialect) -> Iterator[tuple[str, Any]]:
    """Every schema directly below a schema, with its relative JSON Pointer."""
    for word, value in schema.items():
        # Both names are in use in all drafts, since a reference may lead anywhere.
        kind = _NAMED if word in ("$defs", "definitions") else dialect.keywords.get(word, _VALUE)
        place = pointer_of([word])
        if kind in (_ITEMS, _LIST) and isinstance(value, list):
            yield from ((f"{place}/{number}", each) for number, each in enumerate(value))
        elif kind in (_NAMED, _DEPENDENCIES) and isinstance(value, dict):
            for name, each in value.items():
                if not isinstance(each, list):
                    yield place + pointer_of([name]), each
        elif kind in (_ONE, _ITEMS):
            yield place, value


def inside(
    schema: object, dialect: Dialect, where: str, pointer: str = ""
) -> Iterator[tuple[str, dict[str, Any], Dialect]]:
    """A schema and all schemas in it, each with its JSON Pointer and its draft, which an embedded
    one with its own URI may name itself. ConfigError as from `dialect_of`."""
    waiting = [(pointer, schema, dialect)]
    while waiting:
        pointer, schema, dialect = waiting.pop()
        if not isinstance(schema, dict):
            continue
        yield pointer, schema, dialect
        for place, each in children(schema, dialect):
            below = pointer + place
            waiting.append((below, each, dialect_of(each, dialect, where, below)))
