"""Turns at the processor: of the many jobs in an event loop a few work, and the others wait.

Answers come in bursts. If all their jobs advanced together, the first next call would leave only
when the last is ready. In turns, the first call leaves at once, and bursts dissolve. A job that
works out of turn changes only the order.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextvars import ContextVar

from popbuild.base.stopwatch import waiting


class Turns:
    """For use inside one event loop. Several at a time, since work waits for the disk too."""

    def __init__(self, at_once: int = 4) -> None:
        self._slots = asyncio.Semaphore(at_once)  # first come, first served

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn; it is given back at the end, and during each `away` inside."""
        turn = _Turn(self._slots)
        token = _mine.set(turn)
        try:
            await turn.come_back()
            yield
        finally:
            _mine.reset(token)
            turn.leave()


class _Turn:
    def __init__(self, slots: asyncio.Semaphore) -> None:
        self._slots = slots
        self._is_held = False
        self._away = 1  # how many of this job's tasks wait; the job begins as waiting

    def leave(self) -> None:
        self._away += 1
        if self._is_held:
            self._is_held = False
            self._slots.release()

    async def come_back(self) -> None:
        self._away -= 1
        if not self._away:
            with waiting():
                await self._slots.acquire()
            self._is_held = True


_mine: ContextVar[_Turn | None] = ContextVar("turn", default=None)


@contextlib.asynccontextmanager
async def away() -> AsyncIterator[None]:
    """Inside, this job waits: for a model, another process, or code that is not ours."""
    turn = _mine.get()
    if turn:
        turn.leave()
    try:
        yield
    finally:
        if turn:
            await turn.come_back()
