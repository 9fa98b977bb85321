"""A job's stamp: a digest over the stats of every file that decides its verdict, and over all else
that decides: configuration, addresses, popbuild itself. The index's file keeps the stamps."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from popbuild.base import disk, file_clock, jsonio, paths, tree
from popbuild.base.errors import PopbuildError
from popbuild.base.paths import COMPLETE, CURRENT, PENDING, REJECTED, SEED, STATUS, Root
from popbuild.jobs import fingerprint, job_ids, records, row_seeds
from popbuild.jobs.examine import Exam
from popbuild.jobs.own_code import own_code
from popbuild.jobs.staleness import Verdict
from popbuild.jobs.surroundings import Surroundings
from popbuild.model.pipeline import Pipeline

_INDEX_VERSION = 6
_MAX_REASONS = 4_000  # characters of a stale job's reasons that are kept
_pack = struct.Struct("=qqqQQ").pack

# A place of the root -> what stands there, None for nothing.
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
    places += [paths.scores_place(task.id) for task in pipeline.scored]
    elsewhere = jsonio.digest(
        [
            own_code(),
            fingerprint.STAGES_VERSION,
            [dataclasses.asdict(task) for task in pipeline.tasks],
            [dataclasses.astuple(around.model_place(task)) for task in pipeline.tasks],
            around.config.snapshot.look,
        ]
    )
    return Watched(pipeline, tuple(places), elsewhere.encode())


@dataclass(frozen=True)
class Stats:
    """What is there of a job: the digest of the row that makes it, and the stats of its files, None
    for one that is missing. A row has a digest of its own, since its table changes with each."""

    row: bytes
    files: Sequence[os.stat_result | None]


def stats_of(
    root: Root, job: str, watched: Watched, inputs: Iterable[str], row: bytes, look: Look
) -> Stats:
    """The stats of a job's files, each by a look at its path. `inputs` are the places of those that
    its seed names."""
    folder = root.job_place(COMPLETE, job)
    own = (f"{folder}/{each}" for each in watched.places)
    expected = [paths.expected_place(job)] if watched.pipeline.scored else []
    places = (paths.seed_place(job), root.samples_place(job), *own, *inputs, *expected)
    return Stats(row, [look(root.at(each)) for each in places])


class OneMoment:
    """The jobs of a root as they are found from one moment on: what all of them have is looked at
    once, the tables, and the folders in which most jobs of rows have no file."""

    def __init__(self, root: Root, look: Look) -> None:
        self._root, self._look = root, look
        self._rows = row_seeds.digests_of_rows(root)
        self._seeds = frozenset(tree.stems_in(root.seeds, ".json"))
        self._samples = frozenset(tree.stems_in(root.samples("any").parent, ".json"))

    def stats_of(self, job: str, watched: Watched, inputs: Iterable[str]) -> Stats:
        """`stats_of` a job in this moment."""
        look, folder = self._look, self._root.job_place(COMPLETE, job)
        seed = look(paths.seed_place(job)) if job in self._seeds else None
        samples = look(self._root.samples_place(job)) if job in self._samples else None
        own = [look(f"{folder}/{each}") for each in watched.places]
        found = [seed, samples, *own, *map(look, inputs)]
        if watched.pipeline.scored:
            found.append(look(paths.expected_place(job)))
        return Stats(self._rows.get(job, b""), found)


def stamp_of(watched: Watched, stats: Stats, members: bytes = b"") -> str:
    """A digest over what is there of a job. `members` is one over the stamps of the jobs that it is
    over."""
    parts = [watched.elsewhere, stats.row, members]
    for it in stats.files:
        parts.append(
            b"missing"
            if it is None
            else _pack(it.st_size, it.st_mtime_ns, it.st_ctime_ns, it.st_ino, it.st_dev)
        )
    return hashlib.blake2b(b"".join(parts), digest_size=16).hexdigest()


StaleRow = tuple[str, Mapping[str, Verdict]]  # a row, and the verdict on each task
Places = dict[str, list[str]]  # of the files that a job's seed names, by the job
Globs = dict[str, dict[str, str]]  # of the jobs that a job is over, by name, by the job


def read_index(
    path: Path, now: file_clock.Moment
) -> tuple[dict[str, str], dict[str, StaleRow], Places, Globs]:
    """The rows of an index, the verdicts on stale jobs, the files and the jobs that seeds name;
    none if it cannot be trusted."""
    try:
        digest, _, data = disk.read(path).partition(b"\n")
        if digest.decode() != jsonio.digest_bytes(data):
            return {}, {}, {}, {}
        body = json.loads(data)
        if body["formatVersion"] != _INDEX_VERSION or body["recorded"] > now.time_ns:
            return {}, {}, {}, {}
        rows: dict[str, str] = body["jobs"]
        return rows, stale_rows(body["stale"]), body["inputs"], body["over"]
    except (OSError, ValueError, KeyError, TypeError, PopbuildError):
        return {}, {}, {}, {}


def write_index(
    path: Path,
    now: file_clock.Moment,
    rows: Mapping[str, str],
    stale: Mapping[str, StaleRow],
    inputs: Places,
    over: Globs,
) -> None:
    body = {
        "formatVersion": _INDEX_VERSION,
        "recorded": now.time_ns,
        "jobs": rows,
        "stale": rows_as_json(stale),
        "inputs": inputs,
        "over": over,
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


def unsettled_jobs(root: Root) -> frozenset[str]:
    """The jobs that are more than a directory in complete/: a seed waits, a build is under way or
    was rejected, a promotion was cut short, a task is frozen. These are examined."""
    data, notes = root.data, root.own / job_ids.PROMOTIONS
    return frozenset(tree.stems_in(data / PENDING, "-seed.json")).union(
        *(tree.stems_in(folder, ".json") for folder in (notes, records.frozen_folder(root))),
        *(tree.stems_in(data / state, "") for state in (CURRENT, REJECTED)),
    )


def told_verdicts(exam: Exam) -> Mapping[str, Verdict] | None:
    """The verdicts on a complete job that is stale or has skipped tasks, if its stamp covers all
    that decided them."""
    if exam.pipeline.gated or exam.frozen:
        return None
    if exam.up_to_date() and not any(each.skipped for each in exam.verdicts.values()):
        return None
    length = sum(len(reason) for each in exam.verdicts.values() for reason in each.reasons)
    return dict(exam.verdicts) if length <= _MAX_REASONS else None
