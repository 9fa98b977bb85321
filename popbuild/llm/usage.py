"""The tokens of a call as its provider reports them. What it does not report, or cannot mean, is
unknown: None, never 0."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Beyond what any model takes or gives in one call.
_MOST = 100_000_000
# No vocabulary has a longer token: the longest are runs of blanks or of one character.
_LONGEST_CHARS = 256

# Names of the same number, the most trusted first: litellm writes the first of each, unless it
# passes a provider's on.
_CACHED = ("cached_tokens", "cache_read_input_tokens", "prompt_cache_hit_tokens")
_WRITTEN = ("cache_write_tokens", "cache_creation_tokens", "cache_creation_input_tokens")
_REASONING = ("reasoning_tokens",)


@dataclass(frozen=True)
class Tokens:
    """Tokens of one call; None is unknown. `cached` were read from the provider's prompt cache and
    `written` went into it: both are parts of `input`, as `reasoning` is of `output`.
    `is_counted_by_us` says that the provider gave no numbers and we counted."""

    input: int | None = None
    output: int | None = None
    cached: int | None = None
    written: int | None = None
    reasoning: int | None = None
    is_counted_by_us: bool = False

    @property
    def both(self) -> tuple[int, int] | None:
        """Input and output, where both are known."""
        if self.input is None or self.output is None:
            return None
        return self.input, self.output


def reported_tokens(response: Mapping[str, Any]) -> Tokens:
    """The tokens that a response reports, in OpenAI's shape. Some providers count reasoning beside
    the output: where it is larger than the output, it is added. If more was cached than there was
    input, the input is unknown."""
    usage = response.get("usage")
    if not isinstance(usage, Mapping):
        return Tokens()
    asked = _number(usage.get("prompt_tokens")) or None  # no request is empty
    answered = _number(usage.get("completion_tokens"))
    cached = _first(usage, "prompt_tokens_details", _CACHED)
    written = _first(usage, "prompt_tokens_details", _WRITTEN)
    if asked is None or (cached or 0) + (written or 0) > asked:
        asked = cached = written = None
    choices = response.get("choices") or [{}]
    text = (choices[0].get("message") or {}).get("content")
    characters = len(text) if isinstance(text, str) else 0
    if answered is None or characters > _LONGEST_CHARS * answered:
        return Tokens(asked, None, cached, written)
    if asked is None and not answered:
        return Tokens()  # zeros instead of nothing
    reasoning = _first(usage, "completion_tokens_details", _REASONING)
    if reasoning is not None and reasoning > answered:
        answered += reasoning
    return Tokens(asked, answered, cached, written, reasoning)


def has_invented_zeros(response: Mapping[str, Any]) -> bool:
    """Whether a response of an older version has zeros where the provider reported no usage."""
    usage = response.get("usage")
    return isinstance(usage, Mapping) and usage.get("prompt_tokens") == 0


def _first(usage: Mapping[str, Any], details: str, names: tuple[str, ...]) -> int | None:
    """The first number under one of these names, among the details or beside them."""
    inner = usage.get(details)
    for place in (inner if isinstance(inner, Mapping) else {}, usage):
        for name in names:
            found = _number(place.get(name))
            if found is not None:
                return found
    return None


def _number(value: object) -> int | None:
    """The value if it can be a count."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not 0 <= value <= _MOST or value != int(value):
        return None
    return int(value)
