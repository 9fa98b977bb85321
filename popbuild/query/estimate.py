"""What a task's calls may come to: how many, how many tokens, how many dollars, as ranges.

Learned from the task's history on its model; without history, from nothing to the most possible.
An unknown end is infinite: `null` in JSON, "or more" to a person.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from popbuild.base import jsonio
from popbuild.llm import tokens
from popbuild.llm.history import Attempt
from popbuild.llm.ledger import size_of
from popbuild.llm.prices import Price
from popbuild.llm.request import Message
from popbuild.model.pipeline import Task
from popbuild.query.preview import Code

# How far a provider's own count, with its frame around the text, may be from ours.
_COUNTED = (0.8, 1.3)
_BYTES_A_TOKEN = (1.5, 6.0)  # of text in any language, from dense to plain
_MANY = 20  # after so many builds, at most one refinement more than in any of them is expected
# Tokens of a gate's problems: with a text as a whole; from a schema or code usually; and at most, a
# hundred of a line or two.
_IN_A_TEXT, _AS_A_RULE, _PROBLEMS = 100, 500, 8_000


@dataclass(frozen=True)
class Range:
    """The least and the most that is expected; an unknown most is infinite."""

    low: float
    high: float

    def __add__(self, other: Range) -> Range:
        return Range(self.low + other.low, self.high + other.high)

    def times(self, low: float, high: float) -> Range:
        return Range(_product(self.low, low), _product(self.high, high))

    def from_nothing(self) -> Range:
        return Range(0, self.high)

    @property
    def ends(self) -> tuple[float, float]:
        return self.low, self.high

    @property
    def is_open(self) -> bool:
        """Whether the upper end is unknown."""
        return math.isinf(self.high)

    def as_json(self, digits: int | None = None) -> dict[str, float | None]:
        high = None if self.is_open else round(self.high, digits)
        return {"low": round(self.low, digits), "high": high}


NOTHING = Range(0, 0)


def _product(one: float, other: float) -> float:
    """A product in which 0 times infinity is 0: a local model's unknown tokens are free."""
    return one * other if one and other else 0


@dataclass(frozen=True)
class TokenShares:
    """Shares of a task's tokens in its last builds: of the input read from the provider's cache and
    written to it, of the output spent on reasoning; None if no provider reported any."""

    cached: Range | None = None
    written: Range | None = None
    reasoning: Range | None = None

    @staticmethod
    def of(attempts: Sequence[Attempt]) -> TokenShares:
        return TokenShares(
            _known_spread(each for one in attempts for each in one.cached),
            _known_spread(each for one in attempts for each in one.written),
            _known_spread(each for one in attempts for each in one.reasoning),
        )


@dataclass(frozen=True)
class Estimate:
    """`first` and `answer` are the input and the output of the first call alone."""

    calls: Range
    asked: Range
    answered: Range
    first: Range
    answer: Range

    def without_first(self) -> Estimate:
        """The rest if the first answer is stored already: whether it passes is unknown."""
        return Estimate(
            Range(0, self.calls.high - 1),
            Range(0, self.asked.high - self.first.low),
            Range(0, self.answered.high - self.answer.low),
            NOTHING,
            NOTHING,
        )

    def from_nothing(self) -> Estimate:
        """The same, if perhaps nothing is sent."""
        return Estimate(
            self.calls.from_nothing(),
            self.asked.from_nothing(),
            self.answered.from_nothing(),
            self.first,
            self.answer,
        )

    def cost(self, price: Price, kinds: TokenShares) -> Range:
        """From the largest cached share so far, to all of it written to the cache if that has its
        own price: caching is never certain."""
        least = price.input
        if kinds.cached is not None and price.cached is not None:
            least += kinds.cached.high * min(price.cached - price.input, 0.0)
        asked = self.asked.times(least, price.most_input)
        answer = price.output if price.reasoning is None else min(price.output, price.reasoning)
        return asked + self.answered.times(answer, price.most_output)


def answer_limit(task: Task, price: Price | None) -> float:
    """The most tokens that an answer of this task may have."""
    for name in ("maxTokens", "max_tokens", "max_completion_tokens"):
        value = task.settings.get(name)
        if isinstance(value, int):
            return value
    return (price and price.max_output) or math.inf


def most_tokens(text: str) -> float:
    """The most tokens that a text may have, in whatever language."""
    return len(text.encode()) / _BYTES_A_TOKEN[0]


def most_tokens_of_json(value: Any) -> float:
    """The most tokens that a JSON value may have where it is printed, indented by four: those of
    `json.dumps(value, indent=4)`, whose encoder of indented text is slow."""
    line = len(json.dumps(value, separators=(",", ": ")))
    return (line + _indentation(value, 0)) / _BYTES_A_TOKEN[0]


def _indentation(value: Any, depth: int) -> int:
    """The line ends and spaces by which indented JSON is longer than one line."""
    if not value or not isinstance(value, dict | list):
        return 0
    own = len(value) * (1 + 4 * (depth + 1)) + 1 + 4 * depth
    parts = value.values() if isinstance(value, dict) else value
    return own + sum(_indentation(part, depth + 1) for part in parts)


