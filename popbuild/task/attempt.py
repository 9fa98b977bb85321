"""One attempt at a task, as data: what it starts from, what it collects, how it ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from popbuild.base.stopwatch import Stopwatch
from popbuild.jobs.staleness import Seen
from popbuild.llm.calls import Calls
from popbuild.model.config.config import Config
from popbuild.model.letter import Call
from popbuild.model.pipeline import Task
from popbuild.model.place import Place
from popbuild.model.problem import Problem
from popbuild.model.schema.schemas import Schema
from popbuild.task.reads import ReadTrace
from popbuild.task.task_files import Files
from popbuild.task.templates.render import Templates


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
