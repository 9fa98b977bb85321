"""Which files editors and systems leave behind, by their names.

A file that has such a name and is asked for all the same, by an `include`, by `files:` in
`task.yaml` or in what the task runs, is a file like others.
"""

from __future__ import annotations

import re

# Never read, even where a file names them: backups, bytecode, and what is hidden anyway.
FOLDERS = frozenset({"__pycache__", "node_modules"})
_UNREAD = ("~", ".pyc", ".pyo", ".swp", ".swo", ".bak", ".orig", ".tmp")

_NAMES = frozenset(
    {"thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r"}  # of systems
    # vim tries whether it can write into a folder, by the first of these that is free.
    | {str(4913 + 123 * number) for number in range(20)}
)
_FOLDERS = frozenset(
    {"__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information"}
)
_PATTERN = re.compile(
    r"~\$.*"  # an office's lock
    r"|~wr[a-z]\d+\..*"  # and its temporary files
    r"|.+\.tmp\..+"  # written beside a file, to take its place
    r"|.+(?:___jb_tmp___|___jb_old___|\.crdownload|\.rej|\.sw[a-z]|\.bak|\.orig|\.tmp)"
)


def is_unread(path: str) -> bool:
    """Whether a file is never part of a configuration."""
    name = path.rpartition("/")[2]
    return name.endswith(_UNREAD) or name.startswith("#")


def is_litter(path: str) -> bool:
    """Whether a file is a dependency only where something names it. Case is ignored, as the
    systems that leave such files do."""
    *folders, name = path.casefold().split("/")
    return (
        name in _NAMES or not _FOLDERS.isdisjoint(folders) or _PATTERN.fullmatch(name) is not None
    )
