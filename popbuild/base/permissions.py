"""The permissions of new files and folders: for the owner alone, or as POPBUILD_FILE_MODE says."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from popbuild.base.errors import UsageError

_PRIVATE = "600"


def file_mode() -> int:
    """The permissions of files: 0600, or what POPBUILD_FILE_MODE says (octal)."""
    return _mode(os.environ.get("POPBUILD_FILE_MODE", _PRIVATE))


@functools.cache
def _mode(configured: str) -> int:
    try:
        mode = int(configured, 8)
    except ValueError:
        mode = 0
    if mode & ~0o666 or mode & 0o600 != 0o600:
        allowed = "octal, readable and writable by its owner"
        values = {"POPBUILD_FILE_MODE": configured, "allowed": allowed}
        hint = "POPBUILD_FILE_MODE=640 lets the group read"
        raise UsageError("not a mode for files", values, hint)
    return mode


def folder_mode() -> int:
    """The permissions of folders: as of files, and readers may enter."""
    mode = file_mode()
    return mode | (mode & 0o444) >> 2


def own(path: Path) -> None:
    """Give a file from elsewhere the permissions of ours."""
    path.chmod(file_mode())
