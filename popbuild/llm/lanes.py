"""What is known of providers and their models, and what it makes of a call: may it be sent, and
what does its end tell?

A lane is what a provider counts by itself: all of its models together, or one of them. Every call
uses two, its provider's and its model's. The board has all lanes of a root on one machine, as they
stand in the file that its processes share. Nothing here reads a file or a clock.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from popbuild.llm.limits import Breaker, Minute, Window
from popbuild.model.pipeline import Limit

# A provider counts a call when it arrives. We know that it has when the answer is here; one that
# has no answer after this long has certainly arrived.
ARRIVED_S = 5.0
_LEARNING = 0.1  # the weight of the newest answer in what is learned
_TOKENS_A_BYTE = 0.35  # of input, until answers tell: more than of English, less than of code
_OUTPUT_TOKENS = 500.0
_VERSION = 1

# How a call ended.
ANSWERED = "answered"  # also by a refusal of this one request: the provider works
REFUSED = "refused"  # 429
DOWN = "down"  # no connection, no answer in time, or an error of the server's
UNSENT = "unsent"
UNKNOWN_OUTCOME = "unknown"  # stopped while it was under way


@dataclass
class PendingCall:
    """One call, through all its tries. `digest` tells different calls apart, `number` those of one
    process; `lanes` and `limits` are its provider's and its model's. `tokens` are what it counts
    for at the moment: 0 where nobody counts them."""

    digest: str
    number: int
    lanes: tuple[str, str]
    limits: tuple[Limit, Limit]
    size_bytes: int = 0
    max_tokens: int | None = None
    tokens: float = 0.0
    sent_at: float = 0.0
    in_minute: bool = False  # whether the minute has it already

    @property
    def counts_tokens(self) -> bool:
        return any(limit.tokens_per_minute for limit in self.limits)


@dataclass(frozen=True)
class End:
    """How a call ended: with a provider's words and its Retry-After, with tokens of input and of
    output. `backoff_s` is how long to leave a provider alone that does not say for how long."""

    outcome: str
    reason: str = ""
    retry_after_s: float = 0.0
    tokens: tuple[int, int] | None = None
    backoff_s: float = 1.0


@dataclass
class Lane:
    """What is known of a provider or a model. `seats` has for each process, by the number of its
    seat, its calls in flight, how many of them the minute does not have yet, and their tokens."""

    seats: dict[str, list[float]] = field(default_factory=dict)
    requests: Minute = field(default_factory=Minute)
    tokens: Minute = field(default_factory=Minute)
    window: Window = field(default_factory=Window)  # a model's
    breaker: Breaker = field(default_factory=Breaker)  # a provider's
    tokens_a_byte: float = _TOKENS_A_BYTE
    output_tokens: float = _OUTPUT_TOKENS

    @property
    def in_flight(self) -> int:
        return int(sum(row[0] for row in self.seats.values()))

    def add(self, seat: str, calls: float, uncounted: float, tokens: float) -> None:
        """Change a seat's numbers by these. None falls below 0: the file may have been deleted."""
        row = self.seats.get(seat, [0, 0, 0])
        changed = [
            max(0, old + more) for old, more in zip(row, (calls, uncounted, tokens), strict=True)
        ]
        if changed[0]:
            self.seats[seat] = changed
        else:
            self.seats.pop(seat, None)

    def wait_until(self, limit: Limit, tokens: float, now: float, minute_s: float) -> float | None:
        """When a call fits into a limit: now, later, or None for when another call ends."""
        if limit.in_flight and self.in_flight >= limit.in_flight:
            return None
        latest = now
        for most, minute, amount, column in (
            (limit.requests_per_minute, self.requests, 1.0, 1),
            (limit.tokens_per_minute, self.tokens, tokens, 2),
        ):
            if not most:
                continue
            # What is under way stands in no slice yet, and leaves the minute last.
            under_way = sum(row[column] for row in self.seats.values())
            if under_way and under_way + amount > most:
                return None
            latest = max(latest, minute.free_at(amount + under_way, most, now, minute_s))
        return latest

    def estimate(self, call: PendingCall) -> float:
        """The tokens that a call will count for: what goes in, and what may come out, or mostly
        comes out where nobody set a most."""
        asked = round(call.size_bytes * self.tokens_a_byte)
        return asked + (call.max_tokens or round(self.output_tokens))

    def learn(self, size_bytes: int, input_tokens: int, output_tokens: int) -> None:
        if size_bytes and input_tokens:
            self.tokens_a_byte += _LEARNING * (input_tokens / size_bytes - self.tokens_a_byte)
        self.output_tokens += _LEARNING * (output_tokens - self.output_tokens)


