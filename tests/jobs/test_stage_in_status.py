"""The stage that a task is at stands in its job's status, as long as it is at it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from provider import Provider, Request
from workspace import Workspace

from popbuild.model.stage_names import FUNCTIONS, STAGES


def stages_in(status: Any) -> dict[str, Any]:
    """The job's stage under its own name, and those of its tasks."""
    found = {status["name"]: status.get("currentStage")}
    found |= {task: entry.get("currentStage") for task, entry in status["tasks"].items()}
    return {name: stage for name, stage in found.items() if stage is not None}


def check_gone(workspace: Workspace) -> None:
    """A job that is complete is at no stage, in no file; the second run does nothing."""
    assert "currentStage" not in json.dumps(workspace.status("first"))
    assert workspace.popbuild("run", "first").code == 0
    assert workspace.popbuild("validate").code == 0


def test_a_call_is_seen_while_it_is_under_way(workspace: Workspace, provider: Provider) -> None:
    """On disk before the request is sent; `status` tells it, and so does the API's answer."""
    seen: list[Any] = []

    def look(request: Request) -> None:
        seen.append(stages_in(workspace.status("first", "current")))

    provider.at(1, look)
    provider.at(2, look)
    provider.hold(after=1)
    with workspace.start("popbuild", "run", "first") as building:
        provider.wait_for(2)
        assert "analysis  running  inference" in workspace.popbuild("status", "first").out
        (body,) = json.loads(workspace.popbuild("status", "first", "--json").out)
        assert (body["current"], body["currentStage"]) == ("analysis", "inference")
        assert body["tasks"]["analysis"]["currentStage"] == "inference"
        assert "currentStage" not in body["tasks"]["research"]
        page = workspace.popbuild("report", "first", "-o", "-").out
        assert '<span class="quiet">inference</span>' in page
        provider.release()
        assert building.wait().code == 0
    assert seen == [
        {"first": "inference", "research": "inference"},
        {"first": "inference", "analysis": "inference"},
    ]
    check_gone(workspace)
    assert len(provider.requests) == 2


# Each stage asks the status where its task is.
ASKING = """
import json, pathlib

STATUS = pathlib.Path({status!r})

def at(context):
    context.log.info("at " + json.loads(STATUS.read_text())["currentStage"])

"""


def test_every_stage_finds_itself(workspace: Workspace, provider: Provider) -> None:
    """All eleven, in a cycle that fails its gate and in one that passes."""
    code = ASKING.format(status=str(workspace.job("first", "current") / "tasks-status.json"))
    for stage, name in FUNCTIONS.items():
        code += f"def {name}(context):\n    at(context)\n"
        if stage == "validateQuality":
            code += "    return [] if context.cycle else ['too short']\n"
        code += {
            "promptTemplating": "    return 'Say it.'\n",
            "inference": "    return context.llm(context.messages)\n",
            "parsing": "    return {'content': context.answer}\n",
            "critique": "    return 'longer'\n",
        }.get(stage, "")
    workspace.task("research", stages=code)
    result = workspace.popbuild("run", "first")
    assert result.code == 0, result.err
    log = workspace.read("pipeline-data/complete/first/tasks/research/execution-logs.json")
    said = [(e["stage"], e["message"]) for e in log if e["message"].startswith("at ")]
    assert {stage for stage, _ in said} == set(STAGES)
    assert [message for _, message in said] == [f"at {stage}" for stage, _ in said]
    check_gone(workspace)
    assert len(provider.requests) == 3  # the same prompt once more is another draw; and analysis


def test_tasks_side_by_side_have_a_stage_each(workspace: Workspace, provider: Provider) -> None:
    """The job's own is that of the task that started last."""
    workspace.task("analysis", prompt="Of {{ seed.data.topic }}\n", task_yaml={"needs": []})
    provider.hold()
    with workspace.start("popbuild", "run", "first") as building:
        provider.wait_for(2)
        status = workspace.status("first", "current")
        both = {"first": "inference", "research": "inference", "analysis": "inference"}
        assert stages_in(status) == both
        provider.release()
        assert building.wait().code == 0
    check_gone(workspace)


# Runs popbuild; the gate says nothing until the status says that it is at work.
SLOW_GATE = """
import json, os, sys, time
from popbuild.cli.main import main
from popbuild.model.schema import gate

judge, deadline = gate.judge, time.monotonic() + 40

def stage():
    try:
        status = json.load(open("pipeline-data/current/first/tasks-status.json"))
    except FileNotFoundError:
        return None  # the seed is judged, too
    return status["tasks"]["research"].get("currentStage")

def slow(*args):
    while stage() == "inference":
        if time.monotonic() > deadline:
            os._exit(9)
    return judge(*args)

gate.judge = slow
sys.exit(main(["run", "first"]))
"""


def test_a_stage_that_takes_long_is_seen(workspace: Workspace, provider: Provider) -> None:
    """One that computes is written down once it lasts."""
    workspace.task("research", schema={"type": "object"})
    provider.script(["{}", "an analysis"])
    workspace.task("analysis", prompt="Of {{ artifacts.research }}\n")
    result = workspace.run("python", "-c", SLOW_GATE)
    assert result.code == 0, result.out + result.err
    check_gone(workspace)
    assert len(provider.requests) == 2


@pytest.mark.parametrize("way", ["kill", "interrupt"])
def test_a_job_that_is_stopped_is_at_no_stage(
    workspace: Workspace, provider: Provider, way: str
) -> None:
    """Killed, it is said to be at none; and the next run tidies it up."""
    provider.hold()
    building = workspace.start("popbuild", "run", "first")
    provider.wait_for(1)
    getattr(building, way)()
    building.wait()
    provider.release()
    assert bool(stages_in(workspace.status("first", "current"))) == (way == "kill")
    assert "currentStage" not in workspace.popbuild("status", "first", "--json").out
    assert "inference" not in workspace.popbuild("status", "first").out
    workspace.popbuild("accept", "first")
    assert stages_in(workspace.status("first", "current")) == {}
    assert workspace.popbuild("run", "first").code == 0
    check_gone(workspace)


def test_an_error_leaves_no_stage(workspace: Workspace, provider: Provider) -> None:
    workspace.task("research", stages="def ingestion(context):\n    raise ValueError('no')\n")
    assert workspace.popbuild("run", "first").code == 2
    assert stages_in(workspace.status("first", "current")) == {}
    Path(workspace.root / "pipeline-config/tasks/research/stages.py").unlink()
    assert workspace.popbuild("run", "first").code == 0
    check_gone(workspace)
    assert len(provider.requests) == 2
