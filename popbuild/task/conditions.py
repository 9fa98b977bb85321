"""Conditions: whether a task, or one item of its list, is built at all, decided by an expression.

What the expression reads is noted like the reads of a prompt. So the decision is made anew when,
and only when, one of these values changed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from typing import Any

from popbuild.base.errors import TaskError, no_such
from popbuild.base.redact import redact
from popbuild.jobs.fingerprint import Seen
from popbuild.model.config.rules import TASK_FILE
from popbuild.model.item import Item
from popbuild.model.pipeline import Task
from popbuild.task.input_views import FileView, documents, item_seen
from popbuild.task.read_trace import ReadTrace
from popbuild.task.reads import ArtifactsView
from popbuild.task.templates.bounds import shown
from popbuild.task.templates.expressions import Expressions
from popbuild.task.templates.render import shown_reads
from popbuild.task.templates.sandbox import OF_ITEMS

# What an expression sees. Not `config`: a skipped task does not depend on its settings.
IN_CONDITIONS = ("seed", "artifacts", "files", "vars")
_IN_BRACES = "an expression stands without braces: when: artifacts.triage.kind == 'faq'"
# Not a generator, which is true whatever comes out of it, nor a function.
_VALUES = (str, int, float, type(None), Mapping, Sequence, Set, FileView)


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
    value = expressions.value_of(expression, views)
    if not isinstance(value, _VALUES):
        raise TaskError(
            "a condition gives something that has no value of its own",
            {"found": shown(value)},
            hint="a method is called with (), and a filter like `map` ends with `| list`",
        )
    return bool(value)


def check_condition(task: Task, expressions: Expressions, *, of_items: bool) -> None:
    """Raise TaskError, with its place, for a condition that cannot be parsed, or has a name that
    nothing gives: those of items are only there `of_items`."""
    try:
        names = expressions.compiled(task.when).names
    except TaskError as error:
        hint = _IN_BRACES if "{{" in task.when or "{%" in task.when else error.hint
        raise TaskError(error.message, {**_where(task), **error.values}, hint) from None
    known = (*IN_CONDITIONS, *(OF_ITEMS if of_items else ()))
    for name in sorted(names.difference(known)):
        values = no_such("name", name, known, where=_where(task))
        raise TaskError("an expression uses a name that nothing gives", values)


def is_about_items(task: Task, expressions: Expressions) -> bool:
    """Whether a task's condition is asked for each item of its list, since it names one."""
    try:
        return bool(expressions.compiled(task.when).names.intersection(OF_ITEMS))
    except TaskError:
        return False  # which is reported where it is evaluated


def why_skipped(
    task: Task,
    seen: Seen,
    trace: ReadTrace,
    expressions: Expressions,
    environment: Mapping[str, str],
    *,
    item: Item | None = None,
    unknown: Collection[str] = (),
) -> str | None:
    """Why a task's condition leaves it out, or leaves an item of it out; None where it does not.
    Keys of the environment are masked. Raises TaskError for a condition that fails, with what it
    read until then; NotKnownYet where it asks for the artifact of a task that is `unknown`."""
    check_condition(task, expressions, of_items=item is not None)
    expression = expressions.compiled(task.when)
    for path, digest in expression.files.items():
        trace.file(path, digest)
    views = documents(seen, trace) | {"artifacts": _Pending(seen, trace, unknown)}
    if item is not None:
        if "item" in expression.names:  # to hand over a text or a number reads it
            views |= item_seen(item, trace)
        if "position" in expression.names:
            views["position"] = item.position
            trace.position(item.position)
    try:
        given = {name: views[name] for name in (*IN_CONDITIONS, *OF_ITEMS) if name in views}
        if holds(task.when, given, expressions):
            return None
    except NotKnownYet:
        raise
    except TaskError as error:
        read = shown_reads(trace, seen, item)
        masked = {name: redact(each, environment) for name, each in read.items()}
        values = {**_where(task), **error.values, **masked}
        raise TaskError(error.message, values, error.hint) from None
    read = shown_reads(trace, seen, item)
    why = ", ".join(f"{name} is {value}" for name, value in read.items())
    said = f"{condition_text(task)} is false" + (f": {why}" if why else "")
    return redact(said, environment)


def condition_text(task: Task) -> str:
    """A condition on one line: `when seed.data.urgent`."""
    return f"when {' '.join(task.when.split())}"


def _where(task: Task) -> dict[str, object]:
    file = f"pipeline-config/{task.folder}/{TASK_FILE}"
    return {"task": task.id, "file": file, "when": " ".join(task.when.split())}
