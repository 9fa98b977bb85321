"""What most tests start from: a provider, and a root with one seed and two tasks."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import commands
import pytest
from hypothesis import HealthCheck, settings
from provider import Provider
from workspace import Workspace

# Else each worker rewrites the asserts of each test anew, before it runs the first.
sys.dont_write_bytecode = False

# How long an example takes says more of the machine than of the code.
settings.register_profile(
    "popbuild", deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("popbuild")

_MEMORY = Path("/dev/shm")  # noqa: S108 - pytest makes its own folder in it, with a safe mode
_ROOM_BYTES = 2 << 30


def pytest_configure(config: pytest.Config) -> None:
    """Keep the tests' roots in memory, where there is room: what waits for a disk proves nothing.

    Tests of what a disk does make their own (disks.py). PYTEST_DEBUG_TEMPROOT is pytest's variable
    for this folder, and wins, as --basetemp does.
    """
    if _MEMORY.is_mount() and shutil.disk_usage(_MEMORY).free > _ROOM_BYTES:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_MEMORY))
    server = getattr(config, "workerinput", {}).get("fork_server")
    if server is not None:
        os.environ[commands.ADDRESS] = server


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker where the controller's fork server is; that one imports what it needs while the
    workers read the tests."""
    node.workerinput["fork_server"] = commands.own_server().address


# What starts no command asks for none of these.
_COMMANDS = {"provider", "workspace"}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from scheduling import ByFixture  # by the controller alone

    return ByFixture(config, log)


@pytest.hookimpl(wrapper=True)  # around pytest-randomly: the first of a file is as it is written
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Generator[None, object, object]:
    """Mark what is quick; and start first what takes longest, so that at the end no worker waits
    for another."""
    _mark_quick(items)
    result = yield
    items.sort(key=lambda item: item.get_closest_marker("long") is None)
    return result


def _mark_quick(items: list[pytest.Item]) -> None:
    """Mark as `quick` what starts no command, and of the others the first of each file. What shares
    a fixture of its file takes long, so it is not quick."""
    started = set()
    for item in items:
        takes_long = any(map(item.get_closest_marker, ("slow", "thorough")))
        if "module" not in _scopes(item) and not takes_long:
            if _COMMANDS.isdisjoint(getattr(item, "fixturenames", ())):
                item.add_marker(pytest.mark.quick)
            elif item.path not in started:
                started.add(item.path)
                item.add_marker(pytest.mark.quick)


def _scopes(item: pytest.Item) -> set[str]:
    """Of the fixtures that a test asks for, itself or by another."""
    assert isinstance(item, pytest.Function)
    return {each[-1].scope for each in item._fixtureinfo.name2fixturedefs.values()}


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Twice as many workers as processors: many tests wait for what takes its time."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    cores = len(os.sched_getaffinity(0))
    return 2 * cores


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as provider:
        yield provider


@pytest.fixture
def workspace(tmp_path: Path, provider: Provider) -> Iterator[Workspace]:
    """Seed `first`; `research` answers on the seed's topic, `analysis` on the research."""
    with Workspace(tmp_path, provider) as workspace:
        workspace.seed("first", {"topic": "grid batteries", "tone": "plain"})
        workspace.task("research", prompt="Research: {{ seed.data.topic }}.\n")
        workspace.task("analysis", prompt="Analysis of: {{ artifacts.research.content }}\n")
        workspace.pipeline(["research", "analysis"])
        yield workspace
