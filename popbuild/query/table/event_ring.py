"""Events for all followers, numbered so that none is missed or repeated."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

KEPT = 2_000  # events that a follower who was away can still get


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened: its kind, and what is said of it. `id` is what a reader comes back
    with; `number` counts from 1."""

    id: str
    number: int
    kind: str
    body: Mapping[str, Any]


class Hub:
    """The last events, and who waits for the next. One ring for all: a reader that is slow costs
    nothing, and one that was away too long is told to look at everything again (`reset`)."""

    def __init__(self) -> None:
        self._launch = secrets.token_hex(4)  # numbers of an earlier server mean nothing here
        self._ring: deque[Event] = deque(maxlen=KEPT)
        self._last = 0
        self._news = asyncio.Event()
        self._closed = False
        self._followers = 0

    @property
    def is_followed(self) -> bool:
        """Whether there are followers."""
        return self._followers > 0

    def publish(self, kind: str, body: Mapping[str, Any]) -> None:
        self._last += 1
        self._ring.append(self._event(self._last, kind, body))
        self._wake()

    def close(self) -> None:
        """End every reader."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def follow(self, last_id: str | None = None) -> AsyncIterator[Event]:
        """Events from here on, or from behind the one that a reader had last: a `hello` first, or a
        `reset` where what was missed is not known any more."""
        self._followers += 1
        try:
            async for event in self._follow(last_id):
                yield event
        finally:
            self._followers -= 1

    async def _follow(self, last_id: str | None) -> AsyncIterator[Event]:
        place = self._place_of(last_id)
        kind = "reset" if place is None else "hello"
        place = self._last if place is None else place
        # So that a browser that loses the line at once can say from where to go on.
        yield self._event(place, kind, {})
        while not self._closed:
            news = self._news
            while place < self._last:
                if place + 1 < self._ring[0].number:
                    place = self._last
                    yield self._event(place, "reset", {})
                else:
                    place += 1
                    yield self._ring[place - self._last - 1]
            await news.wait()

    def _place_of(self, last_id: str | None) -> int | None:
        """The number behind which a reader goes on; None where that is not known any more."""
        if last_id is None:
            return self._last
        launch, _, number = last_id.partition("-")
        good = number.isascii() and number.isdecimal() and len(number) < 16
        if launch != self._launch or not good or int(number) > self._last:
            return None
        oldest = self._ring[0].number if self._ring else self._last + 1
        return int(number) if int(number) >= oldest - 1 else None

    def _event(self, number: int, kind: str, body: Mapping[str, Any]) -> Event:
        return Event(f"{self._launch}-{number}", number, kind, body)
