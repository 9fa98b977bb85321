"""A plan as data: what was asked for, which tasks will or may run, what each may cost, the sums."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from popbuild.jobs.examine import Exam
from popbuild.jobs.staleness import FRESH
from popbuild.query.estimate import NOTHING, Range, TokenShares


@dataclass(frozen=True)
class PlannedTask:
    """A task that will or may run. `calls` are those to be sent; `stored` those whose answers are
    in the store, None where that cannot be known yet. `cost` is None without a price."""

    task: str
    will: bool
    reasons: tuple[str, ...]
    stored: int | None
    calls: Range
    input_tokens: Range
    output_tokens: Range
    cost: Range | None
    basis: str
    lacking: bool = False  # nothing may be sent, and its answer is not stored
    kinds: TokenShares = field(default_factory=TokenShares)

    @property
    def parts(self) -> tuple[Range | None, Range | None, Range | None]:
        """Of its tokens those read from a cache, written to one, and of reasoning."""
        return (
            self.kinds.cached and self.input_tokens.times(*self.kinds.cached.ends),
            self.kinds.written and self.input_tokens.times(*self.kinds.written.ends),
            self.kinds.reasoning and self.output_tokens.times(*self.kinds.reasoning.ends),
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "task": self.task,
            "runs": "will" if self.will else "may",
            "reasons": list(self.reasons),
            "storedCalls": self.stored,
            "calls": self.calls.as_json(),
            "inputTokens": self.input_tokens.as_json(),
            "outputTokens": self.output_tokens.as_json(),
            **_parts_as_json(self.parts),
            "cost": self.cost and self.cost.as_json(8),
            "basis": self.basis,
            "lacking": self.lacking,
        }


@dataclass(frozen=True)
class PlannedJob:
    """What a run of a job would do. `note` says why nothing would be built, or what stops it."""

    id: str
    state: str
    tasks: tuple[PlannedTask, ...] = ()
    note: str = ""

    @property
    def nothing_to_do(self) -> bool:
        return not self.tasks and not self.note

    @property
    def lacking(self) -> tuple[str, ...]:
        """The tasks at which a run that may send nothing would end with an error."""
        return tuple(task.task for task in self.tasks if task.lacking)

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "state": self.state,
            "note": self.note or None,
            "tasks": [task.as_json() for task in self.tasks],
            "total": totals(self.tasks).as_json(),
        }


@dataclass(frozen=True)
class Totals:
    """Sums over tasks. `stored` is None as soon as it is of one task; `unknown` names those without
    a price: `cost` is without them."""

    calls: Range
    stored: int | None
    input_tokens: Range
    output_tokens: Range
    cost: Range
    unknown: tuple[str, ...]
    parts: tuple[Range | None, Range | None, Range | None]

    def as_json(self) -> dict[str, Any]:
        return {
            "calls": self.calls.as_json(),
            "storedCalls": self.stored,
            "inputTokens": self.input_tokens.as_json(),
            "outputTokens": self.output_tokens.as_json(),
            **_parts_as_json(self.parts),
            "cost": None if self.unknown else self.cost.as_json(8),
            "unknownCost": list(self.unknown),
        }


def totals(tasks: Iterable[PlannedTask]) -> Totals:
    """The sums of a plan."""
    tasks = list(tasks)
    stored = [task.stored for task in tasks if task.stored is not None]
    return Totals(
        sum((task.calls for task in tasks), NOTHING),
        sum(stored) if len(stored) == len(tasks) else None,
        sum((task.input_tokens for task in tasks), NOTHING),
        sum((task.output_tokens for task in tasks), NOTHING),
        sum((task.cost for task in tasks if task.cost is not None), NOTHING),
        tuple(dict.fromkeys(task.task for task in tasks if task.cost is None)),
        (
            _known_sum(task.parts[0] for task in tasks),
            _known_sum(task.parts[1] for task in tasks),
            _known_sum(task.parts[2] for task in tasks),
        ),
    )


def _known_sum(ranges: Iterable[Range | None]) -> Range | None:
    """The sum of those that are known; None where none is."""
    known = [each for each in ranges if each is not None]
    return sum(known, NOTHING) if known else None


def _parts_as_json(parts: Iterable[Range | None]) -> dict[str, Any]:
    names = ("cachedTokens", "cacheWriteTokens", "reasoningTokens")
    return {name: each and each.as_json(0) for name, each in zip(names, parts, strict=True)}


@dataclass(frozen=True)
class PlanOptions:
    """What a run is told beside its names, as far as it decides what is built and what is sent:
    `mode` is the store's."""

    mode: str
    always: bool = False
    fresh: tuple[str, ...] = ()
    keep_edits: bool = False
    discard_edits: bool = False

    def reasons(self, exam: Exam) -> Iterator[tuple[str, str]]:
        """The tasks of a job that are built whatever their letters say, each with the reason."""
        for name, verdict in exam.verdicts.items():
            if name in self.fresh:
                yield name, FRESH
            elif self.discard_edits and verdict.edited:
                yield name, "its edit by hand is discarded"
            elif self.always and not verdict.edited:
                yield name, "asked for"
