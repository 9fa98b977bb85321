"""What an answer cost, as far as that is known: unknown is never $0."""

from __future__ import annotations

from dataclasses import replace

from popbuild.llm import tokens
from popbuild.llm.prices import price_of
from popbuild.llm.request import Answer, Request, is_local
from popbuild.llm.usage import reported_tokens


def billed(request: Request, answer: Answer) -> Answer:
    """The answer with its cost. Where the provider says what was used it is litellm's, which knows
    prices best. Where reasoning was counted beside the output, or we had to count ourselves, it
    comes from the price list; else it is None."""
    if is_local(request.model):
        return answer
    used = reported_tokens(answer.response)
    is_reported = used.both is not None and (
        used.output == answer.response["usage"]["completion_tokens"]
    )
    if is_reported and answer.cost is not None:
        return answer
    counted = tokens.count_usage(request, answer.text) if used.both is None else None
    price = price_of(request.model)
    return replace(
        answer, cost=price.cost_of(counted or used) if price is not None else None, counted=counted
    )
