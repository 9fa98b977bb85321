"""Room on the disk for answers that are paid for: held before a call is sent, given up when a
write fails.

One file without a name, so that the kernel takes it away with the process, however that ends. It
grows with the calls in flight. Of a full disk it is given up piece by piece: what other jobs write
meanwhile would take all of it.
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
_ESCAPED = 2  # bytes of a prompt in JSON for each of its own, at most as a rule
_BYTES_A_TOKEN = 8
_UNKNOWN = 64 << 10  # an answer without a limit of its own
_MOST = 1 << 20  # that is held for one answer


class Reserve:
    """The room of one command. Must be used inside one event loop."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: int | None = None
        self._works = True
        self._size = 0
        self._held = 0
        self._largest = 0
        self._growing = asyncio.Lock()

    async def hold(self, request: Request) -> int:
        """Have room for an answer before it is asked for. Gives the bytes that `free` takes back.
        Raises OSError where the disk is full; where no room can be held at all, there is none."""
        size = self._expected(request)
        self._held += size
        try:
            async with self._growing:
                if self._works and self._held > self._size:
                    await asyncio.to_thread(self._grow)
        except BaseException as error:
            if isinstance(error, OSError) and not disk_room.is_full(error):
                self._works = False
                return size
            self._held -= size
            raise
        return size

    def free(self, size: int) -> None:
        """An answer is where it belongs, or will not come."""
        self._held -= size

    def learn(self, size_bytes: int) -> None:
        """So large an answer came: the next may be as large."""
        self._largest = max(self._largest, size_bytes)

    def give_up(self, size_bytes: int) -> bool:
        """Give so many bytes, or what there is, to a write that failed; whether there were any."""
        if self._file is None or not self._size:
            return False
        self._size = max(0, self._size - size_bytes - _AROUND)
        try:
            disk_room.give_back(self._file, self._size)
        except OSError:
            self.close()
        return True

    def close(self) -> None:
        """Give up all of it."""
        file, self._file, self._size = self._file, None, 0
        if file is not None:
            os.close(file)

    def _expected(self, request: Request) -> int:
        given = request.parameters()
        limit = given.get("max_tokens") or given.get("max_completion_tokens")
        answer = limit * _BYTES_A_TOKEN if isinstance(limit, int) else _UNKNOWN
        asked = size_of(request.messages) * _ESCAPED
        return asked + min(max(answer, self._largest), _MOST) + _AROUND

    def _grow(self) -> None:
        """Take room for what is held, and as much again where that is to be had."""
        if self._file is None:
            self._file = disk_room.unnamed(self._folder)
        least = self._held
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
