"""The events of a build. A printer implements those that it shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from popbuild.base.errors import FAILED, OK, REJECTED, STOPPED, BudgetError, PopbuildError
from popbuild.model.decision import Question
from popbuild.model.letter import Usage
from popbuild.model.problem import Problem

if TYPE_CHECKING:
    from popbuild.query.planned import PlannedJob  # a run with nothing to do does not pay for it


@dataclass(frozen=True)
class JobResult:
    """How the build of one job ended. `outcome` is one of up to date, complete, built (a partial
    build), rejected, unchanged (rejected before, with the same inputs), failed, stopped, waiting.
    Times in milliseconds. `measured` are the tasks of a job that is up to date whose scores were
    measured anew. With `spares_others` the other jobs of the command go on: it ended as
    asked, or because of its own pipeline."""

    id: str
    outcome: str
    run: str | None = None
    built: tuple[str, ...] = ()
    usage: Usage = field(default_factory=Usage)
    duration_ms: float = 0.0
    path: str | None = None
    task: str | None = None
    problems: tuple[Problem, ...] = ()
    error: PopbuildError | None = None
    notes: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    measured: tuple[str, ...] = ()
    questions: tuple[Question, ...] = ()
    spares_others: bool = False

    @property
    def exit_code(self) -> int:
        if self.error is not None and self.outcome != "failed":
            return self.error.exit_code
        return {
            "rejected": REJECTED,
            "unchanged": REJECTED,
            "failed": FAILED,
            "stopped": STOPPED,
            "waiting": STOPPED,
        }.get(self.outcome, OK)

    def ends_command(self, continue_: bool) -> bool:
        """Whether the command starts no further job after this one, with or without --continue."""
        over = isinstance(self.error, BudgetError)
        return over or (bool(self.exit_code) and not self.spares_others and not continue_)

    def as_json(self) -> dict[str, Any]:
        body = {
            "id": self.id,
            "outcome": self.outcome,
            "pipelineId": self.run,
            "built": list(self.built),
            "usage": self.usage.as_json(),
            "durationMs": self.duration_ms,
            "path": self.path,
        }
        more = {
            "task": self.task,
            "frozen": list(self.frozen),
            "measured": list(self.measured),
            "waiting": [question.as_json() for question in self.questions],
            "problems": [problem.as_json() for problem in self.problems],
            "error": self.error.as_json() if self.error else None,
        }
        return body | {name: value for name, value in more.items() if value}


class Events:
    """Does nothing; printers override what they show."""

    def waiting_for_lock(self, job: str) -> None: ...

    def waiting_for_provider(self, reason: str, seconds: float) -> None: ...

    def store_trouble(self, text: str) -> None: ...

    def note(self, text: str) -> None:
        """Something about the command as a whole."""

    def left(self, jobs: Sequence[str]) -> None:
        """A budget ended the run before these jobs were built."""

    def confirm(self, planned: Sequence[PlannedJob]) -> bool | None:
        """Show a plan and ask whether to build: None where no person can be asked."""
        return None

    def job_started(self, job: str, run: str, reasons: Mapping[str, str]) -> None: ...

    def task_started(self, job: str, task: str, reason: str) -> None: ...

    def stage(self, job: str, task: str, stage: str, cycle: int) -> None: ...

    def task_done(
        self, job: str, task: str, usage: Usage, duration_ms: float, refinements: int
    ) -> None: ...

    def task_skipped(self, job: str, task: str, reason: str) -> None:
        """Its condition is false."""

    def task_kept(self, job: str, task: str) -> None: ...

    def task_frozen(self, job: str, task: str) -> None:
        """It was asked for, and stays as it is."""

    def task_failed(self, job: str, task: str, message: str) -> None: ...

    def job_done(self, result: JobResult) -> None: ...

    def close(self) -> None: ...


_NOT_A_JOBS = ("confirm", "left", "note", "job_done", "close")  # events of the whole command


def shown_by(events: Events) -> tuple[str, ...]:
    """The events of a job that a printer does something with: the others need not be sent."""
    return tuple(
        name
        for name, nothing in vars(Events).items()
        if not name.startswith("_")
        and name not in _NOT_A_JOBS
        and getattr(type(events), name) is not nothing
    )


class Forwarded(Events):
    """Events for a printer in another process. `send` takes an event's name and its values."""

    def __init__(self, send: Callable[[str, tuple[Any, ...]], None], told: Iterable[str]) -> None:
        for name in told:
            setattr(self, name, lambda *values, name=name: send(name, values))
