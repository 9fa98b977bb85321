"""What a run would do and cost, before it does: free, no call, nothing written.

A task *will* run that is stale for a reason of its own; it *may* run where only a task above it is
stale, since that one may come to the same artifact. Tokens and costs are ranges. Input is counted
where the prompt can be rendered, that is where all above is up to date. All else is learned from
the task's own history on its model, reasoning tokens included; where there is none, the range ends
at the most that can come. A price that is not known is None, never 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from popbuild import jobs, preview
from popbuild.errors import TaskError
from popbuild.exam import Exam, Surroundings, read_json
from popbuild.index import Index
from popbuild.jobs import Job, Samples
from popbuild.layout import REJECTED
from popbuild.llm import tokens
from popbuild.llm.history import Attempt, History
from popbuild.llm.ledger import read_entries, size_of
from popbuild.llm.prices import Price, price_of
from popbuild.llm.request import Message, Request
from popbuild.llm.store import Store
from popbuild.model.pipeline import Task

# How far another provider's tokens, and its frame around them, may be from our count.
_COUNTED = (0.8, 1.3)
_BYTES_A_TOKEN = (1.5, 6.0)  # of text in any language, from dense to plain
_UNLIMITED = 16_384  # tokens of an answer without a limit, on a model whose own is not known


@dataclass(frozen=True)
class Range:
    """From the least to the most that is expected."""

    low: float
    high: float

    def __add__(self, other: Range) -> Range:
        return Range(self.low + other.low, self.high + other.high)

    def times(self, low: float, high: float) -> Range:
        return Range(self.low * low, self.high * high)

    def as_json(self, digits: int | None = None) -> dict[str, float]:
        return {"low": round(self.low, digits), "high": round(self.high, digits)}


NOTHING = Range(0, 0)


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

    def as_json(self) -> dict[str, Any]:
        return {
            "task": self.task,
            "runs": "will" if self.will else "may",
            "reasons": list(self.reasons),
            "storedCalls": self.stored,
            "calls": self.calls.as_json(),
            "inputTokens": self.input_tokens.as_json(),
            "outputTokens": self.output_tokens.as_json(),
            "cost": self.cost and self.cost.as_json(8),
            "basis": self.basis,
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
    """Sums over tasks. `unknown` names those without a price: `cost` is without them."""

    calls: Range
    stored: int
    input_tokens: Range
    output_tokens: Range
    cost: Range
    unknown: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return {
            "calls": self.calls.as_json(),
            "storedCalls": self.stored,
            "inputTokens": self.input_tokens.as_json(),
            "outputTokens": self.output_tokens.as_json(),
            "cost": None if self.unknown else self.cost.as_json(8),
            "unknownCost": list(self.unknown),
        }


def totals(tasks: Iterable[PlannedTask]) -> Totals:
    """The sums of a plan."""
    tasks = list(tasks)
    return Totals(
        sum((task.calls for task in tasks), NOTHING),
        sum(task.stored or 0 for task in tasks),
        sum((task.input_tokens for task in tasks), NOTHING),
        sum((task.output_tokens for task in tasks), NOTHING),
        sum((task.cost for task in tasks if task.cost is not None), NOTHING),
        tuple(dict.fromkeys(task.task for task in tasks if task.cost is None)),
    )


def plan(
    selection: Mapping[str, tuple[str, ...] | None], around: Surroundings
) -> Iterator[PlannedJob]:
    """What a run of these jobs would do, each of its tasks or only the named ones."""
    planner = _Planner(around)
    with Index(around, selection) as index:
        for job, tasks in selection.items():
            yield planner.job(index.find(job), tasks)


@dataclass
class _Planner:
    around: Surroundings
    _history: History = field(init=False)
    _store: Store = field(init=False)
    _samples: Samples = field(init=False)

    def __post_init__(self) -> None:
        private = self.around.root.private
        self._history = History(read_entries(private / "ledger.jsonl")[0])
        self._store = Store(private / "store")
        self._samples = Samples(self.around.root)

    def job(self, job: Job, tasks: tuple[str, ...] | None) -> PlannedJob:
        exam = job.exam
        if job.bad_seed is not None or exam is None:
            return PlannedJob(job.id, job.state, note=job.description)
        if job.state == REJECTED and job.folder is not None:
            held = jobs.rejection_stands(exam, read_json(job.folder.rejection))
            if held is not None:
                note = f"rejected at {held}, unchanged since: not bought again unless by retry"
                return PlannedJob(job.id, job.state, note=note)
        wanted = set(exam.pipeline.names)
        if tasks is not None:
            wanted = set(tasks).union(*(exam.pipeline.upstream(name) for name in tasks))
        stopping = [
            name
            for name in exam.pipeline.names
            if name in wanted and exam.verdicts[name].edited and exam.verdicts[name].stale
        ]
        note = f"stops at {', '.join(stopping)}: edited by hand and stale" if stopping else ""
        frozen = [name for name in exam.pipeline.names if exam.verdicts[name].held]
        if frozen and not note:
            note = f"frozen, else stale: {', '.join(frozen)}"
        planned = tuple(
            self._task(exam, task)
            for task in exam.pipeline.in_order
            if task.id in wanted and exam.verdicts[task.id].stale
        )
        if not planned and not note and tasks is None and not job.up_to_date:
            note = "everything is built: only the promotion is left"
        return PlannedJob(job.id, job.state, planned, note)

    def _task(self, exam: Exam, task: Task) -> PlannedTask:
        reasons = exam.verdicts[task.id].reasons
        will = any(not _only_above(reason) for reason in reasons)
        below_stale = any(exam.verdicts[name].stale for name in task.needs)
        model = task.model
        if task.command is not None or model is None:
            basis = "a command: its calls are its own" if task.command else "no model to call"
            return PlannedTask(task.id, will, reasons, 0, *(NOTHING,) * 4, basis)
        messages = None if below_stale else self._messages(exam, task)
        stored = None if messages is None else int(self._is_stored(exam, task, model, messages))
        attempts = self._history.of(task.id, model)
        price = price_of(model)
        if attempts:
            calls, asked, answered = _learned(attempts, task, messages)
            builds = f"{len(attempts)} build{'s' * (len(attempts) != 1)}"
            basis = f"input counted, the rest from {builds}" if messages else f"from {builds}"
        else:
            calls, asked, answered = self._at_most(exam, task, messages, price)
            basis = "input counted, output at most" if messages else "at most"
        if stored:
            # The first answer is there already; what it did not ask for again is unknown.
            rest = max(calls.high - stored, 0) / calls.high if calls.high else 0.0
            calls = Range(max(calls.low - stored, 0), max(calls.high - stored, 0))
            low = 0.0 if not calls.low else 1.0
            asked, answered = asked.times(low, rest), answered.times(low, rest)
        if not will:
            calls, asked, answered = (Range(0, each.high) for each in (calls, asked, answered))
        cost = None
        if price is not None:
            cost = asked.times(price.input, price.input) + answered.times(
                price.output, price.output
            )
        return PlannedTask(task.id, will, reasons, stored, calls, asked, answered, cost, basis)

    def _messages(self, exam: Exam, task: Task) -> list[Message] | None:
        """What the task's first call will say, or None where its code decides that."""
        try:
            return preview.render(exam.around.config, exam, task)
        except TaskError:
            return None

    def _is_stored(self, exam: Exam, task: Task, model: str, messages: list[Message]) -> bool:
        schema, _ = self.around.schema(task)
        inputs = exam.inputs(task)
        request = Request(
            model,
            tuple(messages),
            {key: value for key, value in task.settings.items() if key != "model"},
            schema.document if schema and task.answer == "json" else None,
            self._samples.get(exam.folder.id, task.id),
            inputs.endpoint,
            inputs.weights,
        )
        return self._store.has(request.digest)

    def _at_most(
        self, exam: Exam, task: Task, messages: list[Message] | None, price: Price | None
    ) -> tuple[Range, Range, Range]:
        """Calls, input and output of a task that was never built on this model."""
        limit = _limit(task, price)
        calls = Range(1, 1 + task.refinements)
        if messages is not None:
            first = Range(*(tokens.count(messages) * each for each in _COUNTED))
        else:
            first = Range(0, self._most_input(exam, task, price))
        answered = Range(1, calls.high * limit)
        # Each refinement says what came before, and what was wrong with it.
        grown = sum(first.high + number * 2 * limit for number in range(int(calls.high)))
        return calls, Range(first.low, grown), answered

    def _most_input(self, exam: Exam, task: Task, price: Price | None) -> float:
        """An upper bound for a prompt that cannot be rendered yet."""
        snapshot = self.around.config.snapshot
        size = sum(
            len(snapshot.files[path])
            for path in (task.path("prompt.md"), task.path("system.md"), task.stages)
            if path is not None
        )
        size += size_of([{"content": str(exam.seed)}])
        most = size / _BYTES_A_TOKEN[0]
        for name in task.needs:
            upstream = exam.pipeline.task(name)
            if exam.verdicts[name].stale or name not in exam.artifacts:
                most += _limit(upstream, price_of(upstream.model) if upstream.model else price)
            else:
                most += len(str(exam.artifacts[name]).encode()) / _BYTES_A_TOKEN[0]
        return most


