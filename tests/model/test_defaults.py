"""`defaults` of a pipeline: settings of all its tasks, before which those of a task go."""

from __future__ import annotations

from typing import Any

import pytest
from provider import Provider
from workspace import MODEL, Workspace


def configuration(workspace: Workspace, task: str) -> dict[str, Any]:
    configuration: dict[str, Any] = workspace.letter("first", task)["configuration"]
    return configuration


def test_the_order_of_settings(workspace: Workspace, provider: Provider) -> None:
    """defaults, then task.yaml, then taskConfig; what is in effect is all that counts."""
    workspace.task("research", task_yaml={"config": {"temperature": 0.5, "maxTokens": 50}})
    own = {"research": {"maxTokens": 60}, "analysis": {}}
    defaults = {"model": MODEL, "temperature": 0.25, "maxTokens": 40}
    workspace.pipeline(["research", "analysis"], model=None, defaults=defaults, taskConfig=own)
    assert workspace.popbuild("run").code == 0
    assert configuration(workspace, "research") == {**defaults, "temperature": 0.5, "maxTokens": 60}
    assert configuration(workspace, "analysis") == defaults
    assert [request.body["temperature"] for request in provider.requests] == [0.5, 0.25]
    # Said in another place, it is the same.
    workspace.pipeline(
        ["research", "analysis"],
        {
            "analysis": {"maxTokens": 40},
            **own | {"analysis": {"temperature": 0.25, "maxTokens": 40}},
        },
        defaults={},
    )
    assert workspace.popbuild("run").code == 0
    assert len(provider.requests) == 2
    workspace.pipeline(
        ["research", "analysis"],
        model=None,
        defaults={**defaults, "temperature": 0.75},
        taskConfig=own,
    )
    assert "setting:temperature changed: 0.25 → 0.75" in workspace.popbuild("explain", "first").out
    assert workspace.popbuild("run").code == 0
    assert len(provider.requests) == 3  # research has its own temperature


@pytest.mark.parametrize(
    ("defaults", "said"),
    [
        ({"temperature": "warm"}, "/defaults/temperature"),
        ({"api_key": "a key"}, "/defaults/api_key"),
        ([], "/defaults"),
        ({"stream": True}, "/defaults/stream"),
    ],
)
def test_bad_defaults(workspace: Workspace, defaults: object, said: str) -> None:
    workspace.pipeline(["research", "analysis"], defaults=defaults)
    result = workspace.popbuild("run")
    assert (result.code, workspace.provider and workspace.provider.requests) == (3, [])
    assert said in result.err
    assert "Traceback" not in result.err


def test_a_command_is_given_its_own_settings_alone(workspace: Workspace) -> None:
    code = "import json, sys; print(sorted(json.load(sys.stdin)['config']))"
    entries = {"research": {"command": ["python3", "-c", code], "folder": "./research"}}
    workspace.pipeline(
        ["research"], {"research": {"tone": "dry"}}, model=None, defaults={"model": MODEL}
    )
    workspace.write("pipeline-config/tasks/index.yaml", str(entries))
    result = workspace.popbuild("run")
    assert result.code == 0, result.err
    assert workspace.artifact("first", "research") == {"content": "['tone']"}
