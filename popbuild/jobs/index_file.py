"""The file of the index: rows and verdicts, with a digest of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from popbuild.base import disk, file_clock, jsonio
from popbuild.base.errors import PopbuildError
from popbuild.jobs.staleness import Verdict

_VERSION = 3


StaleRow = tuple[str, Mapping[str, Verdict]]  # a row, and the verdict on each task


def index_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def read_index(path: Path, now: file_clock.Moment) -> tuple[dict[str, str], dict[str, StaleRow]]:
    """The rows of an index, and the verdicts on stale jobs; none where it is missing, damaged,
    another version's, or from the future, as the clock has it."""
    try:
        digest, _, data = disk.read(path).partition(b"\n")
        if digest.decode() != jsonio.digest_bytes(data):
            return {}, {}
        body = json.loads(data)
        if body["formatVersion"] != _VERSION or body["recorded"] > now.time_ns:
            return {}, {}
        rows: dict[str, str] = body["jobs"]
        stale = stale_rows(body["stale"])
    except (OSError, ValueError, KeyError, TypeError, PopbuildError):
        return {}, {}
    return rows, stale


def write_index(
    path: Path, now: file_clock.Moment, rows: Mapping[str, str], stale: Mapping[str, StaleRow]
) -> None:
    body = {
        "formatVersion": _VERSION,
        "recorded": now.time_ns,
        "jobs": rows,
        "stale": rows_as_json(stale),
    }
    data = json.dumps(body, separators=(",", ":")).encode()
    disk.write(path, jsonio.digest_bytes(data).encode() + b"\n" + data, sync=False)


def rows_as_json(stale: Mapping[str, StaleRow]) -> dict[str, Any]:
    return {
        job: (row, {name: (it.reasons, it.edited, it.as_built) for name, it in verdicts.items()})
        for job, (row, verdicts) in stale.items()
    }


def stale_rows(body: Mapping[str, Any]) -> dict[str, StaleRow]:
    found: dict[str, StaleRow] = {}
    for job, (row, told) in body.items():
        verdicts = {
            name: Verdict(tuple(reasons), edited=edited, as_built=as_built)
            for name, (reasons, edited, as_built) in told.items()
        }
        found[job] = row, verdicts
    return found
