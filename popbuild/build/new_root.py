"""`popbuild init`: a root with an example."""

from __future__ import annotations

import shutil
from pathlib import Path

from popbuild.base import disk
from popbuild.base.errors import UsageError
from popbuild.base.paths import PACKAGE, Root
from popbuild.jobs import lifecycle

_GITIGNORE = "pipeline-data/\n.popbuild/\n.env\n"
_DODO = (
    '"""doit\'s entry: every job is a task. `doit list`, `doit run job=<id>`, '
    '`doit info <id>:<task>`."""\n\n'
    "from popbuild.engine.creators import DOIT_CONFIG, task_jobs\n\n"
    '__all__ = ["DOIT_CONFIG", "task_jobs"]\n'
)


def init(folder: Path) -> list[str]:
    """Make a root from the demo; UsageError if there is one. Gives the names of its files."""
    if (folder / "pipeline-config").exists():
        raise UsageError("there is a root already", {"folder": folder})
    written = []
    packaged = PACKAGE / "_demo"
    source = packaged if packaged.is_dir() else PACKAGE.parent / "demo"
    disk.make_folder(folder)
    for name in ("seeds", "pipeline-config"):
        if (folder / name).exists():
            raise UsageError("a folder is in the way", {"folder": folder / name})
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source / name, folder / name, ignore=ignore)
        written.append(f"{name}/")
    for name, text in ((".gitignore", _GITIGNORE), ("dodo.py", _DODO)):
        if not (folder / name).exists():
            (folder / name).write_text(text, encoding="utf-8")
            written.append(name)
    lifecycle.prepare_root(Root(folder))
    return written
