"""A plan as data, and for a person: which tasks will or may run, what each may cost, the sums."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from popbuild.base.paths import shown_name
from popbuild.base.units import count, fit_line, money
from popbuild.jobs.examine import Exam
from popbuild.jobs.staleness import FRESH
from popbuild.model.letter import KINDS
from popbuild.query.estimate import NOTHING, Range, TokenShares


@dataclass(frozen=True)
class PlannedTask:
    """A task that will or may run. `calls` are to be sent; `stored` says how many answers are in
    the store, None if that is not known yet. `cost` is None without a price."""

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
        """Its tokens by kind, in the order of KINDS."""
        kinds, read, said = self.kinds, self.input_tokens, self.output_tokens
        return (
            kinds.cached and read.times(*kinds.cached.ends),
            kinds.written and read.times(*kinds.written.ends),
            kinds.reasoning and said.times(*kinds.reasoning.ends),
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "task": self.task,
            "runs": "will" if self.will else "may",
            "reasons": list(self.reasons),
            "storedCalls": self.stored,
            **_amounts(self),
            "cost": self.cost and self.cost.as_json(8),
            "basis": self.basis,
            "lacking": self.lacking,
        }


@dataclass(frozen=True)
class PlannedJob:
    """What a run of a job would do. `note` says why it builds nothing, or what stops it."""

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
    """Sums over tasks. `stored` is None if one task's is; `unknown` names the tasks without a
    price, which `cost` leaves out."""

    calls: Range
    stored: int | None
    input_tokens: Range
    output_tokens: Range
    cost: Range
    unknown: tuple[str, ...]
    parts: tuple[Range | None, Range | None, Range | None]

    def as_json(self) -> dict[str, Any]:
        amounts = _amounts(self)
        return {
            "calls": amounts.pop("calls"),
            "storedCalls": self.stored,
            **amounts,
            "cost": None if self.unknown else self.cost.as_json(8),
            "unknownCost": list(self.unknown),
        }


def totals(tasks: Iterable[PlannedTask]) -> Totals:
    """The sums of a plan."""
    tasks = list(tasks)
    stored = [task.stored for task in tasks if task.stored is not None]
    cached, written, reasoning = (
        _known_sum(task.parts[kind] for task in tasks) for kind in range(len(KINDS))
    )
    return Totals(
        sum((task.calls for task in tasks), NOTHING),
        sum(stored) if len(stored) == len(tasks) else None,
        sum((task.input_tokens for task in tasks), NOTHING),
        sum((task.output_tokens for task in tasks), NOTHING),
        sum((task.cost for task in tasks if task.cost is not None), NOTHING),
        tuple(dict.fromkeys(task.task for task in tasks if task.cost is None)),
        (cached, written, reasoning),
    )


def _known_sum(ranges: Iterable[Range | None]) -> Range | None:
    """The sum of the known ranges; None if there are none."""
    known = [each for each in ranges if each is not None]
    return sum(known, NOTHING) if known else None


def _amounts(of: PlannedTask | Totals) -> dict[str, Any]:
    return {
        "calls": of.calls.as_json(),
        "inputTokens": of.input_tokens.as_json(),
        "outputTokens": of.output_tokens.as_json(),
        **{name: each and each.as_json(0) for name, each in zip(KINDS, of.parts, strict=True)},
    }


@dataclass(frozen=True)
class PlanOptions:
    """The options of a run that decide what is built and sent; `mode` is the store's."""

    mode: str
    always: bool = False
    fresh: tuple[str, ...] = ()
    keep_edits: bool = False
    discard_edits: bool = False
    added: frozenset[str] = frozenset()  # jobs that no person named: others are over them
    only: bool = False

    def reasons(self, exam: Exam) -> Iterator[tuple[str, str]]:
        """The tasks of a job to be built whatever their letters say, each with the reason."""
        is_named = exam.folder.id not in self.added
        for name, verdict in exam.verdicts.items():
            if is_named and name in self.fresh:
                yield name, FRESH
            elif self.discard_edits and verdict.edited:
                yield name, "its edit by hand is discarded"
            elif is_named and self.always and not verdict.edited:
                yield name, "asked for"


# For people: lines of at most 80 columns where the words allow.


