"""A root that an earlier version wrote is read, is up to date, and is proven as it stands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from workspace import CHECKOUT, Workspace

# Backups that the versions of these dates wrote, with the address that they asked, a dependency:
# nothing listens there today. Each has three tasks with a schema that refers to another, stages
# that import a helper, an included template, a human gate, and a refinement.
ROOTS = {"2026-11-30": "http://127.0.0.1:43741/v1"}
# What each job stands for, and which of its tasks are stale.
STANDING = {
    "frozen": ("complete", {"research"}),
    "plain": ("complete", set()),
    "rebuilt": ("complete", set()),
    "rejected": ("rejected", set()),
    "sent": ("pending", {"research", "points", "review"}),
    "waiting": ("waiting", set()),
}


@pytest.fixture(params=ROOTS)
def earlier(request: pytest.FixtureRequest, tmp_path: Path) -> Workspace:
    """The root of an earlier version, put back by this one. No provider answers."""
    workspace = Workspace(tmp_path)
    backup = CHECKOUT / f"tests/roots/{request.param}.tar.zst"
    assert workspace.popbuild("restore", str(backup), "--into", "../earlier").code == 0
    workspace.root = tmp_path / "earlier"
    return workspace


@pytest.fixture
def env(earlier: Workspace, request: pytest.FixtureRequest) -> dict[str, str]:
    address = ROOTS[request.node.callspec.params["earlier"]]
    return {"OPENAI_BASE_URL": address, "OPENAI_API_KEY": "sk-test-not-a-real-key"}


def test_an_earlier_root_stands_as_it_stood(earlier: Workspace, env: dict[str, str]) -> None:
    """Each job has its state, its stale tasks are those that were stale, and nothing else is."""
    jobs = json.loads(earlier.popbuild("list", "--json", env=env).out)
    found = {
        job["id"]: (job["state"], {name for name, each in job["tasks"].items() if each["stale"]})
        for job in jobs
    }
    assert found == STANDING
    proven = earlier.popbuild("verify", env=env)
    assert (proven.code, proven.out.count(": proven: 3 tasks")) == (0, 3)


def test_an_earlier_root_is_built_on(earlier: Workspace, env: dict[str, str]) -> None:
    """A run of what was up to date changes no file of the jobs and calls nothing, twice; approving
    what waited then makes it complete, again without a call."""
    before = earlier.tree("pipeline-data/complete")
    for _ in range(2):
        again = earlier.popbuild("run", "plain", "rebuilt", env=env)
        assert (again.code, again.err) == (0, "")
    assert earlier.tree("pipeline-data/complete") == before
    assert earlier.popbuild("approve", "waiting", env=env).code == 0
    assert earlier.popbuild("run", "waiting", env=env).code == 0
    assert earlier.states("waiting") == ["complete"]
