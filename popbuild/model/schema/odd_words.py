"""Likely mistakes in a valid schema: unknown words and formats, which JSON Schema ignores in
silence, and patterns that ECMA-262 does not know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from popbuild.base.errors import nearest
from popbuild.model.problem import Problem, pointer_of
from popbuild.model.schema import ecma
from popbuild.model.schema.dialects import DIALECTS, Dialect, inside
from popbuild.model.schema.text_formats import TEXT_FORMATS

# In use in all drafts, since a reference leads wherever it points.
_ALWAYS = frozenset({"$defs", "definitions"})
_REPLACED = {
    "dependencies": "dependentRequired or dependentSchemas",
    "additionalItems": "prefixItems, and items for what follows",
    "$recursiveRef": "$dynamicRef",
    "$recursiveAnchor": "$dynamicAnchor",
    "id": "$id",
}
# May stand beside a `$ref` in the old drafts, since they judge nothing.
_NOTES = frozenset(
    "$ref $schema $comment title description default examples readOnly writeOnly".split()
)


def warnings(document: object, dialect: Dialect, where: str) -> Iterator[Problem]:
    """Everything in a valid schema that is ignored, or means something else than it seems to."""
    for pointer, schema, draft in inside(document, dialect, where):
        found = (
            *_unknown_words(schema, draft),
            *_ignored_beside_reference(schema, draft),
            *_unknown_format(schema),
            *_patterns(schema),
        )
        yield from (Problem(what, pointer + pointer_of([word])) for word, what in found)


def _unknown_words(schema: Mapping[str, Any], draft: Dialect) -> Iterator[tuple[str, str]]:
    for word in schema:
        if word == "$vocabulary":
            yield word, "counts in a metaschema alone: vocabularies of one's own are not supported"
        elif word not in draft.keywords and word not in _ALWAYS and not word.startswith("x-"):
            yield word, _unknown_word(word, draft)


def _unknown_word(word: str, draft: Dialect) -> str:
    others = [each.name for each in DIALECTS if word in each.keywords]
    if others:
        new = _REPLACED.get(word, "")
        instead = f"; write {new}" if any(each in draft.keywords for each in new.split()) else ""
        known = ", ".join(others)
        return f"ignored: {word} is not a keyword of {draft.name}, but of {known}{instead}"
    close = nearest(word, draft.keywords)
    hint = f"did you mean {close!r}?" if close else "one of your own would begin with x-"
    return f"ignored: unknown keyword {word!r}, {hint}"


def _ignored_beside_reference(
    schema: Mapping[str, Any], draft: Dialect
) -> Iterator[tuple[str, str]]:
    if draft.old and "$ref" in schema:
        for word in schema.keys() & draft.keywords.keys() - _NOTES - _ALWAYS - {draft.id}:
            yield word, f"ignored: in {draft.name} nothing counts beside a $ref"


def _unknown_format(schema: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    name = schema.get("format")
    if isinstance(name, str) and name not in TEXT_FORMATS:
        close = nearest(name, TEXT_FORMATS)
        hint = f"did you mean {close!r}?" if close else f"checked are {', '.join(TEXT_FORMATS)}"
        yield "format", f"not checked: unknown format {name!r}; {hint}"


def _patterns(schema: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    named = schema.get("patternProperties")
    found = [("patternProperties", each) for each in (named if isinstance(named, dict) else ())]
    if isinstance(schema.get("pattern"), str):
        found.append(("pattern", schema["pattern"]))
    for word, pattern in found:
        try:
            slips = ecma.translate(pattern).slips
        except ecma.NotEcmaError as error:
            yield word, f"no pattern of ECMA-262, so Python's meaning is taken: {pattern}: {error}"
        else:
            if slips:
                yield word, f"no pattern of ECMA-262: {pattern}: {slips[0]}"
