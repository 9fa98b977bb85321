"""The path of a run that changes nothing: no event loop, no doit task, no jsonschema, no YAML."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from popbuild.base import disk
from popbuild.base.paths import COMPLETE, CURRENT, REJECTED
from popbuild.build.events import JobResult
from popbuild.jobs import lifecycle, originals, promotion
from popbuild.jobs.claims import Claims
from popbuild.jobs.index import Index
from popbuild.jobs.surroundings import Surroundings


@dataclass(frozen=True)
class Options:
    """How to build. `always` builds what is up to date too, from the store where it can; `fresh`
    are tasks that draw a new sample. `budget` is what the command may spend, in US dollars; above
    `ask_above` a person is asked first; `unknown_allowed` sends calls without a known price all the
    same. Processes that share a `spending_name` spend from one budget, with `together` calls in
    flight. `store` is the mode that was asked for. `cluster` is a Dask scheduler's address, or
    `local`. With `only`, jobs that others are over are left out unless they are named."""

    in_flight: int | None = None
    continue_: bool = False
    always: bool = False
    keep_edits: bool = False
    discard_edits: bool = False
    wait: bool = True
    store: str | None = None
    fresh: tuple[str, ...] = ()
    budget: float | None = None
    ask_above: float | None = None
    unknown_allowed: bool = False
    spending_name: str | None = None
    together: int | None = None
    cluster: str | None = None
    only: bool = False


def settle_without_building(
    job: str, around: Surroundings, claims: Claims, index: Index, tasks: Iterable[str] | None
) -> JobResult | None:
    """The result for a job with nothing to do, or None if it has to be built."""
    root = around.root
    if index.knows(job):
        return JobResult(job, "up to date", path=root.job_place(COMPLETE, job))
    if not claims.acquire(job):
        return None
    try:
        lifecycle.note_abandoned(root, job)
        promotion.finish_promotion(root, job, promotion.previous_kept(around.config.environment))
        places = (root.job_place(state, job) for state in (COMPLETE, CURRENT))
        if not any(disk.is_folder(root.at(place)) for place in places):
            return None  # never built: there is nothing to hold against the inputs
        found = index.examine(job)
        exam = found.exam
        if exam is None or found.folder is None or found.state == REJECTED:
            return None
        if found.damage or found.removed or found.unmeasured:
            return None  # nothing to call, but the job is not as a clean build would have it
        wanted = set(exam.pipeline.names)
        if tasks is not None:
            wanted &= set(tasks)
            wanted = wanted.union(*(exam.pipeline.upstream(name) for name in wanted))
        if tasks is None and not found.matches:
            return None  # all tasks may be up to date, but the job is not promoted yet
        if not exam.up_to_date(wanted):
            return None
        if found.up_to_date:
            for state in (CURRENT, REJECTED):
                originals.discard_original(root, root.job(state, job))
            lifecycle.refresh_seed(root, exam.folder, exam.seed, exam.files)
        place = root.job_place(COMPLETE if found.state == COMPLETE else CURRENT, job)
        return JobResult(job, "up to date", path=place, frozen=exam.frozen)
    finally:
        claims.release(job)
