"""A job's stamp: a digest over the stats of every file that its verdict is read from, and over all
else that decides: the configuration, where models answer, popbuild itself."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from popbuild import __version__
from popbuild.base import jsonio
from popbuild.base.paths import (
    COMPLETE,
    PACKAGE,
    SEED,
    STATUS,
    Root,
    artifact_place,
    job_place,
    letter_place,
    samples_place,
    seed_place,
)
from popbuild.jobs import fingerprint
from popbuild.jobs.surroundings import Surroundings
from popbuild.model.pipeline import Pipeline

# Folders of the code that decides what is stale.
_JUDGES = ("base", "model", "model/config", "model/schema", "llm", "jobs")
_pack = struct.Struct("=qqqQQ").pack

# A path -> what stands there, None for nothing.
Look = Callable[[str], os.stat_result | None]


@dataclass(frozen=True)
class Watched:
    """What decides about one pipeline's jobs: places in a job's directory, and a digest of
    everything else."""

    pipeline: Pipeline
    places: tuple[str, ...]
    elsewhere: bytes


def watched_of(around: Surroundings, pipeline: Pipeline) -> Watched:
    places = [SEED, STATUS]
    for task in pipeline.tasks:
        places += [letter_place(task.id), artifact_place(task.artifact)]
    elsewhere = jsonio.digest(
        [
            _own_code(),
            fingerprint.STAGES_VERSION,
            [dataclasses.asdict(task) for task in pipeline.tasks],
            [dataclasses.astuple(around.model_place(task)) for task in pipeline.tasks],
            around.config.snapshot.digests,
        ]
    )
    return Watched(pipeline, tuple(places), elsewhere.encode())


def stat_at(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except OSError:
        return None


def stamp_of(root: Root, job: str, watched: Watched, look: Look) -> str:
    """A digest over the stats of a job's files, missing ones included."""
    folder = root.at(job_place(COMPLETE, job))
    parts = [watched.elsewhere]
    sources = root.at(seed_place(job)), root.at(samples_place(job))
    for path in (*sources, *[f"{folder}/{each}" for each in watched.places]):
        it = look(path)
        parts.append(
            b"missing"
            if it is None
            else _pack(it.st_size, it.st_mtime_ns, it.st_ctime_ns, it.st_ino, it.st_dev)
        )
    return hashlib.blake2b(b"".join(parts), digest_size=16).hexdigest()


def _own_code() -> list[Any]:
    """popbuild itself: another version of it may judge otherwise, and so may another edit of it."""
    found = []
    with contextlib.suppress(OSError):  # not installed as files
        for folder in _JUDGES:
            for each in os.scandir(PACKAGE / folder):
                if each.name.endswith(".py"):
                    status = each.stat()
                    found.append((f"{folder}/{each.name}", status.st_size, status.st_mtime_ns))
    return [__version__, sorted(found)]
