"""The letter: the receipt of a task's last success, `tasks/<task>/letter.json`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from popbuild.base import jsonio

LETTER_VERSION = 1

Fingerprint = Mapping[str, str]  # dependency -> digest, both text; see fingerprint.py
# Kinds of tokens that a provider may report: their names in JSON and in words.
KINDS = {
    "cachedTokens": "cached",
    "cacheWriteTokens": "written to the cache",
    "reasoningTokens": "reasoning",
}
_Kinds = tuple[int | None, int | None, int | None]  # in the order of KINDS
_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True)
class Call:
    """One request to a model, as the letter records it.

    `request` is the request's digest, under which the store has the answer. `stored` says that
    nothing was sent. Costs are US dollars; None means unknown, never 0, of tokens too. Cached and
    written tokens are parts of the input, reasoning tokens of the output. `counted` says that the
    provider gave no usage and the tokens are our own count.
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

    @property
    def kinds(self) -> _Kinds:
        return self.cached_tokens, self.written_tokens, self.reasoning_tokens

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
            **_known_kinds(self.kinds),
            **({"counted": True} if self.counted else {}),
            "cost": self.cost,
            "durationMs": self.duration_ms,
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True)
class Usage:
    """Sums over calls. `cost` is what was paid in this run: a stored answer costs nothing.

    A sum with an unknown part is unknown: None. Cached, written and reasoning tokens are sums over
    the calls whose provider reports them, None if none does. `counted_calls` are those whose tokens
    we counted ourselves.
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
    def kinds(self) -> _Kinds:
        return self.cached_tokens, self.written_tokens, self.reasoning_tokens

    @property
    def parts(self) -> str:
        """The known kinds of its tokens, ` (40 cached)`, or nothing."""
        return kinds_text(*self.kinds)

    def __add__(self, other: Usage) -> Usage:
        cached, written, reasoning = map(_known_sum, self.kinds, other.kinds)
        return Usage(
            self.calls + other.calls,
            self.stored_calls + other.stored_calls,
            _sum(self.input_tokens, other.input_tokens),
            _sum(self.output_tokens, other.output_tokens),
            _sum(self.cost, other.cost),
            *(cached, written, reasoning),
            self.counted_calls + other.counted_calls,
        )

    @staticmethod
    def of(calls: list[Call]) -> Usage:
        total = Usage()
        for call in calls:
            tokens, counted = (call.input_tokens, call.output_tokens), int(call.counted)
            sent = Usage(1, 0, *tokens, call.cost, *call.kinds, counted)
            total += Usage(stored_calls=1) if call.stored else sent
        return total

    def as_json(self) -> dict[str, Any]:
        return {
            "calls": self.calls,
            "storedCalls": self.stored_calls,
            "inputTokens": self.input_tokens,
            "outputTokens": self.output_tokens,
            **_known_kinds(self.kinds),
            **({"countedCalls": self.counted_calls} if self.counted_calls else {}),
            "cost": self.cost,
        }


def _known_kinds(kinds: _Kinds) -> dict[str, int]:
    found = zip(KINDS, kinds, strict=True)
    return {name: count for name, count in found if count is not None}


def kinds_text(*kinds: int | None) -> str:
    """Kinds of tokens in words, ` (40 cached, 12 reasoning)`, or nothing."""
    found = zip(KINDS.values(), kinds, strict=True)
    said = ", ".join(f"{count:,} {name}" for name, count in found if count)
    return f" ({said})" if said else ""


def tokens_in(usage: Mapping[str, Any]) -> int | None:
    """The tokens of a usage in JSON; None if unknown."""
    return _sum(usage.get("inputTokens", 0), usage.get("outputTokens", 0))


def _sum(one: _Number | None, other: _Number | None) -> _Number | None:
    return None if one is None or other is None else one + other


def _known_sum(one: int | None, other: int | None) -> int | None:
    return one if other is None else (one or 0) + other


@dataclass(frozen=True)
class Letter:
    """`outputs` are the digests of the task's artifacts by file name: the main one's by its value,
    others' by their bytes. `files` are the kind and the name of each file that the task made; old
    letters have none. `skipped` says why the task has no artifact, and is empty where it has one.
    `body` is the whole document with its own digest."""

    task: str
    fingerprint: Fingerprint
    outputs: Mapping[str, str]
    refinements: int
    edited: bool = False
    files: tuple[tuple[str, str], ...] = ()
    skipped: str = ""
    body: Mapping[str, Any] = field(default_factory=dict)


def seal(body: dict[str, Any]) -> dict[str, Any]:
    """The document with its own digest, which reveals later changes."""
    body = {key: value for key, value in body.items() if key != "digest"}
    return {**body, "digest": jsonio.digest(body)}


def is_sealed(body: Mapping[str, Any]) -> bool:
    """Whether a document is unchanged since `seal`."""
    rest = dict(body)
    own: object = rest.pop("digest", None)
    try:
        return own == jsonio.digest(rest)
    except (ValueError, RecursionError):  # our documents have no NaN or half a character
        return False


_BEGINS = b'{"formatVersion":'  # our letters without spaces, even if they were cut short
_MARKS: Mapping[str, Callable[[Any], bool]] = {
    "formatVersion": lambda value: isinstance(value, int),
    "fingerprint": lambda value: isinstance(value, dict),
    "outputs": lambda value: isinstance(value, dict),
    "digest": lambda value: isinstance(value, str) and value.startswith("sha256:"),
}
_ENOUGH = 2  # marks: another program may use one of the words, and one may have been altered


def looks_ours(data: bytes) -> bool:
    """Whether the bytes of a `letter.json` are a letter of popbuild's, whole, altered or cut short.

    The storage document leaves a letter's shape to each program ("varies by task"), so a letter
    without our marks is another program's.
    """
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        return data[:200].translate(None, b" \t\r\n").startswith(_BEGINS)
    if not isinstance(body, dict):
        return False
    return sum(name in body and is_mark(body[name]) for name, is_mark in _MARKS.items()) >= _ENOUGH


def open_letter(body: object, task: str, *, is_vouched: bool = False) -> Letter | None:
    """The letter in a document; None if it is foreign, altered or of another version. One that is
    vouched for, by the verdict on its job, was found whole already."""
    if not isinstance(body, dict) or body.get("formatVersion") != LETTER_VERSION:
        return None
    if body.get("task") != task or not (is_vouched or is_sealed(body)):
        return None
    try:
        return Letter(
            task,
            dict(body["fingerprint"]),
            dict(body["outputs"]),
            int(body["refinementAttempts"]),
            bool(body.get("edited", False)),
            tuple((kind, name) for kind, names in body.get("files", {}).items() for name in names),
            str(body["reason"]) if body.get("skipped") else "",
            body,
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
