"""A job whose process was killed: it is said to be stopped, at once, and written down to be by the
next command that holds its lock."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from provider import Provider
from workspace import Workspace

from popbuild.model.status import ABANDONED

LOOKING = (
    ("list",),
    ("list", "--tasks", "--json"),
    ("status", "first"),
    ("show", "first"),
    ("explain", "first"),
    ("plan", "--json"),
    ("check",),
    ("validate",),
    ("graph", "first"),
    ("summary",),
    ("doctor",),
)


@pytest.fixture
def killed(workspace: Workspace, provider: Provider) -> Workspace:
    """A root whose only job was killed during its first call; the second one finds its answer."""
    provider.hold()
    building = workspace.start("popbuild", "run", "first")
    provider.wait_for(1)
    building.kill()
    building.wait()
    provider.release()
    assert workspace.status("first", "current")["state"] == "running"
    return workspace


def written(workspace: Workspace) -> tuple[Any, ...]:
    """What the status on disk says of the job, and of its first task."""
    status = workspace.status("first", "current")
    task = status["tasks"]["research"]
    return status["state"], status.get("error"), status.get("abandoned"), task["state"]


def _text(out: str) -> str:
    """An output without the style sheet of a drawing."""
    return re.sub(r"<style>.*?</style>", "", out, flags=re.DOTALL)


def finish(workspace: Workspace, provider: Provider) -> None:
    """The next run goes on from there, and leaves no mark of it."""
    assert workspace.popbuild("run", "first").code == 0
    assert len(provider.requests) == 3  # the answer to the first of them was never read
    status = workspace.status("first")
    assert "abandoned" not in json.dumps(status)
    assert "error" not in status
    assert workspace.popbuild("run", "first").code == 0
    assert len(provider.requests) == 3


def test_looking_says_stopped_and_writes_nothing(killed: Workspace, provider: Provider) -> None:
    """In text, as JSON and on pages, however often one looks."""
    before = killed.tree()
    said = {each: killed.popbuild(*each) for each in LOOKING}
    for argv in (("list",), ("status", "first"), ("plan", "--json"), ("check",), ("summary",)):
        assert "stopped" in said[argv].out, argv
    assert [argv for argv, each in said.items() if re.search(r"\brunning\b", _text(each.out))] == []
    page = killed.popbuild("report", "first", "-o", "-").out
    assert ('class="state says stopped"' in page, 'class="state running"' in page) == (True, False)
    assert f"error: {ABANDONED}" in said["status", "first"].out
    (body,) = json.loads(killed.popbuild("status", "first", "--json").out)
    assert (body["state"], body["error"]) == ("stopped", ABANDONED)
    assert body["tasks"]["research"]["state"] == "pending"
    assert killed.tree() == before
    finish(killed, provider)


HOLDING = (
    ("popbuild", "accept", "first"),  # refused: there is nothing to accept
    ("popbuild", "cache", "prune", "--older-than", "9w", "--yes"),
    ("popbuild", "doctor", "--yes"),
    ("popbuild", "run", "first"),  # refused: its prompt cannot be used
    ("doit", "forget", "first"),
)


@pytest.mark.parametrize("argv", HOLDING, ids=" ".join)
def test_the_next_command_with_its_lock_writes_that_down(
    killed: Workspace, provider: Provider, argv: tuple[str, ...]
) -> None:
    """Whatever becomes of that command; and what is said does not change by it."""
    if "doctor" in argv:
        killed.write(
            "pipeline-data/current/first/tasks/research/letter.json", '{"formatVersion": 1,'
        )
    before = killed.popbuild("status", "first").out.splitlines()[:2]
    if "run" in argv:
        prompt = killed.task("research") / "prompt.md"
        text = prompt.read_text()
        killed.task("research", prompt="{{ oops")
        assert killed.run(*argv).code == 3
        killed.task("research", prompt=text)
    else:
        killed.run(*argv)
    assert written(killed) == ("stopped", ABANDONED, True, "pending")
    assert killed.popbuild("validate").code == 0
    assert killed.popbuild("status", "first").out.splitlines()[:2] == before
    finish(killed, provider)


def test_an_orchestrator_takes_it_up_all_the_same(killed: Workspace, provider: Provider) -> None:
    """That it is written down does not make it a job that a person stopped."""
    killed.popbuild("accept", "first")
    assert written(killed)[0] == "stopped"
    assert killed.popbuild("watch", "--once", "--workers", "1").code == 0
    assert killed.states("first") == ["complete"]
    finish(killed, provider)


def test_starts_that_kill_are_counted(workspace: Workspace, provider: Provider) -> None:
    """A task that takes its process down is not started for ever, whatever looks in between."""
    workspace.task(
        "research",
        stages="import os, signal\n\ndef ingestion(context):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n",
    )
    for _ in range(5):
        assert workspace.popbuild("run", "first").code == -9
        workspace.popbuild("accept", "first")
        assert written(workspace)[0] == "stopped"
    result = workspace.popbuild("run", "first")
    assert (result.code, "the same error came again and again" in result.err) == (4, True)
    assert workspace.status("first", "current")["state"] == "waiting"
    assert provider.requests == []


def test_a_job_that_a_person_stopped_stays_so(workspace: Workspace, provider: Provider) -> None:
    """Ctrl-C is a person's word: no orchestrator takes the job up, and no other word is said."""
    provider.hold()
    building = workspace.start("popbuild", "run", "first")
    provider.wait_for(1)
    building.interrupt()
    assert building.wait().code == 130
    provider.release()
    workspace.popbuild("accept", "first")
    assert written(workspace) == ("stopped", "interrupted", None, "pending")
    assert workspace.popbuild("watch", "--once", "--workers", "1").code == 0
    assert written(workspace)[0] == "stopped"
    finish(workspace, provider)
