"""The numbers for calls: how many at a time, how many tries, how long to wait."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from popbuild.base.errors import UsageError

START = 8  # calls in flight, of a command and of a model without a history
_MB = 2**20


@dataclass(frozen=True)
class Patience:
    """`in_flight` are the calls of a process at a time, `together` those of all processes of its
    command. `patience_s` is how long to wait for a provider that is down, or refuses with 429.
    Times are seconds; `minute_s` is the provider's minute, for tests. `max_answer_bytes` is how
    much of an answer is read."""

    in_flight: int = START
    together: int = START
    tries: int = 5
    backoff_s: float = 1.0
    max_backoff_s: float = 60.0
    max_retry_after_s: float = 300.0
    timeout_s: float = 600.0
    patience_s: float = 600.0
    minute_s: float = 60.0
    max_answer_bytes: int = 32 * _MB

    @staticmethod
    def from_environment(
        environment: Mapping[str, str], in_flight: int | None, together: int | None = None
    ) -> Patience:
        """The defaults, with POPBUILD_TRIES, POPBUILD_BACKOFF_S, POPBUILD_TIMEOUT_S,
        POPBUILD_PATIENCE_S, POPBUILD_MINUTE_S and POPBUILD_MAX_ANSWER_MB. Raises UsageError for any
        other value."""
        default, number = Patience(), functools.partial(_number, environment)
        return Patience(
            in_flight or START,
            together or START,
            tries=round(number("POPBUILD_TRIES", default.tries, 1)),
            backoff_s=number("POPBUILD_BACKOFF_S", default.backoff_s, 0),
            timeout_s=number("POPBUILD_TIMEOUT_S", default.timeout_s, 0.001),
            patience_s=number("POPBUILD_PATIENCE_S", default.patience_s, 0),
            minute_s=number("POPBUILD_MINUTE_S", default.minute_s, 0.1),
            max_answer_bytes=round(
                _MB * number("POPBUILD_MAX_ANSWER_MB", default.max_answer_bytes / _MB, 0.001)
            ),
        )

    def backoff_s_after(self, times: int, uniform: Callable[[float, float], float]) -> float:
        """Exponential, with jitter. `times` counts from 0."""
        most = min(self.max_backoff_s, self.backoff_s * 2 ** min(times, 30))
        return uniform(most / 2, most)


def _number(environment: Mapping[str, str], name: str, default: float, least: float) -> float:
    text = environment.get(name)
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value < math.inf:
        raise UsageError(
            "not a number that this variable can have",
            {name: text, "allowed": f"at least {least:g}, by default {default:g}"},
        )
    return value
