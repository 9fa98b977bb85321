"""What runs.jsonl says of a run: which tasks ran, and one time for its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from harms import RECEIPT
from provider import Provider
from workspace import Workspace

from popbuild.base.paths import Root
from popbuild.upkeep import validate


def findings(workspace: Workspace) -> list[Any]:
    return list(validate.validate(Root(workspace.root)).findings)


def test_a_run_ends_at_one_time(workspace: Workspace, provider: Provider) -> None:
    """In runs.jsonl and in the job's status; of a task in its letter and in the status."""
    assert workspace.popbuild("run", "first").code == 0
    status = workspace.status("first")
    assert workspace.runs()[0]["finishedAt"] == status["finishedAt"]
    for task, entry in status["tasks"].items():
        assert workspace.letter("first", task)["execution"]["endedAt"] == entry["endedAt"]
    assert workspace.popbuild("run", "first").code == 0
    assert len(provider.requests) == 2


# Runs popbuild and dies as soon as the job stands in complete/, before its line is added.
PROMOTED = """
import os, signal, sys
from popbuild.cli.main import main
from popbuild.jobs import run_log

run_log.add = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
sys.exit(main(["run", "first"]))
"""


@pytest.mark.parametrize("command", [("run", "first"), ("doctor", "--yes")])
def test_a_line_that_is_added_later_says_when_the_run_ended(
    workspace: Workspace, provider: Provider, command: tuple[str, ...]
) -> None:
    """Not when the line was added."""
    assert workspace.run("python", "-c", PROMOTED).code == -9
    assert (workspace.states("first"), workspace.runs()) == (["complete"], [])
    assert workspace.popbuild(*command).code == 0
    (line,) = workspace.runs()
    assert line["finishedAt"] == workspace.status("first")["finishedAt"]
    assert len(provider.requests) == 2


def test_a_rejection_has_the_time_of_its_run(workspace: Workspace, provider: Provider) -> None:
    """Whether a gate said no, or a person."""
    workspace.task("analysis", schema={"type": "object", "required": ["x"]})
    provider.script(["found", "{}", "{}", "{}"])
    assert workspace.popbuild("run", "first").code == 1
    assert rejected_at(workspace) == workspace.status("first", "rejected")["finishedAt"]
    (workspace.root / "pipeline-config/tasks/analysis/output.schema.json").unlink()
    workspace.task("analysis", task_yaml={"gate": {"message": "Fit to print?"}})
    assert workspace.popbuild("run", "first").code == 4
    assert workspace.popbuild("reject", "first").code == 0
    assert rejected_at(workspace) == workspace.status("first", "rejected")["finishedAt"]


def rejected_at(workspace: Workspace) -> str:
    return str(workspace.read("pipeline-data/rejected/first/rejection.json")["rejectedAt"])


def test_a_line_says_which_tasks_ran(workspace: Workspace, provider: Provider) -> None:
    """A rebuild of a part: all tasks are the job's, one of them ran, and the totals are its."""
    assert workspace.popbuild("run", "first").code == 0
    workspace.task("analysis", prompt="Again: {{ artifacts.research.content }}\n")
    assert workspace.popbuild("run", "first").code == 0
    first, second = workspace.runs()
    assert first["built"] == first["tasks"] == ["research", "analysis"]
    assert (second["tasks"], second["built"]) == (["research", "analysis"], ["analysis"])
    assert "earlier" not in first.keys() | second.keys()
    took = workspace.letter("first", "analysis")["execution"]["executionTime"]
    assert second["totalExecutionTime"] == took
    assert workspace.popbuild("run", "first").code == 0
    assert (len(workspace.runs()), len(provider.requests)) == (2, 3)
    assert findings(workspace) == []


def killed(workspace: Workspace) -> str:
    assert workspace.run("python", "-c", RECEIPT).code == -9
    return str(workspace.status("first", "current")["pipelineId"])


def one_task(workspace: Workspace) -> str:
    assert workspace.popbuild("run", "first:research").code == 0
    return str(workspace.status("first", "current")["pipelineId"])


@pytest.mark.parametrize("begin", [killed, one_task])
@pytest.mark.parametrize("before", [0, 1])
def test_a_line_says_what_earlier_runs_built(
    workspace: Workspace, provider: Provider, begin: Any, before: int
) -> None:
    """What a run before built, and did not promote, is promoted with this line, which says so;
    whether there was a good result before or not."""
    for _ in range(before):
        assert workspace.popbuild("run", "first").code == 0
        workspace.seed("first", {"topic": "wind"})
    run = begin(workspace)
    assert len(workspace.runs()) == before
    assert workspace.popbuild("run", "first").code == 0
    line = workspace.runs()[-1]
    assert (line["built"], line["earlier"]) == (["analysis"], {"research": run})
    assert workspace.popbuild("verify").code == 0
    assert findings(workspace) == []
    assert len(provider.requests) == 2 + 2 * before


def test_lines_from_before_are_read(workspace: Workspace, provider: Provider) -> None:
    """With the storage document's own fields alone."""
    assert workspace.popbuild("run", "first").code == 0
    fields = ("name", "pipelineId", "finishedAt", "tasks", "totalExecutionTime")
    own = (*fields, "totalRefinementAttempts", "finalArtifacts")
    old = {key: value for key, value in workspace.runs()[0].items() if key in own}
    path = Path("pipeline-data/complete/runs.jsonl")
    for each in (workspace.root / path, workspace.root / ".popbuild/runs.jsonl"):
        each.write_text(workspace.write("line", old).read_text().replace("\n", "") + "\n")
    assert workspace.runs() == [old]
    assert findings(workspace) == []
    workspace.seed("first", {"topic": "wind"})
    assert workspace.popbuild("run", "first").code == 0
    assert workspace.runs()[1]["built"] == ["research", "analysis"]
    assert workspace.popbuild("status", "first").out.startswith("first: complete")
    assert len(provider.requests) == 4
