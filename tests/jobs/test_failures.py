"""Failures that repeat: a task that costs each time and never succeeds stops by itself."""

from __future__ import annotations

import pytest
from commands import Result
from provider import Provider, default_answer, fail
from workspace import Workspace

ONCE = {"POPBUILD_TRIES": "1"}
RAISES = "def integration(context):\n    raise ValueError('no')\n"


def run(workspace: Workspace, *args: str) -> Result:
    return workspace.popbuild(*(args or ("run", "first")), env=ONCE)


@pytest.fixture
def failing(workspace: Workspace, provider: Provider) -> Workspace:
    """The job failed three times in a row with a 500, each try sent."""
    provider.answer = lambda request: fail(500)
    for number in range(3):
        assert run(workspace).code == 2
        assert len(provider.requests) == number + 1
    return workspace


def test_the_same_error_three_times_stops_the_task(failing: Workspace, provider: Provider) -> None:
    """The fourth run sends nothing, and says what came again and again."""
    for _ in range(2):
        result = run(failing)
        assert result.code == 4
        assert "the same error came again and again" in result.err
        assert "popbuild retry first" in result.err
        assert len(provider.requests) == 3
    status = failing.status("first", "current")
    assert status["state"] == "waiting"
    assert status["tasks"]["research"]["failures"]["count"] == 3
    assert failing.popbuild("validate").code == 0


def test_after_a_change_it_is_tried_again(failing: Workspace, provider: Provider) -> None:
    failing.task("research", prompt="Other: {{ seed.data.topic }}.\n")
    assert run(failing).code == 2
    assert len(provider.requests) == 4
    assert failing.status("first", "current")["tasks"]["research"]["failures"]["count"] == 1


@pytest.mark.parametrize("command", [("retry", "first"), ("run", "first", "fresh=research")])
def test_a_person_may_try_all_the_same(
    command: tuple[str, ...], failing: Workspace, provider: Provider
) -> None:
    provider.answer = default_answer
    assert run(failing).code == 4
    result = run(failing, *command)
    assert result.code == 0, result.out + result.err
    assert "failures" not in failing.status("first")["tasks"]["research"]
    assert len(provider.requests) == 5
    assert run(failing).code == 0
    assert len(provider.requests) == 5


def test_another_error_starts_anew(failing: Workspace, provider: Provider) -> None:
    failing.task("research", prompt="Other: {{ seed.data.topic }}.\n")
    provider.answer = lambda request: fail(503)
    assert run(failing).code == 2
    provider.answer = lambda request: fail(500)
    assert run(failing).code == 2
    assert failing.status("first", "current")["tasks"]["research"]["failures"]["count"] == 1


def test_what_costs_nothing_may_fail_for_ever(workspace: Workspace, provider: Provider) -> None:
    """A key that is missing, or code that fails on an answer that is stored."""
    assert run(workspace).code == 0
    workspace.seed("second", {"topic": "heat pumps"})
    for _ in range(5):
        assert workspace.popbuild("run", "second", env={"OPENAI_API_KEY": ""}).code == 2
    assert len(provider.requests) == 2
    workspace.task("research", stages=RAISES)
    for _ in range(5):
        assert run(workspace, "run", "second").code == 2
    assert len(provider.requests) == 3
    (workspace.root / "pipeline-config/tasks/research/stages.py").unlink()
    assert run(workspace, "run", "second").code == 0


def test_a_task_that_kills_its_process_is_not_started_for_ever(
    workspace: Workspace, provider: Provider
) -> None:
    """Starts are counted on disk; five that never ended are enough."""
    workspace.task("research", stages="import os\ndef ingestion(context):\n    os._exit(9)\n")
    for _ in range(5):
        assert workspace.popbuild("run", "first", real=True).code == 9
    result = workspace.popbuild("run", "first", real=True)
    assert result.code == 4
    assert "the process ended before the task did" in result.err
    (workspace.root / "pipeline-config/tasks/research/stages.py").unlink()
    assert workspace.popbuild("run", "first").code == 0
    assert len(provider.requests) == 2


def test_a_stage_that_ends_the_process_as_if_all_were_well(
    workspace: Workspace, provider: Provider
) -> None:
    """The exit code says otherwise, and the next run goes on; a process that a stage forks off may
    end as it likes."""
    stages = "import os\ndef ingestion(context):\n    "
    workspace.task("analysis", stages=f"{stages}os._exit(0)\n")
    for tool in ("popbuild", "doit"):
        result = workspace.run(tool, "run")
        assert result.code == 2
        assert "a stage ended the process" in result.err
    assert workspace.states("first") == ["current"]
    assert len(provider.requests) == 1
    child = "child = os.fork()\n    child or os._exit(0)\n    return os.waitpid(child, 0)[1]\n"
    workspace.task("analysis", stages=f"{stages}{child}")
    result = workspace.popbuild("run", real=True)
    assert (result.code, "ended the process" in result.err) == (0, False)
    assert workspace.popbuild("run").code == 0
    assert len(provider.requests) == 2


PIPE = """
import os, sys
from popbuild.cli.main import main
read, write = os.pipe()
os.close(read)
os.dup2(write, 1)
os.dup2(write, 2)
sys.exit(main(["run", "first"]))
"""


def test_write_nowhere_what_is_printed(workspace: Workspace, provider: Provider) -> None:
    """`popbuild run | head -1`: what is paid for is built to its end all the same."""
    assert workspace.run("python", "-c", PIPE).code == 0
    assert workspace.states("first") == ["complete"]
    assert workspace.popbuild("run", "first").code == 0
    assert len(provider.requests) == 2


BROKEN = """
import sys
from popbuild.cli.main import main
from popbuild.build.progress import Plain
def full(*given):
    raise OSError(28, "No space left on device")
Plain.task_done = full
sys.exit(main(["run", "first"]))
"""


def test_status_says_why_a_job_failed(workspace: Workspace, provider: Provider) -> None:
    """Also where it was no task that did: the disk on which the output is, once one was built."""
    assert workspace.run("python", "-c", BROKEN).code == 2
    said = workspace.popbuild("status", "first").out
    assert "error: the disk said no" in said
    assert workspace.popbuild("run", "first").code == 0
    assert "error" not in workspace.popbuild("status", "first").out
    assert len(provider.requests) == 2
