"""Which files were read, and their stats then: the index keeps these instead of contents."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

_seen: ContextVar[dict[str, os.stat_result | None] | None] = ContextVar("seen", default=None)


@contextlib.contextmanager
def noting_reads() -> Iterator[dict[str, os.stat_result | None]]:
    """Note each file that is read inside: by its path, its stat at the time, or None if a second
    read found it changed."""
    seen: dict[str, os.stat_result | None] = {}
    token = _seen.set(seen)
    try:
        yield seen
    finally:
        _seen.reset(token)


def look_of(status: os.stat_result) -> tuple[int, ...]:
    """All of a stat that changes with a file; not the time of its last access."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def note_read(path: str | Path, status: os.stat_result) -> None:
    """Note a file that was read, or that is known from an earlier read with the same stat."""
    seen = _seen.get()
    if seen is not None:
        before = seen.setdefault(str(path), status)
        seen[str(path)] = status if before and look_of(before) == look_of(status) else None
