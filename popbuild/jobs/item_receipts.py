"""The receipts of a task's items: `tasks/<task>/items.jsonl`, which the task's letter vouches for.

A line is added when an item ends, so that a killed build has those of all that ended. The last line
about a key counts; one that is torn or altered does not. Dependencies that many items share have a
line of their own, before the first receipt that names them. Once all items ended, the file is
written anew with one receipt for each.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from popbuild.base import disk, jsonio
from popbuild.base.redact import redact_value
from popbuild.jobs.run_log import json_of
from popbuild.model.letter import Fingerprint, is_sealed, seal

ITEMS_VERSION = 1
_MASKED = ("problems", "prompts", "answers", "log", "warnings")  # may hold keys


@dataclass(frozen=True)
class Receipt:
    """How an item ended: its output; if it `failed`, the problems of its last try; or that it was
    `skipped`.

    `own` are its dependencies on the item itself, `shared` is the digest of all others. `files` are
    those that its stages wrote. The rest stands in its line: `place` and `size` in bytes.
    """

    key: str
    own: Fingerprint
    shared: str
    failed: bool
    skipped: bool
    refinements: int
    files: tuple[tuple[str, str], ...]
    place: int
    size: int


class ItemReceipts:
    """The file of one task, read and added to. Holds no outputs: 5,000 of them may be large."""

    def __init__(self, path: Path, task: str, environment: Mapping[str, str]) -> None:
        self._path = path
        self._header = {"formatVersion": ITEMS_VERSION, "task": task}
        self._environment = environment
        self._end = 0  # bytes
        self._is_torn = False
        self.by_key: dict[str, Receipt] = {}
        self.shared: dict[str, Fingerprint] = {}
        self._read()

    def _read(self) -> None:
        for place, line in _lines(self._path):
            self._end = place + len(line)
            self._is_torn = not line.endswith(b"\n")
            body = None if self._is_torn else json_of(line)
            if body is None:
                continue
            if not place and body != self._header:
                self._end = 0
                return  # of another version
            if "fingerprint" in body and body.get("shared") == jsonio.digest(body["fingerprint"]):
                self.shared[body["shared"]] = body["fingerprint"]
            elif _is_receipt(body):
                self._note(body, place, len(line))

    def _note(self, body: Mapping[str, Any], place: int, size: int) -> None:
        files = tuple((kind, name) for kind, names in body["files"].items() for name in names)
        self.by_key[body["key"]] = Receipt(
            body["key"],
            body["item"],
            body["shared"],
            "problems" in body,
            "skipped" in body,
            body["refinementAttempts"],
            files,
            place,
            size,
        )

    def add(self, body: dict[str, Any], shared: Fingerprint) -> Receipt:
        """Write down how an item ended. Not synced: its answers are stored, so that to lose this
        costs time alone."""
        digest = jsonio.digest(dict(shared))
        before: list[object] = [] if self._end else [self._header]
        if digest not in self.shared:
            self.shared[digest] = dict(shared)
            before.append({"shared": digest, "fingerprint": dict(shared)})
        said = {name: body[name] for name in _MASKED if name in body}
        body = seal({**body, **redact_value(said, self._environment), "shared": digest})
        head, line = b"".join(map(_line, before)), _line(body)
        self._append(head + line)
        self._note(body, self._end - len(line), len(line))
        return self.by_key[body["key"]]

    def _append(self, data: bytes) -> None:
        if not self._end:
            disk.write(self._path, data, sync=False)
        else:
            disk.append(self._path, data, sync=False)
        self._end += len(data) + self._is_torn  # a torn line is ended first
        self._is_torn = False

    def body(self, receipt: Receipt) -> dict[str, Any]:
        """A receipt as it was written, with its output or its problems."""
        with disk.open_to_read(self._path) as file:
            return json_of(os.pread(file, receipt.size, receipt.place)) or {}

    def forget(self) -> None:
        """Take no receipt for what it says: all items run."""
        self.by_key.clear()

    def final(self, keys: Iterable[str]) -> bytes:
        """The file with the receipts of these items alone, in their order."""
        receipts = [self.by_key[key] for key in dict.fromkeys(keys)]
        used = dict.fromkeys(each.shared for each in receipts)
        head = [self._header, *({"shared": e, "fingerprint": self.shared[e]} for e in used)]
        lines = list(map(_line, head))
        if receipts:
            with disk.open_to_read(self._path) as file:
                lines += [os.pread(file, each.size, each.place) for each in receipts]
        return b"".join(lines)


def read_receipts(path: Path) -> Iterator[dict[str, Any]]:
    """The receipts in a file, as they were written."""
    bodies = (json_of(line) for _, line in _lines(path))
    return (body for body in bodies if body is not None and _is_receipt(body))


def _is_receipt(body: dict[str, Any]) -> bool:
    """Whether a line is a receipt as it was written: an altered one says nothing."""
    return "key" in body and is_sealed(body)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file, each with its place in bytes; none if there is no such file."""
    place = 0
    try:
        with disk.open_to_read(path) as file, os.fdopen(file, "rb", closefd=False) as stream:
            for line in stream:
                yield place, line
                place += len(line)
    except FileNotFoundError:
        return


def _line(body: object) -> bytes:
    return jsonio.compact(body).encode() + b"\n"
