"""A request that wants to be sent: which lanes it takes, and what it counts for there."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from popbuild.llm.lanes import PendingCall
from popbuild.llm.ledger import size_of
from popbuild.llm.limits import NO_LIMIT, limits_of
from popbuild.llm.request import Request
from popbuild.model.pipeline import Limit


@dataclass
class Caller(PendingCall):
    """`has_other` says that another model could be asked. `first_at` is when it first wanted to be
    sent, `refused_at` when it was first refused with 429. `turn` is done when it may be sent."""

    model: str = ""
    has_other: bool = False
    first_at: float = 0.0
    refused_at: float | None = None
    turn: asyncio.Future[None] = field(init=False)

    def __lt__(self, other: Caller) -> bool:
        return self.number < other.number


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
    caller = Caller(
        request.digest[-12:],
        number,
        (provider + place, f"{provider}/{plain}{place}"),
        (limits.get(provider, NO_LIMIT), limits_of(request.model, plain, provider, limits)),
        model=request.model,
        has_other=has_other,
        first_at=now,
    )
    if caller.counts_tokens:
        caller.size_bytes = size_of(request.messages)
        caller.max_tokens = request.max_tokens
    return caller
