"""Events for all followers, numbered so that none is missed or repeated."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

KEPT = 2_000  # events that a reader can still get after a pause


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened: its kind and details. A reader resumes with `id`; `number` counts
    from 1."""

    id: str
    number: int
    kind: str
    body: Mapping[str, Any]


class Hub:
    """The last events, in one ring for all readers: a slow reader costs nothing, and one that was
    away too long gets a `reset`, which means to look at everything again."""

    def __init__(self) -> None:
        self._launch = secrets.token_hex(4)  # numbers of an earlier server are not valid here
        self._ring: deque[Event] = deque(maxlen=KEPT)
        self._last = 0
        self._news = asyncio.Event()
        self._closed = False
        self._followers = 0

    @property
    def is_followed(self) -> bool:
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
        """Events from now on, or after the last one that a reader had: first a `hello`, or a
        `reset` if the missed events are gone."""
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
        # A browser that loses its connection at once can resume from this one.
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
        """The number after which a reader resumes; None if the missed events are gone."""
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
