"""The storage format: its own examples are valid here, and what we write can be read by a program
that knows nothing but that document."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from provider import Provider, Reply
from workspace import CHECKOUT, Workspace

from popbuild.base import jsonio
from popbuild.jobs import seed_files
from popbuild.model.schema import gate, schemas

EXAMPLES = CHECKOUT / "tests/storage_examples"
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
RUN_ID = re.compile(r"pl-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d-\d{3}Z-[0-9a-f]{6}")


def problems(document: Any, kind: str) -> tuple[object, ...]:
    return gate.judge(document, schemas.for_format(kind))


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.json")), ids=lambda path: path.stem)
def test_the_documents_own_examples_are_valid(path: Path) -> None:
    """Every JSON example of the storage document passes our schema for it."""
    kinds = ("seed", "pipeline", "tasks-status", "output", "run")
    kind = next(kind for kind in kinds if path.stem.startswith(kind))
    assert problems(json.loads(path.read_bytes()), kind) == ()


@pytest.mark.parametrize("kind", [*schemas.STORAGE_FORMATS, "common"])
def test_schemas_are_documented(kind: str) -> None:
    """Each schema is valid 2020-12, has an $id, and says in words what every field is."""
    document = json.loads(schemas.schema_bytes(kind))
    jsonschema.Draft202012Validator.check_schema(document)
    # Every reference leads somewhere: popbuild does not check that while it runs.
    schemas.compile_schema(document, kind, schemas.common())
    assert document["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert document["$id"] == f"urn:popbuild:schema:{kind}"
    assert document["title"]
    assert document["description"]
    undescribed = [
        f"{where}/{name}"
        for where, each in _objects(document, "")
        for name, value in each["properties"].items()
        if isinstance(value, dict) and not {"description", "$ref"} & value.keys()
    ]
    assert undescribed == []


def _objects(value: Any, where: str) -> list[tuple[str, dict[str, Any]]]:
    """Every subschema that has properties."""
    found = []
    if isinstance(value, dict):
        if isinstance(value.get("properties"), dict):
            found.append((where, value))
        for key, each in value.items():
            found += _objects(each, f"{where}/{key}")
    elif isinstance(value, list):
        for number, each in enumerate(value):
            found += _objects(each, f"{where}/{number}")
    return found


def test_every_schema_file_is_a_format() -> None:
    """No schema lies there that no code uses."""
    names = {path.name.removesuffix(".schema.json") for path in schemas.folder().glob("*.json")}
    assert names == {*schemas.STORAGE_FORMATS, "common"}


@pytest.mark.parametrize(
    "seed",
    [
        {"name": "x", "data": {}},
        {"name": "", "data": {}},
        {"name": "x" * 201, "data": {}},
        {"name": 1, "data": {}},
        {"name": "x"},
        {"data": {}},
        {"name": "x", "data": []},
        {"name": "x", "data": {}, "pipeline": "other"},
        {"name": "x", "data": {}, "pipeline": "../other"},
        {"name": "x", "data": {}, "pipeline": None},
        {"name": "x", "data": {}, "more": 1},
        [],
        None,
    ],
)
def test_the_quick_look_at_a_seed_agrees_with_its_schema(seed: Any) -> None:
    """A run with nothing to do judges a seed without jsonschema: by the same rules."""
    assert seed_files._looks_valid(seed) == (not problems(seed, "seed"))


@pytest.mark.parametrize("value", [{"b": 1, "a": [1, {"ü": None}]}, "text", 3.5, [], {}])
def test_json_round_trip(value: Any) -> None:
    """What is written is read back as it was, and its digest ignores formatting."""
    data = jsonio.dumps(value)
    assert jsonio.loads(data, "x") == value
    assert jsonio.digest(json.loads(json.dumps(value))) == jsonio.digest(value)


def read_as_the_document_says(data: Path, job: str, state: str) -> dict[str, Any]:
    """A program written for the storage document: it knows the folders, tasks-status.json with its
    index, output.json, and nothing of popbuild."""
    folder = data / state / job
    status = json.loads((folder / "tasks-status.json").read_bytes())
    found: dict[str, Any] = {
        "seed": json.loads((folder / "seed.json").read_bytes()),
        "pipelineId": status["pipelineId"],
        "name": status["name"],
        "current": status["current"],
        "createdAt": status["createdAt"],
        "files": {
            kind: {name: (folder / "files" / kind / name).read_bytes() for name in names}
            for kind, names in status["files"].items()
        },
        "tasks": {},
    }
    for task, entry in status["tasks"].items():
        assert entry["state"] in ("pending", "running", "done", "error")
        own = [name for names in entry["files"].values() for name in names]
        assert set(own) <= {name for names in status["files"].values() for name in names}
        for name in entry["artifacts"]:
            assert (folder / "tasks" / task / name).is_file()
        output = json.loads((folder / "tasks" / task / "output.json").read_bytes())
        found["tasks"][task] = {**entry, "output": output[task]}
    return found


def test_a_reader_of_the_document_understands_a_job(
    workspace: Workspace, provider: Provider
) -> None:
    """Folders, status, index, output, letters, logs, runs.jsonl and IDs are as the document has
    them, to the form of each time stamp."""
    provider.script([Reply("The research, in a sentence."), Reply("The analysis of it.")])
    assert workspace.doit("run", "job=first").code == 0
    job = read_as_the_document_says(workspace.root / "pipeline-data", "first", "complete")
    assert job["seed"] == workspace.read("seeds/first.json")
    assert RUN_ID.fullmatch(job["pipelineId"])
    assert TIMESTAMP.fullmatch(job["createdAt"])
    assert list(job["tasks"]) == ["research", "analysis"]
    assert job["current"] == "analysis"
    assert {"research-output.json", "analysis-output.json"} == set(job["files"]["artifacts"])
    research = job["tasks"]["research"]
    assert research["output"]["content"] == "The research, in a sentence."
    assert TIMESTAMP.fullmatch(research["output"]["timestamp"])
    assert TIMESTAMP.fullmatch(research["startedAt"])
    assert TIMESTAMP.fullmatch(research["endedAt"])
    assert research["state"] == "done"
    assert research["attempts"] == 1
    assert research["refinementAttempts"] == 0
    assert research["executionTime"] > 0
    assert research["artifacts"] == ["output.json", "letter.json", "execution-logs.json"]
    (run,) = workspace.runs()
    assert run["pipelineId"] == job["pipelineId"]
    assert run["tasks"] == run["finalArtifacts"] == ["research", "analysis"]
    assert run["totalExecutionTime"] > 0
    inside = sorted(path.name for path in workspace.job("first").iterdir())
    assert inside == ["files", "seal.json", "seed.json", "tasks", "tasks-status.json"]
    assert sorted(path.name for path in (workspace.root / "pipeline-data").iterdir()) == [
        "complete",
        "current",
        "pending",
        "rejected",
    ]


@pytest.mark.parametrize("state", ["complete", "current", "rejected"])
def test_what_we_write_passes_our_own_schemas(
    workspace: Workspace, provider: Provider, state: str
) -> None:
    """`popbuild validate` finds nothing wrong with a job in any state."""
    if state == "current":
        workspace.seed("first", {"tone": "no topic"})
    elif state == "rejected":
        provider.answer = lambda request: Reply("")
    workspace.doit("run", "job=first")
    assert workspace.states("first") == [state]
    result = workspace.popbuild("validate")
    assert result.code == 0, result.out
    assert "all valid" in result.out


def test_modes(workspace: Workspace, provider: Provider) -> None:
    """Everything that popbuild makes is for its owner alone: files 0600, folders 0700."""
    workspace.doit("run", "job=first")
    for top in ("pipeline-data", ".popbuild"):
        for path in (workspace.root / top).rglob("*"):
            assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path
