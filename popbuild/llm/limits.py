"""What a provider allows: rates by the minute, a window of calls in flight, a circuit breaker.

Times are seconds of one clock that all processes of a machine share. Nothing here reads a file or
a clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace

from popbuild.model.pipeline import Limit, Pipeline

NO_LIMIT = Limit()
# A provider counts the last sixty seconds at every moment. Slices are off by a thirtieth, to the
# safe side: the oldest slice counts as a whole.
_SLICES = 30
_MAX_BACKOFF_S = 60.0
_DOWN_AFTER = 5  # different calls that failed in a row


def strictest(pipelines: Iterable[Pipeline]) -> dict[str, Limit]:
    """The limits of all pipelines by provider or model. The lower number of two holds: pipelines
    share the account, and no file loosens another's limit."""
    found: dict[str, Limit] = {}
    for pipeline in pipelines:
        for name, limit in pipeline.limits.items():
            found[name] = lower(found.get(name, NO_LIMIT), limit)
    return found


def lower(one: Limit, other: Limit) -> Limit:
    """The lower of two limits, number by number."""
    return Limit(
        *(
            min((n for n in (getattr(one, f.name), getattr(other, f.name)) if n), default=None)
            for f in fields(Limit)
        )
    )


def limits_of(model: str, plain: str, provider: str, limits: Mapping[str, Limit]) -> Limit:
    """The limit of a model under all of its names: as configured, without and with its provider."""
    found = NO_LIMIT
    for name in {model, plain, f"{provider}/{plain}"} - {provider}:
        found = lower(found, limits.get(name, NO_LIMIT))
    return found


@dataclass(frozen=True)
class Minute:
    """What was used in the last minute: pairs of a slice's number and an amount."""

    slices: tuple[tuple[int, float], ...] = ()

    def with_more(self, at: float, amount: float, now: float, minute_s: float) -> Minute:
        """With an amount used at `at`; slices that are too old are dropped."""
        if not amount:
            return self
        first, number = _slice(now, minute_s) - _SLICES, _slice(at, minute_s)
        kept = dict(each for each in self.slices if each[0] >= first)
        if number >= first:
            kept[number] = kept.get(number, 0) + amount
        return Minute(tuple(kept.items()))

    def free_at(self, amount: float, limit: float, now: float, minute_s: float) -> float:
        """When an amount fits into the minute. More than a whole minute's fits into an empty
        one."""
        first = _slice(now, minute_s) - _SLICES
        counted = sorted(each for each in self.slices if each[0] >= first)
        used = sum(each for _, each in counted)
        at = now
        for number, each in counted:
            if used + amount <= limit:
                break
            used -= each
            at = (number + _SLICES + 1) * minute_s / _SLICES
        return at


def _slice(at: float, minute_s: float) -> int:
    return int(at * _SLICES / minute_s)


@dataclass(frozen=True)
class Window:
    """How many calls of a model may be in flight. A 429 halves it; answers let it grow: by one each
    until it was first halved, then by one a round."""

    size: float = 0.0
    cut_at: float = 0.0  # 0 for never
    refusals: int = 0  # in a row
    paused_until: float = 0.0

    @property
    def room(self) -> int:
        return max(1, int(self.size))

    def fitted(self, start: float, most: int | None) -> Window:
        """The window for a command that starts with `start` calls and may never have more than
        `most`."""
        size = self.size if self.cut_at else max(self.size, start)
        size = min(size, most) if most else size
        return self if size == self.size else replace(self, size=size)

    def answered(self, in_flight: int) -> Window:
        """After an answer; `in_flight` includes it. Only a full window grows."""
        grown = in_flight >= self.room
        if not grown and not self.refusals:
            return self
        more = (1 / self.size if self.cut_at else 1.0) if grown else 0.0
        return replace(self, size=self.size + more, refusals=0)

    def refused(
        self, sent_at: float, now: float, in_flight: int, asked_s: float, backoff_s: float
    ) -> Window:
        """After a 429: nothing more is sent for as long as the provider asks, or else for a
        backoff, doubled with each refusal in a row. Refusals of calls sent before the last cut do
        not halve the window again."""
        if sent_at <= self.cut_at:
            return replace(self, paused_until=max(self.paused_until, now + asked_s))
        pause_s = max(asked_s, min(_MAX_BACKOFF_S, backoff_s * 2 ** min(self.refusals, 30)))
        return Window(
            max(1.0, min(self.size, in_flight) / 2),
            now,
            self.refusals + 1,
            max(self.paused_until, now + pause_s),
        )


@dataclass(frozen=True)
class Breaker:
    """A circuit breaker for a provider that is down. It opens when several different calls have
    failed in a row, and lets one through after a pause, which grows; any answer closes it."""

    failed: tuple[str, ...] = ()  # the calls since the last answer
    reason: str = ""
    pause_s: float = 0.0  # 0 for closed
    open_until: float = 0.0
    probe: str = ""  # the call that was let through

    @property
    def is_open(self) -> bool:
        return self.pause_s > 0

    def failed_again(self, call: str, by: str, reason: str, now: float, first_s: float) -> Breaker:
        """After a call failed; `by` names the try. One that was sent before the breaker opened
        changes nothing."""
        if self.is_open:
            if by != self.probe:
                return self
            pause_s = min(_MAX_BACKOFF_S, self.pause_s * 2)
            return replace(self, reason=reason, pause_s=pause_s, open_until=now + pause_s, probe="")
        failed = self.failed if call in self.failed else (*self.failed, call)
        if len(failed) < _DOWN_AFTER:
            return replace(self, failed=failed)
        return Breaker((), reason, first_s, now + first_s)
