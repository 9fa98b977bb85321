"""Paid answers on their way to the store and the ledger: a full disk loses none that could be kept.

Where a write finds the disk full, room that was reserved before the call is given up for it. What
still does not fit waits in memory, and is tried again before the next call is sent, and at the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from popbuild.base import disk, disk_room
from popbuild.base.commits import AppendedLine, DiskChange
from popbuild.base.errors import StoreError
from popbuild.base.threads import Batches
from popbuild.base.units import count
from popbuild.llm.notices import Notices, StoreTrouble
from popbuild.llm.request import Answer, Request
from popbuild.llm.reserve import Reserve
from popbuild.llm.store import Store

_ROOM = "make room there and run it again: nothing is bought twice"
_TAIL_BYTES = 1 << 20  # of the ledger, where a line is looked for that may be there already


@dataclass
class _Paid:
    """An answer, the ledger's line for it, and the bytes held for both. `is_stored` says that only
    the line is missing."""

    request: Request
    answer: Answer
    settled: AppendedLine
    held: int
    prepared: disk.Prepared | None = None
    is_stored: bool = False


class Keeping:
    """What one command keeps. Must be used inside one event loop."""

    def __init__(
        self,
        store: Store,
        commits: Batches[Sequence[DiskChange]],
        reserve: Reserve,
        notices: Notices,
    ) -> None:
        self._store = store
        self._commits = commits
        self._reserve = reserve
        self._notices = notices
        self._under_way: set[asyncio.Task[None]] = set()
        self._waiting: dict[str, _Paid] = {}  # by the request's digest
        self._has_told = False

    def waits(self, digest: str) -> Answer | None:
        """An answer that could not be stored yet."""
        paid = self._waiting.get(digest)
        return None if paid is None else paid.answer

    async def keep(
        self, request: Request, answer: Answer, held: int, settled: AppendedLine
    ) -> None:
        """Store an answer and then write its cost, durably, even if the caller is stopped
        meanwhile. Raises StoreError where the disk is full, and OSError for any other trouble."""
        paid = _Paid(request, answer, settled, held)
        try:
            # First of all: what is paid for is written before anything waits.
            paid.prepared = self._store.prepare(request, answer)
        except OSError as error:
            if not disk_room.is_full(error):
                self._reserve.free(held)
                raise
            self._say_full(error)
            self._reserve.give_up(held)
        task = asyncio.create_task(self._keep(paid))
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        await asyncio.shield(task)

    async def keep_what_waits(self) -> None:
        """Try once more to store what did not fit. Raises StoreError if something still waits."""
        for digest, paid in list(self._waiting.items()):
            try:
                await self._put(paid)
            except OSError as error:
                raise _full(error, "a paid answer waits in memory for room", {}) from error
            self._waiting.pop(digest, None)

    async def close(self) -> None:
        """Keep what can be kept, and report what cannot."""
        while self._under_way:
            await asyncio.wait(self._under_way)
        self._reserve.close()
        lost = 0
        # A line of the ledger fits into the room that was just freed; an answer might fill it.
        for paid in sorted(self._waiting.values(), key=lambda paid: not paid.is_stored):
            try:
                await self._put(paid)
            except OSError:
                lost += 1
        if lost:
            self._tell(
                f"{count(lost, 'paid answer')} could not be kept, since the disk stayed full: the "
                "next run asks again"
            )
        elif self._waiting:
            self._tell(f"{count(len(self._waiting), 'paid answer')} waited for room and found it")

    def _tell(self, text: str) -> None:
        self._notices.put_nowait(StoreTrouble(text))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, even if no job waits for it any more

    async def _keep(self, paid: _Paid) -> None:
        try:
            await self._put(paid)
        except OSError as error:
            if not disk_room.is_full(error):
                raise
            self._waiting[paid.request.digest] = paid
            raise _full(
                error, "a paid answer waits in memory for room", {"model": paid.request.model}
            ) from error
        finally:
            self._reserve.free(paid.held)

    async def _put(self, paid: _Paid) -> None:
        """Store and settle; as long as the disk is full, give up reserved room and try again. One
        write carries many answers: where it fails, the room that one of them gives up may do for
        all, and each tries again before it gives up more."""
        while True:
            before = self._reserve.times_given_up
            try:
                await self._try(paid)
            except OSError as error:
                if not disk_room.is_full(error):
                    raise
                self._say_full(error)
                is_new = self._reserve.times_given_up != before
                if not is_new and not self._reserve.give_up(paid.held):
                    raise
            else:
                return

    async def _try(self, paid: _Paid) -> None:
        prepared, paid.prepared = paid.prepared, None
        if paid.is_stored:
            # A batch may be written in part, and no call is settled twice.
            if await asyncio.to_thread(_stands, paid.settled):
                await asyncio.to_thread(disk.append, paid.settled.path, b"")
            else:
                await self._commits.add((paid.settled,))
            return
        prepared = prepared or self._store.prepare(paid.request, paid.answer)
        self._reserve.learn(prepared.size_bytes)
        try:
            await self._commits.add((prepared, paid.settled))
        except OSError as error:
            paid.is_stored = error.filename == str(paid.settled.path)
            raise

    def _say_full(self, error: OSError) -> None:
        if not self._has_told:
            self._has_told = True
            self._tell(
                f"the disk is full ({error.strerror}): what is paid for is kept in room that was "
                "reserved for it"
            )


def no_room(error: OSError, folder: str) -> StoreError:
    return _full(
        error, "the disk is full: nothing is sent whose answer could not be kept", {"at": folder}
    )


def _full(error: OSError, message: str, values: dict[str, str]) -> StoreError:
    found = error.strerror or str(error)
    return StoreError(message, {**values, "found": found}, hint=_ROOM)


def _stands(line: AppendedLine) -> bool:
    """Whether a line is there, but for its end: what is appended next ends one that lacks it."""
    return line.data.rstrip(b"\n") in disk.read_end(line.path, _TAIL_BYTES)
