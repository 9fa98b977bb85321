"""How the root for a command is found."""

from __future__ import annotations

import os
from pathlib import Path

from popbuild.base.errors import ConfigError, UsageError
from popbuild.base.paths import Root


def is_root(folder: Path) -> bool:
    """Whether a folder is a root: pipeline-config/ is what makes it one."""
    return (folder / "pipeline-config").is_dir()


def check_there(root: Root) -> None:
    """ConfigError where a root is not there any more: it would look like one without any job."""
    if not root.path.is_dir():
        raise ConfigError(
            "the root is not there any more",
            {"folder": root.path},
            hint="put it back, or start again where it is now",
        )


def find_root(start: Path, given: str | None = None, said: str = "--root") -> Root:
    """The root for a command: `given`, by what was `said`, else POPBUILD_ROOT, else found
    upwards from `start`.

    On the way up, a pyproject.toml with `[tool.popbuild] root` names a root below it: a checkout
    says `root = "demo"`.
    """
    for source, value in ((said, given), ("POPBUILD_ROOT", os.environ.get("POPBUILD_ROOT"))):
        if value:
            folder = (start / value).resolve()
            if not is_root(folder):
                raise UsageError(
                    "not a popbuild root",
                    {"folder": folder, "from": source, "missing": "pipeline-config/"},
                    hint="popbuild init makes a root",
                )
            return Root(folder)
    start = start.resolve()
    for folder in (start, *start.parents):
        if is_root(folder):
            return Root(folder)
        named = _root_of_project(folder / "pyproject.toml")
        if named is not None:
            return named
    raise UsageError(
        "no popbuild root here",
        {"looked in": f"{start} and above", "for": "a folder with pipeline-config/"},
        hint="popbuild init makes one; --root or POPBUILD_ROOT names one elsewhere",
    )


def _root_of_project(pyproject: Path) -> Root | None:
    try:
        if not pyproject.is_file():  # a pipe would never be read to its end
            return None
        data = pyproject.read_bytes()
    except OSError:
        return None
    if b"tool.popbuild" not in data:
        return None
    # Imported here: a command without a pyproject.toml of ours should not pay for it.
    import tomllib

    try:
        named = tomllib.loads(data.decode()).get("tool", {}).get("popbuild", {}).get("root")
    except (ValueError, UnicodeDecodeError):
        return None
    if not isinstance(named, str):
        return None
    folder = (pyproject.parent / named).resolve()
    if not is_root(folder):
        raise UsageError(
            "not a popbuild root",
            {"folder": folder, "from": f"{pyproject}: tool.popbuild.root"},
            hint="popbuild init makes a root",
        )
    return Root(folder)
