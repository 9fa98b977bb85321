"""What one draw of a job came to in one variant, from what its files say. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from popbuild.base.paths import COMPLETE, REJECTED
from popbuild.model.letter import Letter
from popbuild.model.problem import MISSING, value_read
from popbuild.model.scores import Score, TaskScores
from popbuild.query import untrusted

_SEED = "seed:"  # the beginning of a dependency on a place of the seed
PASSED, NOT_PASSED = "passed", "rejected"


@dataclass(frozen=True)
class Took:
    """Tokens, US dollars and the time of all calls, whether they were bought for this result or
    served from the store; for a task without calls, its own time. None is unknown."""

    input_tokens: float | None = 0
    output_tokens: float | None = 0
    cost: float | None = 0.0
    time_ms: float | None = 0.0

    @property
    def tokens(self) -> float | None:
        return _plus(self.input_tokens, self.output_tokens)

    def __add__(self, other: Took) -> Took:
        return Took(
            _plus(self.input_tokens, other.input_tokens),
            _plus(self.output_tokens, other.output_tokens),
            _plus(self.cost, other.cost),
            _plus(self.time_ms, other.time_ms),
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "inputTokens": self.input_tokens,
            "outputTokens": self.output_tokens,
            "cost": self.cost,
            "timeMs": self.time_ms,
        }


UNKNOWN = Took(None, None, None, None)


def _plus(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other


@dataclass(frozen=True)
class TaskFiles:
    """What stands in the folder of a task: its letter and the calls of it and its items, its
    scores. No letter and no calls where the task was not built, or another program built it."""

    letter: Letter | None = None
    calls: tuple[Mapping[str, Any], ...] = ()
    scores: TaskScores | None = None


@dataclass(frozen=True)
class DrawResult:
    """One draw of a job. `passed` is None where it has no result that can be compared, and `why`
    then says why not; of a rejected one, `why` is the first problem. `fields` are those of the
    seed that were read. `output` is the digest of the main artifact, `text` its beginning."""

    draw: int
    passed: bool | None
    why: str = ""
    is_stale: bool = False
    refinements: int = 0
    scores: Mapping[str, Score] = field(default_factory=dict)
    took: Took = Took()
    fields: Mapping[str, Any] = field(default_factory=dict)
    output: str | None = None
    text: str = ""

    @property
    def gate(self) -> str:
        """How it went, in a word or two."""
        said = self.why if self.passed is None else PASSED if self.passed else NOT_PASSED
        return f"{said}, stale" if self.is_stale else said

    def as_json(self) -> dict[str, Any]:
        body: dict[str, Any] = {"draw": self.draw, "passed": self.passed}
        if self.why:
            body["why"] = self.why
        if self.passed is None:
            return body
        scores = {
            name: {"value": each.value, "reason": each.reason} for name, each in self.scores.items()
        }
        return body | {
            "stale": self.is_stale,
            "refinements": self.refinements,
            "scores": scores,
            **self.took.as_json(),
            "output": self.text,
        }


def took_by(files: TaskFiles) -> Took:
    """What the calls of a task took."""
    letter = files.letter
    if not files.calls:
        if letter is None:
            return UNKNOWN
        execution = letter.body.get("execution")
        ran = execution if isinstance(execution, dict) else {}
        return Took(time_ms=untrusted.known(ran, "executionTime"))
    return took_by_calls(files.calls)


def took_by_calls(calls: Iterable[Mapping[str, Any]]) -> Took:
    """The sum over calls as a letter or a rejection has them."""
    names = ("inputTokens", "outputTokens", "cost", "durationMs")
    total = Took()
    for call in calls:
        asked, answered, cost, took_ms = (untrusted.known(call, name) for name in names)
        total += Took(asked, answered, cost, took_ms)
    return total


def result_of(
    draw: int,
    state: str,
    tasks: Mapping[str, TaskFiles],
    rejection: Mapping[str, Any],
    seed: object,
    *,
    is_stale: bool,
) -> DrawResult:
    """The result of a job that is complete or rejected, over these of its tasks, in their order. Of
    a rejected one, a task may have passed before: if it is the only one that is asked for, it
    counts by itself."""
    refused = rejection.get("task") if state == REJECTED else None
    reached = {name: each for name, each in tasks.items() if each.letter is not None}
    if state == REJECTED and refused not in tasks and len(reached) < len(tasks):
        return DrawResult(draw, None, f"rejected in {refused}" if refused else "bad seed")
    passed = state == COMPLETE or refused not in tasks
    built = tasks if state == COMPLETE else reached
    took = sum((took_by(each) for each in built.values()), Took())
    if not passed and refused not in reached:
        took += took_by_calls(untrusted.objects(rejection.get("calls")))
    letters = [each.letter for each in tasks.values() if each.letter is not None]
    refinements = sum(each.refinements for each in letters)
    if not passed:
        refinements += int(untrusted.number_in(rejection.get("refinementAttempts")))
    return DrawResult(
        draw,
        passed,
        "" if passed else _first_problem(rejection),
        is_stale,
        refinements,
        _scores(tasks),
        took,
        _fields(letters, rejection, seed),
    )


def _first_problem(rejection: Mapping[str, Any]) -> str:
    found = untrusted.problems(rejection.get("problems"))
    return str(found[0]) if found else ""


def _scores(tasks: Mapping[str, TaskFiles]) -> dict[str, Score]:
    """The scores by task and name: `formatting.faithful`."""
    return {
        f"{task}.{name}": score
        for task, files in tasks.items()
        if files.scores is not None
        for name, score in files.scores.scores.items()
    }


def _fields(
    letters: Sequence[Letter], rejection: Mapping[str, Any], seed: object
) -> dict[str, Any]:
    """The places of the seed that the tasks read, with what stands there."""
    said = rejection.get("fingerprint")
    prints = [each.fingerprint for each in letters] + ([said] if isinstance(said, dict) else [])
    names = {name for each in prints for name in each if name.startswith(_SEED)}
    found = {}
    for pointer in sorted(name.removeprefix(_SEED) for name in names):
        value = value_read(seed, pointer)
        if value is not MISSING:
            found[pointer] = value
    return found


@dataclass(frozen=True)
class CellResult:
    """A job in a variant: its draws. What is compared are the means over those with a result."""

    draws: tuple[DrawResult, ...] = ()

    @property
    def counted(self) -> list[DrawResult]:
        return [each for each in self.draws if each.passed is not None]

    @property
    def why_left_out(self) -> str | None:
        """Why the job has no result here; None if it has one."""
        if self.counted:
            return None
        return self.draws[0].why if self.draws else "not built"

    @property
    def pass_share(self) -> float | None:
        found = [float(bool(each.passed)) for each in self.counted]
        return fmean(found) if found else None

    def score(self, name: str) -> float | None:
        """The mean of a score over the draws in which it was measured."""
        scores = (each.scores.get(name) for each in self.counted)
        known = [each.number for each in scores if each is not None and each.number is not None]
        return fmean(known) if known else None

    def mean_of(self, amount: str) -> float | None:
        """The mean of an amount of `Took` over the draws; None if one is unknown."""
        found = [getattr(each.took, amount) for each in self.counted]
        return None if not found or None in found else fmean(found)

    @property
    def score_names(self) -> list[str]:
        return list(dict.fromkeys(name for each in self.draws for name in each.scores))
