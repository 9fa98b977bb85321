"""popbuild's own code, for what is kept of its verdicts: another version of it may judge otherwise,
and so may another edit of it."""

from __future__ import annotations

import contextlib
import functools
import os

from popbuild import __version__
from popbuild.base import jsonio
from popbuild.base.paths import PACKAGE

# Folders of the code that decides what is stale.
_JUDGES = ("base", "model", "model/config", "model/schema", "llm", "jobs")


@functools.cache
def own_code() -> str:
    """A digest over the version, and over the stats of the files that decide what is stale."""
    found = []
    with contextlib.suppress(OSError):  # not installed as files
        for folder in _JUDGES:
            for each in os.scandir(PACKAGE / folder):
                if each.name.endswith(".py"):
                    status = each.stat()
                    found.append((f"{folder}/{each.name}", status.st_size, status.st_mtime_ns))
    return jsonio.digest([__version__, sorted(found)])
