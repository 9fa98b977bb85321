"""`diff`: what the last rebuild changed against the result that it replaced, and how many of those
are kept."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from provider import Provider, Reply
from workspace import Workspace

from popbuild.model.problem import MISSING, parts_of
from popbuild.query.diff import compare

SCHEMA = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "points": {"type": "array", "items": {"type": "string"}},
        "a/b": {"type": "number"},
    },
    "required": ["title", "points"],
}
OLD = {"title": "Batteries", "points": ["cheap", "heavy"], "a/b": 1}
NEW = {"title": "Batteries", "points": ["cheap", "light", "new"]}


@pytest.fixture
def rebuilt(workspace: Workspace, provider: Provider) -> Workspace:
    """`first`, whose `analysis` was rebuilt with another prompt, and whose `research` was kept."""
    workspace.task("analysis", schema=SCHEMA)
    provider.script(["R", Reply(json.dumps(OLD), prompt_tokens=30, completion_tokens=10)])
    run(workspace)
    workspace.task("analysis", prompt="Otherwise: {{ artifacts.research.content }}")
    provider.script([Reply(json.dumps(NEW), prompt_tokens=40, completion_tokens=20)])
    run(workspace)
    return workspace


def run(workspace: Workspace, **options: Any) -> None:
    result = workspace.popbuild("run", "first", **options)
    assert result.code == 0, result.out + result.err


def diff(workspace: Workspace, *args: str) -> Any:
    result = workspace.popbuild("diff", "first", "--json", *args)
    assert result.code == 0, result.err
    return json.loads(result.out)


def shelf(workspace: Workspace) -> list[Path]:
    return sorted((workspace.root / ".popbuild/previous/first").glob("*"))


def test_places_tokens_and_costs(rebuilt: Workspace, provider: Provider) -> None:
    """Each place of each artifact that differs, with before and after; each task, rebuilt or kept,
    with tokens and cost then and now. Nothing is called or written."""
    calls, before = len(provider.requests), rebuilt.tree()
    found = diff(rebuilt)
    runs = [line["pipelineId"] for line in rebuilt.runs()]
    assert [found["runs"]["before"], found["runs"]["after"]] == runs
    assert found["artifacts"] == [
        {
            "artifact": "analysis-output.json",
            "change": "changed",
            "changes": [
                {"pointer": "/a~1b", "change": "removed", "before": 1},
                {"pointer": "/points/1", "change": "changed", "before": "heavy", "after": "light"},
                {"pointer": "/points/2", "change": "added", "after": "new"},
            ],
        }
    ]
    research, analysis = found["tasks"]
    assert (research["task"], research["outcome"]) == ("research", "kept")
    assert (analysis["task"], analysis["outcome"]) == ("analysis", "rebuilt")
    tokens = [(each["inputTokens"], each["outputTokens"]) for each in analysis["usage"].values()]
    assert tokens == [(30, 10), (40, 20)]
    assert analysis["usage"]["after"]["cost"] == pytest.approx(40 * 0.15e-6 + 20 * 0.6e-6)
    assert found["usage"] == rebuilt.runs()[1]["usage"]
    assert rebuilt.tree() == before
    assert len(provider.requests) == calls


def test_for_people(rebuilt: Workspace) -> None:
    """The same as text."""
    result = rebuilt.popbuild("diff", "first")
    assert result.code == 0
    runs = [line["pipelineId"] for line in rebuilt.runs()]
    assert result.out == (
        f"first: {runs[0]} ->\n"
        f"       {runs[1]}, 60 tokens, $0.000018\n"
        "  research  kept\n"
        "  analysis  rebuilt: 60 tokens, $0.000018 (before: 40 tokens, $0.000011)\n"
        "\n"
        "analysis-output.json\n"
        "  /a~1b removed\n"
        "    - 1\n"
        "  /points/1 changed\n"
        "    - heavy\n"
        "    + light\n"
        "  /points/2 added\n"
        "    + new\n"
    )


def test_long_texts_are_shown_from_where_they_differ(
    workspace: Workspace, provider: Provider
) -> None:
    """A long text is cut to one line of 80 columns, in which the difference is seen."""
    provider.script(["word " * 100 + "battery" + " word" * 100, "A"])
    run(workspace)
    workspace.seed("first", {"topic": "wind"})
    provider.script(["word " * 100 + "windmill" + " word" * 100, "A"])
    run(workspace)
    lines = workspace.popbuild("diff", "first").out.splitlines()
    assert max(map(len, lines)) <= 80
    old, new = (line for line in lines if line.startswith(("    - ", "    + ")))
    assert old.startswith("    - …")
    assert "battery" in old
    assert "windmill" in new


def test_what_is_not_json_counts_by_its_text(workspace: Workspace) -> None:
    """Other artifacts that a task writes: added, removed, or changed as a whole."""
    stages = "def pre_processing(context):\n    topic = context.read('/data/topic')\n"
    write = "    context.files.write_artifact({}, {})\n"
    old = [("'table.csv'", "topic"), ("'old.txt'", "'x'"), ("'same.txt'", "'s'")]
    new = [("'table.csv'", "topic"), ("'new.bin'", "b'\\xff'"), ("'same.txt'", "'s'")]
    workspace.task("research", stages=stages + "".join(write.format(*each) for each in old))
    run(workspace)
    workspace.task("research", stages=stages + "".join(write.format(*each) for each in new))
    workspace.seed("first", {"topic": "wind"})
    run(workspace)
    changes = {each["artifact"]: each for each in diff(workspace)["artifacts"]}
    assert changes["new.bin"]["change"] == "added"
    assert changes["old.txt"]["change"] == "removed"
    assert changes["table.csv"]["changes"] == [
        {"pointer": "", "change": "changed", "before": "grid batteries", "after": "wind"}
    ]
    assert "same.txt" not in changes


def test_a_rebuild_with_the_same_result(workspace: Workspace) -> None:
    """No artifact differs, and the task was rebuilt all the same, from the store."""
    run(workspace)
    assert workspace.popbuild("run", "first", "-a").code == 0
    found = diff(workspace)
    assert found["artifacts"] == []
    assert [task["outcome"] for task in found["tasks"]] == ["rebuilt", "rebuilt"]
    out = workspace.popbuild("diff", "first").out
    assert "research  rebuilt: from the store" in out
    assert out.endswith("no artifact differs\n")


def test_tasks_that_come_go_and_were_edited(workspace: Workspace) -> None:
    """A task that the pipeline did not have, one that it has no longer, and an edit that was kept
    are told apart from what was rebuilt."""
    run(workspace)
    path = workspace.job("first") / "files/artifacts/research-output.json"
    path.write_text('{"content": "Mine."}')
    workspace.task("summary", prompt="{{ artifacts.research.content }}")
    workspace.pipeline(["research", "summary"])
    run(workspace)
    outcomes = {task["task"]: task["outcome"] for task in diff(workspace)["tasks"]}
    assert outcomes == {"research": "edited", "summary": "added", "analysis": "removed"}


@pytest.mark.parametrize(
    ("job", "said"), [("first", "no previous result"), ("third", "no such job"), ("new", "run job")]
)
def test_nothing_to_hold_it_against(workspace: Workspace, job: str, said: str) -> None:
    """Without a previous result, a job, or a complete one, the error says so."""
    run(workspace)
    workspace.seed("new", {"topic": "wind"})
    result = workspace.popbuild("diff", job)
    assert result.code == 3
    assert said in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize(("kept", "expected"), [(None, 1), ("0", 0), ("1", 1), ("3", 3), ("9", 4)])
def test_how_many_results_are_kept(workspace: Workspace, kept: str | None, expected: int) -> None:
    """POPBUILD_KEEP_PREVIOUS says it, from the environment or the root's .env; by default one.
    --against reaches each of them, the newest first."""
    if kept is not None:
        workspace.write(".env", f"POPBUILD_KEEP_PREVIOUS={kept}\n")
    for number in range(5):
        workspace.seed("first", {"topic": f"topic {number}"})
        run(workspace)
    assert len(shelf(workspace)) == expected
    for number in range(expected):
        found = diff(workspace, "--against", str(number + 1))
        assert found["runs"]["before"] == workspace.runs()[3 - number]["pipelineId"]
    assert workspace.popbuild("diff", "first", "--against", str(expected + 1)).code == 3
    assert workspace.popbuild("diff", "first", "--against", "0").code == 3


def test_fewer_are_kept_from_the_next_rebuild_on(workspace: Workspace) -> None:
    """A smaller number drops the oldest results when the next one is set aside; results that were
    kept before they were numbered are the oldest."""
    older = workspace.root / ".popbuild/previous/first/2099-01-01T00-00-00-000Z"
    for number in range(4):
        workspace.seed("first", {"topic": f"topic {number}"})
        run(workspace, env={"POPBUILD_KEEP_PREVIOUS": "5"})
        if number == 1:
            (kept,) = shelf(workspace)
            kept.rename(older)
    assert len(shelf(workspace)) == 3
    workspace.seed("first", {"topic": "topic 4"})
    run(workspace, env={"POPBUILD_KEEP_PREVIOUS": "2"})
    assert len(shelf(workspace)) == 2
    assert not older.exists()
    runs = [line["pipelineId"] for line in workspace.runs()]
    for number in (1, 2):
        assert diff(workspace, "--against", str(number))["runs"]["before"] == runs[-1 - number]


@pytest.mark.parametrize("value", ["-1", "1.5", "all", "٣", "99999"])
def test_a_wrong_number_is_a_usage_error(
    workspace: Workspace, provider: Provider, value: str
) -> None:
    """Nothing is built, and the variable is named."""
    for words in ([], ["-a"]):
        env = {"POPBUILD_KEEP_PREVIOUS": value}
        result = workspace.popbuild("run", "first", *words, env=env)
        assert result.code == 3
        assert "POPBUILD_KEEP_PREVIOUS" in result.err
    assert provider.requests == []
    assert workspace.states("first") == []


def test_a_crash_loses_no_previous_result(workspace: Workspace, provider: Provider) -> None:
    """Killed when the new result has taken the old one's place, and before that is set aside: the
    next run sets it aside."""
    run(workspace)
    old = workspace.artifact("first", "research")
    workspace.seed("first", {"topic": "wind"})
    program = (
        "import os, sys\nfrom popbuild.cli.main import main\nfrom popbuild.jobs import promotion\n"
        "promotion._set_aside = lambda *_: os._exit(9)\nsys.exit(main(['run', 'first']))"
    )
    assert workspace.run("python", "-c", program).code == 9
    calls = len(provider.requests)
    run(workspace)
    assert len(provider.requests) == calls
    (kept,) = shelf(workspace)
    assert json.loads((kept / "files/artifacts/research-output.json").read_bytes()) == old
    assert workspace.states("first") == ["complete"]
    assert len(workspace.runs()) == 2
    assert diff(workspace)["artifacts"]
    assert workspace.popbuild("verify").code == 0


# --- comparing values ---


def _value(draw: random.Random, depth: int) -> Any:
    kind = draw.randrange(7 if depth else 5)
    if kind < 5:
        return [None, True, draw.choice([0, 1, 1.0]), draw.choice("ab"), ""][kind]
    if kind == 5:
        return [_value(draw, depth - 1) for _ in range(draw.randrange(3))]
    return {key: _value(draw, depth - 1) for key in draw.sample(["a", "b/c", "~", "0"], 2)}


def _apply(document: Any, pointer: str, value: Any) -> Any:
    if not pointer:
        return value
    *path, last = parts_of(pointer)
    target = document
    for part in path:
        target = target[int(part) if isinstance(target, list) else part]
    if isinstance(target, list) and int(last) == len(target):
        target.append(value)
    elif value is MISSING:
        del target[int(last) if isinstance(target, list) else last]
    else:
        target[int(last) if isinstance(target, list) else last] = value
    return document


@pytest.mark.parametrize("part", range(4))
def test_applied_the_changes_give_the_new_value(part: int) -> None:
    """The changes between two JSON values are all there is between them; equal ones have none."""
    draw = random.Random(f"values {part}")
    differing = 0
    for _ in range(500):
        before, after = _value(draw, 3), _value(draw, 3)
        changes = list(compare(before, after))
        text = json.dumps(after, sort_keys=True)
        assert bool(changes) == (json.dumps(before, sort_keys=True) != text)
        differing += bool(changes)
        result = json.loads(json.dumps(before))
        # What a list lost is at its end: from the back, so that the places stay.
        removed = [each for each in changes if each.kind == "removed"]
        for change in [*(each for each in changes if each.kind != "removed"), *reversed(removed)]:
            result = _apply(result, change.pointer, change.after)
        assert json.dumps(result, sort_keys=True) == text
    assert differing > 300
