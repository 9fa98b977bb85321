"""Random lists and edits: which items are asked about, against an oracle that knows nothing of
receipts, digests and traces."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st
from provider import Provider, Reply, Request
from workspace import Workspace

EXAMPLES = os.environ.get("POPBUILD_TEST_EXAMPLES")

SCHEMA = {"type": "object", "properties": {"label": {"enum": ["x", "y"]}}, "required": ["label"]}
# A prompt, and the fields of an item and of the seed that it reads.
PROMPTS: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = [
    ("{{ item.text }}", ("text",), ()),
    ("{{ item.text }} {{ item.note | default('-') }}", ("text", "note"), ()),
    ("{{ seed.data.tone }} {{ item.text }}", ("text",), ("tone",)),
    ("{{ item.id }} {{ item.text }}", ("id", "text"), ()),
]
TEXTS = ["x", "y", "bad"]  # of which the last fails its gate
NOTES = [None, "n", "m"]

# ("text" | "note", place, value), ("add", place, text), ("drop", place), ("swap", place),
# ("prompt", version), ("tone", text), ("letter",), ("receipts",), ("artifact",).
Edit = tuple[Any, ...]
places = st.integers(0, 5)
EDITS = st.one_of(
    st.tuples(st.just("text"), places, st.sampled_from(TEXTS)),
    st.tuples(st.just("note"), places, st.sampled_from(NOTES)),
    st.tuples(st.just("add"), places, st.sampled_from(TEXTS)),
    st.tuples(st.just("drop"), places),
    st.tuples(st.just("swap"), places),
    st.tuples(st.just("prompt"), st.integers(0, len(PROMPTS) - 1)),
    st.tuples(st.just("tone"), st.sampled_from(["dry", "warm"])),
    st.tuples(st.sampled_from(["letter", "receipts", "artifact"])),
)
STEPS = st.lists(st.lists(EDITS, min_size=1, max_size=3), min_size=1, max_size=5)


@dataclass
class Oracle:
    """The inputs, and every prompt that was ever paid for."""

    rows: list[dict[str, Any]]
    prompt: int = 0
    tone: str = "dry"
    bought: set[str] = field(default_factory=set)
    _ids: int = 3

    def apply(self, edit: Edit) -> None:
        kind, *rest = edit
        place = rest[0] % len(self.rows) if self.rows and rest and type(rest[0]) is int else 0
        match kind:
            case "text" | "note" if self.rows:
                self.rows[place] = {**self.rows[place], kind: rest[1]}
                if rest[1] is None:
                    del self.rows[place][kind]
            case "add":
                self._ids += 1
                self.rows.insert(place, {"id": self._ids, "text": rest[1]})
            case "drop" if self.rows:
                del self.rows[place]
            case "swap" if self.rows:
                self.rows.append(self.rows.pop(place))
            case "prompt":
                self.prompt = rest[0]
            case "tone":
                self.tone = rest[0]

    def prompts(self) -> list[str]:
        return [self._rendered(row) for row in self.rows]

    def _rendered(self, row: Mapping[str, Any]) -> str:
        text, note_, tone = row["text"], row.get("note", "-"), self.tone
        return [text, f"{text} {note_}", f"{tone} {text}", f"{row['id']} {text}"][self.prompt]

    def build(self) -> list[str]:
        """The prompts that must be paid for: of items, the first time that each is asked."""
        asks = [each for each in dict.fromkeys(self.prompts()) if each not in self.bought]
        self.bought.update(asks)
        return sorted(asks)

    def artifact(self) -> dict[str, Any]:
        passed = [row for row in self.rows if row["text"] != "bad"]
        failed = [str(row["id"]) for row in self.rows if row["text"] == "bad"]
        outputs = [{"key": str(r["id"]), "output": {"label": r["text"]}} for r in passed]
        return {"items": outputs, "failed": failed}


def answer(request: Request) -> Reply:
    words = request.messages[0]["content"].split()
    return Reply(json.dumps({"label": next(each for each in words if each in TEXTS)}))


@pytest.mark.slow
def test_only_prompts_that_are_new_are_asked(provider: Provider, tmp_path: Path) -> None:
    """Whatever was edited, a build asks what an oracle finds necessary; the artifact is that of a
    clean build; a second build does nothing; a job with too many failed items is rejected."""
    provider.answer = answer
    folders = (tmp_path / str(number) for number in itertools.count())

    @settings(max_examples=int(EXAMPLES or 6), derandomize=EXAMPLES is None)
    @given(STEPS)
    def check(steps: list[list[Edit]]) -> None:
        folder = next(folders)
        with Workspace(folder, provider) as workspace:
            follow(steps, workspace)
        shutil.rmtree(folder)

    check()


def follow(steps: list[list[Edit]], workspace: Workspace) -> None:
    assert workspace.provider is not None
    oracle = Oracle([{"id": number, "text": text} for number, text in enumerate("xyx")])
    workspace.pipeline(["classify"])
    settings_ = {"foreach": "seed.data.rows", "key": "id"}
    gate = {"refinements": 0, "failed_share": 0.5}
    for number, step in enumerate(([], *steps)):
        note(f"step {number}: {step}")
        for edit in step:
            oracle.apply(edit)
            delete(edit, workspace)
        prompt = PROMPTS[oracle.prompt][0]
        workspace.task("classify", prompt, schema=SCHEMA, task_yaml={**settings_, "gate": gate})
        workspace.seed("job", {"rows": oracle.rows, "tone": oracle.tone})
        before = len(workspace.provider.requests)
        result = workspace.popbuild("run", "job")
        asked = [e.messages[0]["content"] for e in workspace.provider.requests[before:]]
        found = oracle.artifact()
        is_rejected = len(found["failed"]) > len(oracle.rows) / 2
        assert (sorted(asked), result.code) == (oracle.build(), int(is_rejected)), result
        if not is_rejected:
            made = workspace.artifact("job", "classify")
            assert made["items"] == found["items"]
            assert [each["key"] for each in made["failed"]] == found["failed"]
            # Without anything to do, receipts that were deleted stay so, and are missed.
            is_whole = (workspace.job("job") / "tasks/classify/items.jsonl").exists()
            assert workspace.popbuild("verify", "job").code == int(not is_whole)
        tree = workspace.tree("pipeline-data")
        assert workspace.popbuild("run", "job").code == int(is_rejected)
        assert workspace.tree("pipeline-data") == tree
        assert len(workspace.provider.requests) == before + len(asked)


def delete(edit: Edit, workspace: Workspace) -> None:
    job = workspace.job("job")
    files = {
        "letter": job / "tasks/classify/letter.json",
        "receipts": job / "tasks/classify/items.jsonl",
        "artifact": job / "files/artifacts/classify-output.json",
    }
    if edit[0] in files:
        files[edit[0]].unlink(missing_ok=True)
