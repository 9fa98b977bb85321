"""Which jobs, and which of their tasks, the words of a command mean."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterable

from popbuild.base.errors import UsageError, no_such
from popbuild.base.paths import Root, check_name, name_problem
from popbuild.jobs import job_ids, lookup, records
from popbuild.jobs.surroundings import Surroundings
from popbuild.model.pipeline import Pipeline

Selection = dict[str, tuple[str, ...] | None]  # job -> its tasks, None for all of them


def select(
    root: Root, job: str | None, names: Iterable[str], more: Collection[str] = ()
) -> Selection:
    """The jobs that `job=a,b*` and the names on the command line mean; all without either. A name
    is a job's ID, a glob, or `<job>:<task>`; UsageError if unknown. `more` are known here alone."""
    patterns = list(names)
    if job is not None:
        given = [part.strip() for part in job.split(",")]
        if not all(given):
            raise UsageError(
                "job= names no job",
                no_such("job", job, job_ids.known_jobs(root)),
                hint="job=<id>, job=<id>,<id>",
            )
        patterns += given
    if not patterns:
        return dict.fromkeys(sorted({*job_ids.known_jobs(root), *more}))
    found: Selection = {}
    for pattern in patterns:
        name, separator, task = pattern.partition(":")
        if any(sign in name for sign in "*?["):
            matching = fnmatch.filter(sorted({*job_ids.known_jobs(root), *more}), name)
        else:
            matching = [name] if name in more or job_ids.is_known(root, name) else []
        if not matching:
            raise UsageError(
                "no such job",
                no_such("job", name, job_ids.known_jobs(root)),
                hint="a job is a file seeds/<id>.json, or comes from popbuild submit",
            )
        for each in matching:
            if not separator:
                found[each] = None
            elif found.get(each, ()) is not None:
                found[each] = (*(found.get(each) or ()), task)
    return found


def check_tasks(selection: Selection, around: Surroundings, fresh: Collection[str] = ()) -> None:
    """UsageError for a task that its job's pipeline does not have, and for a fresh one, too, that
    is frozen or that the command leaves out."""
    for job, tasks in selection.items():
        pipeline = lookup.find_inputs(job, around).pipeline if tasks else None
        if pipeline is not None:
            for task in tasks or ():
                require_task(pipeline, task, job)
    check_not_frozen("fresh", dict.fromkeys(selection, tuple(fresh)), around)
    for job, tasks in selection.items() if fresh else ():
        found = lookup.find_inputs(job, around)
        if found.broken is not None:
            continue  # told when its turn comes
        for task in fresh:
            require_task(found.pipeline, task, job, "fresh")
            if tasks is not None and task not in tasks:
                raise UsageError(
                    "a fresh task must be among those that are built",
                    {"fresh": task, "job": job, "builds": ", ".join(tasks)},
                )


def require_task(pipeline: Pipeline | None, task: str, job: str, label: str = "task") -> None:
    """UsageError for a task that a job's pipeline does not have; `label` says where it stood."""
    known = pipeline.names if pipeline else ()
    if task not in known:
        raise UsageError("no such task", no_such(label, task, known, where={"job": job}))


def check_not_frozen(what: str, tasks: Selection, around: Surroundings) -> None:
    """UsageError where one of the tasks that are named for this is frozen."""
    for job, names in tasks.items():
        for task in names or ():
            if task in records.read_frozen(around.root, job):
                raise UsageError(
                    "the task is frozen",
                    {what: task, "job": job},
                    hint=f"popbuild thaw {job} {task}",
                )


def check_rule(root: Root, selection: Iterable[str]) -> None:
    """Refuse IDs against the rule."""
    for job in selection:
        if name_problem(job):
            check_name("job", job, job_ids.place_of(root, job))


def check_case(root: Root, selection: Collection[str]) -> None:
    """Refuse a job if another one's ID differs only by case."""
    for job, others in job_ids.alike(root, selection).items():
        same = sorted([job, *others])
        raise UsageError(
            "two jobs have the same name",
            {"jobs": ", ".join(same), "in": ", ".join(job_ids.place_of(root, e) for e in same)},
            hint="IDs must differ by more than upper and lower case",
        )
