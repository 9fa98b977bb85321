"""What happens, told to everybody who listens: numbered, so that nobody misses or repeats it."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

KEPT = 2_000  # events that somebody who was away can still have
_SILENCE_S = 15.0  # after that, a comment shows that the line still stands


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened: its kind, and what is said of it."""

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
        """Whether anybody listens."""
        return self._followers > 0

    def publish(self, kind: str, body: Mapping[str, Any]) -> None:
        self._last += 1
        self._ring.append(Event(self._last, kind, body))
        self._wake()

    def close(self) -> None:
        """End every reader."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def follow(self, last_id: str | None = None) -> AsyncIterator[bytes]:
        """Server-sent events from here on, or from behind the one that a reader had last."""
        self._followers += 1
        try:
            async for some in self._follow(last_id):
                yield some
        finally:
            self._followers -= 1

    async def _follow(self, last_id: str | None) -> AsyncIterator[bytes]:
        place = self._place_of(last_id)
        if place is None:
            place = self._last
            yield self._line(Event(place, "reset", {}))
        else:
            # So that a browser that loses the line at once can say from where to go on.
            yield b"retry: 1000\n" + self._line(Event(place, "hello", {}))
        while not self._closed:
            news = self._news
            if self._ring and place < self._ring[0].number - 1:
                place = self._last
                yield self._line(Event(place, "reset", {}))
            if place < self._last:
                skipped = len(self._ring) - (self._last - place)
                some = [self._ring[at] for at in range(skipped, len(self._ring))]
                place = self._last
                yield b"".join(self._line(event) for event in some)
                continue
            try:
                await asyncio.wait_for(news.wait(), _SILENCE_S)
            except TimeoutError:
                yield b": still here\n\n"

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

    def _line(self, event: Event) -> bytes:
        data = json.dumps(event.body, separators=(",", ":"))
        return f"id: {self._launch}-{event.number}\nevent: {event.kind}\ndata: {data}\n\n".encode()
