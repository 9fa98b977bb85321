"""Scores: measurements of what a task made, kept beside it, and no dependency of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from provider import Provider, Reply
from workspace import Workspace

SCHEMA = {"type": "object", "properties": {"label": {"type": "string"}}, "required": ["label"]}
CODE = '''
from popbuild import Score
from . import helper

def right(output, seed, expected):
    """Whether the label is the expected one."""
    return Score(output["label"] == expected["label"], f"it says {output['label']}")

def length(output, seed, expected):
    return helper.length(output)
'''
HELPER = "def length(output):\n    return len(output['label']) / 10\n"


@pytest.fixture
def scored(workspace: Workspace, provider: Provider) -> Workspace:
    """A job of two tasks; `label` is measured by scores.py, and its answer is `good`."""
    provider.answer = lambda request: Reply('{"label": "good"}' if request.schema else "A text.")
    workspace.seed("one", {"topic": "batteries"})
    workspace.task("label", prompt="Label {{ seed.data.topic }}.\n", schema=SCHEMA)
    workspace.task("text", prompt="About {{ artifacts.label.label }}.\n")
    workspace.pipeline(["label", "text"])
    code(workspace, CODE)
    code(workspace, HELPER, "helper.py")
    workspace.write("expected/one.json", {"label": "good"})
    return workspace


def code(workspace: Workspace, text: str, name: str = "scores.py") -> None:
    workspace.write(f"pipeline-config/tasks/label/{name}", text)


def scores(workspace: Workspace, state: str = "complete", task: str = "label") -> dict[str, Any]:
    """The values of a task's scores by name."""
    body = json.loads((workspace.job("one", state) / f"tasks/{task}/scores.json").read_bytes())
    return {name: each["value"] for name, each in body["scores"].items()}


def reasons(workspace: Workspace, task: str = "label") -> dict[str, str]:
    body = json.loads((workspace.job("one") / f"tasks/{task}/scores.json").read_bytes())
    return {name: each["reason"] for name, each in body["scores"].items()}


def test_scores_are_measured_and_no_dependency(scored: Workspace, provider: Provider) -> None:
    """A build measures; a changed function measures anew, in place and without a call, and the
    seal vouches for it; the next run has nothing to do."""
    assert scored.popbuild("run", "one").code == 0
    assert scores(scored) == {"right": True, "length": 0.4}
    assert reasons(scored)["right"] == "it says good"
    assert len(provider.requests) == 2
    letter = scored.letter("one", "label")
    assert not [name for name in letter["fingerprint"] if ".py" in name]
    again = scored.popbuild("run", "one")
    assert (again.code, len(provider.requests), len(scored.runs())) == (0, 2, 1)
    assert scored.popbuild("verify").code == 0

    code(scored, HELPER.replace("10", "2"), "helper.py")
    assert "scores to be measured: label" in scored.popbuild("list").out
    explained = scored.popbuild("explain", "one").out
    assert "score right is to be measured: its function changed" in explained
    assert "label: up to date" in explained
    measured = scored.popbuild("run", "one")
    assert (measured.code, len(provider.requests), len(scored.runs())) == (0, 2, 1)
    assert "scores measured: label" in measured.out
    assert scores(scored) == {"right": True, "length": 2.0}
    assert scored.popbuild("verify").code == 0
    status = scored.popbuild("status", "one").out
    assert "scores: right passed, length 2" in status
    assert "of no task" not in status
    assert "label/scores.json" in scored.popbuild("show", "one").out
    before = scored.tree()
    assert "measured" not in scored.popbuild("run", "one").out
    assert scored.tree() == before


def test_another_expectation_measures_anew(scored: Workspace, provider: Provider) -> None:
    """expected/<id>.json is watched by the quick look of many jobs too."""
    scored.seed("two", {"topic": "wind"})
    scored.popbuild("run")
    for _ in range(2):
        assert scored.popbuild("run").code == 0
    calls = len(provider.requests)
    scored.write("expected/one.json", {"label": "bad"})
    assert "one" in scored.popbuild("run").out
    assert scores(scored)["right"] is False
    (scored.root / "expected/one.json").unlink()
    scored.popbuild("run")
    assert scores(scored) == {"right": None, "length": 0.4}
    assert "nothing is expected" in reasons(scored)["right"]
    assert len(provider.requests) == calls


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (
            "raise ValueError('odd')",
            "ValueError: odd, at pipeline-config/tasks/label/scores.py",
        ),
        ("return float('nan')", "it returned nan"),
        ("return 'high'", "not a number"),
        ("import sys; sys.exit(0)", "SystemExit"),
        ("import time; time.sleep(60)", "longer than 0.5 s"),
    ],
)
def test_what_cannot_be_measured_is_missing(
    scored: Workspace, provider: Provider, function: str, why: str
) -> None:
    """A score that raises, gives NaN or never returns has no value and a reason; the job passes,
    and is not measured again."""
    code(scored, f"def odd(output, seed, expected):\n    {function}\n")
    scored.task("label", task_yaml={"timeout": 0.5})
    assert scored.popbuild("run", "one").code == 0
    assert scores(scored) == {"odd": None}
    assert why in reasons(scored)["odd"]
    before = scored.tree()
    assert scored.popbuild("run", "one").code == 0
    assert scored.tree() == before


