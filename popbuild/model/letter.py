"""The letter: the receipt of a task's last success, `tasks/<task>/letter.json`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from popbuild.base import jsonio

LETTER_VERSION = 1

Fingerprint = Mapping[str, str]  # dependency -> digest, both text; see fingerprint.py


@dataclass(frozen=True)
class Call:
    """One request to a model, as the letter records it.

    `request` is the request's digest, under which the store has the answer. `stored` says that
    nothing was sent. Costs are US dollars; None means unknown, never 0, of tokens too. Cached and
    written tokens are parts of the input, reasoning of the output, None where the provider does not
    say. `counted` says that it gave no usage and the tokens are our own count.
    """

    request: str
    model: str
    sample: int
    stored: bool
    finish_reason: str
    input_tokens: int | None
    output_tokens: int | None
    cost: float | None
    duration_ms: float
    stage: str
    cycle: int
    warnings: tuple[str, ...] = ()
    cached_tokens: int | None = None
    written_tokens: int | None = None
    reasoning_tokens: int | None = None
    counted: bool = False

    def as_json(self) -> dict[str, Any]:
        return {
            "request": self.request,
            "model": self.model,
            "sample": self.sample,
            "stored": self.stored,
            "stage": self.stage,
            "cycle": self.cycle,
            "finishReason": self.finish_reason,
            "inputTokens": self.input_tokens,
            "outputTokens": self.output_tokens,
            **_parts(self.cached_tokens, self.written_tokens, self.reasoning_tokens),
            **({"counted": True} if self.counted else {}),
            "cost": self.cost,
            "durationMs": self.duration_ms,
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True)
class Usage:
    """What calls came to. `cost` is what was paid in this run: a stored answer costs nothing.

    A sum of which a part is unknown is unknown: None. Cached, written and reasoning tokens are sums
    over the calls whose provider says them, None where none does. `counted_calls` are those whose
    tokens we counted by ourselves.
    """

    calls: int = 0
    stored_calls: int = 0
    input_tokens: int | None = 0
    output_tokens: int | None = 0
    cost: float | None = 0.0
    cached_tokens: int | None = None
    written_tokens: int | None = None
    reasoning_tokens: int | None = None
    counted_calls: int = 0

    @property
    def tokens(self) -> int | None:
        """Of input and output together."""
        return _sum(self.input_tokens, self.output_tokens)

    @property
    def parts(self) -> str:
        """What of the tokens was cached, written to a cache or reasoning, ` (40 cached)`; nothing
        where nothing was."""
        return kinds_text(self.cached_tokens, self.written_tokens, self.reasoning_tokens)

    def __add__(self, other: Usage) -> Usage:
        known = self.cost is not None and other.cost is not None
        return Usage(
            self.calls + other.calls,
            self.stored_calls + other.stored_calls,
            _sum(self.input_tokens, other.input_tokens),
            _sum(self.output_tokens, other.output_tokens),
            (self.cost or 0.0) + (other.cost or 0.0) if known else None,
            _known_sum(self.cached_tokens, other.cached_tokens),
            _known_sum(self.written_tokens, other.written_tokens),
            _known_sum(self.reasoning_tokens, other.reasoning_tokens),
            self.counted_calls + other.counted_calls,
        )

    @staticmethod
    def of(calls: list[Call]) -> Usage:
        total = Usage()
        for call in calls:
            if call.stored:
                total += Usage(stored_calls=1)
            else:
                total += Usage(
                    1,
                    0,
                    call.input_tokens,
                    call.output_tokens,
                    call.cost,
                    call.cached_tokens,
                    call.written_tokens,
                    call.reasoning_tokens,
                    int(call.counted),
                )
        return total

    def as_json(self) -> dict[str, Any]:
        return {
            "calls": self.calls,
            "storedCalls": self.stored_calls,
            "inputTokens": self.input_tokens,
            "outputTokens": self.output_tokens,
            **_parts(self.cached_tokens, self.written_tokens, self.reasoning_tokens),
            **({"countedCalls": self.counted_calls} if self.counted_calls else {}),
            "cost": self.cost,
        }


def _parts(cached: int | None, written: int | None, reasoning: int | None) -> dict[str, int]:
    """The kinds of tokens that are known, by their names in JSON."""
    found = {"cachedTokens": cached, "cacheWriteTokens": written, "reasoningTokens": reasoning}
    return {name: count for name, count in found.items() if count is not None}


def kinds_text(cached: int | None, written: int | None, reasoning: int | None) -> str:
    """Kinds of tokens in words, ` (40 cached, 12 reasoning)`; nothing where there are none."""
    kinds = {"cached": cached, "written to the cache": written, "reasoning": reasoning}
    said = ", ".join(f"{count:,} {name}" for name, count in kinds.items() if count)
    return f" ({said})" if said else ""


def tokens_in(usage: Mapping[str, Any]) -> int | None:
    """The tokens of a usage as a file has it, None where they are unknown."""
    return _sum(usage.get("inputTokens", 0), usage.get("outputTokens", 0))


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other


def _known_sum(one: int | None, other: int | None) -> int | None:
    return one if other is None else (one or 0) + other


@dataclass(frozen=True)
class Letter:
    """`outputs` are the digests of the task's artifacts by file name; the main one by its value,
    every other by its bytes. `files` are the kind and the name of each file that the task made,
    none in a letter from before they were written down. `body` is the whole document, own digest
    included.
    """

    task: str
    fingerprint: Fingerprint
    outputs: Mapping[str, str]
    refinements: int
    edited: bool = False
    files: tuple[tuple[str, str], ...] = ()
    body: Mapping[str, Any] = field(default_factory=dict)


def seal(body: dict[str, Any]) -> dict[str, Any]:
    """The document with its own digest, which shows later alterations."""
    body = {key: value for key, value in body.items() if key != "digest"}
    return {**body, "digest": jsonio.digest(body)}


def is_sealed(body: Mapping[str, Any]) -> bool:
    """Whether a document is as `seal` gave it."""
    rest = dict(body)
    own: object = rest.pop("digest", None)
    try:
        return own == jsonio.digest(rest)
    except (ValueError, RecursionError):  # what no document of ours holds: NaN, half a character
        return False


_BEGINS = b'{"formatVersion":'  # our letters, without spaces: one that was cut short still does
_MARKS: Mapping[str, Callable[[Any], bool]] = {
    "formatVersion": lambda value: isinstance(value, int),
    "fingerprint": lambda value: isinstance(value, dict),
    "outputs": lambda value: isinstance(value, dict),
    "digest": lambda value: isinstance(value, str) and value.startswith("sha256:"),
}
_ENOUGH = 2  # marks: one may be another program's word, and one may have been altered


def looks_ours(data: bytes) -> bool:
    """Whether the bytes of a `letter.json` are a letter of popbuild's, whole, altered or cut short.

    The storage document leaves a letter's shape to each program ("varies by task"), so what has
    none of our marks is another program's.
    """
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        return data[:200].translate(None, b" \t\r\n").startswith(_BEGINS)
    if not isinstance(body, dict):
        return False
    return sum(name in body and is_mark(body[name]) for name, is_mark in _MARKS.items()) >= _ENOUGH


def open_letter(body: Any, task: str) -> Letter | None:
    """The letter in a document, or None where it is foreign, altered or of another version."""
    if not isinstance(body, dict) or body.get("formatVersion") != LETTER_VERSION:
        return None
    if body.get("task") != task or not is_sealed(body):
        return None
    try:
        return Letter(
            task,
            dict(body["fingerprint"]),
            dict(body["outputs"]),
            int(body["refinementAttempts"]),
            bool(body.get("edited", False)),
            tuple((kind, name) for kind, names in body.get("files", {}).items() for name in names),
            body,
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
