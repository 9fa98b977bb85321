"""stages.py is imported from a snapshot, and only while its build lasts."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from popbuild.base.errors import TaskError
from popbuild.model.config.snapshot import Snapshot
from popbuild.task.user_code import Finder, load_user_code

STAGES = "tasks/one/stages.py"


def finder(answer: str, folder: Path) -> Finder:
    """A configuration whose stage answers with what a helper in a plain folder has."""
    files = {
        STAGES: "from lib.deep import words\n\ndef inference(context):\n    return words.ANSWER\n",
        "lib/deep/words.py": f"ANSWER = {answer!r}\n",
    }
    return Finder(Snapshot({path: text.encode() for path, text in files.items()}), folder)


def test_two_configurations_do_not_share_modules(tmp_path: Path) -> None:
    """One after the other in a process, each has its stages, and its helpers of the same names."""
    before, said = set(sys.modules), []
    for answer in ("first", "second"):
        with finder(answer, tmp_path).installed():
            said.append(load_user_code(STAGES)["inference"](SimpleNamespace()))
    assert said == ["first", "second"]
    assert not {
        name for name in set(sys.modules) - before if name.split(".")[0] in ("lib", "tasks")
    }


def test_after_a_build_its_code_cannot_be_imported(tmp_path: Path) -> None:
    """The process imports as before, also where the build failed."""
    paths = list(sys.meta_path)
    with contextlib.suppress(RuntimeError), finder("x", tmp_path).installed():
        load_user_code(STAGES)
        raise RuntimeError
    assert sys.meta_path == paths
    with pytest.raises(TaskError, match="a task's code cannot be imported"):
        load_user_code(STAGES)
