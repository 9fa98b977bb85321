"""What the parts of a build share: a command's services, how tasks end, and one run of one job."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from popbuild.base.errors import ConfigError, PopbuildError, StoppedError
from popbuild.base.paths import JobFolder
from popbuild.build.events import Events, JobResult
from popbuild.build.nothing_to_do import Options
from popbuild.jobs.claims import Claims
from popbuild.jobs.examine import Exam
from popbuild.jobs.open_job import OpenJob
from popbuild.jobs.surroundings import Surroundings
from popbuild.llm.calls import Calls
from popbuild.model.letter import Usage
from popbuild.task.templates.render import Templates

T = TypeVar("T")


@dataclass
class BuildServices:
    """Shared by all builds of one command. While `stopping` no task starts, while `draining`
    nothing is sent either. `broken` are the pipelines that cannot be used."""

    around: Surroundings
    calls: Calls
    claims: Claims
    options: Options
    events: Events
    templates: Templates
    previous_kept: int
    broken: Mapping[str, ConfigError] = field(default_factory=dict)
    stopping: bool = False
    draining: bool = False

    def show(self, folder: JobFolder) -> str:
        """A job's directory as people and documents name it."""
        return self.around.root.show(folder.path)

    @property
    def environment(self) -> Mapping[str, str]:
        return self.around.config.environment


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


class TaskMeasured(TaskOutcome):
    """Its output was measured; a judge may have been asked."""


@dataclass(frozen=True)
class TaskSkipped(TaskOutcome):
    """It stays: frozen, edited by hand, or `held` until a person decides about a task above."""

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


@dataclass(frozen=True)
class JobRun:
    """One run of one job: `id` is its pipeline ID. With `goes_on` there are results of earlier runs
    that were not promoted. `started_s` is of the monotonic clock. The job's lock is held."""

    services: BuildServices
    id: str
    opened: OpenJob
    exam: Exam
    is_partial: bool
    goes_on: bool
    started_s: float

    @property
    def job(self) -> str:
        return self.opened.folder.id

    @property
    def folder(self) -> JobFolder:
        return self.opened.folder

    def check(self) -> None:
        """FencedError where the job was given to another worker since: write nothing more."""
        self.services.claims.check(self.job)

    def result(
        self, outcome: str, outcomes: Outcomes, folder: JobFolder | None = None, **more: Any
    ) -> JobResult:
        """How the run ended."""
        return JobResult(
            self.job,
            outcome,
            run=self.id,
            built=outcomes.built,
            usage=outcomes.spent.usage,
            duration_ms=round((time.monotonic() - self.started_s) * 1000, 1),
            path=self.services.show(folder or self.folder),
            **more,
        )
