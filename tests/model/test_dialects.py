"""Schemas by the draft that they name, in one file or several; what is in none is said."""

from __future__ import annotations

import json
from typing import Any

import pytest
from provider import Provider
from workspace import Workspace

from popbuild.base.errors import ConfigError
from popbuild.model.schema import dialects, gate, odd_words, schemas, validators

D4 = "http://json-schema.org/draft-04/schema#"
D6 = "http://json-schema.org/draft-06/schema#"
D7 = "http://json-schema.org/draft-07/schema#"
D2019 = "https://json-schema.org/draft/2019-09/schema"
D2020 = "https://json-schema.org/draft/2020-12/schema"
MAIN = "tasks/research/output.schema.json"

TUPLE = {"items": [{"type": "integer"}], "additionalItems": False}
TREE = {"$recursiveAnchor": True, "properties": {"next": {"$recursiveRef": "#"}}, "type": "object"}
VAT = {"dependencies": {"vat": ["country"]}}

# Name: the schema, or the files; documents that are valid; documents that are not.
CASES: dict[str, tuple[Any, list[Any], list[Any]]] = {
    "dependencies in draft-07": ({"$schema": D7, **VAT}, [{"vat": 1, "country": 1}], [{"vat": 1}]),
    "dependencies in draft-04": ({"$schema": D4, **VAT}, [{"vat": 1, "country": 1}], [{"vat": 1}]),
    "a schema as a dependency": (
        {"$schema": D6, "dependencies": {"a": {"required": ["b"]}}},
        [{"a": 1, "b": 1}, {}],
        [{"a": 1}],
    ),
    "tuples in draft-07": ({"$schema": D7, **TUPLE}, [[1], []], [["1"], [1, 2]]),
    "tuples in 2019-09": ({"$schema": D2019, **TUPLE}, [[1], []], [["1"], [1, 2]]),
    "with https, and without #": (
        {"$schema": "https://json-schema.org/draft-07/schema", **TUPLE},
        [[1]],
        [[1, 2]],
    ),
    "2020-12 with http and #": (
        {
            "$schema": "http://json-schema.org/draft/2020-12/schema#",
            "prefixItems": [{"type": "null"}],
        },
        [[None]],
        [[1]],
    ),
    "a limit that is not allowed itself": (
        {"$schema": D4, "minimum": 3, "exclusiveMinimum": True},
        [4],
        [3],
    ),
    "true as a limit counts for nothing in draft-04 alone": ({"exclusiveMinimum": 3}, [4], [3]),
    "id in draft-04": (
        {
            "$schema": D4,
            "id": "http://example.com/root.json",
            "properties": {"a": {"$ref": "item.json"}},
            "definitions": {"A": {"id": "item.json", "type": "integer"}},
        },
        [{"a": 1}],
        [{"a": "1"}],
    ),
    "what is beside a reference is ignored up to draft-07": (
        {
            "$schema": D7,
            "properties": {"a": {"$ref": "#/definitions/a", "maxLength": 1}},
            "definitions": {"a": {"type": "string"}},
        },
        [{"a": "long"}],
        [{"a": 1}],
    ),
    "and counts from 2019-09 on": (
        {
            "$schema": D2019,
            "properties": {"a": {"$ref": "#/definitions/a", "maxLength": 1}},
            "definitions": {"a": {"type": "string"}},
        },
        [{"a": "l"}],
        [{"a": 1}, {"a": "long"}],
    ),
    "the recursion of 2019-09": (
        {"$schema": D2019, **TREE},
        [{"next": {}}],
        [{"next": {"next": 1}}],
    ),
    "contains, and if": (
        {"$schema": D7, "contains": {"const": 1}, "if": {"maxItems": 1}, "then": False},
        [[1, 2]],
        [[2, 3], [1]],
    ),
    "contains with limits": (
        {"$schema": D2019, "contains": {"const": 1}, "minContains": 2, "maxContains": 2},
        [[1, 1, 2]],
        [[1], [1, 1, 1]],
    ),
    "unevaluated properties, by patterns of ECMA-262": (
        {
            "allOf": [{"properties": {"a": True}}, {"patternProperties": {r"^\d$": True}}],
            "if": {"required": ["b"]},
            "then": {"properties": {"b": True}},
            "unevaluatedProperties": False,
        },
        [{"a": 1, "1": 1}, {"b": 1}],
        [{"c": 1}, {"\u0663": 1}],
    ),
    "unevaluated items": (
        {"allOf": [{"prefixItems": [True]}], "contains": {"const": 9}, "unevaluatedItems": False},
        [[1, 9], [9]],
        [[1, 2, 9]],
    ),
    "an $id inside": (
        {
            "properties": {"a": {"$ref": "urn:x:a"}, "b": {"$ref": "urn:x:a#/$defs/deep"}},
            "$defs": {
                "a": {"$id": "urn:x:a", "$ref": "#/$defs/deep", "$defs": {"deep": {"type": "null"}}}
            },
        },
        [{"a": None, "b": None}],
        [{"a": 1}, {"b": 1}],
    ),
    "a relative $id inside, and an anchor in it": (
        {
            "$id": "https://example.com/schemas/root",
            "properties": {"a": {"$ref": "item#name"}, "b": {"$ref": "/schemas/item"}},
            "$defs": {
                "i": {
                    "$id": "item",
                    "type": "object",
                    "$defs": {"n": {"$anchor": "name", "const": 1}},
                }
            },
        },
        [{"a": 1, "b": {}}],
        [{"a": 2}, {"b": 1}],
    ),
    "a dynamic reference": (
        {
            "$id": "https://example.com/strict",
            "$dynamicAnchor": "node",
            "$ref": "tree",
            "unevaluatedProperties": False,
            "$defs": {
                "t": {
                    "$id": "tree",
                    "$dynamicAnchor": "node",
                    "type": "object",
                    "properties": {"next": {"$dynamicRef": "#node"}},
                }
            },
        },
        [{"next": {"next": {}}}],
        [{"next": {"nexxt": {}}}, {"next": 1}],
    ),
    "an embedded schema of another draft": (
        {
            "properties": {"a": {"$ref": "old"}},
            "$defs": {"o": {"$id": "old", "$schema": D7, **TUPLE}},
        },
        [{"a": [1]}],
        [{"a": [1, 2]}],
    ),
    "a file of another draft, each by its own": (
        {
            MAIN: {"prefixItems": [{"$ref": "old.json#/definitions/pair"}]},
            "tasks/research/old.json": {"$schema": D7, "definitions": {"pair": TUPLE}},
        },
        [[[1]]],
        [[[1, 2]]],
    ),
    "a new one from an old one": (
        {
            MAIN: {"$schema": D4, "properties": {"a": {"$ref": "new.json"}}, **VAT},
            "tasks/research/new.json": {"$schema": D2020, "const": 1, "dependencies": {"x": ["y"]}},
        },
        [{"a": 1}],
        [{"a": 2}, {"vat": 1}],
    ),
    "a file without $schema is of the draft of the task's own": (
        {MAIN: {"$schema": D7, "$ref": "pair.json"}, "tasks/research/pair.json": TUPLE},
        [[1]],
        [[1, 2]],
    ),
    "by a file's id in draft-04": (
        {
            MAIN: {"$schema": D4, "$ref": "http://example.com/pair"},
            "shared/pair.json": {"$schema": D4, "id": "http://example.com/pair", **TUPLE},
        },
        [[1]],
        [[1, 2]],
    ),
    "a pattern in a file that names its own draft": (
        {
            MAIN: {
                "$schema": D2020,
                "properties": {"next": {"$ref": "#"}},
                "additionalProperties": False,
            },
        },
        [{"next": {"next": {}}}],
        [{"next": {"other": {}}}],
    ),
    "a draft's own metaschema": ({"$ref": D7}, [{"type": "null"}], [{"type": "nul"}]),
}


