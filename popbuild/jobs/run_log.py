"""runs.jsonl, a line for each promotion, and our own copy of it: what must stand in complete/.

Each line has its own digest and the one of the line above it. Our copy in .popbuild/ tells of lines
that were taken away, and has a line too for each job that was removed on purpose, or that
came back from an archive.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from popbuild.base import disk, jsonio, locks, tree
from popbuild.base.paths import Root
from popbuild.jobs.run_lines import RunLine, body_of, bytes_at, complete_jobs, json_of
from popbuild.model.clock import name_stamp, timestamp
from popbuild.model.letter import seal

_TAIL = 1 << 20  # bytes at the end of runs.jsonl in which its last line is found


def add(root: Root, line: RunLine, *, once: bool = False) -> None:
    """Add a run's line to runs.jsonl and to our copy. With `once`, it may be there already."""
    with _turn(root):
        there = _line_of(root.runs, line["pipelineId"]) if once else None
        above = _last_digest(root.runs)
        new = there or seal({**line, "after": above} if above else dict(line))
        data = jsonio.compact(new).encode() + b"\n"
        if there is None:
            disk.append(root.runs, data)
        if not once or _line_of(root.runs_copy, line["pipelineId"]) is None:
            disk.append(root.runs_copy, data, sync=False)


def take_over(root: Root, lines: Sequence[RunLine], *, really: bool) -> int:
    """Add the lines of another program's runs.jsonl that are not there yet; gives how many. Each
    says what it said, with its digest and that of the line above it, as ours have. Without `really`
    they are only counted."""
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
    return [body for line in bytes_at(path).split(b"\n") if (body := body_of(line)) is not None]


def _append(path: Path, lines: Sequence[RunLine]) -> None:
    if lines:
        disk.append(path, b"".join(jsonio.compact(line).encode() + b"\n" for line in lines))


def removed(root: Root, job: str) -> None:
    """Write into our copy that a complete job is removed on purpose; before it is."""
    line = seal({"removed": job, "removedAt": timestamp()})
    with _turn(root):
        disk.append(root.runs_copy, jsonio.compact(line).encode() + b"\n")


def restored(root: Root, job: str, line: RunLine | None) -> None:
    """Write into our copy that a result came back from an archive; after it did. `line` is the one
    of the run that made it, if the archive has it: from now on that result must stand."""
    body = {"restored": job, "restoredAt": timestamp(), "line": dict(line) if line else None}
    with _turn(root):
        disk.append(root.runs_copy, jsonio.compact(seal(body)).encode() + b"\n")


def is_torn(root: Root, path: Path) -> bool:
    """Whether runs.jsonl, or our copy, has no end, or a line in it was cut short that the other one
    has whole."""
    lines = bytes_at(path).split(b"\n")
    return bool(lines[-1] or _cut_short(root, path, lines))


def mend(root: Root, path: Path) -> None:
    """Make lines of runs.jsonl, or of our copy, whole that were cut short, from the other one; a
    last line that it has not is cut off."""
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
    """Before a promotion into a root whose results and runs.jsonl were all deleted, to be made
    again: set our copy aside, so that nothing is missed."""
    if disk.stands(root.runs) or not disk.stands(root.runs_copy):
        return
    with _turn(root):
        # Looked at again: another job, promoted at the same time, may have done it.
        first = disk.stands(root.runs_copy) and not disk.stands(root.runs)
        if first and not complete_jobs(root):
            stamp = name_stamp()
            tree.rename_new(root.runs_copy, root.private / f"runs-{stamp}.jsonl")


def _turn(root: Root) -> AbstractContextManager[None]:
    """Jobs are promoted side by side; the order of the lines must be the same in both files."""
    return locks.turn(root.private / "locks" / "runs")


def _last_digest(path: Path) -> str | None:
    """The digest of the last line that is whole; None where there is none, or it has none."""
    for line in reversed(disk.read_end(path, _TAIL).split(b"\n")):
        body = body_of(line)
        if body is not None:
            digest = body.get("digest")
            return digest if isinstance(digest, str) else None
    return None


def _line_of(path: Path, run: str) -> dict[str, Any] | None:
    lines = (body_of(line) for line in bytes_at(path).split(b"\n"))
    return next((body for body in lines if body is not None and body["pipelineId"] == run), None)
