"""Room on the disk for paid answers: held before a call is sent, given up when a write fails.

It is one file without a name, so that the kernel removes it with the process, however that ends. It
grows with the calls in flight. On a full disk it is given up piece by piece, since what other jobs
write meanwhile would take all of it. The last piece stays until the command ends and writes nothing
else: it is for the ledger's lines of answers that are stored already.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

from popbuild.base import disk_room
from popbuild.llm.ledger import size_of
from popbuild.llm.request import Request

_LEAST = 256 << 10  # bytes
_AROUND = 16 << 10  # the frame of an entry, its folder, two lines of the ledger, whole blocks
_ESCAPED = 2  # bytes in JSON for a byte of a prompt, rarely more
_BYTES_A_TOKEN = 8
_UNKNOWN = 64 << 10  # for an answer without a limit
_MOST = 1 << 20  # for one answer
_LINES = 64 << 10  # for some 200 lines of the ledger, when the command ends


class Reserve:
    """The room of one command. Must be used inside one event loop."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: int | None = None
        self._works = True
        self._size = 0
        self._held = 0
        self._largest = 0
        self.times_given_up = 0
        self._growing = asyncio.Lock()

    async def hold(self, request: Request) -> int:
        """Hold room for an answer. Gives the bytes, for `free`. Raises OSError where the disk is
        full; on a file system that cannot reserve room, nothing is held."""
        size = self._expected(request)
        self._held += size
        try:
            async with self._growing:
                if self._works and self._held + _LINES > self._size:
                    await asyncio.to_thread(self._grow)
        except BaseException as error:
            if isinstance(error, OSError) and not disk_room.is_full(error):
                self._works = False
                return size
            self._held -= size
            raise
        return size

    def free(self, size: int) -> None:
        """Give back the room of an answer that is stored, or will not come."""
        self._held -= size

    def learn(self, size_bytes: int) -> None:
        """Note the size of an answer: the next may be as large."""
        self._largest = max(self._largest, size_bytes)

    def give_up(self, size_bytes: int) -> bool:
        """Free this room, or what is left but for the last piece, for a write that failed. Says
        whether any was left."""
        if self._file is None or self._size <= _LINES:
            return False
        self.times_given_up += 1
        self._size = max(_LINES, self._size - size_bytes - _AROUND)
        try:
            disk_room.give_back(self._file, self._size)
        except OSError:
            self.close()
        return True

    def close(self) -> None:
        file, self._file, self._size = self._file, None, 0
        if file is not None:
            os.close(file)

    def _expected(self, request: Request) -> int:
        limit = request.max_tokens
        answer = _UNKNOWN if limit is None else limit * _BYTES_A_TOKEN
        asked = size_of(request.messages) * _ESCAPED
        return asked + min(max(answer, self._largest), _MOST) + _AROUND

    def _grow(self) -> None:
        """Allocate what is held, and as much again if there is room."""
        if self._file is None:
            self._file = disk_room.unnamed(self._folder)
        least = self._held + _LINES
        with contextlib.suppress(OSError):
            self._take(max(_LEAST, 2 * least))
            return
        self._take(least)

    def _take(self, size: int) -> None:
        assert self._file is not None
        try:
            disk_room.allocate(self._file, size)
        except OSError:
            with contextlib.suppress(OSError):
                disk_room.give_back(self._file, self._size)  # a part of it may have been allocated
            raise
        self._size = size
