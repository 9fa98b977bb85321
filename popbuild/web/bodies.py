"""Request bodies: how much memory all of them together may take."""

from __future__ import annotations

import asyncio
import mmap
from collections.abc import AsyncIterable, Callable, Mapping
from typing import TypeVar

from popbuild.web.guard import MAX_BODY_BYTES, refusal

SMALL_BYTES = 64 * 1024  # what a connection may buffer anyway
BODIES_AT_A_TIME = 2
PATIENCE_S = 30.0

T = TypeVar("T")


class Bodies:
    """Turns for large bodies. One that is not sent in time loses its connection, and so its turn
    (`connections.py`); those that wait are not read, and take no memory."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(BODIES_AT_A_TIME)

    async def take(
        self, headers: Mapping[str, str], body: AsyncIterable[bytes], use: Callable[[bytes], T]
    ) -> T:
        """What `use` returns for a body, called in a thread so that others are answered meanwhile.
        A Refusal where other bodies take too long."""
        if _is_small(headers):
            return await asyncio.to_thread(use, b"".join([part async for part in body]))
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._turns.acquire()
        except TimeoutError:
            raise refusal(
                503,
                "others are sending too much",
                {"allowed": f"{BODIES_AT_A_TIME} at a time of more than {SMALL_BYTES:,} bytes"},
                "try again in a moment",
            ) from None
        try:
            return await asyncio.to_thread(use, await _whole(body))
        finally:
            self._turns.release()


async def _whole(body: AsyncIterable[bytes]) -> bytes:
    """The whole body, in one mapping: a list of parts would leave its memory with the process when
    a body does not end."""
    with mmap.mmap(-1, MAX_BODY_BYTES) as room:
        async for part in body:
            room.write(part)
        return room[: room.tell()]


def _is_small(headers: Mapping[str, str]) -> bool:
    """Whether the body fits the buffer of a connection; with chunks the length is unknown."""
    length = headers.get("content-length", "")
    in_chunks = "transfer-encoding" in headers
    return not in_chunks and length.isdecimal() and int(length) <= SMALL_BYTES
