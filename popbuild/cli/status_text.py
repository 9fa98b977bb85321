"""A job's status as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from popbuild.base.errors import printable
from popbuild.base.paths import shown_name
from popbuild.base.units import fit_line, money, seconds
from popbuild.jobs.lookup import Job
from popbuild.model.decision import in_words
from popbuild.model.foreign_status import error_text
from popbuild.model.scores import Score
from popbuild.query.untrusted import usage as usage_in

_MOST_NAMED = 20  # files of no task


def lines_of_status(job: Job, body: Mapping[str, Any]) -> Iterator[str]:
    """A job and each of its tasks; `body` is what `status --json` prints of it."""
    head, place = f"{shown_name(job.id)}: {job.description}", body["path"]
    between = " " if len(f"{head} -> {place}") <= 80 else "\n  "
    yield head + (f"{between}-> {place}" if place else "")
    for how in job.as_built:
        yield f"  to see it as it was built: {how}"
    if "notBuiltHere" in body:
        yield f"  cannot be built here: {body['notBuiltHere']}"
    if "statusSays" in body:
        yield fit_line("  its status says: ", shown_name(body["statusSays"]))
    if "error" in body and not any(task["error"] for task in body["tasks"].values()):
        text = " ".join((error_text(body["error"]) or "").split())
        yield fit_line("  error: ", printable(text))
    width = max((len(shown_name(name)) for name in body["tasks"]), default=0)
    for name, task in body["tasks"].items():
        yield f"  {shown_name(name):<{width}}  " + "  ".join(_numbers(task)).rstrip()
        yield from _remarks(job, name, task, " " * (width + 4))
    yield from _unowned_lines(body.get("unowned", ()))


def _numbers(task: Mapping[str, Any]) -> Iterator[str]:
    """A task's state and stage, its time, tokens and cost."""
    usage = usage_in(task["usage"])
    yield f"{shown_name(task['state']):<7}"
    if "currentStage" in task:
        yield shown_name(task["currentStage"])
    if task["executionTime"]:
        yield f"{seconds(task['executionTime']):>7}"
    if task["executionTime"] or task["usage"] is not None:
        shown = f"{usage.tokens:>7,}" if usage.tokens is not None else "unknown"
        counted = "  counted by us" if usage.counted_calls else ""
        yield f"{shown} tokens  {money(usage.cost)}{usage.parts}{counted}"
        if task["refinementAttempts"]:
            yield f"{task['refinementAttempts']} refined"


def _remarks(job: Job, name: str, task: Mapping[str, Any], indent: str) -> Iterator[str]:
    for reason in task["reasons"]:
        yield fit_line(f"{indent}stale: ", reason)
    if task.get("skipped") and not task["frozen"]:
        yield fit_line(f"{indent}skipped: ", task["reason"])
    if task["frozen"]:
        yield f"{indent}{job.exam.verdicts[name] if job.exam else 'frozen'}"
    if task["edited"]:
        yield f"{indent}its artifact was edited by hand"
    yield from _score_lines(task.get("scores", {}), indent)
    if task.get("toMeasure"):
        yield f"{indent}scores to be measured by the next run"
    if "decision" in task:
        yield fit_line(indent, in_words(task["decision"]))
    if task["error"]:
        first = (error_text(task["error"]) or "").split("\n", maxsplit=1)[0]
        yield f"{indent}error: {printable(first)}"


def _score_lines(scores: Mapping[str, Any], indent: str) -> Iterator[str]:
    """A task's scores in one line, and why one could not be measured."""
    if scores:
        shown = (f"{name} {Score(each['value']).in_words}" for name, each in scores.items())
        yield fit_line(f"{indent}scores: ", ", ".join(shown))
    for name, each in scores.items():
        if each["value"] is None:
            yield fit_line(f"{indent}{name}: ", each["reason"])


def _unowned_lines(unowned: Sequence[str]) -> Iterator[str]:
    """The first of the files that belong to no task."""
    if unowned:
        yield "  of no task, kept as they are:"
        yield from (f"    {shown_name(name)}" for name in unowned[:_MOST_NAMED])
        if len(unowned) > _MOST_NAMED:
            yield f"    and {len(unowned) - _MOST_NAMED:,} more: --json names them all"
