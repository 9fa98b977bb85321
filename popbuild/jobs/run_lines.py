"""The lines of a log that may be larger than memory: read in turn, or one by its number."""

from __future__ import annotations

import weakref
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from popbuild.base import disk
from popbuild.jobs.run_log import body_of


class LogLines:
    """A file's lines as they were when it was opened: what is appended later is not seen, nor a
    file that takes its place. No lines where there is no file that can be read."""

    def __init__(self, path: Path) -> None:
        self._starts = array("Q")  # where each line begins
        self._size = 0
        try:
            self._file = path.open("rb") if disk.is_regular(path) else None
        except OSError:
            self._file = None
        if self._file is not None:
            weakref.finalize(self, self._file.close)
            self._size = self._file.seek(0, 2)

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """Each line without its end, by its number from 1. Only one of these at a time."""
        self._starts = array("Q")
        if self._file is None:
            return
        place = self._file.seek(0)
        for number, line in enumerate(self._file, 1):
            if place >= self._size:
                return
            self._starts.append(place)
            yield number, line[: self._size - place].removesuffix(b"\n")
            place += len(line)

    @property
    def has_end(self) -> bool:
        """Whether the last line is whole: a crash may have torn it."""
        if self._file is None or not self._size:
            return True
        self._file.seek(self._size - 1)
        return self._file.read(1) == b"\n"

    def body_at(self, number: int | None) -> dict[str, Any] | None:
        """The run in a line that was read; None without a number."""
        if number is None or self._file is None:
            return None
        self._file.seek(self._starts[number - 1])
        return body_of(self._file.readline().removesuffix(b"\n"))