def _only_above(reason: str) -> bool:
    return reason.startswith("upstream ")


def _limit(task: Task, price: Price | None) -> int:
    """The most tokens that an answer of this task may have."""
    for name in ("maxTokens", "max_tokens", "max_completion_tokens"):
        value = task.settings.get(name)
        if isinstance(value, int):
            return value
    return (price.max_output if price else None) or _UNLIMITED


def _learned(
    attempts: list[Attempt], task: Task, messages: list[Message] | None
) -> tuple[Range, Range, Range]:
    """Calls, input and output as they were in the last attempts; wider the fewer there are."""
    wider = 1 + 1 / len(attempts)
    margin = (1 / wider, wider)
    most = max(each.calls for each in attempts)
    few = len(attempts) < 5 and most <= task.refinements
    calls = Range(min(each.calls for each in attempts), most + few)
    growth = (most + few) / most
    answered = _spread(each.output_tokens for each in attempts).times(margin[0], margin[1] * growth)
    known = [each for each in attempts if each.first_input_bytes and each.first_input_tokens]
    if messages is None or not known:
        asked = _spread(each.input_tokens for each in attempts)
        return calls, asked.times(margin[0], margin[1] * growth), answered
    # Counted in this provider's own tokens, which no table of ours has.
    rate = _spread(each.first_input_tokens / each.first_input_bytes for each in known)
    more = _spread(each.input_tokens / each.first_input_tokens for each in known)
    size = size_of(messages)
    return (
        calls,
        Range(size * rate.low * more.low * 0.9, size * rate.high * more.high * 1.1 * growth),
        answered,
    )


def _spread(values: Iterable[float]) -> Range:
    found = list(values)
    return Range(min(found), max(found))