@dataclass
class Board:
    """All lanes, as the process with this seat finds them now."""

    now: float
    minute_s: float
    seat: str
    lanes: dict[str, Lane] = field(default_factory=dict)

    @staticmethod
    def from_text(text: bytes, now: float, minute_s: float, seat: int) -> Board:
        """What a file says. One that is empty, torn, foreign or from the future says nothing: then
        everything starts anew, modestly."""
        board = Board(now, minute_s, str(seat))
        try:
            found = json.loads(text)
            if found["version"] == _VERSION and found["at"] <= now:
                board.lanes = {name: _lane(each) for name, each in found["lanes"].items()}
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
            pass
        return board

    def text(self) -> bytes:
        lanes = {name: _plain(lane) for name, lane in self.lanes.items()}
        document = {"version": _VERSION, "at": self.now, "lanes": lanes}
        return json.dumps(document, separators=(",", ":")).encode()

    def of(self, call: PendingCall) -> tuple[Lane, Lane]:
        """A call's lanes: its provider's, its model's."""
        provider, model = call.lanes
        return self.lanes.setdefault(provider, Lane()), self.lanes.setdefault(model, Lane())

    def wait_until(self, call: PendingCall, start: int) -> float | None:
        """When a call may be sent: now, later, or None for when something happens. `start` is the
        window of a model that nothing is known of, where no limit says it."""
        provider, model = self.of(call)
        most, most_of_model = (limit.in_flight for limit in call.limits)
        model.window = model.window.fitted(most_of_model or most or start, most_of_model)
        breaker = provider.breaker
        if breaker.is_open and (breaker.probe or self.now < breaker.open_until):
            return None if breaker.probe else breaker.open_until
        if self.now < model.window.paused_until:
            return model.window.paused_until
        if model.in_flight >= model.window.room:
            return None
        if call.counts_tokens:
            call.tokens = model.estimate(call)
        latest = self.now
        for lane, limit in zip((provider, model), call.limits, strict=True):
            until = lane.wait_until(limit, call.tokens, self.now, self.minute_s)
            if until is None:
                return None
            latest = max(latest, until)
        return latest

    def send(self, call: PendingCall) -> None:
        """A call is sent now."""
        call.sent_at, call.in_minute = self.now, False
        provider, _ = lanes = self.of(call)
        if provider.breaker.is_open:
            provider.breaker = replace(provider.breaker, probe=self._name(call))
        for lane in lanes:
            lane.add(self.seat, 1, 1, call.tokens)

    def has_arrived(self, call: PendingCall) -> bool:
        """Whether the minute has a call, or should have it by now."""
        if not call.in_minute and self.now - call.sent_at >= ARRIVED_S:
            self._put_in_minute(call)
        return call.in_minute

    def end(self, call: PendingCall, end: End) -> float:
        """A call has ended. Gives for how many seconds nothing more is sent to its model."""
        provider, model = lanes = self.of(call)
        in_flight = model.in_flight
        self._count(call, end)
        for lane in lanes:
            lane.add(self.seat, -1, 0, 0)
        if end.outcome == DOWN:
            provider.breaker = provider.breaker.failed_again(
                call.digest, self._name(call), end.reason, self.now, end.backoff_s
            )
        elif end.outcome in (ANSWERED, REFUSED):
            provider.breaker = Breaker()
        elif provider.breaker.probe == self._name(call):
            provider.breaker = replace(provider.breaker, probe="")
        if end.outcome == ANSWERED:
            model.window = model.window.answered(in_flight)
        elif end.outcome == REFUSED:
            model.window = model.window.refused(
                call.sent_at, self.now, in_flight, end.retry_after_s, end.backoff_s
            )
        return max(0.0, model.window.paused_until - self.now)

    def bury(self, seat: str) -> None:
        """A process is dead: its calls are in flight no more, but the provider had them."""
        for lane in self.lanes.values():
            if lane.breaker.probe.partition(".")[0] == seat:
                lane.breaker = replace(lane.breaker, probe="")
            _, calls, tokens = lane.seats.pop(seat, (0, 0, 0))
            lane.requests = lane.requests.with_more(self.now, calls, self.now, self.minute_s)
            lane.tokens = lane.tokens.with_more(self.now, tokens, self.now, self.minute_s)

    def bury_dead(self, is_alive: Callable[[int], bool]) -> None:
        """Take what processes have left behind that are no more."""
        lanes = self.lanes.values()
        seats = {seat for lane in lanes for seat in lane.seats}
        seats |= {lane.breaker.probe.partition(".")[0] for lane in lanes if lane.breaker.probe}
        for seat in seats:
            if not is_alive(int(seat)):
                self.bury(seat)

    def _name(self, call: PendingCall) -> str:
        return f"{self.seat}.{call.number}"

    def _count(self, call: PendingCall, end: End) -> None:
        """Put what a call really came to in the place of what was thought, and into the minute."""
        if not call.tokens:
            real = 0.0
        elif end.tokens is not None:
            real = float(sum(end.tokens))
            self.of(call)[1].learn(call.size_bytes, *end.tokens)
        else:
            real = 0.0 if end.outcome == REFUSED else call.tokens
        more = real - call.tokens
        for lane in self.of(call):
            if call.in_minute:
                at = call.sent_at + ARRIVED_S
                lane.tokens = lane.tokens.with_more(at, more, self.now, self.minute_s)
            else:
                lane.add(self.seat, 0, 0, more)
        call.tokens = real
        if call.in_minute:
            return
        if end.outcome != UNSENT:
            self._put_in_minute(call)
            return
        call.in_minute = True
        for lane in self.of(call):
            lane.add(self.seat, 0, -1, -call.tokens)

    def _put_in_minute(self, call: PendingCall) -> None:
        call.in_minute = True
        at = min(self.now, call.sent_at + ARRIVED_S)
        for lane, limit in zip(self.of(call), call.limits, strict=True):
            lane.add(self.seat, 0, -1, -call.tokens)
            if limit.requests_per_minute:  # the file stays small where nobody asks
                lane.requests = lane.requests.with_more(at, 1, self.now, self.minute_s)
            lane.tokens = lane.tokens.with_more(at, call.tokens, self.now, self.minute_s)


def _plain(lane: Lane) -> list[Any]:
    window, breaker = lane.window, lane.breaker
    return [
        lane.seats,
        lane.requests.slices,
        lane.tokens.slices,
        [window.size, window.cut_at, window.refusals, window.paused_until],
        [breaker.failed, breaker.reason, breaker.pause_s, breaker.open_until, breaker.probe],
        [lane.tokens_a_byte, lane.output_tokens],
    ]


def _lane(value: Any) -> Lane:
    """A lane from what `_plain` made of it. What is of another shape raises one of the errors that
    a foreign file may: numbers are added to, so that a text is none."""
    seats, requests, tokens, window, breaker, learned = value
    failed, reason, pause_s, open_until, probe = breaker
    return Lane(
        {str(int(seat)): [row[0] + 0, row[1] + 0, row[2] + 0] for seat, row in seats.items()},
        Minute(tuple((int(number), amount + 0) for number, amount in requests)),
        Minute(tuple((int(number), amount + 0) for number, amount in tokens)),
        Window(window[0] + 0, window[1] + 0, int(window[2]), window[3] + 0),
        Breaker(tuple(map(str, failed)), str(reason), pause_s + 0, open_until + 0, str(probe)),
        learned[0] + 0,
        learned[1] + 0,
    )
