"""The demo, unchanged, on another provider; and what one real rejection of it looks like."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from provider import Provider, Reply, Request
from workspace import Workspace

SEEDS = ["content-generation", "data-processing", "market-analysis"]
MODEL = {"POPBUILD_MODEL": "openai/gpt-5-nano"}


def strong_model(request: Request) -> Reply:
    """Answers as a strong model would: to the subject, in whole sentences; facts from the text."""
    question = request.said("user")
    if request.schema is not None:
        words = question.removeprefix("Text: ").split()
        number = next(word for word in words if re.search(r"\d", word))
        facts = {"amount": number, "date": number}
        return Reply(
            json.dumps({name: facts.get(name, words[0]) for name in request.schema["required"]})
        )
    words = re.findall(r"[A-Za-z-]{5,}", question.partition("Answer in")[0])
    subject = " ".join(dict.fromkeys(words[:12]))
    return Reply(
        f"The subject of {subject} draws steady interest from buyers and builders alike. "
        "Costs fall as firms learn, while rules change slowly and leave room for doubt. "
        "Those who start early gain most."
    )


@pytest.fixture
def demo(tmp_path: Path, provider: Provider) -> Iterator[Workspace]:
    with Workspace(tmp_path, provider) as workspace:
        for folder in ("seeds", "pipeline-config/tasks", "pipeline-config"):
            (workspace.root / folder).rmdir()
        assert workspace.popbuild("init").code == 0
        yield workspace


def test_the_demo_on_another_provider(demo: Workspace, provider: Provider) -> None:
    """With a key, an address and POPBUILD_MODEL the demo runs unchanged; the second time nothing
    is called. What gpt-5-nano does not take is dropped, and the letter says so."""
    provider.answer = strong_model
    result = demo.doit("run", env=MODEL)
    assert result.code == 0, result.out + result.err
    assert [demo.states(seed) for seed in SEEDS] == [["complete"]] * 3
    calls = len(provider.requests)
    assert all(request.model == "gpt-5-nano" for request in provider.requests)
    assert all("temperature" not in request.body for request in provider.requests)
    letter = demo.letter("market-analysis", "analysis")
    assert letter["warnings"] == ["openai/gpt-5-nano does not support temperature=0.2: dropped"]
    assert letter["usage"]["cost"] > 0
    again = demo.doit("run", env=MODEL)
    assert again.out == "".join(f"-- {seed}  up to date\n" for seed in SEEDS)
    assert len(provider.requests) == calls
    assert demo.popbuild("validate").code == 0


def test_every_question_of_the_demo_is_kept(demo: Workspace, provider: Provider) -> None:
    """research asks a question a part: each stands among its logs as it was sent, with its
    answer, and popbuild show has it."""
    provider.answer = strong_model
    assert demo.doit("run", "job=market-analysis", env=MODEL).code == 0
    letter = demo.letter("market-analysis", "research")
    asked = range(1, len(letter["calls"]) + 1)
    assert len(asked) > 1
    prompts = [
        json.loads(demo.popbuild("show", "market-analysis", f"research-prompt-0-{n}.json").out)
        for n in asked
    ]
    assert prompts == [each.messages for each in provider.requests[: len(asked)]]
    answers = [
        demo.popbuild("show", "market-analysis", f"research-answer-0-{n}.txt").out for n in asked
    ]
    whole = demo.popbuild("show", "market-analysis", "research-answer-0.txt").out
    assert json.loads(whole) == answers


def test_the_model_is_a_dependency(demo: Workspace, provider: Provider) -> None:
    """POPBUILD_MODEL is part of what every task depends on."""
    provider.answer = strong_model
    assert demo.doit("run", "job=market-analysis", env=MODEL).code == 0
    assert "setting:model changed" in demo.popbuild("status", "market-analysis").out
    assert demo.doit("run", "job=market-analysis", env=MODEL).out.startswith("-- market-analysis")


GATES = [
    ("a list", "- Costs fall.\n- Rules change slowly, and leave room for doubt among all buyers."),
    (
        "talk about the answer",
        "Here is the revised version of the text that you have asked me for.",
    ),
    (
        "no sentence end",
        "Demand for storage grows as costs fall and rules change and firms learn to",
    ),
    ("too short", "It grows."),
    ("repetition", "The market grows and grows. " * 8),
]


@pytest.mark.parametrize(("what", "text"), GATES, ids=[gate[0] for gate in GATES])
def test_the_gates_can_fail(demo: Workspace, provider: Provider, what: str, text: str) -> None:
    """Each fault that a small model really has rejects the job after two refinements, with the
    problems and the raw answer's file."""
    provider.answer = lambda request: Reply(text)
    result = demo.doit("run", "job=market-analysis", env=MODEL)
    assert result.code == 1
    rejection = json.loads(
        (demo.job("market-analysis", "rejected") / "rejection.json").read_bytes()
    )
    assert rejection["task"] == "research"
    assert rejection["stage"] == "validateQuality"
    assert rejection["refinementAttempts"] == 2
    assert rejection["problems"][0]["pointer"].startswith("/findings/0")
    assert (demo.job("market-analysis", "rejected") / rejection["answer"]).exists()
