"""Why a task is stale, in depth: each reason with the difference that it is about."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from popbuild.base import jsonio
from popbuild.base.errors import TaskError
from popbuild.base.paths import Root, shown_name
from popbuild.jobs.config_archive import Objects
from popbuild.jobs.examine import Exam
from popbuild.jobs.lookup import Job
from popbuild.jobs.score_records import why_unmeasured
from popbuild.jobs.staleness import DependencyChange, Verdict, brief
from popbuild.model.pipeline import Task
from popbuild.model.problem import MISSING, column_items
from popbuild.query.describe import find_job, pipeline_with
from popbuild.query.item_list import list_items
from popbuild.query.preview import templates_of
from popbuild.query.text_difference import shown_text, text_difference

_DIGEST = re.compile(r"(sha256:[0-9a-f]{12})[0-9a-f]{52}$")
_MAX_ITEMS = 20  # that are named; --json has them all
_MAX_DIFFERENCE = 40  # lines of one difference; --json has them all


@dataclass(frozen=True)
class Reason:
    """One reason, and the difference as lines of a unified diff; without lines if the reason says
    it all, or the earlier content is not known any more."""

    text: str
    difference: tuple[str, ...] = ()


@dataclass(frozen=True)
class Explanation:
    """A task: its verdict, every reason, and each dependency with its digest. `built` is the time
    and the run of its build, or None; `items` are those of its list that are to be run, each with
    its reasons, of how many, or None where it has no list or that is not known yet. `scores` are
    those that the next run measures, and why."""

    task: str
    verdict: Verdict
    reasons: tuple[Reason, ...]
    dependencies: tuple[tuple[str, str], ...]
    built: tuple[str, str] | None
    items: tuple[Mapping[str, tuple[str, ...]], int] | None = None
    scores: Mapping[str, str] = field(default_factory=dict)

    @property
    def state(self) -> str:
        """The task's state, without the reasons."""
        if self.verdict.stale:
            return "stale"
        if self.verdict.frozen:
            return "frozen, else stale" if self.verdict.held else "frozen"
        return str(self.verdict)

    def as_json(self) -> dict[str, Any]:
        return {
            "task": self.task,
            "stale": self.verdict.stale,
            "edited": self.verdict.edited,
            "frozen": self.verdict.frozen,
            **({"skipped": self.verdict.skipped} if self.verdict.skipped else {}),
            "reasons": [
                {"reason": each.text, "difference": list(each.difference)} for each in self.reasons
            ],
            "built": self.built and {"at": self.built[0], "pipelineId": self.built[1]},
            "dependencies": dict(self.dependencies),
            **({} if self.items is None else {"items": self._items()}),
            **({"scoresToMeasure": dict(self.scores)} if self.scores else {}),
        }

    def _items(self) -> dict[str, Any]:
        waiting, count = self.items or ({}, 0)
        return {"count": count, "toRun": {key: list(found) for key, found in waiting.items()}}


def explain_job(root: Root, name: str, task: str | None = None) -> list[Explanation]:
    """Why a job's tasks, or one of them, are stale, with the differences."""
    job = find_job(root, name)
    names = pipeline_with(job, task).names
    return list(explain(job, names if task is None else [task]))


def explain(job: Job, tasks: Iterable[str]) -> Iterator[Explanation]:
    """These tasks of a job, in the pipeline's order."""
    assert job.exam is not None
    wanted = set(tasks)
    for task in job.exam.pipeline.tasks:
        if task.id in wanted:
            yield _explain(job.exam, task)


def _explain(exam: Exam, task: Task) -> Explanation:
    verdict, letter = exam.verdicts[task.id], exam.last_letter(task)
    objects = Objects(exam.around.root)
    changed = {str(change): change for change in exam.changes(task)}
    reasons = tuple(
        Reason(text, _difference(changed[text], exam, objects) if text in changed else ())
        for text in (*verdict.reasons, *(verdict.held or ()))
    )
    built = None
    if letter is not None:
        execution = letter.body.get("execution", {})
        built = (str(execution.get("endedAt", "")), str(letter.body.get("pipelineId", "")))
    dependencies = tuple(sorted(letter.fingerprint.items())) if letter else ()
    items = _items(exam, task) if task.foreach and verdict.stale else None
    scores = why_unmeasured(exam, task)
    return Explanation(task.id, verdict, reasons, dependencies, built, items, scores)


def _items(exam: Exam, task: Task) -> tuple[Mapping[str, tuple[str, ...]], int] | None:
    try:
        found = list_items(exam, task, templates_of(exam.around.config))
    except TaskError:
        return None  # an artifact above is missing, or the build will say what is wrong
    return found.waiting(), len(found.distinct)


def _difference(change: DependencyChange, exam: Exam, objects: Objects) -> tuple[str, ...]:
    kind, _, path = change.dependency.partition(":")
    if kind == "file":
        old = objects.get(change.before) if change.before != jsonio.ABSENT else b""
        new = exam.around.config.snapshot.files.get(path, b"")
        return () if old is None else text_difference(shown_text(path, old), shown_text(path, new))
    if MISSING in (change.old, change.new):
        return ()
    texts = tuple(_pretty(column_items(change.dependency, e)) for e in (change.old, change.new))
    if (brief(change.old), brief(change.new)) == texts:
        return ()  # the reason shows both
    return text_difference(*texts)


def _pretty(value: object) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True)


def explain_lines(explanations: Iterable[Explanation], *, dependencies: bool) -> Iterator[str]:
    """Why tasks are stale; with `dependencies`, also everything that each depends on."""
    for each in explanations:
        yield f"{each.task}: {each.state}"
        for reason in each.reasons:
            yield f"  {reason.text}"
            yield from (f"    {line}" for line in reason.difference[:_MAX_DIFFERENCE])
            if len(reason.difference) > _MAX_DIFFERENCE:
                yield f"    … {len(reason.difference) - _MAX_DIFFERENCE} more lines"
        if each.items is not None:
            waiting, count = each.items
            yield f"  {len(waiting):,} of {count:,} items to run"
            shown = list(waiting.items())[:_MAX_ITEMS]
            yield from (f"    {shown_name(key)}: {'; '.join(found)}" for key, found in shown)
            if len(waiting) > _MAX_ITEMS:
                yield f"    … {len(waiting) - _MAX_ITEMS:,} more"
        for name, why in each.scores.items():
            yield f"  score {name} is to be measured: {why}"
        if each.verdict.as_built:
            yield f"  to see it as it was built: {each.verdict.as_built}"
        if each.built is not None:
            done = "decided" if each.verdict.skipped else "built"
            yield f"  {done} {each.built[0]} by {each.built[1]}"
        if dependencies:
            yield f"  depends on {len(each.dependencies)}:"
            for name, digest in each.dependencies:
                short = _DIGEST.sub(r"\1", digest)
                yield f"    {name}  {short}"
