"""`popbuild variant promote`: a variant's files and settings in the place of the main ones, and its
results that are then up to date as results of the main jobs. Nothing is built, no call is made.

The files come first, then each job by itself, as at the end of a build: a copy in current/ that is
promoted. Killed anywhere, the command is run again and goes on.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from popbuild.base import tree
from popbuild.base.errors import LockedError, PopbuildError, UsageError
from popbuild.base.paths import COMPLETE, CURRENT, REJECTED, VARIANTS, JobFolder, Root, Variant
from popbuild.base.units import count
from popbuild.jobs import (
    job_ids,
    lifecycle,
    lookup,
    open_job,
    originals,
    promotion,
    records,
    run_log,
)
from popbuild.jobs.build_order import ordered
from popbuild.jobs.config_archive import Objects
from popbuild.jobs.examine import examine
from popbuild.jobs.surroundings import Surroundings
from popbuild.model import status as states
from popbuild.model.clock import run_id, timestamp
from popbuild.model.config.config import Config, environment_of
from popbuild.model.config.snapshot import take_snapshot
from popbuild.model.config.taken_over import with_variant
from popbuild.model.letter import Usage
from popbuild.query.variant_list import VariantDifference, differing_files

_MOST_NAMED = 20


@dataclass(frozen=True)
class Promoted:
    """What the main jobs took over from a variant, or would: its files, and the results of `jobs`.
    The results of those `left` are not up to date then, each with why; those `there` stood as main
    results already."""

    difference: VariantDifference
    jobs: tuple[str, ...]
    there: tuple[str, ...]
    left: Mapping[str, str]
    done: bool

    def as_json(self) -> dict[str, Any]:
        return {
            **self.difference.as_json(),
            "jobs": list(self.jobs),
            "there": list(self.there),
            "left": dict(self.left),
            "done": self.done,
        }

    def lines(self) -> Iterator[str]:
        """For a person."""
        yield from self.difference.lines_of_text()
        takes = "taken over" if self.done else "to take over"
        already = f", {len(self.there)} there already" if self.there else ""
        yield f"{count(len(self.jobs), 'result')} {takes}{already}"
        for job, why in list(self.left.items())[:_MOST_NAMED]:
            yield f"  left: {job}: {why}"
        if len(self.left) > _MOST_NAMED:
            yield f"  … and {len(self.left) - _MOST_NAMED:,} more: --json names all of them"
        if not self.done and (self.jobs or self.difference.files):
            yield "nothing was changed yet: --yes does it"


def promote_variant(variant: Root, *, really: bool = False) -> Promoted:
    """Take over a variant's files, settings and results; without `really`, only say which."""
    if not variant.variant.name or variant.variant.draw:
        hint = "popbuild variant list shows the variants"
        values = {"variant": variant.variant.label}
        raise UsageError("this variant has no files or settings of its own", values, hint)
    main = replace(variant, variant=Variant())
    changed, config = with_variant(main, variant)
    before = take_snapshot(main)[0].files
    old = {path: before[path] for path in changed if path in before}
    difference = VariantDifference(
        main.variant.label, variant.variant.label, tuple(differing_files(old, changed))
    )
    if really:
        _write_files(main, variant, changed)
    return _results(main, variant, config, difference, really=really)


def _write_files(main: Root, variant: Root, changed: Mapping[str, bytes]) -> None:
    """Write the files where the main ones stand, with the permissions of those or of their own."""
    name = variant.variant.of or variant.variant.name
    for path, data in changed.items():
        target = main.config / path
        own = main.config / VARIANTS / name / path
        tree.write_like(target, data, target if target.exists() else own)


def _results(
    main: Root, variant: Root, config: Config, difference: VariantDifference, *, really: bool
) -> Promoted:
    """The results, each taken over unless it is not what the configuration would make."""
    kept = promotion.previous_kept(environment_of(main, os.environ))
    # What draw each task is at, and which are frozen, is the variant's.
    around = Surroundings(replace(config, root=variant))
    names = dict.fromkeys(run_log.complete_jobs(variant))
    taken, there, left = [], [], dict[str, str]()
    with ordered(names, around, add=False, is_forced=False) as (selection, _, _):
        pass
    if really:
        Objects(main).keep(config.snapshot)
        _finish_promotions(main, kept)
    for job in selection:
        try:
            why = _why_not(main, variant, job, around)
            if why == "":
                there.append(job)
            elif why is not None:
                left[job] = why
            elif really:
                _take_over(main, variant, job, Surroundings(config), kept)
            if why is None:
                taken.append(job)
        except PopbuildError as error:
            left[job] = error.as_line()
    return Promoted(difference, tuple(taken), tuple(there), left, really)


def _finish_promotions(main: Root, kept: int) -> None:
    """Finish what a command left half done that was killed while it promoted."""
    for job in promotion.unfinished_promotions(main):
        with contextlib.suppress(LockedError), lifecycle.job_lock(main, job):
            promotion.finish_promotion(main, job, kept)


def _why_not(main: Root, variant: Root, job: str, around: Surroundings) -> str | None:
    """Why a result is not taken over; empty where it is there already, None where it is."""
    found = lookup.find(job, around)
    if found.exam is None or found.folder is None or found.pipeline is None:
        return found.description
    if not found.up_to_date:
        return found.description
    if found.exam.frozen:
        return f"frozen: {', '.join(found.exam.frozen)}"
    if not job_ids.is_known(main, job):
        return "it was submitted to the variant alone"
    complete = main.job(COMPLETE, job)
    tasks = found.pipeline.names
    if all(_letter_digest(complete, task) == _letter_digest(found.folder, task) for task in tasks):
        return ""
    return None


def _letter_digest(folder: JobFolder, task: str) -> object:
    letter = records.read_letter(folder, task)
    return letter.body.get("digest") if letter is not None else None


def _take_over(main: Root, variant: Root, job: str, around: Surroundings, kept: int) -> None:
    """Promote a copy of a variant's result as the main one, with a line of its own."""
    with lifecycle.job_lock(variant, job), lifecycle.job_lock(main, job):
        promotion.finish_promotion(main, job, kept)
        source = variant.job(COMPLETE, job)
        samples = records.read_samples(variant, job)
        if samples != records.read_samples(main, job):
            lifecycle.replace_samples(main, job, samples)
        inputs = lookup.find_inputs(job, around)
        if inputs.seed is None or inputs.pipeline is None:
            raise UsageError(inputs.description)
        current = main.job(CURRENT, job)
        for state in (CURRENT, REJECTED):
            originals.discard_original(main, main.job(state, job))
        tree.copy_folder(source.path, current.path)
        opened = open_job.open_job(current, job, run_id(), inputs.seed, inputs.pipeline, None)
        exam = examine(current, inputs.seed, inputs.pipeline, around, inputs.names)
        opened.catch_up(exam)
        if not exam.up_to_date():
            opened.change(lambda each: states.move_job(each, states.STOPPED))
            raise UsageError("its jobs or files changed meanwhile", {"job": job})
        ended = {"finishedAt": timestamp(), "usage": Usage().as_json()}
        opened.change(lambda each: states.move_job(each, states.COMPLETE, **ended), sync=True)
        built_by = {
            task: str(letter.body["pipelineId"])
            for task, letter in exam.letters.items()
            if letter is not None and "pipelineId" in letter.body
        }
        line = promotion.run_line(exam, opened.status["pipelineId"], ended, earlier=built_by)
        promotion.promote(main, current, line, kept)
        lifecycle.drop_pending(main, job)
