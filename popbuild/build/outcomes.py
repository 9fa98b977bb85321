"""How a task ended, as values, and what the tasks of a run came to together."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from popbuild.base.errors import PopbuildError, StoppedError
from popbuild.model.letter import Usage


@dataclass(frozen=True)
class TaskSpent:
    """What an attempt took: its calls, its own work in milliseconds, its refinements."""

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
class TaskBuilt:
    """Its letter stands."""

    task: str
    spent: TaskSpent


@dataclass(frozen=True)
class TaskSkipped:
    """It stays as it is: frozen, or edited by hand and kept. With `held`, it waits for a person's
    word about a task above."""

    task: str
    held: bool = False


@dataclass(frozen=True)
class TaskRejected:
    """It did not pass its gate. `body` is that of rejection.json."""

    task: str
    spent: TaskSpent
    body: dict[str, Any]


@dataclass(frozen=True)
class TaskFailed:
    """It crashed."""

    task: str
    spent: TaskSpent
    error: PopbuildError


@dataclass(frozen=True)
class TaskStopped:
    """A budget ended it, or a person has to decide first."""

    task: str
    spent: TaskSpent
    error: StoppedError


TaskOutcome = TaskBuilt | TaskSkipped | TaskRejected | TaskFailed | TaskStopped


@dataclass(frozen=True)
class Outcomes:
    """How the tasks of a run ended, in that order."""

    all: tuple[TaskOutcome, ...]

    @property
    def built(self) -> tuple[str, ...]:
        return tuple(each.task for each in self.all if isinstance(each, TaskBuilt))

    @functools.cached_property
    def spent(self) -> TaskSpent:
        each_spent: Iterable[TaskSpent] = (
            each.spent for each in self.all if not isinstance(each, TaskSkipped)
        )
        return sum(each_spent, TaskSpent())

    @property
    def held(self) -> bool:
        """Whether a task waits for a person's word about one above."""
        return any(isinstance(each, TaskSkipped) and each.held for each in self.all)

    @property
    def rejection(self) -> dict[str, Any] | None:
        """The body of the first rejection."""
        return next((each.body for each in self.all if isinstance(each, TaskRejected)), None)

    @property
    def failed(self) -> TaskFailed | None:
        return next((each for each in self.all if isinstance(each, TaskFailed)), None)

    @property
    def stopped(self) -> StoppedError | None:
        return next((each.error for each in self.all if isinstance(each, TaskStopped)), None)
