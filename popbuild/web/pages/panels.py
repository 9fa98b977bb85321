"""What the panels of a page about a job show, as data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from popbuild.base.paths import COMPLETE, REJECTED
from popbuild.base.units import seconds
from popbuild.jobs.lookup import BAD_LINK, BAD_NAME, BAD_PIPELINE, BAD_SEED
from popbuild.model.clock import seconds_at
from popbuild.model.decision import STAGE as HUMAN_GATE
from popbuild.model.decision import Question
from popbuild.model.letter import Usage
from popbuild.model.problem import Problem
from popbuild.query.diff import TaskChange
from popbuild.query.provenance import TracedTask
from popbuild.web.pages.documents import Document
from popbuild.web.pages.shown_calls import TaskCalls
from popbuild.web.pages.shown_items import TaskItems
from popbuild.web.pages.text_budget import Text
from popbuild.web.svg import Graph, TimelineRow


@dataclass(frozen=True)
class TaskView:
    """A task. `mark` is its state in a drawing: done, stale, rejected and so on; `time_ms` and
    `usage` are of its last build."""

    id: str
    label: str
    mark: str
    needs: tuple[str, ...]
    artifact: str
    attempts: int
    refinements: int
    time_ms: float
    usage: Usage
    reasons: tuple[str, ...]
    edited: bool
    frozen: bool
    skipped: str  # why its condition left it out
    started: str | None  # when, if it runs
    stage: str | None  # which it is at, if it runs
    decision: Mapping[str, Any] | None  # of a person at its human gate
    error: str | None


@dataclass(frozen=True)
class LogRow:
    """An entry of an execution log: what a stage did in one cycle, `at` its end, or what it logged,
    where there is no `outcome`."""

    at: str
    task: str
    stage: str
    cycle: int
    outcome: str
    level: str
    time_ms: float
    message: str


@dataclass(frozen=True)
class Rejection:
    """Why a gate rejected the job, and when; `task` is None where it was the seed."""

    at: str
    task: str | None
    stage: str | None
    refinements: int
    problems: tuple[Problem, ...]
    answer: str | None

    @property
    def head(self) -> str:
        """Which gate rejected, as the heading of its problems."""
        if self.task is None:
            return "its seed was rejected"
        if self.stage == HUMAN_GATE:
            return f"a person rejected what {self.task} made"
        return f"{self.task} did not pass {self.stage or 'its gate'}"


@dataclass(frozen=True)
class Bad:
    """Why a job cannot be built: its name, its directory, its seed or its pipeline, with the file
    or folder that has the problems."""

    what: str
    path: str
    problems: tuple[Problem, ...]

    @property
    def head(self) -> str:
        return _BAD_HEADS[self.what]


_BAD_HEADS = {
    BAD_NAME: "its name cannot be a job's",
    BAD_LINK: "its directory is a symbolic link or holds one: nothing of it is read",
    BAD_SEED: "its seed cannot start a job",
    BAD_PIPELINE: "its pipeline cannot be used",
}


@dataclass(frozen=True)
class StaleTask:
    """A task that is stale, edited by hand or frozen: which of these, when and by which run it was
    built, and each reason with its unified diff."""

    task: str
    state: str
    built: tuple[str, str] | None
    reasons: tuple[tuple[str, Text], ...]


@dataclass(frozen=True)
class ChangedPlace:
    """A place in an artifact, before and after; None where it did not, or does not, exist."""

    pointer: str
    before: Text | None
    after: Text | None


@dataclass(frozen=True)
class ChangedArtifact:
    """An artifact that the last rebuild added, removed or changed. `left_out` counts the places
    that are not shown."""

    name: str
    kind: str
    places: tuple[ChangedPlace, ...]
    left_out: int


@dataclass(frozen=True)
class Changes:
    """What the last rebuild changed against the result that it replaced."""

    run_before: str | None
    run_after: str | None
    tasks: tuple[TaskChange, ...]
    artifacts: tuple[ChangedArtifact, ...]


@dataclass(frozen=True)
class JobView:
    """A job. Panels with nothing to show are empty; `notes` name those that could not be made."""

    id: str
    name: str
    state: str
    up_to_date: bool
    description: str
    path: str | None
    pipeline: str | None
    run: str | None
    source: str | None
    created: str | None
    finished: str | None
    error: str | None
    tasks: tuple[TaskView, ...]
    graph: Graph | None
    lanes: tuple[TimelineRow, ...]
    stages: tuple[LogRow, ...]
    documents: tuple[Document, ...]
    documents_left_out: int
    calls: tuple[TaskCalls, ...]
    questions: tuple[Question, ...]  # to a person
    bad: Bad | None
    rejection: Rejection | None
    stale: tuple[StaleTask, ...]
    changes: Changes | None
    origin: tuple[TracedTask, ...]
    logged: tuple[LogRow, ...]
    logs: tuple[Document, ...]
    logs_left_out: int
    items: tuple[TaskItems, ...]
    unowned: tuple[str, ...]  # files of no task, as paths in its directory
    unowned_left_out: int
    notes: tuple[str, ...]

    @property
    def mark(self) -> str:
        """Its state as a page marks it."""
        return mark_of(self.state, self.up_to_date, self.bad is not None)

    @property
    def usage(self) -> Usage:
        """What the last builds of all its tasks used."""
        return sum((task.usage for task in self.tasks), Usage())

    @property
    def time_ms(self) -> float:
        """How long the last builds of its tasks took, added up."""
        return sum(task.time_ms for task in self.tasks)

    @property
    def took(self) -> str:
        return took(self.time_ms, self.usage.tokens)

    @property
    def as_of(self) -> str | None:
        """The newest time in its files."""
        rejected = [self.rejection.at] if self.rejection else []
        return newest([self.created, self.finished, *rejected, *(row.at for row in self.stages)])


def mark_of(state: str, up_to_date: bool, bad: bool) -> str:
    """A job's state; `stale` where it is complete and the inputs changed since, `broken` where it
    cannot be built."""
    if bad and state != REJECTED:
        return "broken"
    return "stale" if state == COMPLETE and not up_to_date else state


def took(time_ms: float, tokens: int | None) -> str:
    """How long builds took; unknown where another program recorded neither that nor their usage."""
    return seconds(time_ms) if time_ms or tokens is not None else "unknown"


def newest(times: Iterable[str | None]) -> str | None:
    """The last of these times; anything else is ignored."""
    known = [(at_s, each) for each in times if (at_s := seconds_at(each)) is not None]
    return max(known)[1] if known else None
