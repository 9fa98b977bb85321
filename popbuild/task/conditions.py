"""Conditions: whether a task is built at all, decided by an expression over what it reads.

What the expression reads is noted like the reads of a prompt. So the decision is made anew when,
and only when, one of these values changed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from popbuild.base.errors import TaskError, no_such
from popbuild.base.redact import redact
from popbuild.jobs.fingerprint import Seen
from popbuild.model.config.rules import TASK_FILE
from popbuild.model.pipeline import Task
from popbuild.task.input_views import documents
from popbuild.task.reads import ArtifactsView, ReadTrace
from popbuild.task.templates.expressions import Expressions
from popbuild.task.templates.render import shown_reads

# What an expression sees. Not `config`: a skipped task does not depend on its settings.
IN_CONDITIONS = ("seed", "artifacts", "files")
_IN_BRACES = "an expression stands without braces: when: artifacts.triage.kind == 'faq'"


class NotKnownYet(TaskError):
    """An expression asks for an artifact that is to be built first."""


class _Pending(ArtifactsView):
    """The artifacts while some, those that are `unknown`, are to be built first."""

    __slots__ = ("_unknown",)

    def __init__(self, seen: Seen, trace: ReadTrace, unknown: Collection[str]) -> None:
        super().__init__(seen.artifacts, trace, seen.skipped)
        self._unknown = unknown

    def _at(self, part: str | int) -> Any:
        if part in self._unknown:
            raise NotKnownYet("an artifact is to be built first", {"task": part})
        return super()._at(part)

    def _note_names(self) -> None:
        if self._unknown:
            raise NotKnownYet("artifacts are to be built first", {"tasks": list(self._unknown)})
        super()._note_names()


def holds(expression: str, views: Mapping[str, Any], expressions: Expressions) -> bool:
    """Whether an expression is true of these views, which note what it reads. Raises TaskError,
    without its place."""
    for name in sorted(expressions.compiled(expression).names - views.keys()):
        raise TaskError(
            "an expression uses a name that nothing gives", no_such("name", name, views)
        )
    return bool(expressions.value_of(expression, views))


def check_condition(task: Task, expressions: Expressions) -> None:
    """Raise TaskError, with its place, for a condition that cannot be parsed."""
    try:
        names = expressions.compiled(task.when).names
    except TaskError as error:
        hint = _IN_BRACES if "{{" in task.when or "{%" in task.when else error.hint
        raise TaskError(error.message, {**_where(task), **error.values}, hint) from None
    for name in sorted(names.difference(IN_CONDITIONS)):
        values = no_such("name", name, IN_CONDITIONS, where=_where(task))
        raise TaskError("an expression uses a name that nothing gives", values)


def why_skipped(
    task: Task,
    seen: Seen,
    trace: ReadTrace,
    expressions: Expressions,
    environment: Mapping[str, str],
    *,
    unknown: Collection[str] = (),
) -> str | None:
    """Why a task's condition leaves it out, None where it does not. Keys of the environment are
    masked. Raises TaskError for a condition that fails, with what it read until then; NotKnownYet
    where it asks for the artifact of a task that is `unknown`."""
    check_condition(task, expressions)
    for path, digest in expressions.compiled(task.when).files.items():
        trace.file(path, digest)
    views = documents(seen, trace) | {"artifacts": _Pending(seen, trace, unknown)}
    try:
        if holds(task.when, {name: views[name] for name in IN_CONDITIONS}, expressions):
            return None
    except NotKnownYet:
        raise
    except TaskError as error:
        read = shown_reads(trace, seen)
        masked = {name: redact(each, environment) for name, each in read.items()}
        values = {**_where(task), **error.values, **masked}
        raise TaskError(error.message, values, error.hint) from None
    read = shown_reads(trace, seen)
    why = ", ".join(f"{name} is {value}" for name, value in read.items())
    return redact(f"{condition_text(task)} is false" + (f": {why}" if why else ""), environment)


def condition_text(task: Task) -> str:
    """A condition on one line: `when seed.data.urgent`."""
    return f"when {' '.join(task.when.split())}"


def _where(task: Task) -> dict[str, object]:
    file = f"pipeline-config/{task.folder}/{TASK_FILE}"
    return {"task": task.id, "file": file, "when": " ".join(task.when.split())}
