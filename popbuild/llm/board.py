"""The board: all lanes of a root on one machine, as they stand in the file that its processes
share. It says whether a call may be sent, and learns from how calls end.

Every call uses two lanes, its provider's and its model's. Nothing here reads a file or a clock.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from popbuild.llm.lanes import ANSWERED, ARRIVED_S, DOWN, REFUSED, UNSENT, Caller, End, Lane
from popbuild.llm.limits import Breaker, Minute, Window

_VERSION = 1


@dataclass
class Board:
    """All lanes, as the process with this seat finds them now."""

    now: float
    minute_s: float
    seat: str
    lanes: dict[str, Lane] = field(default_factory=dict)

    @staticmethod
    def from_text(text: bytes, now: float, minute_s: float, seat: int) -> Board:
        """The board in a file. One that is empty, torn, foreign or from the future says nothing:
        then everything starts anew, modestly."""
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

    def of(self, call: Caller) -> tuple[Lane, Lane]:
        """A call's lanes: its provider's, its model's."""
        provider, model = call.lanes
        return self.lanes.setdefault(provider, Lane()), self.lanes.setdefault(model, Lane())

    def wait_until(self, call: Caller, start: int) -> float | None:
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

    def send(self, call: Caller) -> None:
        call.sent_at, call.in_minute = self.now, False
        provider, _ = lanes = self.of(call)
        if provider.breaker.is_open:
            provider.breaker = replace(provider.breaker, probe=self._name(call))
        for lane in lanes:
            lane.add(self.seat, 1, 1, call.tokens)

    def has_arrived(self, call: Caller) -> bool:
        """Whether the minute has a call, or should have it by now."""
        if not call.in_minute and self.now - call.sent_at >= ARRIVED_S:
            self._put_in_minute(call)
        return call.in_minute

    def end(self, call: Caller, end: End) -> float:
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
        lanes = self.lanes.values()
        seats = {seat for lane in lanes for seat in lane.seats}
        seats |= {lane.breaker.probe.partition(".")[0] for lane in lanes if lane.breaker.probe}
        for seat in seats:
            if not is_alive(int(seat)):
                self.bury(seat)

    def _name(self, call: Caller) -> str:
        return f"{self.seat}.{call.number}"

    def _count(self, call: Caller, end: End) -> None:
        """Replace the estimate of a call by what it came to, and put it into the minute."""
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

    def _put_in_minute(self, call: Caller) -> None:
        call.in_minute = True
        at = min(self.now, call.sent_at + ARRIVED_S)
        for lane, limit in zip(self.of(call), call.limits, strict=True):
            lane.add(self.seat, 0, -1, -call.tokens)
            if limit.requests_per_minute:  # the file stays small without such a limit
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
    """A lane from what `_plain` made of it. Any other shape raises one of the errors that
    `from_text` expects: adding 0 rejects non-numbers."""
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
