"""Two jobs of four tasks, each of which needs the one before; `cheap` is a variant of the last."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from workspace import Workspace

TASKS = ["research", "analysis", "synthesis", "formatting"]
CHEAP = "pipeline-config/variants/cheap"


def four_tasks(workspace: Workspace) -> Workspace:
    for job in ("first", "second"):
        workspace.seed(job, {"topic": f"topic of {job}"})
    above = "{{ seed.data.topic }}"
    for number, task in enumerate(TASKS):
        needs = {"needs": TASKS[number - 1 : number] if number else []}
        workspace.task(task, prompt=f"{task}: {above} {{{{ vars.tone }}}}", task_yaml=needs)
        above = f"{{{{ artifacts.{task}.content }}}}"
    workspace.pipeline(TASKS, vars={"tone": "dry", "length": 5})
    workspace.write(f"{CHEAP}/tasks/formatting/prompt.md", "Shorter: {{ artifacts.synthesis }}")
    return workspace


def run(workspace: Workspace, *words: str, code: int = 0) -> str:
    """What a command printed. Its exit code is as it should be."""
    result = workspace.popbuild(*words)
    assert result.code == code, result.out + result.err
    assert "Traceback" not in result.err
    return result.out + result.err


def digests(folder: Path) -> dict[str, str]:
    """Every file below a folder by its digest, without the variants' own."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if not (name := path.relative_to(folder).as_posix()).startswith("variants/")
    }


def letter(workspace: Workspace, variant: str, task: str, job: str = "first") -> dict[str, Any]:
    folder = workspace.root / f"pipeline-data/variants/{variant}/complete/{job}"
    found: dict[str, Any] = json.loads((folder / f"tasks/{task}/letter.json").read_bytes())
    return found