def at_most(
    task: Task,
    code: Code,
    price: Price | None,
    schema: Any,
    messages: list[Message] | None,
    longest: float,
) -> Estimate:
    """For a task without history. `messages` are those of its first call, None if they cannot be
    rendered; `longest` is the most tokens that its prompt may have before a refinement."""
    window = (price and price.max_input) or math.inf
    # refine() may set another maxTokens, and what code sends is bounded by the model alone.
    limit = math.inf if code.calls or "refine" in code.functions else answer_limit(task, price)
    first = Range(0, min(longest, window))
    if messages is not None:
        counted, form = tokens.count_tokens(messages), _schema_tokens(schema)
        first = Range(counted * _COUNTED[0], (counted + form) * _COUNTED[1])
    problems = _PROBLEMS if code.checks or schema is not None else _IN_A_TEXT
    # The conversation goes on, or the templates repeat the problems themselves.
    refined = (longest if code.tags else first.high) + limit * (1 + code.mentions("previous"))
    refined = min(refined + problems * (1 + code.mentions("problems")), window)
    calls = Range(1, math.inf if code.calls else 1 + task.refinements)
    asked = math.inf if code.calls else first.high + _product(task.refinements, refined)
    # An answer may be empty.
    answered = Range(0, _product(calls.high, limit))
    return Estimate(calls, Range(first.low, asked), answered, first, Range(0, limit))


def _schema_tokens(schema: Any) -> int:
    """What a response format adds to the input; not every provider counts it."""
    return 0 if schema is None else _tokens_in(jsonio.compact(schema))


@functools.lru_cache(maxsize=64)  # the same schema for every job
def _tokens_in(text: str) -> int:
    return tokens.count_tokens([{"content": text}])


def learned(
    attempts: Sequence[Attempt],
    task: Task,
    code: Code,
    price: Price | None,
    messages: list[Message] | None,
) -> Estimate:
    """For a task with history: like its last attempts, wider the fewer there are, with room for one
    refinement more than in any of them."""
    wider = 1 + 2 / len(attempts)
    window = (price and price.max_input) or math.inf
    cycles = 1 + task.refinements
    if len(attempts) >= _MANY:
        cycles = min(cycles, max(each.cycles for each in attempts) + 1)
    in_a_cycle = 1
    if code.calls:
        in_a_cycle = max(1, math.ceil(max(each.first_calls for each in attempts) * wider))
    answer = _spread(each for one in attempts for each in one.outputs).times(1 / wider, wider)
    if not code.calls and "refine" not in code.functions:
        # How long a cut-off answer would have been is unknown.
        limit = answer_limit(task, price)
        cut = any(each.cut_off for each in attempts)
        answer = Range(min(answer.low, limit), limit if cut else min(answer.high, limit))
    first = _first_input(attempts, messages, wider)
    seen = max(each for one in attempts for each in one.inputs)
    most = max(first.high, seen * wider) if code.calls or messages is None else first.high
    problems = _AS_A_RULE if code.checks or task.schema is not None else _IN_A_TEXT
    refined = most + _growth(attempts, code, answer.high, problems, wider)
    most, refined = min(most, window), min(refined, window)
    return Estimate(
        Range(1, in_a_cycle * cycles),
        Range(first.low, in_a_cycle * (most + _product(cycles - 1, refined))),
        Range(answer.low, in_a_cycle * cycles * answer.high),
        first,
        answer,
    )


def _growth(
    attempts: Sequence[Attempt], code: Code, answer: float, problems: float, wider: float
) -> float:
    """Tokens that a refinement adds to the input: the most so far, or else the failed answer and
    its problems."""
    known = [each.growth for each in attempts if each.growth is not None]
    if known:
        return max(known) * wider
    return answer * (1 + code.mentions("previous")) + problems


def _first_input(
    attempts: Sequence[Attempt], messages: list[Message] | None, wider: float
) -> Range:
    """Input of the first call in the provider's own tokens, which we cannot count."""
    known = [each.first for each in attempts if each.first is not None]
    if not known:
        return _spread(each for one in attempts for each in one.inputs).times(0, wider)
    if messages is None:
        return _spread(tokens for tokens, _ in known).times(1 / wider, wider)
    ends = [_resized(tokens, before, size_of(messages)) for tokens, before in known]
    least, most = min(each.low for each in ends), max(each.high for each in ends)
    return Range(least, most).times(*_COUNTED)


def _resized(tokens: int, before: int, now: int) -> Range:
    """Tokens of a prompt of `now` bytes, if one of `before` bytes had so many. The difference may
    be dense or plain text; what a provider adds to every prompt stays."""
    dense, plain = ((now - before) / each for each in _BYTES_A_TOKEN)
    low, high = sorted((tokens + dense, tokens + plain))
    if now < before:
        low = max(low, tokens * now / before)
    return Range(low, high)


def _known_spread(values: Iterable[float]) -> Range | None:
    found = list(values)
    return _spread(found) if found else None


def _spread(values: Iterable[float]) -> Range:
    found = list(values)
    return Range(min(found), max(found))
