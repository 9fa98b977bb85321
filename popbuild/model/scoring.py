"""How a task's output is measured, as its folder says: scores.py, and `scores` and `gate.scores` in
task.yaml. None of it is a dependency of the task."""

from __future__ import annotations

import functools
import math
import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from popbuild.base import jsonio

SCORES_FILE = "scores.py"
THRESHOLDS = 'a sign and a number: ">= 0.7", "> 0", "<= 400", "< 1" or "== 1"'
SCORE_STAGE = "scores"  # in rejection.json
_SIGNS = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
}
_THRESHOLD = re.compile(r"\s*(>=|<=|==|>|<)\s*(-?[0-9]+(?:\.[0-9]+)?)\s*\Z")


@dataclass(frozen=True)
class Threshold:
    """What a score must be for its job to be promoted; passed counts as 1, failed as 0."""

    sign: str
    number: float

    @staticmethod
    def of(text: str) -> Threshold | None:
        """The threshold that a text says, or None."""
        found = _THRESHOLD.match(text)
        number = float(found[2]) if found else math.nan
        return Threshold(found[1], number) if found and math.isfinite(number) else None

    def lets_pass(self, value: float) -> bool:
        return bool(_SIGNS[self.sign](value, self.number))

    def __str__(self) -> str:
        return f"{self.sign} {self.number:g}"


@dataclass(frozen=True)
class Scoring:
    """`code` is scores.py, relative to pipeline-config/, or None; `functions` are its scores, and
    `files` the digests of what importing it runs. `rules` need no code. `gate` are the thresholds
    of scores."""

    code: str | None = None
    functions: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    rules: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    gate: Mapping[str, Threshold] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all scores, in their order."""
        return (*self.functions, *self.rules)

    @functools.cached_property
    def digests(self) -> dict[str, str]:
        """What measures each score, by digest."""
        code = jsonio.digest(dict(self.files))
        found = {name: jsonio.digest({"function": name, "files": code}) for name in self.functions}
        return found | {name: jsonio.digest(dict(rule)) for name, rule in self.rules.items()}
