"""Which jobs, and which of their tasks, the words of a command mean."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterable

from popbuild.base.errors import UsageError, no_such
from popbuild.base.paths import Root, check_name, name_problem
from popbuild.jobs import lookup
from popbuild.jobs.examine import Surroundings, read_frozen

Selection = dict[str, tuple[str, ...] | None]  # job -> its tasks, None for all of them


def select(
    root: Root, job: str | None, names: Iterable[str], more: Iterable[str] = ()
) -> Selection:
    """The jobs that `job=a,b*` and the names on the command line mean; all without either.

    A name is a job's ID, a glob over IDs, or `<job>:<task>`. UsageError for one that is unknown.
    `more` are jobs that are known to this command alone.
    """
    names = list(names)
    patterns = list(names)
    if job is not None:
        given = [part.strip() for part in job.split(",")]
        if not all(given):
            raise UsageError(
                "job= names no job",
                no_such("job", job, lookup.known_jobs(root)),
                hint="job=<id>, job=<id>,<id>",
            )
        patterns += given
    more = list(more)
    if not patterns:
        return dict.fromkeys(sorted({*lookup.known_jobs(root), *more}))
    found: Selection = {}
    for pattern in patterns:
        name, separator, task = pattern.partition(":")
        if any(sign in name for sign in "*?["):
            matching = fnmatch.filter(sorted({*lookup.known_jobs(root), *more}), name)
        else:
            matching = [name] if name in more or lookup.is_known(root, name) else []
        if not matching:
            raise UsageError(
                "no such job",
                no_such("job", name, lookup.known_jobs(root)),
                hint="a job is a file seeds/<id>.json, or comes from popbuild submit",
            )
        for each in matching:
            if not separator:
                found[each] = None
            elif found.get(each, ()) is not None:
                found[each] = (*(found.get(each) or ()), task)
    return found


def check_tasks(selection: Selection, around: Surroundings) -> None:
    """UsageError for a task that its job's pipeline does not have."""
    for job, tasks in selection.items():
        if tasks is None:
            continue
        pipeline = lookup.find(job, around).pipeline
        for task in tasks:
            if pipeline is not None and task not in pipeline.names:
                raise UsageError(
                    "no such task", no_such("task", task, pipeline.names, where={"job": job})
                )


def check_fresh(selection: Selection, around: Surroundings, fresh: Iterable[str]) -> None:
    """UsageError for a fresh task that a job does not have, or that it is told not to build."""
    check_not_frozen("fresh", dict.fromkeys(selection, tuple(fresh)), around)
    for job, tasks in selection.items() if fresh else ():
        found = lookup.find(job, around)
        if found.broken is not None:
            continue  # told when its turn comes
        known = found.pipeline.names if found.pipeline else ()
        for task in fresh:
            if task not in known:
                raise UsageError("no such task", no_such("fresh", task, known, where={"job": job}))
            if tasks is not None and task not in tasks:
                raise UsageError(
                    "a fresh task must be among those that are built",
                    {"fresh": task, "job": job, "builds": ", ".join(tasks)},
                )


def check_not_frozen(what: str, tasks: Selection, around: Surroundings) -> None:
    """UsageError where one of the tasks that are named for this is frozen."""
    for job, names in tasks.items():
        for task in names or ():
            if task in read_frozen(around.root, job):
                raise UsageError(
                    "the task is frozen",
                    {what: task, "job": job},
                    hint=f"popbuild thaw {job} {task}",
                )


def check_rule(root: Root, selection: Iterable[str]) -> None:
    """Refuse IDs against the rule."""
    for job in selection:
        if name_problem(job):
            check_name("job", job, lookup.place_of(root, job))


def check_case(root: Root, selection: Collection[str]) -> None:
    """Refuse a job of which there is another whose ID differs only by case."""
    for job, others in lookup.alike(root, selection).items():
        same = sorted([job, *others])
        raise UsageError(
            "two jobs have the same name",
            {"jobs": ", ".join(same), "in": ", ".join(lookup.place_of(root, e) for e in same)},
            hint="IDs must differ by more than upper and lower case",
        )
