"""`verify` and the files that only some jobs have: whatever is altered in one, it is named."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import alterations
import documents
import pytest
from provider import Provider, Reply, default_answer
from workspace import MODEL, Workspace

# Files of complete jobs, by what they are. `first` has a document, items and a skipped task, `row`
# is a row of a table, `all` is over both.
PARTS = {
    "a file of a seed": "first/inputs/deck.pdf",
    "the text extracted from it": "first/inputs/deck.pdf.extracted.json",
    "the receipts of items": "first/tasks/rate/items.jsonl",
    "the letter of a task over items": "first/tasks/rate/letter.json",
    "what was made of items": "first/files/artifacts/rate-output.json",
    "the letter of a skipped task": "first/tasks/maybe/letter.json",
    "the log of a skipped task": "first/tasks/maybe/execution-logs.json",
    "the status, which says what was skipped": "first/tasks-status.json",
    "the seed of a row": "row/seed.json",
    "the status of a row's job": "row/tasks-status.json",
    "the seed of a job over jobs": "all/seed.json",
    "the letter of a job over jobs": "all/tasks/sum/letter.json",
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with Provider() as provider, Workspace(tmp_path_factory.mktemp("built"), provider) as workspace:
        provider.answer = lambda each: (
            Reply('{"label": "x"}') if each.schema is not None else default_answer(each)
        )
        write(workspace)
        result = workspace.popbuild("run")
        assert result.code == 0, result.out + result.err
        yield workspace


def write(workspace: Workspace) -> None:
    workspace.write("inputs/deck.pdf", documents.pdf("A page", "Another page"))
    data = {"rows": [{"id": 1, "text": "good"}, {"id": 2, "text": "bad"}], "mood": "calm"}
    seed = {"name": "first", "files": {"deck": "inputs/deck.pdf"}, "data": data}
    workspace.write("seeds/first.json", seed)
    row = {"id": "row", "rows": [{"id": 3, "text": "odd"}], "mood": "loud"}
    workspace.write("seeds/table.jsonl", json.dumps(row))
    workspace.write("seeds/table.yaml", 'rows: table.jsonl\nid: "{{ row.id }}"\n')
    over = {"name": "all", "pipeline": "all", "jobs": {"parts": "[fr]*"}, "data": {}}
    workspace.write("seeds/all.json", over)
    items = {"foreach": "seed.data.rows", "key": "id"}
    workspace.task("rate", "{{ item.text }}", schema={"required": ["label"]}, task_yaml=items)
    maybe = {"needs": [], "when": "seed.data.mood == 'loud'"}
    deck = "{% if files.deck is defined %}{{ files.deck.text }}{% endif %}"
    workspace.task("maybe", f"Maybe: {deck}", task_yaml=maybe)
    workspace.pipeline(["rate", "maybe"])
    folder = "pipeline-config/pipelines/all"
    body = {"name": "all", "tasks": ["sum"], "taskConfig": {"sum": {"model": MODEL}}}
    workspace.write(f"{folder}/pipeline.json", body)
    workspace.write(f"{folder}/tasks/index.yaml", "sum: ./sum\n")
    prompt = "{% for each in jobs.parts %}{{ each.artifacts.rate }}{% endfor %}"
    workspace.write(f"{folder}/tasks/sum/prompt.md", prompt)


def altered(workspace: Workspace, code: int) -> set[str]:
    """The files that `verify` says were altered."""
    result = workspace.popbuild("verify", "--json")
    assert result.code == code, result.out + result.err
    found = json.loads(result.out)
    told = [*found["findings"], *(each for job in found["jobs"] for each in job["findings"])]
    return {each["file"] for each in told if each["altered"]}


def test_the_table_is_of_files_that_are_there(built: Workspace) -> None:
    """As they are, nothing was altered; a job has each, and a skipped task says so."""
    assert altered(built, 0) == set()
    complete = built.root / "pipeline-data/complete"
    assert [path for path in PARTS.values() if not (complete / path).is_file()] == []
    assert built.letter("first", "maybe")["skipped"]
    assert built.status("first")["tasks"]["maybe"]["skipped"]
    assert built.letter("all", "sum")["jobs"]["parts"]["ids"] == ["first", "row"]


@pytest.mark.parametrize("part", PARTS)
def test_what_is_altered_is_named(part: str, built: Workspace) -> None:
    """A bit is flipped, a byte is added, the end or all of it is gone, or another file stands in
    its place."""
    complete = built.root / "pipeline-data/complete"
    path, draw = complete / PARTS[part], random.Random(part)
    (other,) = set(complete.glob("all/files/artifacts/*.json"))
    whole, others = path.read_bytes(), other.read_bytes()
    for alter in alterations.OF_A_FILE:
        changed = alter(draw, [path, other] if alter is alterations.swap else [path])
        named = {str(each.relative_to(built.root)) for each in changed}
        found = altered(built, 1)
        assert found == named, (alter.__name__, found)
        path.write_bytes(whole)
        other.write_bytes(others)
    assert altered(built, 0) == set()


def test_an_artifact_of_a_skipped_task_is_named(built: Workspace) -> None:
    """There is none that it could have."""
    path = built.job("first") / "files/artifacts/maybe-output.json"
    shutil.copy(built.job("row") / "files/artifacts/maybe-output.json", path)
    assert altered(built, 1) == {str(path.relative_to(built.root))}
    path.unlink()
    assert altered(built, 0) == set()


def test_an_extracted_text_that_is_put_beside_a_file_is_named(built: Workspace) -> None:
    """No seed names it, and no build extracted it."""
    path: Path = built.job("first") / "inputs/other.pdf.extracted.json"
    shutil.copy(built.job("first") / "inputs/deck.pdf.extracted.json", path)
    assert altered(built, 1) == {str(path.relative_to(built.root))}
    path.unlink()
    assert altered(built, 0) == set()
