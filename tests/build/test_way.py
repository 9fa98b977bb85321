"""docs/design.md's "The way of a job" is the way that a build takes, held by a trace of one."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest
from provider import Provider
from workspace import CHECKOUT, Workspace

PACKAGE = CHECKOUT / "popbuild"
ROW = re.compile(r"^\| \d+ \| `(\S+\.py)`, `(\S+)` \|", re.MULTILINE)
MOST_STEPS = 15

# Notes when each function of the package is called first, in every thread, while doit runs a job.
TRACED = f"""
import itertools, json, os, sys, threading
from pathlib import Path

before, number, first = {str(PACKAGE)!r} + os.sep, itertools.count(), {{}}

def note(frame, event, argument):
    code = frame.f_code
    if event == "call" and code.co_filename.startswith(before):
        key = code.co_filename.removeprefix(before) + ", " + code.co_qualname
        if key not in first:
            first[key] = next(number)

threading.setprofile(note)
sys.setprofile(note)
from doit.doit_cmd import DoitMain
ended = DoitMain().run(sys.argv[1:])
sys.setprofile(None)
Path("trace.json").write_text(json.dumps(dict(first)))
sys.exit(ended)
"""


def steps() -> list[tuple[str, str]]:
    """The file and the function of each step, as the page has them."""
    text = (CHECKOUT / "docs/design.md").read_text()
    return ROW.findall(text.split("\n## The way of a job\n")[1].split("\n## ")[0])


def functions(path: Path) -> set[str]:
    """What a file defines, by the qualified names of functions and methods."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        inner = node.body if isinstance(node, ast.ClassDef) else []
        for each in [node, *inner]:
            if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
                found.add(each.name if each is node else f"{getattr(node, 'name', '')}.{each.name}")
    return found


def wrong(way: list[tuple[str, str]], called: dict[str, int]) -> list[str]:
    """The steps that the code does not have, that were not called, or that came in another order:
    by the first call of each."""
    found, last = [], -1
    for file, name in way:
        key = f"{file}, {name}"
        if not (PACKAGE / file).is_file() or name not in functions(PACKAGE / file):
            found.append(f"{key} does not exist")
        elif key not in called:
            found.append(f"{key} was not called")
        elif called[key] < last:
            found.append(f"{key} was called before the step above it")
        last = max(last, called.get(key, -1))
    return found


@pytest.fixture
def called(workspace: Workspace, provider: Provider) -> dict[str, int]:
    """The functions of the package that one build called, numbered by their first call."""
    workspace.dodo()
    result = workspace.run("python", "-c", TRACED, "run", "job=first")
    assert result.code == 0, result.out + result.err
    assert workspace.states("first") == ["complete"]
    assert len(provider.requests) == 2
    found: dict[str, int] = json.loads((workspace.root / "trace.json").read_text())
    return found


def test_the_page_names_the_steps_of_a_build(
    called: dict[str, int], workspace: Workspace, provider: Provider
) -> None:
    """From `doit run job=first` to the promotion: each step is there, was taken, and in this order.
    A page that names another function, or another order, is found out."""
    way = steps()
    assert 10 <= len(way) <= MOST_STEPS
    assert way[-1] == ("jobs/promotion.py", "promote")
    assert wrong(way, called) == []
    missing, uncalled = ("build/session.py", "no_such"), ("build/session.py", "plan_run")
    assert wrong([missing, *way], called) == ["build/session.py, no_such does not exist"]
    assert wrong([*way, uncalled], called) == ["build/session.py, plan_run was not called"]
    for place in range(len(way) - 1):
        swapped = [*way[:place], way[place + 1], way[place], *way[place + 2 :]]
        assert wrong(swapped, called), f"{way[place]} and {way[place + 1]} can be exchanged"
    assert workspace.doit("run", "job=first").code == 0
    assert len(provider.requests) == 2
