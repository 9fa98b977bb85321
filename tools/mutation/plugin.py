"""What pytest does for tools/mutate: notes when each test runs, or runs chosen ones."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

SELECTED = "POPBUILD_MUTATE_SELECTED"  # a file with the IDs of tests, in the order to run them
TIMES = "POPBUILD_MUTATE_TIMES"  # a folder for the times of tests


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if SELECTED in os.environ:
        wanted = json.loads(Path(os.environ[SELECTED]).read_text())
        known = {item.nodeid: item for item in items}
        items[:] = [known[name] for name in wanted if name in known]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> object:
    if TIMES not in os.environ:
        return (yield)
    from popbuild import _recorder

    _recorder.forget()
    began = time.monotonic_ns()
    try:
        return (yield)
    finally:
        line = json.dumps([item.nodeid, began, time.monotonic_ns()])
        with (Path(os.environ[TIMES]) / os.environ["PYTEST_XDIST_WORKER"]).open("a") as file:
            file.write(line + "\n")
