"""Reads what variants have of jobs. Makes no call, takes no lock, writes nothing of a job."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from popbuild.base import paths, tree
from popbuild.base.errors import PopbuildError, UsageError, unknown
from popbuild.base.paths import COMPLETE, MAIN_NAME, REJECTED, JobFolder, Root, Variant
from popbuild.base.redact import redact
from popbuild.jobs import item_receipts, records
from popbuild.jobs.lookup import Job
from popbuild.jobs.rejections import rejection_stands
from popbuild.model.config import variants
from popbuild.model.config.config import DEFAULT_PIPELINE
from popbuild.model.letter import open_letter
from popbuild.model.scores import open_scores
from popbuild.query import describe, untrusted
from popbuild.query.compare.comparison import Comparison, compared, shown_value
from popbuild.query.compare.job_result import (
    CellResult,
    DrawResult,
    TaskFiles,
    result_of,
)
from popbuild.query.variant_list import label_order

_MAX_TEXT = 400  # characters of an output, or of a field of a seed
_MAX_READ = 8_000  # of which keys are masked before they are cut


@dataclass(frozen=True)
class ComparedColumn:
    """A variant, and the roots as it and its draws see it."""

    name: str
    roots: tuple[Root, ...]


def columns_of(root: Root, names: Sequence[str] | None) -> tuple[list[ComparedColumn], list[str]]:
    """The variants of these names, each with the draws that it has; without names, all that have
    jobs, and notes on those that cannot be read any more. UsageError for an unknown one."""
    main = replace(root, variant=Variant())
    used = variants.with_jobs(main)
    notes = []
    if names is None:
        found = {MAIN_NAME: variants.choose(main, MAIN_NAME)}
        for label in sorted(
            {each.partition("@")[0] for each in used} - {MAIN_NAME}, key=label_order
        ):
            try:
                found[label] = variants.choose(main, label)
            except PopbuildError as error:
                notes.append(f"{label} is left out: {error.message}")
        columns = [_with_draws(each, used) for each in found.values()]
        there = [each for each in columns if any(map(_with_results, each.roots))]
        return there or columns[:1], notes
    found = {name: variants.choose(main, name) for name in dict.fromkeys(names)}
    return [_with_draws(each, used) for each in found.values()], notes


def _with_draws(root: Root, used: Iterable[str]) -> ComparedColumn:
    """A variant with its draws; of one that is a draw itself, that one alone."""
    label = root.variant.label
    if root.variant.draw:
        return ComparedColumn(label, (root,))
    draws = sorted(
        int(number)
        for each in used
        for name, _, number in [each.partition("@")]
        if name == label and number.isdecimal()
    )
    return ComparedColumn(label, (root, *(variants.drawn(root, number) for number in draws)))


def _with_results(root: Root) -> set[str]:
    """The jobs that have a directory with a result."""
    return {name for state in (COMPLETE, REJECTED) for name in tree.stems_in(root.data / state, "")}


def compare_jobs(
    columns: Sequence[ComparedColumn],
    names: Collection[str],
    task: str | None = None,
    notes: Sequence[str] = (),
) -> Comparison:
    """What the variants have of jobs, by names and globs, or of all. UsageError where a task is
    unknown, a variant has no result, or the variants have no job in common."""
    cells = {each.name: read_cells(each, names, task) for each in columns}
    _refuse_unknown_task(columns, cells, task)
    found = compared(cells, task, notes)
    empty = [each for each in found.columns if not each.jobs]
    if empty:
        why = ", ".join(f"{count:,} {why}" for why, count in empty[0].left_out.items())
        raise UsageError(
            "a variant has no results to compare",
            {"variant": empty[0].variant, "jobs": why or "none"},
            hint=f"popbuild run --variant {empty[0].variant}, or compare --build",
        )
    pairs = [each for each in found.differences if each.estimate is not None]
    if len(columns) > 1 and not pairs:
        raise UsageError(
            "no job has a result in two of the variants",
            {each.variant: f"{each.jobs:,} jobs with results" for each in found.columns},
            hint=f"popbuild run --variant {','.join(cells)}",
        )
    return found


def read_cells(
    column: ComparedColumn,
    names: Collection[str],
    task: str | None = None,
    pipeline: str | None = None,
) -> dict[str, CellResult]:
    """What a variant and its draws have of jobs, or of those of one pipeline."""
    found: dict[str, list[DrawResult]] = {}
    for root in column.roots:
        # Of a further draw, a job that has none is not left out: it is drawn less often.
        is_further = root is not column.roots[0]
        ids = describe.names_to_ids(root, names)
        there = _with_results(root) if is_further else ids
        wanted = [job for job in ids if job in there]
        for job in describe.jobs_of(root, wanted):
            if pipeline is None or _pipeline_name(job) == pipeline:
                found.setdefault(job.id, []).append(_draw(root, job, task))
    return {job: CellResult(tuple(draws)) for job, draws in found.items()}


def _pipeline_name(job: Job) -> str:
    """The name of a job's pipeline, as its seed has it."""
    seed = (
        job.seed
        if job.seed is not None or job.folder is None
        else records.read_json(job.folder.at(paths.SEED))
    )
    found = seed.get("pipeline", DEFAULT_PIPELINE) if isinstance(seed, dict) else DEFAULT_PIPELINE
    return str(found)


