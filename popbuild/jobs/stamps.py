"""A job's stamp: a digest over the stats of every file that decides its verdict, and over all else
that decides: configuration, addresses, popbuild itself. The index's file keeps the stamps."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from popbuild import __version__
from popbuild.base import disk, file_clock, jsonio, paths
from popbuild.base.errors import PopbuildError
from popbuild.base.paths import COMPLETE, PACKAGE, SEED, STATUS, Root
from popbuild.jobs import fingerprint, row_seeds
from popbuild.jobs.staleness import Verdict
from popbuild.jobs.surroundings import Surroundings
from popbuild.model.pipeline import Pipeline

# Folders of the code that decides what is stale.
_JUDGES = ("base", "model", "model/config", "model/schema", "llm", "jobs")
_INDEX_VERSION = 5
_pack = struct.Struct("=qqqQQ").pack

# A path -> what stands there, None for nothing.
Look = Callable[[str], os.stat_result | None]


@dataclass(frozen=True)
class Watched:
    """What decides about a pipeline's jobs: places in their directories, a digest of the rest."""

    pipeline: Pipeline
    places: tuple[str, ...]
    elsewhere: bytes


def watched_of(around: Surroundings, pipeline: Pipeline) -> Watched:
    places = [SEED, STATUS]
    for task in pipeline.tasks:
        places += [paths.letter_place(task.id), paths.artifact_place(task.artifact)]
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


def stamp_of(root: Root, job: str, watched: Watched, look: Look, inputs: Iterable[str] = ()) -> str:
    """A digest over the stats of a job's files, missing ones included. `inputs` are the places, of
    the root, of the files that its seed names."""
    folder = root.at(paths.job_place(COMPLETE, job))
    row = row_seeds.of_row(root, job)  # of its own digest: its table changes with each row
    parts = [watched.elsewhere, b"" if row is None else row.digest]
    sources = root.at(paths.seed_place(job)), root.at(paths.samples_place(job))
    own = [f"{folder}/{each}" for each in watched.places]
    for path in (*sources, *own, *map(root.at, inputs)):
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


StaleRow = tuple[str, Mapping[str, Verdict]]  # a row, and the verdict on each task
Places = dict[str, list[str]]  # of the files that a job's seed names, by the job


def read_index(
    path: Path, now: file_clock.Moment
) -> tuple[dict[str, str], dict[str, StaleRow], Places]:
    """The rows of an index, the verdicts on stale jobs, and the files of seeds; none if it cannot
    be trusted."""
    try:
        digest, _, data = disk.read(path).partition(b"\n")
        if digest.decode() != jsonio.digest_bytes(data):
            return {}, {}, {}
        body = json.loads(data)
        if body["formatVersion"] != _INDEX_VERSION or body["recorded"] > now.time_ns:
            return {}, {}, {}
        rows: dict[str, str] = body["jobs"]
        stale = stale_rows(body["stale"])
        inputs: Places = body["inputs"]
    except (OSError, ValueError, KeyError, TypeError, PopbuildError):
        return {}, {}, {}
    return rows, stale, inputs


def write_index(
    path: Path,
    now: file_clock.Moment,
    rows: Mapping[str, str],
    stale: Mapping[str, StaleRow],
    inputs: Places,
) -> None:
    body = {
        "formatVersion": _INDEX_VERSION,
        "recorded": now.time_ns,
        "jobs": rows,
        "stale": rows_as_json(stale),
        "inputs": inputs,
    }
    data = json.dumps(body, separators=(",", ":")).encode()
    disk.write(path, jsonio.digest_bytes(data).encode() + b"\n" + data, sync=False)


def rows_as_json(stale: Mapping[str, StaleRow]) -> dict[str, Any]:
    return {
        job: (row, {name: _verdict_as_json(it) for name, it in verdicts.items()})
        for job, (row, verdicts) in stale.items()
    }


def _verdict_as_json(verdict: Verdict) -> tuple[Any, ...]:
    return verdict.reasons, verdict.edited, verdict.as_built, verdict.skipped


def stale_rows(body: Mapping[str, Any]) -> dict[str, StaleRow]:
    found: dict[str, StaleRow] = {}
    for job, (row, told) in body.items():
        verdicts = {
            name: Verdict(tuple(reasons), edited=edited, as_built=as_built, skipped=skipped)
            for name, (reasons, edited, as_built, skipped) in told.items()
        }
        found[job] = row, verdicts
    return found
