"""How tasks end, as values, and their sum over a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar

from popbuild.base.errors import PopbuildError, StoppedError
from popbuild.model.letter import Usage

T = TypeVar("T")


@dataclass(frozen=True)
class TaskSpent:
    """The cost of an attempt: its calls, its own work in milliseconds, its refinements."""

    usage: Usage = field(default_factory=Usage)
    execution_ms: float = 0.0
    refinements: int = 0

    def __add__(self, other: TaskSpent) -> TaskSpent:
        return TaskSpent(
            self.usage + other.usage,
            self.execution_ms + other.execution_ms,
            self.refinements + other.refinements,
        )


@dataclass(frozen=True)
class TaskOutcome:
    """How a task ended, and the cost of the attempt."""

    task: str
    spent: TaskSpent


class TaskBuilt(TaskOutcome):
    """Its letter stands."""


@dataclass(frozen=True)
class TaskSkipped(TaskOutcome):
    """It stays as it is: frozen, or edited by hand and kept. With `held`, it waits for a person's
    decision about a task above."""

    held: bool = False


@dataclass(frozen=True)
class TaskRejected(TaskOutcome):
    """It did not pass its gate. `body` is for rejection.json."""

    body: dict[str, Any]


@dataclass(frozen=True)
class TaskFailed(TaskOutcome):
    """It crashed."""

    error: PopbuildError


@dataclass(frozen=True)
class TaskStopped(TaskOutcome):
    """A budget ended it, or a person has to decide first."""

    error: StoppedError


@dataclass(frozen=True)
class Outcomes:
    """How the tasks of a run ended, in that order."""

    all: list[TaskOutcome] = field(default_factory=list)

    @property
    def built(self) -> tuple[str, ...]:
        return tuple(each.task for each in self.all if isinstance(each, TaskBuilt))

    @property
    def spent(self) -> TaskSpent:
        return sum((each.spent for each in self.all), TaskSpent())

    @property
    def held(self) -> bool:
        """Whether a task waits for a person's decision about one above."""
        return any(isinstance(each, TaskSkipped) and each.held for each in self.all)

    def first(self, kind: type[T]) -> T | None:
        """The first task that ended like this."""
        return next((each for each in self.all if isinstance(each, kind)), None)
