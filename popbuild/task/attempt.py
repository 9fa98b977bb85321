"""One attempt at a task: what it starts from, what it collects, its log, and how it ends."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from popbuild.base.errors import printable
from popbuild.base.redact import redact
from popbuild.base.stopwatch import Stopwatch
from popbuild.jobs.fingerprint import Seen
from popbuild.llm.calls import Calls
from popbuild.model.clock import timestamp
from popbuild.model.config.config import Config
from popbuild.model.letter import Call
from popbuild.model.pipeline import Task
from popbuild.model.place import Place
from popbuild.model.problem import Problem
from popbuild.model.schema.schemas import Schema
from popbuild.model.stage_names import STAGES
from popbuild.task.reads import ReadTrace
from popbuild.task.task_files import Files
from popbuild.task.templates.render import Templates

_LEVELS = {"failed": "warning", "error": "error"}


@dataclass
class Work:
    """`seen` are the documents as they are now; `schema` is None for a task that answers in text,
    and `sent_schema` is the same schema as a call sends it. `place` is where the task's model
    answers, `place_of` where any other one does. `watch` measures the task's own work.

    `on_stage` hears of every stage that begins: its name, its cycle, and whether it waits for a
    model or for code that is not ours. `on_lasting` hears of any other stage that takes long
    enough to be seen. Either may raise to end the task.
    """

    job: str
    run: str
    task: Task
    config: Config
    templates: Templates
    seen: Seen
    schema: Schema | None
    sent_schema: Any
    schema_files: Mapping[str, str]
    files: Files
    calls: Calls
    watch: Stopwatch
    place: Place
    place_of: Callable[[str], Place]
    first_sample: int = 0
    on_stage: Callable[[str, int, bool], None] = lambda stage, cycle, waits: None
    on_lasting: Callable[[], None] = lambda: None
    trace: ReadTrace = field(default_factory=ReadTrace)
    log: list[dict[str, Any]] = field(default_factory=list)
    made: list[Call] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)  # about no call: a command's answer, say
    validation: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Built:
    """The task's output passed every gate. `cycles` counts the refinements that it took."""

    output: Any
    cycles: int


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


class StageLog:
    """Writes to `work.log` and `work.validation`. Knows the stage and the cycle of the moment."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self.stage = STAGES[0]
        self.cycle = 0

    @property
    def where(self) -> dict[str, object]:
        """The task and the stage, for the values of an error."""
        return {"task": self._work.task.id, "stage": self.stage}

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
        self._work.validation.append(
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
        seen = {each["stage"] for each in self._work.log if self._is_outcome(each)}
        before = STAGES[: STAGES.index(until)] if until else STAGES
        self.skip(reason, *(stage for stage in before if stage not in seen))

    def take_back(self, *stages: str) -> None:
        """Drop the outcomes of these stages in this cycle: they run after all."""
        self._work.log[:] = [
            each
            for each in self._work.log
            if not (self._is_outcome(each) and each["stage"] in stages)
        ]

    def _is_outcome(self, entry: dict[str, Any]) -> bool:
        return entry["cycle"] == self.cycle and "outcome" in entry

    def _add(self, stage: str, message: str, level: str, more: dict[str, Any]) -> None:
        self._work.log.append(
            {
                "timestamp": timestamp(),
                "level": level,
                "stage": stage,
                "cycle": self.cycle,
                "message": printable(redact(message, self._work.config.environment)),
                **more,
            }
        )


def logger_of(work: Work, log: StageLog) -> logging.Logger:
    """What `context.log` is. It stands outside of Python's hierarchy of loggers, so that its lines
    go to execution-logs.json alone."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if work.files.is_revoked:
                raise RevokedError("the task outlived its timeout")
            level = record.levelname.lower().replace("critical", "error")
            log.line(record.getMessage(), level)

    logger = logging.Logger(f"popbuild.{work.task.id}", logging.DEBUG)
    logger.addHandler(Handler())
    return logger
