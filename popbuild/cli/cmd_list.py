"""`popbuild list`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from popbuild.base.paths import shown_name
from popbuild.base.units import count, fit_line
from popbuild.build.shared_words import LIST
from popbuild.cli.options import Given, print_json, print_lines, roots_and_names

if TYPE_CHECKING:
    from popbuild.base.paths import Root
    from popbuild.jobs.lookup import Job

_MOST_PADDED = 40  # characters: one long name moves only its own line


@LIST.done_by
def _list(given: Given) -> int:
    from popbuild.jobs.selection import select

    roots, names, variables = roots_and_names(given, LIST)
    if not given.quiet:
        found = {root: list(select(root, variables.get("job"), names)) for root in roots}
        return list_jobs(found, as_json=given.json, tasks=given.subtasks)
    chosen = (select(root, variables.get("job"), names) for root in roots)
    ids = sorted({job for jobs in chosen for job in jobs})
    if given.json:
        print_json(ids)
    else:
        print_lines(map(shown_name, ids))
    return 0


def list_jobs(ids_by_root: Mapping[Root, list[str]], *, as_json: bool, tasks: bool = False) -> int:
    """Print a line for each job of each variant, with its tasks if asked."""
    is_several = len(ids_by_root) > 1
    if as_json:
        shown = (_bodies(root, ids, is_several=is_several) for root, ids in ids_by_root.items())
        print_json([body for bodies in shown for body in bodies])
        return 0
    for root, ids in ids_by_root.items():
        if is_several:
            print(f"{root.variant.label}:")
        _list_jobs(root, ids, tasks=tasks)
    return 0


def _bodies(root: Root, ids: list[str], *, is_several: bool) -> Iterator[dict[str, Any]]:
    from popbuild.query import describe

    of = {"variant": root.variant.label} if is_several else {}
    for job in describe.jobs_of(root, ids):
        yield {**of, **describe.describe_job(job, root)}


def _list_jobs(root: Root, ids: list[str], *, tasks: bool) -> None:
    from popbuild.query import describe

    found = describe.jobs_of(root, ids)
    if not ids:
        from popbuild.build.session import NO_JOBS

        print(NO_JOBS, file=sys.stderr)
    width = min(max((len(shown_name(job)) for job in ids), default=0), _MOST_PADDED)
    as_built: dict[str, int] = {}
    not_ours: dict[str, int] = {}
    for job in found:
        print_lines(_lines(job, width, tasks))
        for how in job.as_built:
            as_built[how] = as_built.get(how, 0) + 1
        if job.is_not_ours and job.broken is not None:
            why = job.broken.as_line(without=())
            not_ours[why] = not_ours.get(why, 0) + 1
    for how, jobs in as_built.items():
        print(f"to see {count(jobs, 'job')} as built: {how}", file=sys.stderr)
    for why, jobs in not_ours.items():
        print(f"{count(jobs, 'job')} cannot be built here: {why}", file=sys.stderr)


def _lines(job: Job, width: int, tasks: bool) -> Iterator[str]:
    yield f"{shown_name(job.id):<{width}}  {job.description}"
    if tasks and job.exam is not None and job.bad_name is None:
        for task in job.exam.pipeline.tasks:
            head = f"  {task.id:<{max(width - 2, 0)}}  "
            yield fit_line(head, job.exam.verdicts[task.id].brief)
