"""How the root for a command is found."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from popbuild.base.errors import ConfigError, UsageError
from popbuild.base.paths import Root


def is_root(folder: Path) -> bool:
    """Whether a folder is a root, that is, has pipeline-config/."""
    return (folder / "pipeline-config").is_dir()


def check_there(root: Root) -> None:
    """ConfigError if a root was removed: it would look like one without jobs."""
    if not root.path.is_dir():
        raise ConfigError(
            "the root is not there any more",
            {"folder": root.path},
            hint="put it back, or start again where it is now",
        )


def find_root(start: Path, given: str | None = None, said: str = "--root") -> Root:
    """The root for a command: `given` (by `said`), else POPBUILD_ROOT, else the first found from
    `start` upwards.

    On the way up, a pyproject.toml with `[tool.popbuild] root` names a root below it: a checkout
    says `root = "demo"`.
    """
    for source, value in ((said, given), ("POPBUILD_ROOT", os.environ.get("POPBUILD_ROOT"))):
        if value:
            return _named(start / value, {"from": source, "missing": "pipeline-config/"})
    start = start.resolve()
    for folder in (start, *start.parents):
        if is_root(folder):
            return Root(folder)
        named = _name_in_project(folder / "pyproject.toml")
        if named is not None:
            return _named(folder / named, {"from": f"{folder}/pyproject.toml: tool.popbuild.root"})
    raise UsageError(
        "no popbuild root here",
        {"looked in": f"{start} and above", "for": "a folder with pipeline-config/"},
        hint="popbuild init makes one; --root or POPBUILD_ROOT names one elsewhere",
    )


def _named(folder: Path, values: Mapping[str, str]) -> Root:
    folder = folder.resolve()
    if not is_root(folder):
        hint = "popbuild init makes a root"
        raise UsageError("not a popbuild root", {"folder": folder, **values}, hint)
    return Root(folder)


def _name_in_project(pyproject: Path) -> str | None:
    try:
        # A pipe would never be read to its end.
        data = pyproject.read_bytes() if pyproject.is_file() else b""
    except OSError:
        return None
    if b"tool.popbuild" not in data:
        return None
    # Imported here: a command without a pyproject.toml of ours should not pay for it.
    import tomllib

    try:
        named = tomllib.loads(data.decode()).get("tool", {}).get("popbuild", {}).get("root")
    except ValueError:
        return None
    return named if isinstance(named, str) else None
