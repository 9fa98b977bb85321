"""The log of scores, `.popbuild/scores.jsonl`: a line for each task that a build measured. They are
added and never changed, so that they say how a task did with prompts that are long replaced."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from popbuild.base import disk, jsonio
from popbuild.base.errors import InputError
from popbuild.base.paths import Root
from popbuild.jobs import score_records
from popbuild.jobs.examine import Exam
from popbuild.model.clock import timestamp
from popbuild.model.letter import Fingerprint
from popbuild.model.scores import Score

_LOG = "scores.jsonl"
_FILE = "file:"


@dataclass(frozen=True)
class LoggedScores:
    """A task of a job, as a build left it: whether it `passed` all its gates, the values of its
    scores, None for one that could not be measured, and the cost of its answers in US dollars, None
    if unknown. `files` are the digests of what made its prompt, and `prompt` is one over them."""

    at: str
    pipeline: str
    variant: str
    job: str
    run: str
    task: str
    prompt: str
    model: str
    passed: bool
    cost: float | None
    scores: Mapping[str, float | bool | None] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


def prompt_files(fingerprint: Fingerprint) -> dict[str, str]:
    """The files of the configuration that a task was made from, by path."""
    return {
        name.removeprefix(_FILE): digest
        for name, digest in fingerprint.items()
        if name.startswith(_FILE)
    }


def log_scores(exam: Exam, run: str, rejection: Mapping[str, Any] | None = None) -> None:
    """Add a line for each measured task of a job that is promoted or rejected, in its directory as
    it stands. The task that was rejected has a line too, with or without scores."""
    root, lines, refused = exam.around.root, list[bytes](), (rejection or {}).get("task")
    for task in exam.pipeline.scored:
        letter, is_refused = exam.letters.get(task.id), task.id == refused
        measured = score_records.read_scores(exam.folder, task.id)
        there = score_records.is_measurable(exam, task) and measured is not None
        if not (there or is_refused):
            continue
        made: Mapping[str, Any] = rejection if is_refused and rejection else {}
        if letter is not None:
            made = {**letter.body, "fingerprint": letter.fingerprint}
        files = prompt_files(made.get("fingerprint", {}))
        scores: Mapping[str, Score] = measured.scores if there and measured is not None else {}
        line = LoggedScores(
            timestamp(),
            exam.pipeline.name,
            root.variant.apart,
            exam.folder.id,
            run,
            task.id,
            jsonio.digest(files),
            task.model or "",
            not is_refused,
            _cost(made.get("calls", ())),
            {name: each.value for name, each in scores.items()},
            files,
        )
        lines.append(jsonio.compact(vars(line)).encode() + b"\n")
    if lines:
        disk.make_folder(root.private)
        disk.append(root.private / _LOG, b"".join(lines))


def _cost(calls: object) -> float | None:
    """What the answers cost, whether they were bought now or before; None where one is unknown."""
    costs = [each.get("cost") for each in calls] if isinstance(calls, list) else [None]
    known = [each for each in costs if isinstance(each, int | float)]
    return sum(known) if len(known) == len(costs) else None


def logged_scores(root: Root) -> Iterator[LoggedScores]:
    """The lines of the log, the oldest first. A line that a crash tore is left out."""
    try:
        data = disk.read(root.private / _LOG)
    except (OSError, InputError):
        return
    for line in data.splitlines():
        try:
            yield LoggedScores(**json.loads(line))
        except (ValueError, TypeError, RecursionError):
            continue
