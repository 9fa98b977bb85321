"""`vars` of a pipeline: values that prompts, conditions, lists and code read, each a dependency."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from provider import Provider
from workspace import Workspace

VARS = {
    "tone": "dry",
    "limits": {"words": 50, "lines": 5},
    "points": [{"text": "cost", "note": "a"}, {"text": "safety", "note": "b"}],
    "mode": "short",
    "unread": 1,
}
STAGES = """\
def prompt_templating(context):
    return f"code: {context.vars['limits']['words']} {sorted(context.vars.get('absent', 'no'))}"
"""
COMMAND = "import json, sys; print(json.load(sys.stdin)['vars']['tone'])"
LIMITS = 'vars:/limits changed: {{"lines":5,"words":50}} → {{"lines":{},"words":{}}}'
TASKS = ("lead", "loop", "each", "maybe", "code")


def write(workspace: Workspace, values: Mapping[str, Any]) -> None:
    """Five tasks, each of which reads other values."""
    apart: dict[str, Any] = {"needs": []}
    workspace.task("lead", prompt="lead: {{ vars.tone }}", task_yaml=apart)
    loop = "loop: {% for point in vars.points %}{{ point.text }} {% endfor %}"
    workspace.task("loop", prompt=loop, task_yaml=apart)
    over = apart | {"foreach": "vars.points", "key": "text"}
    workspace.task("each", prompt="each: {{ item.text }} {{ vars.limits.lines }}", task_yaml=over)
    condition = apart | {"when": 'vars.mode == "long"'}
    workspace.task("maybe", prompt="maybe: {{ seed.data.topic }}", task_yaml=condition)
    workspace.task("code", stages=STAGES, task_yaml=apart)
    workspace.pipeline(TASKS, vars=values)


def stale(workspace: Workspace) -> dict[str, str]:
    """The reasons of each task that is stale."""
    return {
        each["task"]: "; ".join(reason["reason"] for reason in each["reasons"])
        for each in json.loads(workspace.popbuild("explain", "first", "--json").out)
        if each["stale"]
    }


@pytest.mark.parametrize(
    ("change", "expected", "calls"),
    [
        ({"unread": 2}, {}, 0),
        ({"tone": "warm"}, {"lead": "vars:/tone changed: dry → warm"}, 1),
        ({"limits": {"words": 60, "lines": 5}}, {"code": LIMITS.format(5, 60)}, 1),
        (
            {"limits": {"words": 50, "lines": 6}},
            {"each": "vars:/limits/lines changed: 5 → 6", "code": LIMITS.format(6, 50)},
            3 - 1,  # the prompt of `code` is the same
        ),
        ({"mode": "long"}, {"maybe": "vars:/mode changed: short → long"}, 1),
        ({"mode": "none"}, {"maybe": "vars:/mode changed: short → none"}, 0),
        ({"points": [{"text": "cost", "note": "c"}, VARS["points"][1]]}, {}, 0),
        ({"absent": "ab"}, {"code": "vars:/absent added: ab"}, 1),
    ],
)
def test_a_task_depends_on_what_it_reads(
    workspace: Workspace,
    provider: Provider,
    change: dict[str, Any],
    expected: dict[str, str],
    calls: int,
) -> None:
    write(workspace, VARS)
    assert workspace.popbuild("run").code == 0
    assert len(provider.requests) == 5
    assert workspace.letter("first", "lead")["vars"] == {"/tone": "dry"}
    assert stale(workspace) == {}
    write(workspace, VARS | change)
    assert stale(workspace) == expected
    for _ in range(2):
        assert workspace.popbuild("run").code == 0
        assert len(provider.requests) == 5 + calls


def test_a_point_changes_its_item_and_the_loop(workspace: Workspace, provider: Provider) -> None:
    write(workspace, VARS)
    assert workspace.popbuild("run").code == 0
    write(workspace, VARS | {"points": [{"text": "cost"}, {"text": "speed"}]})
    assert stale(workspace).keys() == {"loop", "each"}
    for _ in range(2):
        assert workspace.popbuild("run").code == 0
        assert sorted(each.said("user") for each in provider.requests[5:]) == [
            "each: speed 5",
            "loop: cost speed",
        ]


def test_a_command_is_given_all_of_them(workspace: Workspace) -> None:
    workspace.task("tool", prompt="")
    workspace.pipeline(["tool"], model=None, vars=VARS)
    registry = {"tool": {"command": ["python3", "-c", COMMAND]}}
    workspace.write("pipeline-config/tasks/index.yaml", json.dumps(registry))
    assert workspace.popbuild("run").code == 0
    assert workspace.artifact("first", "tool") == {"content": "dry"}
    workspace.pipeline(["tool"], model=None, vars=VARS | {"unread": 2})
    workspace.write("pipeline-config/tasks/index.yaml", json.dumps(registry))
    assert "vars: changed" in workspace.popbuild("explain", "first").out


@pytest.mark.parametrize(
    ("values", "prompt", "said"),
    [
        ([], "x", "/vars"),
        ({"": 1}, "x", "/vars"),
        ({"tone": "dry"}, "{{ vars.tine }}", "did you mean"),
        ({"key": "sk-ant-REDACTED"}, "x", "key"),
    ],
)
def test_bad_vars(
    workspace: Workspace, provider: Provider, values: object, prompt: str, said: str
) -> None:
    """Each is one error, by `run` before a call as by `validate`."""
    workspace.task("lead", prompt=prompt)
    workspace.pipeline(["lead"], vars=values)
    for command in ("validate", "run"):
        result = workspace.popbuild(command)
        assert result.code in (1, 2, 3)
        assert said in result.err + result.out
        assert "Traceback" not in result.err
    assert provider.requests == []
