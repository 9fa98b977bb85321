"""What a person should hear while calls are made: values on a queue, for the build to show."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from popbuild.llm.limits import Breaker


@dataclass(frozen=True)
class ProviderWait:
    """A provider makes calls wait, for this reason and so many seconds."""

    reason: str
    wait_s: float


@dataclass(frozen=True)
class StoreTrouble:
    """The store cannot be used, or the disk is full; the build goes on."""

    text: str


Notices = asyncio.Queue[ProviderWait | StoreTrouble | None]  # None is the last one


class ProviderNews:
    """Reports each pause of a model once, and each time that a provider goes down, even if another
    process found it first. Lanes are named as on the board; times are its seconds."""

    def __init__(self, notices: Notices) -> None:
        self._notices = notices
        self._down_since: dict[str, float] = {}  # by the provider's lane
        self._paused_until: dict[str, float] = {}  # by the model's lane

    def breaker(self, lane: str, breaker: Breaker, now: float) -> None:
        if not breaker.is_open:
            self._down_since.pop(lane, None)
        elif lane not in self._down_since:
            self._down_since[lane] = now
            reason = f"{lane.partition('@')[0]} is down, {breaker.reason}"
            self._report(reason, max(0.0, breaker.open_until - now))

    def down_since(self, lane: str, now: float) -> float:
        return self._down_since.get(lane, now)

    def pause(self, lane: str, reason: str, until: float, now: float) -> None:
        if now < until and self._paused_until.get(lane, 0.0) < until:
            self._paused_until[lane] = until
            self._report(reason, until - now)

    def extended(self, lane: str, until: float) -> None:
        """A pause that was reported lasts longer: do not report it again."""
        self._paused_until[lane] = until

    def _report(self, reason: str, wait_s: float) -> None:
        self._notices.put_nowait(ProviderWait(reason, wait_s))
