"""runs.jsonl, a line for each promotion, and our own copy of it: what must stand in complete/.

Each line has its own digest and the one of the line above it. Our copy shows which lines were taken
away, and also has a line for each job that was removed on purpose or restored from an archive.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from popbuild.base import disk, jsonio, locks, tree
from popbuild.base.errors import InputError
from popbuild.base.paths import COMPLETE, Root
from popbuild.model.clock import name_stamp, timestamp
from popbuild.model.letter import is_sealed, seal

RunLine = Mapping[str, Any]

_MOST_A_LINE = 2_048  # bytes of a line, mostly fewer
_TAIL = 1 << 20  # bytes at the end of runs.jsonl in which its last line is found


def recent(root: Root, most: int) -> list[RunLine]:
    """The last runs, the newest first. Lines that are not of a run are skipped."""
    lines = disk.read_end(root.runs, most * _MOST_A_LINE).split(b"\n")
    return list(itertools.islice(filter(None, map(body_of, reversed(lines))), most))


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


def add(root: Root, line: RunLine, *, once: bool = False) -> None:
    """Add a run's line to runs.jsonl and to our copy. With `once`, it may be there already."""
    with _turn(root):
        there = _line_of(root.runs, line["pipelineId"]) if once else None
        above = _last_digest(root.runs)
        new = there or seal({**line, "after": above} if above else dict(line))
        if there is None:
            _append(root.runs, [new])
        if not once or _line_of(root.runs_copy, line["pipelineId"]) is None:
            _append(root.runs_copy, [new], sync=False)


def take_over(root: Root, lines: Sequence[RunLine], *, really: bool) -> int:
    """Add the lines of another program's runs.jsonl that are missing, linked as ours are; gives how
    many. Without `really` they are only counted."""
    with _turn(root) if really else contextlib.nullcontext():
        there = {_said(body) for body in _bodies(root.runs)}
        new, above = [], _last_digest(root.runs)
        for said in dict.fromkeys(map(_said, lines)):
            if said not in there:
                body = json.loads(said)
                new.append(seal({**body, "after": above} if above else body))
                above = new[-1]["digest"]
        if really:
            _append(root.runs, new)
            wanted, copied = set(map(_said, lines)), set(map(_said, _bodies(root.runs_copy)))
            ours = [body for body in _bodies(root.runs) if _said(body) in wanted - copied]
            _append(root.runs_copy, ours)
        return len(new)


def _said(line: RunLine) -> str:
    """The content of a line, without its link to the one above."""
    return jsonio.compact({name: line[name] for name in line if name not in ("after", "digest")})


def _bodies(path: Path) -> list[dict[str, Any]]:
    return list(filter(None, map(body_of, bytes_at(path).split(b"\n"))))


def _append(path: Path, lines: Sequence[RunLine], *, sync: bool = True) -> None:
    if lines:
        data = b"".join(jsonio.compact(line).encode() + b"\n" for line in lines)
        disk.append(path, data, sync=sync)


def removed(root: Root, job: str) -> None:
    """Write into our copy that a complete job is removed on purpose; before it is."""
    with _turn(root):
        _append(root.runs_copy, [seal({"removed": job, "removedAt": timestamp()})])


def restored(root: Root, job: str, line: RunLine | None) -> None:
    """Write into our copy that a result came back from an archive; after it did. `line` is the one
    of the run that made it, if the archive has it: from now on that result must stand."""
    body = {"restored": job, "restoredAt": timestamp(), "line": dict(line) if line else None}
    with _turn(root):
        _append(root.runs_copy, [seal(body)])


def is_torn(root: Root, path: Path) -> bool:
    """Whether runs.jsonl, or our copy, has no end, or a line that the other file has whole."""
    lines = bytes_at(path).split(b"\n")
    return bool(lines[-1] or _cut_short(root, path, lines))


def mend(root: Root, path: Path) -> None:
    """Complete the cut lines of runs.jsonl, or of our copy, from the other; cut off a torn end."""
    with _turn(root):
        *lines, last = bytes_at(path).split(b"\n")
        whole = _cut_short(root, path, [*lines, last])
        if last and (len(lines) in whole or json_of(last) is not None):
            lines.append(last)
        lines = [whole.get(number, line) for number, line in enumerate(lines)]
        disk.write(path, b"".join(line + b"\n" for line in lines))


def _cut_short(root: Root, path: Path, lines: Sequence[bytes]) -> dict[int, bytes]:
    """The lines, from 0, that are the beginning of one that the other file has, with that one."""
    broken = {n: line for n, line in enumerate(lines) if line and json_of(line) is None}
    other = bytes_at(root.runs if path == root.runs_copy else root.runs_copy) if broken else b""
    here, found = set(lines), dict[int, bytes]()
    missing = [line for line in other.split(b"\n")[:-1] if line not in here]
    for number, line in broken.items():
        whole = next((each for each in missing if each.startswith(line)), None)
        if whole is not None:
            found[number] = whole
            missing.remove(whole)
    return found


def start_anew(root: Root) -> None:
    """Set our copy aside before the first promotion into a root whose results were deleted."""
    if disk.stands(root.runs) or not disk.stands(root.runs_copy):
        return
    with _turn(root):
        # Looked at again: another job, promoted at the same time, may have done it.
        first = disk.stands(root.runs_copy) and not disk.stands(root.runs)
        if first and not complete_jobs(root):
            tree.rename_new(root.runs_copy, root.own / f"runs-{name_stamp()}.jsonl")


def _turn(root: Root) -> AbstractContextManager[None]:
    """Jobs are promoted side by side; the order of the lines must be the same in both files."""
    return locks.turn(root.own / "locks" / "runs")


def _last_digest(path: Path) -> str | None:
    """The digest of the last line that is whole; None where there is none, or it has none."""
    lines = reversed(disk.read_end(path, _TAIL).split(b"\n"))
    digest = next(filter(None, map(body_of, lines)), {}).get("digest")
    return digest if isinstance(digest, str) else None


def _line_of(path: Path, run: str) -> dict[str, Any] | None:
    return next((body for body in _bodies(path) if body["pipelineId"] == run), None)
