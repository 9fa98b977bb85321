"""Scores: measurements of a task's output, `tasks/<task>/scores.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from popbuild.model.letter import is_sealed, seal

SCORES_VERSION = 1
_TEXTS = ("reason", "rule", "seed", "expected", "output")


@dataclass(frozen=True)
class Score:
    """One measurement: a number, or a bool for passed and failed. None says that it could not be
    measured, and `reason` then says why. A function of scores.py may return one, with a value and a
    reason. `rule`, `seed`, `expected` and `output` are the digests of what measured, of the seed,
    of what was expected ("" for nothing) and of what was measured: while they are what they were,
    the score holds. `calls` are those of a judge, as a letter has them."""

    value: float | bool | None
    reason: str = ""
    rule: str = ""
    seed: str = ""
    expected: str = ""
    output: str = ""
    calls: tuple[Mapping[str, Any], ...] = ()

    @property
    def number(self) -> float | None:
        """The value as a number: 1 for passed, 0 for failed."""
        return None if self.value is None else float(self.value)

    @property
    def basis(self) -> tuple[str, ...]:
        """The digests of all that it hangs on."""
        return self.rule, self.seed, self.expected, self.output

    @property
    def in_words(self) -> str:
        """The value as people read it: `passed`, `0.75`, `not measured`."""
        if self.value is None:
            return "not measured"
        if isinstance(self.value, bool):
            return "passed" if self.value else "failed"
        return f"{self.value:.4g}"

    def as_json(self) -> dict[str, Any]:
        return {
            "value": self.value,
            "reason": self.reason,
            "rule": self.rule,
            "seed": self.seed,
            "expected": self.expected,
            "output": self.output,
            **({"calls": list(self.calls)} if self.calls else {}),
        }


@dataclass(frozen=True)
class TaskScores:
    """The scores of one task's output, by their names. `basis` is the digest over all that they
    hang on, so that one comparison says whether all of them hold."""

    task: str
    scores: Mapping[str, Score] = field(default_factory=dict)
    basis: str = ""

    def as_document(self) -> dict[str, Any]:
        """The document with its own digest, as it stands on disk."""
        found = {name: score.as_json() for name, score in self.scores.items()}
        body = {"formatVersion": SCORES_VERSION, "task": self.task, "basis": self.basis}
        return seal({**body, "scores": found})


def open_scores(body: object, task: str) -> TaskScores | None:
    """The scores in a document; None if it is damaged, or of another task or version."""
    if not isinstance(body, dict) or body.get("formatVersion") != SCORES_VERSION:
        return None
    if body.get("task") != task or not is_sealed(body):
        return None
    try:
        found = {name: _score(each) for name, each in body["scores"].items()}
        return TaskScores(task, found, str(body["basis"]))
    except (KeyError, TypeError, AttributeError):
        return None


def _score(body: Mapping[str, Any]) -> Score:
    value = body["value"]
    if value is not None and not isinstance(value, bool | int | float):
        raise TypeError(value)
    reason, rule, seed, expected, output = map(str, map(body.__getitem__, _TEXTS))
    return Score(value, reason, rule, seed, expected, output, tuple(body.get("calls", ())))
