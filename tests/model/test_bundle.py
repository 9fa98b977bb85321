"""Schemas that refer to other files: what a model is sent, and what the gate says."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
import referencing
from provider import Provider, Reply
from workspace import Workspace

SCHEMA = "tasks/research/output.schema.json"
TITLE = {"type": "string", "minLength": 3, "maxLength": 40}
PAGE = {"type": "object", "properties": {"title": {"$ref": "../../shared/title.json"}}}
GOOD: list[Any] = [{"title": "Grid batteries"}, {}, {"title": "Grid", "more": [1]}]
BAD: list[Any] = [{"title": "B"}, {"title": 7}, {"title": "B" * 41}]


def schemas(root: Any, **shared: Any) -> dict[str, Any]:
    """The task's schema, and files under shared/; `a__b` is a/b.json there."""
    files = {f"shared/{name.replace('__', '/')}.json": each for name, each in shared.items()}
    return {SCHEMA: root, **files}


# Name: the files, documents that are valid, and documents that are not.
CASES: dict[str, tuple[dict[str, Any], list[Any], list[Any]]] = {
    "a whole file": (schemas(PAGE, title=TITLE), GOOD, BAD),
    "the whole schema is another file": (
        schemas({"$ref": "../../shared/page.json"}, page=PAGE, title=TITLE),
        GOOD,
        BAD,
    ),
    "a place in a file, which refers to another place in it": (
        schemas(
            {"properties": {"title": {"$ref": "../../shared/common.json#/$defs/title"}}},
            common={"$defs": {"title": {"$ref": "#/$defs/a b~1c~0%25"}, "a b/c~%": TITLE}},
        ),
        GOOD,
        BAD,
    ),
    "an anchor": (
        schemas(
            {"properties": {"title": {"$ref": "../../shared/common.json#title"}}},
            common={
                "$defs": {
                    "one": {"$anchor": "title", "allOf": [{"$ref": "#two"}]},
                    **{"two": {"$anchor": "two", **TITLE}},
                }
            },
        ),
        GOOD,
        BAD,
    ),
    "a file by its $id, whose $id is what it refers from": (
        schemas(
            {
                "$id": "https://example.com/schemas/page",
                "properties": {"title": {"$ref": "common/title"}},
            },
            title={
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "$id": "https://example.com/schemas/common/title",
                "$ref": "text",
                "minLength": 3,
            },
            text={
                "$id": "https://example.com/schemas/common/text",
                "type": "string",
                "maxLength": 40,
            },
        ),
        GOOD,
        BAD,
    ),
    "a relative $id": (
        schemas(
            {"$id": "../elsewhere/page.json", "$ref": "../../shared/page.json"},
            page={
                "$id": "./page.json",
                "properties": {"title": {"$ref": "#/$defs/t"}},
                "$defs": {"t": TITLE},
            },
        ),
        GOOD,
        BAD,
    ),
    "files of one name, which is taken": (
        schemas(
            {
                "properties": {
                    "title": {"$ref": "../../shared/a/title.json"},
                    "size": {"$ref": "../../shared/b/title.json"},
                    "kind": {"$ref": "#/$defs/title"},
                },
                "$defs": {"title": {"const": "page"}},
            },
            a__title=TITLE,
            b__title={"type": "integer"},
        ),
        [{"title": "Grid", "size": 1, "kind": "page"}],
        [{"title": 1}, {"size": "Grid"}, {"kind": "Grid"}],
    ),
    "two files that refer to each other, and back to the schema": (
        schemas(
            {
                "type": "object",
                "properties": {
                    "child": {"$ref": "../../shared/tree.json"},
                    "n": {"type": "integer"},
                },
            },
            tree={"anyOf": [{"type": "null"}, {"$ref": "forest.json"}]},
            forest={
                "type": "array",
                "items": {"$ref": "tree.json"},
                "contains": {
                    "anyOf": [{"type": "null"}, {"$ref": "../tasks/research/output.schema.json"}]
                },
            },
        ),
        [{"child": None}, {"child": [None, [None]]}],
        [{"child": 1}, {"child": [1]}, {"child": []}, {"child": [[]]}, {"n": "1"}],
    ),
    "true and false": (
        schemas(
            {
                "properties": {
                    "title": {"$ref": "../../shared/any.json"},
                    "never": {"$ref": "../../shared/none.json"},
                }
            },
            any=True,
            none=False,
        ),
        [{"title": [1]}],
        [{"never": 1}],
    ),
    "keywords that are names, and references that are data": (
        schemas(
            {
                "properties": {
                    "$ref": {"$ref": "../../shared/title.json"},
                    "$id": {"const": {"$ref": "../../shared/nothing.json", "$anchor": "a"}},
                    "enum": {"$ref": "../../shared/title.json"},
                },
                "patternProperties": {"^default": {"$ref": "../../shared/title.json"}},
            },
            title=TITLE,
        ),
        [{"$ref": "Grid", "$id": {"$ref": "../../shared/nothing.json", "$anchor": "a"}}],
        [{"$ref": 1}, {"$id": {}}, {"enum": 1}, {"default": 1}],
    ),
    "a place outside the keywords": (
        schemas(
            {"$ref": "../../shared/api.json#/components/Page"},
            api={
                "components": {
                    "Page": {"properties": {"title": {"$ref": "#/components/T"}}},
                    "T": TITLE,
                }
            },
        ),
        GOOD,
        BAD,
    ),
}


