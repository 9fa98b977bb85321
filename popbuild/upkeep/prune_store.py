"""Which stored answers are not needed any more, and their removal."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from popbuild.base import tree
from popbuild.base.errors import LockedError, UsageError
from popbuild.base.paths import Root
from popbuild.jobs import lifecycle, lookup
from popbuild.jobs.claims import JobLocks
from popbuild.upkeep.share_store import StoredFile, stored_files

_RECEIPTS = ("letter.json", "rejection.json")  # the files that name a job's answers
_DIGEST = re.compile(rb"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class StorePruning:
    """What was dropped, or would be. `referenced` counts the entries that were kept because a job
    refers to them; `kept_bytes` may be more than was allowed because of them."""

    dropped: tuple[str, ...]
    dropped_bytes: int
    kept: int
    kept_bytes: int
    referenced: int
    done: bool

    def as_json(self) -> dict[str, Any]:
        return {
            "dropped": list(self.dropped),
            "droppedBytes": self.dropped_bytes,
            "kept": self.kept,
            "keptBytes": self.kept_bytes,
            "referenced": self.referenced,
            "done": self.done,
        }


def prune_store(
    root: Root,
    *,
    older_than_s: float | None = None,
    max_bytes: int | None = None,
    referenced: bool = False,
    really: bool = False,
) -> StorePruning:
    """Drop entries older than an age, then the oldest until the rest is small enough.

    Age counts from when an entry was stored or pulled. Entries that a job in any state, or a
    previous result, refers to are kept, unless `referenced`. Without `really`, only says what would
    be dropped. LockedError while a job is built: it may be about to refer to an old answer.
    """
    if older_than_s is None and max_bytes is None:
        raise UsageError(
            "prune needs to know what to drop",
            {"missing": "--older-than, --max-size or both"},
            hint="popbuild cache prune --older-than 30d --max-size 500MB",
        )
    oldest_s = float("-inf") if older_than_s is None else time.time() - older_than_s
    with _no_builds(root) if really else contextlib.nullcontext():
        kept_for = set() if referenced else _referenced(root)
        files = sorted(stored_files(root), key=lambda file: (file.mtime, file.name))
        left = sum(file.size_bytes for file in files)
        dropped: list[StoredFile] = []
        kept = Counter[bool]()  # by whether a job refers to it, though the rule would drop it
        for file in files:
            goes = file.mtime < oldest_s or (max_bytes is not None and left > max_bytes)
            spared = goes and file.digest in kept_for
            if not goes or spared:
                kept[spared] += 1
                continue
            dropped.append(file)
            left -= file.size_bytes
            if really:
                tree.remove(file.path)
    names, sizes = [file.name for file in dropped], [file.size_bytes for file in dropped]
    return StorePruning(tuple(names), sum(sizes), kept.total(), left, kept[True], really)


def _referenced(root: Root) -> set[str]:
    """Every digest that a letter or a rejection names: of jobs in any state, of previous results,
    and of those that doctor moved away. Found in the bytes: a torn file counts too."""
    found: set[str] = set()
    for top in (root.data, root.private / "previous", root.private / "doctor"):
        for folder, _, names in os.walk(top, onerror=_raise):
            for name in names:
                if name in _RECEIPTS:
                    data = (Path(folder) / name).read_bytes()
                    found.update(match.decode() for match in _DIGEST.findall(data))
    return found


def _raise(error: OSError) -> None:
    """A folder that cannot be read may refer to anything; a missing one refers to nothing."""
    if not isinstance(error, FileNotFoundError):
        raise error


@contextlib.contextmanager
def _no_builds(root: Root) -> Iterator[None]:
    """Hold the locks of all jobs."""
    locks = JobLocks(root)
    held: list[str] = []
    try:
        for job in lookup.known_jobs(root):
            if not locks.acquire(job):
                raise LockedError(
                    "another command builds a job",
                    {"job": job},
                    hint="prune when it is done: it may be about to refer to an old answer",
                )
            held.append(job)
            lifecycle.note_abandoned(root, job)
        yield
    finally:
        for job in held:
            locks.release(job)
