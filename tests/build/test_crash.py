"""A full disk, and what is said after kill -9. Every call that a crash may hit: test_matrix.py."""

from __future__ import annotations

import json
import re

import pytest
from harms import RECEIPT
from provider import Provider
from workspace import Workspace

from popbuild.base.paths import Root
from popbuild.query import describe
from popbuild.upkeep import validate, verify


@pytest.fixture(autouse=True)
def _same_endpoint(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks in this process see what the commands see: the address is a dependency."""
    for key, value in workspace.environment().items():
        if key.startswith("OPENAI"):
            monkeypatch.setenv(key, value)


def check_whole(workspace: Workspace, runs: int) -> None:
    """Nothing is lost, nothing left over, nothing counted twice."""
    assert workspace.states("first") == ["complete"]
    assert len(workspace.runs()) == runs
    assert {task["state"] for task in workspace.status("first")["tasks"].values()} == {"done"}
    assert validate.validate(Root(workspace.root)).findings == []
    assert verify.verify(Root(workspace.root)).proven
    (job,) = describe.jobs_of(Root(workspace.root), ["first"])
    assert job.up_to_date


def test_killed_behind_a_letter(workspace: Workspace, provider: Provider) -> None:
    """The task is done, and every file of it is in the index, by whatever name: the letter says
    so."""
    workspace.write(
        "pipeline-config/tasks/research/stages.py",
        "def ingestion(context):\n"
        "    context.files.write_log('notes.txt', 'read')\n"
        "    context.files.write_tmp('scratch', 'x')\n",
    )
    assert workspace.run("python", "-c", RECEIPT).code == -9
    before = workspace.status("first", "current")
    assert before["tasks"]["research"]["state"] == "running"
    assert before["tasks"]["research"]["files"]["artifacts"] == []  # the letter has it
    assert workspace.popbuild("run", "first").code == 0
    check_whole(workspace, 1)
    assert len(provider.requests) == 2
    files = workspace.status("first")["tasks"]["research"]["files"]
    assert "notes.txt" in files["logs"]
    assert files["tmp"] == ["scratch"]
    assert workspace.letter("first", "research")["files"] == {
        kind: sorted(names) for kind, names in files.items()
    }


def test_killed_behind_the_letter_of_another_draw(workspace: Workspace, provider: Provider) -> None:
    """What an earlier attempt wrote, and this one did not, is neither there nor in the index."""
    provider.script(["", "", "", "What the first task says."])
    assert workspace.popbuild("run", "first").code == 1
    assert workspace.run("python", "-c", RECEIPT.replace('"run"', '"retry"')).code == -9
    before = workspace.status("first", "current")
    assert "research-prompt-2.json" in before["files"]["logs"]
    assert workspace.popbuild("run", "first").code == 0
    check_whole(workspace, 1)
    assert len(provider.requests) == 5
    files = workspace.status("first")["tasks"]["research"]["files"]
    assert files["logs"] == ["research-prompt-0.json", "research-answer-0.txt"]


# Runs popbuild on a disk that takes no output.json of a task.
FULL = """
import errno, os, sys
from popbuild.cli.main import main
from popbuild.base import disk

write = disk._write_all

def full(file, data):
    if b'"metadata"' in data:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    write(file, data)

disk._write_all = full
sys.exit(main(["run", "first"]))
"""


def test_a_full_disk(workspace: Workspace, provider: Provider) -> None:
    """The error names the task and the file and says what next; nothing is said to run, and the
    next run buys nothing twice."""
    result = workspace.run("python", "-c", FULL)
    assert result.code == 2, result.out + result.err
    for phrase in ("No space left", "tasks/research/output.json", "task   research", "hint: make"):
        assert phrase in result.err, result.err
    status = workspace.status("first", "current")
    assert status["state"] == "failed"
    assert {entry["state"] for entry in status["tasks"].values()} == {"pending"}
    assert workspace.popbuild("run", "first").code == 0
    assert len(provider.requests) == 2
    check_whole(workspace, 1)


LISTINGS = (
    ("popbuild", "list"),
    ("popbuild", "status"),
    ("popbuild", "status", "first"),
    ("popbuild", "check"),
    ("popbuild", "plan", "--json"),
    ("doit", "list"),
)


def said_of_first(workspace: Workspace) -> list[str]:
    """The word that each listing has for the state of the job."""
    outputs = [workspace.run(*each).out for each in LISTINGS]
    return [re.findall("running|stopped|failed", out)[0] for out in outputs]


def test_status_after_a_kill(workspace: Workspace, provider: Provider) -> None:
    """A job that a living process builds is running; one whose process was killed is stopped. Every
    command says the same."""
    provider.hold()
    running = workspace.start("popbuild", "run", "first")
    provider.wait_for(1)
    assert said_of_first(workspace) == ["running"] * len(LISTINGS)
    (during,) = json.loads(workspace.popbuild("status", "first", "--json").out)
    assert during["tasks"]["research"]["state"] == "running"
    assert workspace.popbuild("run", "first", "--no-wait").code == 5  # looking took no lock away
    running.kill()
    running.wait()
    provider.release()
    assert said_of_first(workspace) == ["stopped"] * len(LISTINGS)
    (after,) = json.loads(workspace.popbuild("status", "first", "--json").out)
    assert (after["state"], after["tasks"]["research"]["state"]) == ("stopped", "pending")
