"""Lines of runs.jsonl, read one by one."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from popbuild.base import disk
from popbuild.base.errors import InputError
from popbuild.base.paths import COMPLETE, Root
from popbuild.model.letter import is_sealed

RunLine = Mapping[str, Any]

_MOST_A_LINE = 2_048  # bytes of a line, mostly fewer


def recent(root: Root, most: int) -> list[RunLine]:
    """The last runs, the newest first. Lines that are not of a run are skipped."""
    lines = disk.read_end(root.runs, most * _MOST_A_LINE).split(b"\n")
    bodies = (body_of(line) for line in reversed(lines))
    return list(itertools.islice((body for body in bodies if body is not None), most))


def body_of(line: bytes) -> dict[str, Any] | None:
    """A run's line as JSON; None for anything else."""
    body = json_of(line)
    return body if body is not None and isinstance(body.get("pipelineId"), str) else None


def json_of(line: bytes) -> dict[str, Any] | None:
    try:
        body = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def bytes_at(path: Path) -> bytes:
    try:
        return disk.read(path)
    except (OSError, InputError):
        return b""


def is_line(body: dict[str, Any]) -> bool:
    """Whether this is the line of a run, as it was written."""
    return isinstance(body.get("pipelineId"), str) and is_whole(body)


def is_whole(body: dict[str, Any]) -> bool:
    """Whether a line has its own digest, or is from before lines had one."""
    return "digest" not in body or is_sealed(body)


def complete_jobs(root: Root) -> list[str]:
    """The jobs that stand in complete/."""
    try:
        entries = list((root.data / COMPLETE).iterdir())
    except FileNotFoundError:
        return []
    return sorted(
        path.name
        for path in entries
        if not path.name.startswith(".") and path.is_dir() and not path.is_symlink()
    )


def job_of(line: RunLine) -> str:
    """A line's job; empty for old lines, which do not name it."""
    job = line.get("id")
    return job if isinstance(job, str) else ""
