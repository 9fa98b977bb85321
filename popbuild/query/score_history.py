"""How a task did as its prompt changed: pass rate, scores and cost for each prompt that it had, by
the log of scores; and the difference of the prompt between two of them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from popbuild.base.errors import UsageError, unknown
from popbuild.base.paths import Root
from popbuild.base.units import money
from popbuild.jobs.config_archive import Objects
from popbuild.jobs.score_log import LoggedScores, logged_scores

_SHORT = 12  # digits of a prompt's digest that are shown
_MAX_DIFFERENCE = 200  # lines; --json has them all


@dataclass(frozen=True)
class PromptPoint:
    """What a task's jobs came to with one prompt and model: each job counts once, as its last build
    left it. `means` are over the scores that have a value, `missing` how many have none; `cost` is
    a mean, None where one is unknown."""

    number: int
    prompt: str
    model: str
    first: str
    last: str
    jobs: int
    passed: int
    means: Mapping[str, float]
    missing: Mapping[str, int]
    cost: float | None
    files: Mapping[str, str]

    def as_json(self) -> dict[str, Any]:
        return {**vars(self), "means": dict(self.means), "missing": dict(self.missing)}


def score_history(root: Root, task: str, pipeline: str | None = None) -> tuple[PromptPoint, ...]:
    """The prompts that a task had in this variant, the oldest first. UsageError for a task without
    a line in the log, and for one of several pipelines."""
    every = list(logged_scores(root))
    lines = [each for each in every if each.variant == root.variant.apart and each.task == task]
    if not lines:
        known = {each.task for each in every if each.variant == root.variant.apart}
        hint = "a build of a task with scores adds to its history"
        raise unknown("measured task", task, known, hint=hint)
    pipelines = {each.pipeline for each in lines}
    if pipeline is None and len(pipelines) > 1:
        found = {"task": task, "pipelines": ", ".join(sorted(pipelines))}
        raise UsageError("several pipelines have this task", found, "--pipeline says which")
    if pipeline is not None and pipeline not in pipelines:
        raise unknown("pipeline", pipeline, pipelines, where={"task": task})
    return tuple(_points(each for each in lines if pipeline in (None, each.pipeline)))


def _points(lines: Iterable[LoggedScores]) -> Iterator[PromptPoint]:
    groups: dict[tuple[str, str], list[LoggedScores]] = {}
    for line in lines:
        groups.setdefault((line.prompt, line.model), []).append(line)
    for number, ((prompt, model), every) in enumerate(groups.items(), 1):
        last = list({each.job: each for each in every}.values())
        names = dict.fromkeys(name for each in last for name in each.scores)
        values = {name: [each.scores.get(name) for each in last] for name in names}
        known = {n: [float(v) for v in found if v is not None] for n, found in values.items()}
        costs = [each.cost for each in last if each.cost is not None]
        yield PromptPoint(
            number,
            prompt,
            model,
            every[0].at,
            every[-1].at,
            len(last),
            sum(each.passed for each in last),
            {name: fmean(found) for name, found in known.items() if found},
            {n: len(last) - len(known[n]) for n in names if len(known[n]) < len(last)},
            fmean(costs) if len(costs) == len(last) else None,
            every[-1].files,
        )


def history_lines(points: Sequence[PromptPoint]) -> Iterator[str]:
    """A paragraph for each prompt, as a person reads it."""
    for each in points:
        short = each.prompt.removeprefix("sha256:")[:_SHORT]
        yield f"{each.number}  {each.last}  prompt {short}  {each.model or 'no model'}"
        cost = "cost unknown" if each.cost is None else f"{money(each.cost)} a job"
        yield f"   {each.passed} of {each.jobs} passed, {cost}"
        for name in dict.fromkeys((*each.means, *each.missing)):
            mean = f"mean {each.means[name]:.4g}" if name in each.means else "never measured"
            gone = f", missing in {each.missing[name]}" if name in each.missing else ""
            yield f"   {name}: {mean}{gone}"


def prompt_difference(
    root: Root, points: Sequence[PromptPoint], numbers: Sequence[int]
) -> list[str]:
    """The difference between the files of two points, as lines of a unified diff. UsageError for a
    number that no point has."""
    by_number = {each.number: each for each in points}
    for number in numbers:
        if number not in by_number:
            found = {"found": number, "known": f"1 to {len(points)}"}
            raise UsageError("no such point in the history", found)
    old, new = (by_number[number].files for number in numbers)
    objects, lines = Objects(root), list[str]()
    for path in sorted({*old, *new}):
        if old.get(path) == new.get(path):
            continue
        before, after = (_text(objects, each.get(path)) for each in (old, new))
        if before is None or after is None:
            lines.append(f"{path}: its earlier content is not kept any more")
            continue
        names = (f"{path} ({numbers[0]})", f"{path} ({numbers[1]})")
        lines += difflib.unified_diff(before, after, *names, lineterm="", n=2)
    return lines


def clipped_difference(lines: Sequence[str]) -> list[str]:
    """The first lines of a difference, and how many more there are."""
    more = len(lines) - _MAX_DIFFERENCE
    return [*lines[:_MAX_DIFFERENCE], *([f"… {more:,} more lines"] if more > 0 else [])]


def _text(objects: Objects, digest: str | None) -> list[str] | None:
    """The lines of a file; none for one that was not there, None for one that is not known."""
    if digest is None:
        return []
    data = objects.get(digest)
    return None if data is None else data.decode(errors="replace").splitlines()
