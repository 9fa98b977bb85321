"""How the root for a command is found, and what its variant adds to the texts of errors."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from popbuild.base.errors import ConfigError, PopbuildError, UsageError
from popbuild.base.paths import VARIANTS, Root

# Commands about jobs, as hints name them.
_COMMANDS = re.compile(
    r"\b(?:doit (?:run|list|info|forget|clean)|popbuild (?:run|plan|list|status|show|check|explain|"
    r"retry|approve|reject|accept|freeze|thaw|export|diff|trace|verify|validate|prune|watch|submit))\b"
)
_CONFIG_FILE = re.compile(r"pipeline-config/(?!variants/)([\w./-]*\w)")


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


def as_seen(root: Root, text: str) -> str:
    """A text as it should be read of the root's variant: commands that it names are about this
    variant, and files of the configuration are those that stand in the place of the main ones."""
    if not root.variant.apart:
        return text
    name = root.variant.of or root.variant.name

    def place(match: re.Match[str]) -> str:
        own = f"pipeline-config/{VARIANTS}/{name}/{match[1]}"
        return own if name and (root.path / own).is_file() else match[0]

    return _CONFIG_FILE.sub(place, _COMMANDS.sub(rf"\g<0> --variant {root.variant.label}", text))


def seen_in_error(root: Root, error: PopbuildError) -> None:
    """Let an error say what it says as the root's variant has it."""
    main = ("instead of", "did you mean")  # these are about the main files
    error.values = {
        key: value if key in main else as_seen(root, value) for key, value in error.values.items()
    }
    error.hint = as_seen(root, error.hint) if error.hint else error.hint


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
