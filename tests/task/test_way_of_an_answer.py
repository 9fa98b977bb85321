"""docs/design.md says how an answer goes: every file and function that it names is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

CHECKOUT = Path(__file__).parent.parent.parent
STEP = re.compile(r"^\| \d+ \| `(?P<file>[\w/]+\.py)`, `(?P<name>[\w.]+)` \|", re.MULTILINE)


def test_each_step_of_an_answer_is_there() -> None:
    page = (CHECKOUT / "docs/design.md").read_text()
    section = page.split("## The way of an answer")[1].split("\n## ")[0]
    steps = list(STEP.finditer(section))
    assert len(steps) == len(re.findall(r"^\| \d+ \|", section, re.MULTILINE)) == 12
    for step in steps:
        found: ast.AST = ast.parse((CHECKOUT / "popbuild" / step["file"]).read_text())
        for part in step["name"].split("."):
            names = {getattr(each, "name", ""): each for each in ast.iter_child_nodes(found)}
            assert part in names, step[0]
            found = names[part]
