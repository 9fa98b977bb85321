"""The letter: the receipt of a task's last success, `tasks/<task>/letter.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from popbuild import jsonio

FORMAT_VERSION = 1

Fingerprint = Mapping[str, str]  # dependency -> digest, both text; see fingerprint.py


@dataclass(frozen=True)
class Call:
    """One request to a model, as the letter records it.

    `request` is the request's digest, under which the store has the answer. `stored` says that
    nothing was sent. Costs are US dollars; None means that the price is unknown, never 0.
    """

    request: str
    model: str
    sample: int
    stored: bool
    finish_reason: str
    input_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cost: float | None
    duration_ms: float
    stage: str
    cycle: int
    warnings: tuple[str, ...] = ()

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
            "reasoningTokens": self.reasoning_tokens,
            "cost": self.cost,
            "durationMs": self.duration_ms,
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True)
class Usage:
    """What calls came to. `cost` is what was paid in this run: a stored answer costs nothing."""

    calls: int = 0
    stored_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float | None = 0.0

    def __add__(self, other: Usage) -> Usage:
        known = self.cost is not None and other.cost is not None
        return Usage(
            self.calls + other.calls,
            self.stored_calls + other.stored_calls,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            (self.cost or 0.0) + (other.cost or 0.0) if known else None,
        )

    @staticmethod
    def of(calls: list[Call]) -> Usage:
        total = Usage()
        for call in calls:
            if call.stored:
                total += Usage(stored_calls=1)
            else:
                total += Usage(1, 0, call.input_tokens, call.output_tokens, call.cost)
        return total

    def as_json(self) -> dict[str, Any]:
        return {
            "calls": self.calls,
            "storedCalls": self.stored_calls,
            "inputTokens": self.input_tokens,
            "outputTokens": self.output_tokens,
            "cost": self.cost,
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Usage:
        return Usage(
            value["calls"],
            value["storedCalls"],
            value["inputTokens"],
            value["outputTokens"],
            value["cost"],
        )


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
    """The document with its own digest, which says whether anybody altered it since."""
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


def open_letter(body: Any, task: str) -> Letter | None:
    """The letter in a document, or None where it is foreign, altered or of another version."""
    if not isinstance(body, dict) or body.get("formatVersion") != FORMAT_VERSION:
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
