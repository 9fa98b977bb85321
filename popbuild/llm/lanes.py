"""A call that wants to be sent, how it ends, and a lane: what a provider counts for all of its
models together, or for one of them. Nothing here reads a file or a clock."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from popbuild.llm.ledger import size_of
from popbuild.llm.limits import NO_LIMIT, Breaker, Minute, Window, limits_of
from popbuild.llm.request import Request
from popbuild.model.pipeline import Limit

# A provider counts a call when it arrives. It has arrived when its answer is here, and certainly
# after this long.
ARRIVED_S = 5.0
_LEARNING = 0.1  # the weight of the newest answer in what is learned
_TOKENS_A_BYTE = 0.35  # of input, until answers say: English has fewer, code has more
_OUTPUT_TOKENS = 500.0

# How a call ended.
ANSWERED = "answered"  # also where this one request was refused: the provider works
REFUSED = "refused"  # 429
DOWN = "down"  # no connection, no answer in time, or a server error
UNSENT = "unsent"
UNKNOWN_OUTCOME = "unknown"  # stopped in flight


@dataclass
class Caller:
    """One call, through all its tries.

    `digest` tells different calls apart, `number` those of one process; `lanes` and `limits` are
    its provider's and its model's. `tokens` are what it counts for at the moment: 0 where no limit
    counts them. `has_other` says that another model could be asked. `first_at` is when it first
    wanted to be sent, `refused_at` when it was first refused with 429. `turn` is done when it may
    be sent.
    """

    digest: str
    number: int
    lanes: tuple[str, str]
    limits: tuple[Limit, Limit]
    model: str = ""
    has_other: bool = False
    first_at: float = 0.0
    size_bytes: int = 0
    max_tokens: int | None = None
    tokens: float = 0.0
    sent_at: float = 0.0
    in_minute: bool = False  # whether the minute has it already
    refused_at: float | None = None
    turn: asyncio.Future[None] = field(init=False)

    def __lt__(self, other: Caller) -> bool:
        return self.number < other.number

    @property
    def counts_tokens(self) -> bool:
        return any(limit.tokens_per_minute for limit in self.limits)


def caller_of(
    request: Request,
    names: tuple[str, str],
    limits: Mapping[str, Limit],
    number: int,
    has_other: bool,
    now: float,
) -> Caller:
    """A caller for a request; `names` are its model without the provider, and the provider."""
    plain, provider = names
    endpoint = request.place.endpoint
    place = f"@{endpoint.removeprefix('sha256:')[:12]}" if endpoint else ""
    return Caller(
        request.digest[-12:],
        number,
        (provider + place, f"{provider}/{plain}{place}"),
        (limits.get(provider, NO_LIMIT), limits_of(request.model, plain, provider, limits)),
        request.model,
        has_other,
        now,
        size_of(request.messages),
        request.max_tokens,
    )


@dataclass(frozen=True)
class End:
    """How a call ended: the provider's words, its Retry-After, the tokens of input and output.
    `backoff_s` is the pause where the provider asks for none."""

    outcome: str
    reason: str = ""
    retry_after_s: float = 0.0
    tokens: tuple[int, int] | None = None
    backoff_s: float = 1.0


@dataclass
class Lane:
    """What is known of a provider or a model. `seats` has, for each process by its seat's number,
    its calls in flight, how many of them are not in the minute yet, and the tokens of those."""

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
        """Change a seat's numbers. They stay above 0: the file may have been deleted."""
        row = self.seats.get(seat, [0, 0, 0])
        changed = [
            max(0, old + more) for old, more in zip(row, (calls, uncounted, tokens), strict=True)
        ]
        if changed[0]:
            self.seats[seat] = changed
        else:
            self.seats.pop(seat, None)

    def wait_until(self, limit: Limit, tokens: float, now: float, minute_s: float) -> float | None:
        """When a call fits into a limit; None for when another call ends."""
        if limit.in_flight and self.in_flight >= limit.in_flight:
            return None
        latest = now
        for most, minute, amount, column in (
            (limit.requests_per_minute, self.requests, 1.0, 1),
            (limit.tokens_per_minute, self.tokens, tokens, 2),
        ):
            if not most:
                continue
            # Calls in flight are in no slice yet, and leave the minute last.
            under_way = sum(row[column] for row in self.seats.values())
            if under_way and under_way + amount > most:
                return None
            latest = max(latest, minute.free_at(amount + under_way, most, now, minute_s))
        return latest

    def estimate(self, call: Caller) -> float:
        """The tokens that a call will count for: its input and its largest output, or the average
        output where it has no limit."""
        asked = round(call.size_bytes * self.tokens_a_byte)
        return asked + (call.max_tokens or round(self.output_tokens))

    def learn(self, size_bytes: int, input_tokens: int, output_tokens: int) -> None:
        if size_bytes and input_tokens:
            self.tokens_a_byte += _LEARNING * (input_tokens / size_bytes - self.tokens_a_byte)
        self.output_tokens += _LEARNING * (output_tokens - self.output_tokens)