@pytest.mark.parametrize("case", CASES)
def test_each_schema_is_read_by_its_own_draft(case: str) -> None:
    """What is valid passes, what is not fails, in one file and over several."""
    given, good, bad = CASES[case]
    files = given if MAIN in given else {MAIN: given}
    compiled, _ = schemas.compile_task_schema(MAIN, files, MAIN)
    assert [gate.judge(each, compiled) for each in good] == [()] * len(good)
    assert all(gate.judge(each, compiled) for each in bad)


def test_a_hostile_key_is_bounded_in_every_draft_and_behind_every_reference() -> None:
    """Our keywords judge, and not jsonschema's, also where a schema names its draft again."""
    slow = {"pattern": "^(a|aa)+$"}
    for schema in (
        {"$schema": D2020, "properties": {"a": {"$ref": "#/$defs/b"}}, "$defs": {"b": slow}},
        {"$schema": D7, "properties": {"a": {"$schema": D7, **slow}}},
        {"unevaluatedProperties": False, "patternProperties": {"^(a|aa)+$": True}},
    ):
        found = gate.judge(
            {"a": "a" * 60 + "b", "a" * 60 + "b": 1}, schemas.compile_schema(schema, "x")
        )
        assert any("took longer" in problem.message for problem in found)


# A schema; a document; its one problem.
SAID: list[tuple[Any, Any, str]] = [
    ({"$schema": D7, **VAT}, {"vat": 1}, "missing 'country', which 'vat' needs"),
    ({"dependentRequired": {"a": ["b"]}}, {"a": 1}, "missing 'b', which 'a' needs"),
    ({"unevaluatedProperties": False}, {"a": 1}, "not allowed: 'a'"),
    ({"unevaluatedItems": False}, [1, 2], "not allowed: items 0 to 1"),
    (
        {"$schema": D4, "minimum": 3, "exclusiveMinimum": True},
        3,
        "3 is outside the limit: more than 3",
    ),
    ({"$schema": D4, "minimum": 3}, 2, "2 is outside the limit: at least 3"),
    ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "null"}}}, 1, "must be a null, found 1"),
]