def _draw(root: Root, job: Job, task: str | None) -> DrawResult:
    number = root.variant.draw
    if job.bad is not None:
        return DrawResult(number, None, job.bad[0])
    if job.damage is not None:
        return DrawResult(number, None, "damaged")
    folder = job.folder
    if folder is None or job.state not in (COMPLETE, REJECTED):
        return DrawResult(number, None, "not built" if job.state == "new" else job.state)
    names = _tasks_of(job, folder)
    if task is not None and task not in names:
        return DrawResult(number, None, f"without task {task}")
    chosen = [task] if task is not None else names
    rejection = records.read_json(folder.rejection) if job.state == REJECTED else None
    said: dict[str, Any] = rejection if isinstance(rejection, dict) else {}
    files = {name: _task_files(folder, name, is_up_to_date=job.up_to_date) for name in chosen}
    seed = records.read_json(folder.at(paths.SEED))
    found = result_of(number, job.state, files, said, seed, is_stale=_is_stale(job, said))
    environment = job.exam.around.config.environment if job.exam is not None else os.environ
    fields = {at: _short(value, environment) for at, value in found.fields.items()}
    found = replace(found, fields=fields)
    return _with_output(found, folder, job, files, environment) if found.passed else found


def _short(value: object, environment: Mapping[str, str]) -> str:
    """The beginning of a value on one line, without keys."""
    text = redact(shown_value(value, _MAX_READ), environment)
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 1] + "…"


def _tasks_of(job: Job, folder: JobFolder) -> list[str]:
    if job.pipeline is not None:
        return list(job.pipeline.names)
    return records.listed_tasks(folder, records.shown_status(folder))


def _is_stale(job: Job, rejection: Mapping[str, Any]) -> bool:
    if job.is_not_ours:
        return False
    if job.state == REJECTED:
        return job.exam is not None and rejection_stands(job.exam, rejection) is None
    return not job.up_to_date


def _task_files(folder: JobFolder, task: str, *, is_up_to_date: bool) -> TaskFiles:
    body = records.read_json(folder.at(paths.letter_place(task)))
    letter = open_letter(body, task, is_vouched=is_up_to_date)
    scores = open_scores(records.read_json(folder.at(paths.scores_place(task))), task)
    calls = letter.body.get("calls") if letter is not None else None
    made = [each for each in calls if isinstance(each, dict)] if isinstance(calls, list) else []
    if letter is not None and "items" in letter.body:
        receipts = item_receipts.read_receipts(folder.items(task))
        made += [call for each in receipts for call in untrusted.objects(each.get("calls"))]
    return TaskFiles(letter, tuple(made), scores)


def _with_output(
    found: DrawResult,
    folder: JobFolder,
    job: Job,
    files: Mapping[str, TaskFiles],
    environment: Mapping[str, str],
) -> DrawResult:
    """A result with the main artifact of the last of its tasks that has one."""
    for name, each in reversed([*files.items()]):
        if each.letter is None or each.letter.skipped or job.pipeline is None:
            continue
        artifact = job.pipeline.task(name).artifact
        value, _ = records.read_main(folder, artifact)
        output = each.letter.outputs.get(artifact)
        return replace(found, output=output, text=_short(value, environment))
    return found


def _refuse_unknown_task(
    columns: Sequence[ComparedColumn],
    cells: Mapping[str, Mapping[str, CellResult]],
    task: str | None,
) -> None:
    all_cells = (cell for by_job in cells.values() for cell in by_job.values())
    if task is None or any(cell.counted for cell in all_cells):
        return
    known = dict.fromkeys(_known_tasks(columns))
    if task not in known:
        raise unknown("task", task, known)


def _known_tasks(columns: Sequence[ComparedColumn]) -> Iterator[str]:
    for column in columns:
        for pipeline in describe.around(column.roots[0]).config.pipelines.values():
            yield from pipeline.names if pipeline is not None else ()