def write(workspace: Workspace, files: dict[str, Any]) -> None:
    """One task that judges by these schemas and answers with what its seed says."""
    for path, content in files.items():
        workspace.write(f"pipeline-config/{path}", content)
    workspace.task(
        "research",
        prompt="Give: {{ seed.data.document | default }}",
        task_yaml="gate: {refinements: 0}",
    )
    workspace.pipeline(["research"])


@pytest.mark.parametrize("case", CASES)
def test_a_schema_of_several_files_is_sent_as_one(
    case: str, workspace: Workspace, provider: Provider
) -> None:
    """What the provider receives is a valid schema that needs no other document, and gives every
    document the verdict that the gate gives it; what was asked once is not asked again."""
    files, good, bad = CASES[case]
    write(workspace, files)
    documents = [*good, *bad]
    (workspace.root / "seeds/first.json").unlink()
    for number in range(len(documents)):
        workspace.seed(f"job-{number}", {"document": f"{number}"})
    by_prompt = {f"Give: {number}": json.dumps(each) for number, each in enumerate(documents)}
    provider.answer = lambda request: Reply(by_prompt[request.said("user")])
    workspace.popbuild("run", "-c")
    sent = {json.dumps(request.schema) for request in provider.requests}
    assert len(sent) == 1
    schema = json.loads(sent.pop())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema, registry=referencing.Registry())
    assert all(each.startswith("#") for each in references(schema))
    said = [validator.is_valid(each) for each in documents]
    gate = [workspace.states(f"job-{number}") == ["complete"] for number in range(len(documents))]
    assert said == gate == [True] * len(good) + [False] * len(bad)
    workspace.popbuild("run", "-c")
    assert len(provider.requests) == len(documents)


def references(schema: Any) -> list[str]:
    """Every text that stands behind a `$ref`, data aside."""
    if isinstance(schema, list):
        return [each for value in schema for each in references(value)]
    if not isinstance(schema, dict):
        return []
    own = [schema["$ref"]] if isinstance(schema.get("$ref"), str) else []
    return own + [e for key, value in schema.items() if key != "const" for e in references(value)]


def test_a_schema_of_one_file_is_sent_as_it_is(workspace: Workspace, provider: Provider) -> None:
    """Also what could not be moved into another document stays what it is."""
    schema = {
        "$id": "https://example.com/page",
        "type": "object",
        "properties": {"next": {"$dynamicRef": "#page"}},
        "$defs": {"part": {"$id": "part", "$dynamicAnchor": "page", "type": "object"}},
        "$dynamicAnchor": "page",
    }
    write(workspace, {SCHEMA: schema})
    provider.script(["{}"])
    assert workspace.popbuild("run").code == 0
    assert [request.schema for request in provider.requests] == [schema]
    assert workspace.popbuild("run").code == 0
    assert len(provider.requests) == 1


UNMOVABLE: dict[str, tuple[dict[str, Any], list[str]]] = {
    "a dynamic reference": (
        schemas(
            {"$ref": "../../shared/a.json"},
            a={"items": {"$dynamicRef": "#x"}, "$dynamicAnchor": "x"},
        ),
        ["shared/a.json", "#/items", "$dynamicRef"],
    ),
    "an $id inside": (
        schemas({"$ref": "../../shared/a.json"}, a={"$defs": {"b": {"$id": "b.json"}}}),
        ["shared/a.json", "#/$defs/b", "$id"],
    ),
}


@pytest.mark.parametrize("kind", UNMOVABLE)
def test_what_cannot_be_sent_as_one_is_told_before(
    kind: str, workspace: Workspace, provider: Provider
) -> None:
    """File and place; nothing is sent. A task that sends no schema may have it all the same."""
    files, phrases = UNMOVABLE[kind]
    write(workspace, files)
    for command, code in (("run", 3), ("validate", 1)):
        result = workspace.popbuild(command)
        assert result.code == code, result.out + result.err
        said = result.out + result.err
        assert all(phrase in said for phrase in [*phrases, "cannot be sent to a model"]), said
    assert (provider.requests, workspace.states("first")) == ([], [])
    workspace.task("research", task_yaml="answer: text")
    assert workspace.popbuild("run").code == 0
    assert workspace.popbuild("run").code == 0
    assert [request.schema for request in provider.requests] == [None]