@pytest.mark.parametrize(("schema", "document", "said"), SAID)
def test_the_problem_says_what_is_wrong(schema: Any, document: Any, said: str) -> None:
    """In words for the model that tries again."""
    (problem,) = gate.judge(document, schemas.compile_schema(schema, "x"))
    assert str(problem) == said


REFUSED: dict[str, tuple[Any, str]] = {
    "an unknown draft": ({"$schema": "https://example.com/mine"}, "https://example.com/mine"),
    "draft-03": ({"$schema": "http://json-schema.org/draft-03/schema#"}, "draft-03"),
    "the latest": ({"$schema": "http://json-schema.org/schema#"}, "org/schema#"),
    "inside": ({"$defs": {"a": {"$id": "a", "$schema": "urn:mine"}}}, "#/$defs/a/$schema"),
    "tuples without $schema": ({"items": [{}]}, "$schema names another draft"),
    "a number that is true": ({"exclusiveMinimum": True}, "$schema names another draft"),
    "what is in a schema of another draft": (
        {"$defs": {"a": {"$id": "a", "$schema": D4, "exclusiveMinimum": 3, "minimum": 1}}},
        "boolean",
    ),
    "a reference to draft-03": ({"$ref": "http://json-schema.org/draft-03/schema#"}, "draft-03"),
    "a reference inside an $id": ({"$defs": {"a": {"$id": "a", "$ref": "#/$defs/b"}}}, "$defs/b"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_schema_can_say(case: str) -> None:
    """An error of the configuration, that names what was found."""
    schema, said = REFUSED[case]
    with pytest.raises(ConfigError) as caught:
        schemas.compile_schema(schema, "output.schema.json")
    assert said in str(caught.value)


# A schema; where its warning stands; what it says.
WORDS: dict[str, tuple[Any, str, str]] = {
    "requierd": ({"requierd": ["a"]}, "/requierd", "'required'"),
    "maxLenght": (
        {"properties": {"a": {"maxLenght": 1}}},
        "/properties/a/maxLenght",
        "'maxLength'",
    ),
    "propertys": ({"items": {"propertys": {}}}, "/items/propertys", "'properties'"),
    "enums": ({"allOf": [{"enums": []}]}, "/allOf/0/enums", "'enum'"),
    "nullable": ({"nullable": True}, "/nullable", "begin with x-"),
    "dependencies": (VAT, "/dependencies", "draft-07, draft-06, draft-04; write dependentRequired"),
    "additionalItems": ({"additionalItems": False}, "/additionalItems", "write prefixItems"),
    "id": ({"id": "x"}, "/id", "write $id"),
    "prefixItems": (
        {"$schema": D7, "prefixItems": [True]},
        "/prefixItems",
        "of draft-07, but of 2020",
    ),
    "const": ({"$schema": D4, "const": 1}, "/const", "not a keyword of draft-04"),
    "beside $ref": (
        {"$schema": D7, "$ref": "#/definitions/a", "maxLength": 1},
        "/maxLength",
        "beside",
    ),
    "vocabularies": ({"$vocabulary": {}}, "/$vocabulary", "not supported"),
    "a format": ({"format": "datetime"}, "/format", "'date-time'"),
    "a format of one's own": ({"format": "sku"}, "/format", "checked are date, time"),
    "Python's flags": ({"pattern": "(?i)a"}, "/pattern", "(?i) opens no group"),
    "Python's end": (
        {"patternProperties": {r"a\Z": {}}},
        "/patternProperties",
        r"\Z means nothing",
    ),
    "a backslash too many": ({"pattern": r"\-"}, "/pattern", "needs no backslash"),
    "in an embedded schema": (
        {"$defs": {"o": {"$id": "o", "$schema": D6, "if": True}}},
        "/$defs/o/if",
        "draft-06",
    ),
}


@pytest.mark.parametrize("case", WORDS)
def test_what_is_likely_not_meant(case: str) -> None:
    """One warning, at its place, that names what may be meant."""
    schema, place, said = WORDS[case]
    draft = dialects.dialect_of(schema, dialects.DEFAULT_DIALECT, "x")
    (problem,) = odd_words.warnings(schema, draft, "x")
    assert problem.pointer == place
    assert said in problem.message


QUIET: list[Any] = [
    True,
    {"properties": {"requierd": {}, "format": {"type": "string"}}, "x-order": [1]},
    {"$defs": {"propertys": {}}, "definitions": {"maxLenght": {}}, "dependentSchemas": {"idd": {}}},
    {"enum": [{"requierd": 1}], "const": {"requierd": 1}, "default": {"requierd": 1}},
    {"examples": [{"requierd": 1}], "dependentRequired": {"requierd": ["a"]}},
    {"patternProperties": {"^requierd$": {"format": "idn-email", "pattern": r"^\d\/$"}}},
    {"$schema": D7, "dependencies": {"requierd": ["a"]}, "$ref": "#/$defs/a", "title": "a"}
    | {"$defs": {"a": {}}},
    {"$schema": D4, "id": "http://example.com/x", "exclusiveMinimum": True, "minimum": 1},
]


@pytest.mark.parametrize("schema", QUIET[:-2] + QUIET[-1:], ids=str)
def test_what_is_meant(schema: Any) -> None:
    """Words of the draft bring no warning, and neither do keywords that stand for names."""
    draft = dialects.dialect_of(schema, dialects.DEFAULT_DIALECT, "x")
    assert list(odd_words.warnings(schema, draft, "x")) == []


def test_the_words_of_a_draft_are_those_of_its_metaschema() -> None:
    """The table of keywords says what the drafts themselves say, but for what they only keep from
    being used otherwise."""
    for draft in dialects.DIALECTS:
        words: set[str] = set()
        for uri, resource in validators.standard().items():
            if uri == draft.uri or uri.startswith(draft.uri.removesuffix("schema") + "meta/"):
                words |= set(resource.contents.get("properties", {}))
        kept = {"dependencies", "definitions"} if draft.uri.startswith("https") else set()
        if draft.name == "2020-12":
            kept |= {"$recursiveRef", "$recursiveAnchor"}
        kept |= {"$ref", "writeOnly"}  # in the text of some drafts alone
        assert set(draft.keywords) - kept == words - kept, draft.name


def test_an_unknown_draft_is_refused_before_anything_is_sent(
    workspace: Workspace, provider: Provider
) -> None:
    """By `run` and by `validate`, with the drafts that are known."""
    workspace.task("research", schema={"$schema": "https://example.com/mine"})
    for command, code in (("run", 3), ("validate", 1)):
        result = workspace.popbuild(command)
        said = result.out + result.err
        assert result.code == code
        assert all(each in said for each in ("https://example.com/mine", D2020, "draft-04"))
    assert provider.requests == []


def test_a_misspelt_keyword_is_a_warning(workspace: Workspace, provider: Provider) -> None:
    """`validate` says it, also of a file that the schema refers to, and passes; so does `run`."""
    provider.script(['{"a": 1}', "fine"])
    workspace.task("research", schema={"requierd": ["a"], "$ref": "../../shared/a.json"})
    workspace.write("pipeline-config/shared/a.json", {"properties": {"a": {"maximun": 3}}})
    workspace.task("analysis", prompt="{{ artifacts.research.a }}")
    workspace.pipeline(["research", "analysis"])
    result = workspace.popbuild("validate")
    assert result.code == 0, result.out
    lines = [line for line in result.out.splitlines() if ": warning: " in line]
    assert len(lines) == 2
    assert "tasks/research/output.schema.json: warning: /requierd" in lines[0]
    assert "shared/a.json: warning: /properties/a/maximun" in lines[1]
    assert len(json.loads(workspace.popbuild("validate", "--json").out)["warnings"]) == 2
    for _ in range(2):
        assert workspace.popbuild("run").code == 0
    assert len(provider.requests) == 2


# A version that asserts no format: what it builds is what stands in roots of before.
BEFORE = """
import sys
from popbuild.cli import main
from popbuild.model.schema import text_formats
text_formats.TEXT_FORMATS.clear()
sys.argv = ["popbuild", "run"]
main.entry()
"""


def test_a_gate_that_became_stricter_makes_nothing_stale(
    workspace: Workspace, provider: Provider
) -> None:
    """A root of before, whose artifact passed: it stays up to date and is not asked for again;
    `verify` and `validate` say so as a note, and no alarm."""
    due = {"type": "string", "format": "date"}
    workspace.task("research", schema={"type": "object", "properties": {"due": due}})
    workspace.pipeline(["research"])
    provider.script(['{"due": "next week"}'])
    assert workspace.run("python", "-c", BEFORE).code == 0
    assert "up to date" in workspace.popbuild("run").out
    assert workspace.popbuild("list").out == "first  complete\n"
    assert workspace.popbuild("check").code == 0
    verified = workspace.popbuild("verify")
    assert verified.code == 0, verified.out
    assert "research would not pass today's gate: /due: 'next week' is not a date" in verified.out
    validated = workspace.popbuild("validate")
    assert validated.code == 0
    assert "would not pass today's gate: 'next week' is not a date" in validated.out
    assert len(provider.requests) == 1
