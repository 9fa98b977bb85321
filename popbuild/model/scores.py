"""Scores: measurements of a task's output, `tasks/<task>/scores.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from popbuild.model.letter import is_sealed, seal

SCORES_VERSION = 1
_TEXTS = ("reason", "rule", "expected", "output")


@dataclass(frozen=True)
class Score:
    """One measurement: a number, or a bool for passed and failed. None says that it could not be
    measured, and `reason` then says why. `rule`, `expected` and `output` are the digests of what
    measured, of what was expected ("" for nothing) and of what was measured: where they are what
    they were, the score holds. `calls` are those of a judge, as a letter has them."""

    value: float | bool | None
    reason: str
    rule: str
    expected: str
    output: str
    calls: tuple[Mapping[str, Any], ...] = ()

    @property
    def number(self) -> float | None:
        """The value as a number: 1 for passed, 0 for failed."""
        return None if self.value is None else float(self.value)

    def as_json(self) -> dict[str, Any]:
        return {
            "value": self.value,
            "reason": self.reason,
            "rule": self.rule,
            "expected": self.expected,
            "output": self.output,
            **({"calls": list(self.calls)} if self.calls else {}),
        }


@dataclass(frozen=True)
class TaskScores:
    """The scores of one task's output, by their names."""

    task: str
    scores: Mapping[str, Score] = field(default_factory=dict)

    def as_document(self) -> dict[str, Any]:
        """The document with its own digest, as it stands on disk."""
        found = {name: score.as_json() for name, score in self.scores.items()}
        return seal({"formatVersion": SCORES_VERSION, "task": self.task, "scores": found})


def open_scores(body: object, task: str) -> TaskScores | None:
    """The scores in a document; None if it is damaged, or of another task or version."""
    if not isinstance(body, dict) or body.get("formatVersion") != SCORES_VERSION:
        return None
    if body.get("task") != task or not is_sealed(body):
        return None
    try:
        return TaskScores(task, {name: _score(each) for name, each in body["scores"].items()})
    except (KeyError, TypeError, AttributeError):
        return None


def _score(body: Mapping[str, Any]) -> Score:
    value = body["value"]
    if value is not None and not isinstance(value, bool | int | float):
        raise TypeError(value)
    reason, rule, expected, output = map(str, map(body.__getitem__, _TEXTS))
    return Score(value, reason, rule, expected, output, tuple(body.get("calls", ())))