def test_a_gate_judges_the_stored_answer_anew(scored: Workspace, provider: Provider) -> None:
    """A score below its gate rejects the job without a call, once; a threshold that fits promotes
    it without a call."""
    scored.popbuild("run", "one")
    calls = len(provider.requests)
    scored.task("label", task_yaml={"gate": {"scores": {"length": ">= 0.7"}}})
    rejected = scored.popbuild("run", "one")
    assert rejected.code == 1
    assert "score length is 0.4, must be >= 0.7" in rejected.out + rejected.err
    body = json.loads((scored.job("one", "rejected") / "rejection.json").read_bytes())
    assert (body["stage"], body["task"]) == ("scores", "label")
    again = scored.popbuild("run", "one")
    assert again.code == 1
    assert "not bought again" in again.out + again.err
    code(scored, HELPER.replace("10", "4"), "helper.py")
    assert scored.popbuild("run", "one").code == 0
    assert scores(scored) == {"right": True, "length": 1.0}
    assert scored.popbuild("run", "one").code == 0
    assert len(provider.requests) == calls
    assert scored.popbuild("verify").code == 0


def test_rules_need_no_code(workspace: Workspace, provider: Provider) -> None:
    """Each rule of task.yaml measures the output, or says why it cannot."""
    answer = {"label": "good", "tags": ["a", "b"], "text": "Sold 40 in the third quarter of 2025."}
    provider.answer = lambda _: Reply(json.dumps(answer))
    rules: dict[str, Any] = {
        "label": {"of": "/label", "equals": {"expected": "/label"}},
        "tags": {"of": "/tags", "contains": ["a", "c"]},
        "topic": {"of": "/text", "contains": {"seed": "/data/topic"}},
        "dated": {"of": "/text", "regex": "[0-9]{4}"},
        "titled": {"json_pointer": "/title"},
        "short": {"of": "/text", "length": {"max": 5, "unit": "words"}},
        "words": {"of": "/text", "length": {"unit": "words"}},
        "close": {"of": "/text", "similar": {"expected": "/text"}},
        "gone": {"of": "/text", "equals": {"expected": "/nothing"}},
        "hostile": {"of": "/text", "regex": "(["},
    }
    workspace.seed("one", {"topic": "quarter"})
    workspace.task("label", prompt="Label.", schema=SCHEMA, task_yaml={"scores": rules})
    workspace.pipeline(["label"])
    expected = {"label": "bad", "text": "Sold 41 in the third quarter of 2025."}
    workspace.write("expected/one.json", expected)
    assert workspace.popbuild("run", "one").code == 0
    assert scores(workspace) == {
        "label": False,
        "tags": 0.5,
        "topic": True,
        "dated": True,
        "titled": False,
        "short": False,
        "words": 8,
        "close": 0.875,
        "gone": None,
        "hostile": None,
    }
    assert reasons(workspace)["label"] == '"good" is not "bad"'
    assert reasons(workspace)["gone"] == "what is expected has nothing at /nothing"
    before = workspace.tree()
    rules["short"]["length"]["max"] = 8
    workspace.task("label", task_yaml={"scores": rules})
    workspace.popbuild("run", "one")
    assert scores(workspace)["short"] is True
    changed = [place for place, _ in set(workspace.tree()) ^ set(before)]
    ours = [place for place in changed if "pipeline-data" in place]
    assert {place.rpartition("/")[2] for place in ours} == {"scores.json", "seal.json"}
    assert len(provider.requests) == 1


@pytest.mark.parametrize(
    ("task_yaml", "source", "said"),
    [
        ({"gate": {"scores": {"lenght": ">= 1"}}}, CODE, "did you mean"),
        ({"gate": {"scores": {"length": "at least 1"}}}, CODE, "not a threshold"),
        ({"scores": {"odd": {"equal": 1}}}, None, "equal"),
        ({"scores": {"length": {"equals": 1}}}, CODE, "two scores have the same name"),
        ({}, "def odd(output):\n    return 1\n", "a score takes the wrong parameters"),
        ({}, "def odd(:\n", "line 1: SyntaxError"),
    ],
)
def test_settings_that_mean_nothing_are_refused(
    workspace: Workspace, task_yaml: Any, source: str | None, said: str
) -> None:
    """An unknown rule, score or threshold, and code that cannot be called, are located errors."""
    workspace.seed("one", {})
    workspace.task("label", prompt="Label.", task_yaml=task_yaml)
    workspace.pipeline(["label"])
    if source is not None:
        code(workspace, source)
    for command, code_of_it in (("validate", 1), ("run", 3)):
        found = workspace.popbuild(command)
        assert found.code == code_of_it
        assert said in found.out + found.err
        assert "tasks/label/" in found.out + found.err
