"""One attempt at a task: what it starts from, what it collects, its log, and how it ends."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from popbuild.base.errors import printable
from popbuild.base.redact import redact
from popbuild.base.stopwatch import Stopwatch
from popbuild.jobs.claims import Claims
from popbuild.jobs.fingerprint import Inputs, Seen
from popbuild.jobs.open_job import OpenJob
from popbuild.jobs.surroundings import Surroundings
from popbuild.llm.calls import Calls
from popbuild.model.clock import timestamp
from popbuild.model.item import Item
from popbuild.model.letter import Call
from popbuild.model.pipeline import Task
from popbuild.model.problem import Problem
from popbuild.model.stage_names import STAGES
from popbuild.task.read_trace import ReadTrace
from popbuild.task.task_files import Files
from popbuild.task.templates.render import Templates

_LEVELS = {"failed": "warning", "error": "error"}


@dataclass
class Work:
    """`seen` are the documents of `inputs` as they are now. `watch` measures the task's own work.

    `tell_stage` is given each stage that begins, and its cycle, for what a person sees: a callable,
    since printers belong to a room below, and a queue would deliver it after the task's end.
    `item` is the one that this attempt is about, if the task runs once for each of a list.
    """

    run: str
    task: Task
    around: Surroundings
    inputs: Inputs
    seen: Seen
    opened: OpenJob
    claims: Claims
    files: Files
    templates: Templates
    calls: Calls
    watch: Stopwatch
    trace: ReadTrace
    log: StageLog
    tell_stage: Callable[[str, int], None]
    item: Item | None = None
    made: list[Call] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)  # about no call: a command's answer, say

    @property
    def environment(self) -> Mapping[str, str]:
        return self.around.config.environment

    def begin(self, stage: str, *, is_foreign: bool) -> None:
        """Note that a stage begins. Before a model or code that is not ours is asked, FencedError
        if another worker has the job: nothing more is written or bought."""
        self.log.stage = stage
        if self.item is None:
            self.opened.at_stage(self.task.id, stage)
        if is_foreign:
            self.claims.check(self.inputs.job)
            self.opened.show_stage()
        if self.item is None:
            self.tell_stage(stage, self.log.cycle)


@dataclass(frozen=True)
class BuiltItems:
    """The items of which an output was put together: their keys in order, and how many failed."""

    keys: tuple[str, ...]
    failed: int


@dataclass(frozen=True)
class Built:
    """The task's output passed every gate. `cycles` counts the refinements that it took; of a task
    with items, those of the item that took most."""

    output: Any
    cycles: int
    items: BuiltItems | None = None


@dataclass(frozen=True)
class Skipped:
    """The condition is false, of the task or of the item: no stage ran."""

    reason: str


@dataclass(frozen=True)
class NotPassed:
    """The last try failed its gate too. `answer` is the log file of the raw answer; `declined` says
    that the provider refuses the request itself, so that no other try can help."""

    stage: str
    problems: tuple[Problem, ...]
    cycles: int
    answer: str | None
    declined: bool = False


class AnswerRejected(Exception):
    """Raised in a stage: the answer fails the gate. `is_final` says that no other try can help."""

    def __init__(self, *problems: Problem, is_final: bool = False) -> None:
        super().__init__(str(problems[0]))
        self.problems = problems
        self.is_final = is_final


class RevokedError(Exception):
    """Raised in a stage that outlived its timeout: its context does nothing more."""


@dataclass
class StageLog:
    """The log of an attempt at `task`, as JSON. Knows the stage and the cycle of the moment."""

    task: str
    environment: Mapping[str, str]
    stage: str = STAGES[0]
    cycle: int = 0
    entries: list[dict[str, Any]] = field(default_factory=list)
    validations: list[dict[str, Any]] = field(default_factory=list)

    @property
    def where(self) -> dict[str, object]:
        """The task and the stage, for the values of an error."""
        return {"task": self.task, "stage": self.stage}

    def line(self, message: str, level: str = "info") -> None:
        self._add(self.stage, message, level, {})

    def outcome(
        self,
        stage: str,
        outcome: str,
        message: str,
        took_ms: float = 0.0,
        problems: Sequence[Problem] = (),
    ) -> None:
        """How a stage ended: "done", "skipped", "failed" or "error". Each stage ends once a cycle,
        whatever happens."""
        more: dict[str, Any] = {
            "outcome": outcome,
            "durationMs": round(took_ms, 2) if took_ms else 0,
        }
        if problems:
            more["problems"] = [problem.as_json() for problem in problems]
        self._add(stage, message, _LEVELS.get(outcome, "info"), more)

    def validation(self, stage: str, problems: Sequence[Problem]) -> None:
        self.validations.append(
            {
                "stage": stage,
                "cycle": self.cycle,
                "problems": [problem.as_json() for problem in problems],
            }
        )

    def skip(self, reason: str, *stages: str) -> None:
        for stage in stages:
            self.outcome(stage, "skipped", reason)

    def skip_rest(self, reason: str, until: str | None = None) -> None:
        """An outcome for each stage that has none in this cycle, up to the next one that runs."""
        seen = {each["stage"] for each in self.entries if self._is_outcome(each)}
        before = STAGES[: STAGES.index(until)] if until else STAGES
        self.skip(reason, *(stage for stage in before if stage not in seen))

    def take_back(self, *stages: str) -> None:
        """Drop the outcomes of these stages in this cycle: they run after all."""
        self.entries = [
            each
            for each in self.entries
            if not (self._is_outcome(each) and each["stage"] in stages)
        ]

    def _is_outcome(self, entry: dict[str, Any]) -> bool:
        return entry["cycle"] == self.cycle and "outcome" in entry

    def _add(self, stage: str, message: str, level: str, more: dict[str, Any]) -> None:
        self.entries.append(
            {
                "timestamp": timestamp(),
                "level": level,
                "stage": stage,
                "cycle": self.cycle,
                "message": printable(redact(message, self.environment)),
                **more,
            }
        )


def logger_of(work: Work) -> logging.Logger:
    """What `context.log` is. It stands outside of Python's hierarchy of loggers, so that its lines
    go to execution-logs.json alone."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if work.files.is_revoked:
                raise RevokedError("the task outlived its timeout")
            level = record.levelname.lower().replace("critical", "error")
            work.log.line(record.getMessage(), level)

    logger = logging.Logger(f"popbuild.{work.task.id}", logging.DEBUG)
    logger.addHandler(Handler())
    return logger
