"""From a provider's answer to what stands on disk: the document, its warnings, its reasoning."""

from __future__ import annotations

import json
from typing import Any

import pytest
from provider import Provider, Reply
from refusals import RUNS, refused, rejection
from workspace import Workspace

SCHEMA = {
    "type": "object",
    "properties": {"content": {"type": "string"}},
    "required": ["content"],
}
SEVERAL = "the answer holds several whole documents; the last one counts"
MENDED = "a slip in the answer's JSON was mended: "


@pytest.fixture
def one(workspace: Workspace) -> Workspace:
    """A pipeline of one task."""
    workspace.pipeline(["research"])
    return workspace


def log(workspace: Workspace, level: str, state: str = "complete") -> list[str]:
    """The messages of the task's execution log at this level, of no stage's outcome."""
    path = workspace.job("first", state) / "tasks/research/execution-logs.json"
    entries = json.loads(path.read_bytes())
    return [e["message"] for e in entries if e["level"] == level and "outcome" not in e]


TAKEN: dict[str, tuple[bool, str, str, list[str], str]] = {
    "a draft, then the final": (
        True,
        '{"content":"a long draft"}\nToo long. Corrected:\n{"content":"final"}',
        "final",
        [SEVERAL],
        "",
    ),
    "a raw newline and a comma": (
        True,
        'Here [1] it is:\n{"content":"a\nb","meta":{"content":"inner"},}',
        "a\nb",
        [
            f"{MENDED}control characters inside a string",
            f"{MENDED}a comma before a closing bracket",
        ],
        "",
    ),
    "encoded twice": (
        True,
        json.dumps('{"content":"x"}'),
        "x",
        [f"{MENDED}a JSON text encoded twice"],
        "",
    ),
    "a draft in its reasoning": (
        True,
        '[THINK]Draft: {"content":"a draft"} or {[/THINK]\n{"content":"use <think> tags"}',
        "use <think> tags",
        [],
        "left out 48 characters of reasoning",
    ),
    "a text behind half a pair of tags": (
        False,
        "I reason about it.\n</think>\n\nThe answer.",
        "The answer.",
        [],
        "left out 27 characters of reasoning",
    ),
    "a text about tags": (False, "Use `<think>`.\n", "Use `<think>`.", [], ""),
}


@pytest.mark.parametrize("kind", TAKEN)
def test_what_is_taken_and_told(kind: str, one: Workspace, provider: Provider) -> None:
    """The artifact has the document alone; the letter, its call and the log say what was done; the
    kept answer is whole. The second run calls nothing."""
    is_json, answer, content, warnings, note = TAKEN[kind]
    if is_json:
        one.task("research", schema=SCHEMA)
    provider.script([answer])
    for _ in range(2):
        assert one.popbuild("run").code == 0
    assert len(provider.requests) == 1
    assert one.artifact("first", "research")["content"] == content
    letter = one.letter("first", "research")
    assert letter["warnings"] == letter["calls"][0]["warnings"] == warnings
    assert log(one, "warning") == warnings
    assert log(one, "info") == ([note] if note else [])
    kept = one.job("first") / "files/logs/research-answer-0.txt"
    assert kept.read_bytes().decode() == answer
    assert "all valid" in one.popbuild("validate").out


REJECTED: dict[str, tuple[bool, str, str]] = {
    "cut above a whole part": (
        True,
        '{"title":"x","sections":[{"content":"one"},{"content":"two is cut',
        "Unterminated string starting at line 1, column 55; it begins at line 1, column 1",
    ),
    "a draft, then a cut final": (
        True,
        '{"content":"draft"}\nBetter:\n{"content":"fi',
        "it begins at line 3, column 1, and never closes",
    ),
    "reasoning that never ends": (
        False,
        "<think>\nI reason and reason and was cut",
        "the answer's reasoning never ends: nothing closes <think> at line 1, column 1",
    ),
    "nothing but reasoning": (
        False,
        "[THINK]Hm.[/THINK]\n\u200b",
        "the answer is empty: all of it is reasoning",
    ),
    "nothing that can be seen": (False, "\u200b\ufeff \u00a0", "the answer is empty"),
}


@pytest.mark.parametrize("kind", REJECTED)
def test_what_is_rejected(kind: str, one: Workspace, provider: Provider) -> None:
    """After two refinements, with the place in the answer; and is not bought again."""
    is_json, answer, said = REJECTED[kind]
    if is_json:
        one.task("research", schema=SCHEMA)
    provider.script([answer] * 3)
    for _ in range(2):
        refused(one, RUNS["popbuild"], 1, [said])
    assert said in "\n".join(rejection(one))
    assert len(provider.requests) == 3


PARSES = """
def inference(context):
    drafts = [context.llm(f"{topic}?") for topic in ("tea", "coffee")]
    return "\\n".join(context.parse(each)["content"] for each in drafts)

def parsing(context):
    return {"content": context.answer + context.parse('{"content":"!"}')["content"]}
"""


def test_code_may_parse_any_answer(one: Workspace, provider: Provider) -> None:
    """`context.parse` is what parsing does by default; its warnings stand at the answer's call."""
    one.task("research", schema=SCHEMA, stages=PARSES)
    provider.script(['[THINK]{[/THINK]{"content":"a",}', '{"content":"x"}\n{"content":"b"}'])
    for _ in range(2):
        assert one.popbuild("run").code == 0
    assert one.artifact("first", "research") == {"content": "a\nb!"}
    calls = one.letter("first", "research")["calls"]
    assert [call["warnings"] for call in calls] == [
        [f"{MENDED}a comma before a closing bracket"],
        [SEVERAL],
    ]
    assert len(provider.requests) == 2


def test_code_that_parses_no_document_fails_the_gate(one: Workspace, provider: Provider) -> None:
    """As `context.reject` does."""
    stages = "def parsing(context):\n    return context.parse('see [1]')\n"
    one.task("research", schema=SCHEMA, stages=stages, task_yaml="gate:\n  refinements: 0\n")
    refused(one, RUNS["popbuild"], 1, ["there is only prose"])
    assert len(provider.requests) == 1


def test_a_command_s_answer_is_told_of_too(one: Workspace, provider: Provider) -> None:
    """A warning of no call stands in the letter itself."""
    one.task("research", schema=SCHEMA)
    one.write("pipeline-config/tasks/index.yaml", "research: {command: [cat, answer.txt]}\n")
    one.write("pipeline-config/tasks/research/answer.txt", '[INFO] go\n{"content":"x",}\n')
    for _ in range(2):
        assert one.popbuild("run").code == 0
    assert one.artifact("first", "research") == {"content": "x"}
    told = [f"{MENDED}a comma before a closing bracket"]
    assert one.letter("first", "research")["warnings"] == told
    assert provider.requests == []


HALVES: dict[str, tuple[str, dict[str, Any]]] = {
    "inference": ("def inference(context):\n    return 'a\\nb\\ud83d c'\n", {}),
    "critique": ("def critique(context):\n    return 'a\\nb\\ud83d c'\n", {"schema": SCHEMA}),
}


@pytest.mark.parametrize("stage", HALVES)
def test_half_a_character_from_code(stage: str, one: Workspace, provider: Provider) -> None:
    """Refused with its place, and never replaced."""
    stages, more = HALVES[stage]
    one.task("research", stages=stages, **more)
    provider.answer = lambda _: Reply("prose")
    phrases = ["half a surrogate pair", "'\\ud83d', at line 2, column 2", stage, "both halves"]
    refused(one, RUNS["popbuild"], 2, phrases)
    assert one.states("first") == ["current"]
