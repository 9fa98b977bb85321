"""The board stays as the disk is, whatever happens to the root while it is looked at."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from served import Served, serve
from workspace import Workspace


@pytest.fixture
def served(workspace: Workspace) -> Iterator[Served]:
    with serve(workspace) as served:
        yield served


def test_many_at_once_are_told(workspace: Workspace, served: Served) -> None:
    """More jobs than are looked at one by one are told like one."""
    served.wait_for("first", "new")
    with served.events() as events:
        events.until("reset")
        for number in range(210):
            workspace.seed(f"many-{number:03}", {"topic": "a"})
        told = {events.until("job").body["id"] for _ in range(210)}
    assert "many-209" in told


def test_the_data_is_deleted(workspace: Workspace, served: Served) -> None:
    """Who deletes all data sees it gone, and what is built after that as it comes."""
    assert workspace.popbuild("run", "first").code == 0
    served.wait_for("first", "complete")
    with served.events() as events:
        shutil.rmtree(workspace.root / "pipeline-data")
        events.until("job", id="first", standing="new")
        assert workspace.popbuild("run", "first").code == 0
        events.until("job", id="first", standing="complete")
        workspace.task("analysis", prompt="Anew: {{ artifacts.research.content }}\n")
        events.until("job", id="first", standing="stale")
        assert workspace.popbuild("run", "first").code == 0
        events.until("job", id="first", standing="running")
        events.until("job", id="first", standing="complete")


def test_seeds_come_later(workspace: Workspace) -> None:
    """A folder of seeds that is made while the server runs is heard of, and what comes into it."""
    shutil.rmtree(workspace.root / "seeds")
    with serve(workspace) as served, served.events() as events:
        events.until("reset")
        workspace.seed("late", {"topic": "a"})
        events.until("job", id="late")
        workspace.seed("later", {"topic": "a"})
        events.until("job", id="later")


def test_a_root_in_which_nothing_can_be_built(workspace: Workspace) -> None:
    """What keeps builds from a root keeps nobody from looking at it."""
    (workspace.root / "pipeline-data/complete/runs.jsonl").mkdir(parents=True)
    with serve(workspace) as served:
        served.wait_for("first", "new")
        assert "first" in served.get("/").text
