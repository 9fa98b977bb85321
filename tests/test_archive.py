"""`archive`, `restore` and `backup`: what goes into a file comes back as it was, or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from provider import Provider
from workspace import Workspace

COMPLETE = "pipeline-data/complete/first"


@pytest.fixture
def built(workspace: Workspace) -> Workspace:
    """Two complete jobs, one rejected."""
    workspace.seed("second", {"topic": "wind", "tone": "plain"})
    assert workspace.popbuild("run").code == 0
    return workspace


def fails(workspace: Workspace, said: str, *args: str, code: int = 3) -> None:
    """The command is refused, says this, and changes nothing."""
    before = workspace.tree()
    result = workspace.popbuild(*args)
    assert (result.code, said in result.err) == (code, True), result.out + result.err
    assert workspace.tree() == before
    assert left_over(workspace) == []


def done(workspace: Workspace, *args: str) -> str:
    result = workspace.popbuild(*args)
    assert result.code == 0, result.out + result.err
    return result.out


def left_over(workspace: Workspace) -> list[Path]:
    return [*workspace.root.rglob(".tmp-*"), *workspace.root.glob(".popbuild/restoring/*")]


# --- there and back ---


def test_there_and_back(built: Workspace, provider: Provider) -> None:
    """A job that was archived, removed and restored is as it was, to the byte; verify misses it at
    no time, and each command may be given again."""
    calls, before = len(provider.requests), built.tree("pipeline-data")
    archived = json.loads(done(built, "archive", "first", "-o", "a.tar.zst", "--remove", "--json"))
    assert archived["removed"] == [COMPLETE]
    assert archived["jobs"] == ["first"]
    assert built.states("first") == []
    assert (built.root / "a.tar.zst").stat().st_mode & 0o777 == 0o600
    done(built, "verify")
    out = done(built, "restore", "a.tar.zst")
    assert out == f"restored {COMPLETE}\n"
    assert built.tree("pipeline-data") == before
    after = built.tree()
    assert done(built, "restore", "a.tar.zst") == f"{COMPLETE} is there already\n"
    assert built.tree() == after
    done(built, "verify")
    done(built, "check")
    assert len(provider.requests) == calls
    # Once it is back, it must stand: verify misses it if somebody takes it away.
    shutil.rmtree(built.job("first"))
    assert built.popbuild("verify").code == 1