def plan_lines(jobs: Sequence[PlannedJob]) -> Iterator[str]:
    """A plan: each job with something to do, its tasks, and their reasons and prices."""
    busy = [job for job in jobs if not job.nothing_to_do]
    for job in busy:
        yield f"{shown_name(job.id)}: {job.note or _how_many(job.tasks)}"
        if job.note and job.tasks:
            yield f"  {_how_many(job.tasks)}"
        width = max((len(task.task) for task in job.tasks), default=0)
        for task in job.tasks:
            head = f"  {'will' if task.will else 'may '}  {task.task:<{width}}  "
            indent = " " * len(head)
            for number, reason in enumerate(task.reasons):
                yield fit_line(indent if number else head, reason)
            yield from _wrapped(indent, price_text(task))
            for text, more in ((parts_text(task), indent), (f"({task.basis})", f"{indent} ")):
                yield from textwrap.wrap(text, 80, initial_indent=indent, subsequent_indent=more)
    idle = len(jobs) - len(busy)
    planned = [task for job in busy for task in job.tasks]
    if planned:
        total = totals(planned)
        up_to_date = f"; {idle} up to date" if idle else ""
        yield from _wrapped("total: ", f"{sum_text(total)}{up_to_date}")
    elif idle:
        yield f"{count(idle, 'job')} up to date: nothing to do"


def _wrapped(head: str, price: str) -> Iterator[str]:
    """A price on one line of 80 columns, or else on two: calls, then tokens and cost."""
    if len(head) + len(price) <= 80:
        yield head + price
        return
    calls, _, rest = price.partition("; ")
    yield f"{head}{calls};"
    yield " " * len(head) + rest


def _how_many(tasks: Iterable[PlannedTask]) -> str:
    will = [task.will for task in tasks]
    parts = [f"{sum(will)} will run"] if any(will) else []
    if not all(will):
        parts.append(f"{len(will) - sum(will)} may run")
    return ", ".join(parts)


def price_text(task: PlannedTask) -> str:
    """What a task may cost: its calls, how many of them are stored, tokens, dollars."""
    tokens = task.input_tokens + task.output_tokens
    return f"{_calls(task)}; {_range(tokens, 'token')}; {_cost(task.cost)}"


def parts_text(task: PlannedTask) -> str:
    """How many of its tokens may be cached or reasoning: `of them 0 to 900 cached`; empty if its
    last builds had none."""
    said = [
        f"{_numbers(each)} {name}"
        for name, each in zip(KINDS.values(), task.parts, strict=True)
        if each is not None and each.high
    ]
    return f"of them {', '.join(said)}" if said else ""


def sum_text(total: Totals) -> str:
    """The same for a whole plan."""
    tokens = total.input_tokens + total.output_tokens
    cost = _cost(total.cost)
    if total.unknown:
        known = f"{cost} and " if total.cost.high else ""
        cost = f"{known}an unknown cost of {', '.join(total.unknown)}"
    return f"{_calls(total)}; {_range(tokens, 'token')}; {cost}"


def _calls(of: PlannedTask | Totals) -> str:
    known = "stored unknown" if of.stored is None else f"{of.stored:,} stored"
    return f"{_range(of.calls, 'call')}, {known}"


def _range(value: Range, name: str) -> str:
    """`1 call`, `0 to 3 calls`, `1,200 to 4,000 tokens`, `1 or more calls`."""
    plural = "" if not value.is_open and f"{value.high:.0f}" == "1" else "s"
    return f"{_numbers(value)} {name}{plural}"


def _numbers(value: Range) -> str:
    """`1`, `0 to 3`, `1 or more`."""
    if value.is_open:
        return f"{value.low:,.0f} or more"
    low, high = f"{value.low:,.0f}", f"{value.high:,.0f}"
    return high if low == high else f"{low} to {high}"


def _cost(cost: Range | None) -> str:
    if cost is None or (cost.is_open and not cost.low):
        return "unknown cost"
    if cost.is_open:
        return f"{money(_rounded(cost.low))} or more"
    low, high = money(_rounded(cost.low)), money(_rounded(cost.high))
    return high if low == high else f"{low} to {high}"


def _rounded(cost: float) -> float:
    return float(f"{cost:.2g}")  # an estimate has no more digits
