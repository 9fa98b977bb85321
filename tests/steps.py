"""Kills popbuild just before the n-th of its steps that change the disk, wherever they are."""

from __future__ import annotations

import os

from workspace import Workspace

EVERY = bool(os.environ.get("POPBUILD_TEST_EVERY_STEP"))

_PROGRAM = """
import os, signal, sys
from popbuild.cli.main import main
from popbuild.base import tree

left = int(os.environ["STEPS"])

def step(function):
    def stepping(*arguments, **keywords):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **keywords)
    return stepping

for name in ("fsync", "replace", "mkdir", "unlink", "write", "rename", "rmdir"):
    setattr(os, name, step(getattr(os, name)))
tree._renameat2 = step(tree._renameat2)
sys.exit(main(sys.argv[1:]))
"""


def run_killed(workspace: Workspace, steps: int, *command: str) -> int:
    """Run popbuild with these words, killed after so many steps; the exit code, -9 if it was."""
    return workspace.run("python", "-c", _PROGRAM, *command, env={"STEPS": str(steps)}).code
