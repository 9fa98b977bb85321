"""States and files of jobs, for the commands, the API and the pages."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from popbuild.base import disk
from popbuild.base.errors import InputError, UsageError, unknown
from popbuild.base.paths import COMPLETE, FILE_KINDS, INPUTS, JobFolder, Root
from popbuild.jobs import index, job_ids, lookup, originals
from popbuild.jobs.examine import Exam
from popbuild.jobs.input_files import own_places
from popbuild.jobs.lookup import Job
from popbuild.jobs.records import is_foreign, listed_tasks, read_decision, shown_status
from popbuild.jobs.score_records import read_scores
from popbuild.jobs.seed_files import BadSeed
from popbuild.jobs.selection import select
from popbuild.jobs.surroundings import Surroundings
from popbuild.model import status as states
from popbuild.model.config import config
from popbuild.model.decision import Decision
from popbuild.model.foreign_status import NOTHING_SAID, error_text, is_amount, state_of, task_usage
from popbuild.model.pipeline import Pipeline, Task

_MOVES = 4  # of a job, while it is read once


def seed_error(bad: BadSeed) -> InputError:
    """The problems of a seed as an error."""
    problems = {f"problem {n}": str(each) for n, each in enumerate(bad.problems, 1)}
    return InputError("not a valid seed", {"file": bad.where, **problems})


def refuse_bad(job: Job) -> None:
    """InputError for a job with an unusable seed, ConfigError for one with an unusable pipeline."""
    if job.bad_seed is not None:
        raise seed_error(job.bad_seed)
    if job.broken is not None:
        raise job.broken


def around(root: Root) -> Surroundings:
    """Configuration and environment as they are now, for reading only."""
    return Surroundings(config.load_to_read(root))


def names_to_ids(root: Root, names: Iterable[str] = ()) -> list[str]:
    """The IDs of the jobs that names and globs mean; without any, of all jobs."""
    return list(select(root, None, names))


def jobs_of(root: Root, ids: Collection[str]) -> Iterator[Job]:
    """Jobs, each compared with today's inputs. Builds nothing."""
    return index.find_all(ids, around(root))


def describe_job(job: Job, root: Root, *, unowned: bool = False) -> dict[str, Any]:
    """A job as `status --json` shows it; with `unowned`, also the files that belong to no task,
    which takes a look at every file. A job that is moved meanwhile, as a promotion does, is read
    where it stands then."""
    for _ in range(_MOVES):
        try:
            return _described(job, root, unowned=unowned)
        except FileNotFoundError:
            job = find_job(root, job.id)
    return _described(job, root, unowned=unowned)


def _described(job: Job, root: Root, *, unowned: bool) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": job.id,
        "state": job.state,
        "upToDate": job.up_to_date,
        "path": root.show(job.folder.path) if job.folder else None,
        "tasks": {},
    }
    if (job.bad_seed is not None or job.broken is not None) and not job.is_not_ours:
        body["problems"] = [problem.as_json() for problem in job.bad[1]] if job.bad else []
    status = lookup.standing_status(job)
    entries = status["tasks"] if status else {}
    why_not = {
        "notBuiltHere": job.broken.as_line(without=()) if job.broken and job.is_not_ours else None,
        "badName": job.bad_name,
        "badLink": job.bad_link,
        "damage": job.damage,
    }
    body |= {name: why for name, why in why_not.items() if why is not None}
    if job.removed:
        body["removedTasks"] = list(job.removed)
    if status is not None:
        body |= _said_of_run(job, status)
    if job.as_built:
        body["asBuilt"] = list(job.as_built)
    if unowned and job.folder is not None and job.pipeline is not None:
        body["unowned"] = originals.unowned(job.folder, job.pipeline, status)
    if job.questions:
        body["waiting"] = [question.as_json() for question in job.questions]
    if job.exam is not None:
        for task in job.exam.pipeline.tasks:
            body["tasks"][task.id] = _as_judged(job, job.exam, task, entries.get(task.id, {}))
    elif job.folder is not None and job.bad_link is None:
        body["tasks"] = {
            name: {"label": name} | _as_it_says(entries.get(name, NOTHING_SAID))
            for name in listed_tasks(job.folder, status)
        }
    return body


def _said_of_run(job: Job, status: Mapping[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = {"pipelineId": status.get("pipelineId"), "usage": status.get("usage")}
    if isinstance(status.get("currentStage"), str) and job.state == states.RUNNING:
        body |= {"current": status.get("current"), "currentStage": status["currentStage"]}
    if isinstance(status.get("state"), str) and status["state"] not in states.JOB_STATES:
        body["statusSays"] = status["state"]
    if error_text(status.get("error")) is not None and job.state != COMPLETE:
        body["error"] = status["error"]
    return body


def _as_judged(job: Job, exam: Exam, task: Task, entry: Mapping[str, Any]) -> dict[str, Any]:
    """A task that was compared with today's inputs."""
    verdict, said = exam.verdicts[task.id], entry.get("state", "pending")
    killed = said == "running" and job.state != states.RUNNING
    body = {
        "label": task.label,
        "state": "pending" if killed else said,
        "stale": verdict.stale,
        "edited": verdict.edited,
        "frozen": verdict.frozen,
        "reasons": list(verdict.reasons),
        "artifact": task.artifact,
        **_what_it_took(entry),
    }
    if verdict.skipped and said == "done":
        body |= {"skipped": True, "reason": verdict.skipped}
    if isinstance(entry.get("currentStage"), str) and said == "running" and not killed:
        body["currentStage"] = entry["currentStage"]
    if job.folder is not None and task.scoring is not None:
        body |= _scores(job, job.folder, task)
    decision = _decision(exam, task) if job.folder else None
    return body if decision is None else {**body, "decision": decision.as_json()}


def _scores(job: Job, folder: JobFolder, task: Task) -> dict[str, Any]:
    """The scores of a task as they stand, and whether they hold."""
    last = read_scores(folder, task.id)
    found = last.scores.items() if last is not None else ()
    body = {name: {"value": each.value, "reason": each.reason} for name, each in found}
    return {"scores": body, **({"toMeasure": True} if task.id in job.unmeasured else {})}


def _as_it_says(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A task by the job's status alone."""
    made = entry["files"]["artifacts"]
    return {
        "state": state_of(entry),
        "stale": None,
        "edited": False,
        "frozen": False,
        "reasons": [],
        "artifact": made[0] if len(made) == 1 else None,
        **_what_it_took(entry),
    }


def _what_it_took(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Attempts, time and usage in a status; values of the wrong type count as absent."""
    counts, took_ms = ("attempts", "refinementAttempts"), entry.get("executionTime")
    error = entry.get("error")
    return {
        **{name: int(entry[name]) if is_amount(entry.get(name)) else 0 for name in counts},
        "executionTime": took_ms if is_amount(took_ms) else 0,
        "usage": task_usage(dict(entry)),
        "error": error if error_text(error) is not None else None,
    }


def _decision(exam: Exam, task: Task) -> Decision | None:
    """A person's decision about a task's artifact, if that is still the same."""
    decision = read_decision(exam.folder, task.id)
    found = exam.digests.get(task.id)  # not read if the job is unchanged
    same = decision is None or found in (None, decision.artifacts.get(task.artifact))
    return decision if same else None


def check_known(root: Root, name: str) -> None:
    """UsageError if no job has this ID."""
    if not job_ids.is_known(root, name):
        hint = "a job is a file seeds/<id>.json, or comes from popbuild submit"
        raise unknown("job", name, job_ids.known_jobs(root), hint=hint)


def find_job(root: Root, name: str) -> Job:
    """One job by its exact ID, which may be an invalid one. UsageError for an unknown ID."""
    check_known(root, name)
    job_ids.refuse_links(root, name)
    bad = job_ids.bad_names(root, [name])
    return replace(lookup.find(name, around(root)), bad_name=bad.get(name))


def folder_of(job: Job) -> JobFolder:
    if job.folder is None:
        raise UsageError("the job has no files yet", {"job": job.id}, hint=f"doit run job={job.id}")
    return job.folder


@dataclass(frozen=True)
class ShownFile:
    """A file of a job. `kind` is artifacts, logs or tmp; tasks for the fixed files of a task;
    inputs for those that its seed names; job for the rejection."""

    kind: str
    name: str
    path: Path


def tasks_in(job: Job) -> list[str]:
    """The tasks in a job's directory."""
    return listed_tasks(job.folder, shown_status(job.folder)) if job.folder else []


def files_of(job: Job, task: str | None = None) -> list[ShownFile]:
    """The files of a job, or of one of its tasks, by its index."""
    folder = folder_of(job)
    status, tasks = shown_status(folder), tasks_in(job)
    if task is not None and task not in tasks:
        raise unknown("task", task, tasks, where={"job": job.id})
    entry = status if task is None or status is None else status["tasks"].get(task)
    index = entry["files"] if entry else {}
    found = []
    for kind in FILE_KINDS:
        names = dict.fromkeys(index.get(kind, []))
        if task is None and is_foreign(folder):  # another program's index may lack files
            standing = (each for each in folder.files(kind).glob("[!.]*") if disk.is_regular(each))
            names |= dict.fromkeys(sorted(path.name for path in standing))
        found += [ShownFile(kind, name, folder.files(kind) / name) for name in names]
    for each in [task] if task else tasks:
        ours = (folder.output, folder.letter, folder.items, folder.decision, folder.scores)
        fixed = (*(place(each) for place in ours), folder.execution_logs(each))
        there = [path for path in fixed if path.exists()]
        found += [ShownFile("tasks", f"{each}/{path.name}", path) for path in there]
    inputs = [folder.path / each for each in own_places(folder)] if task is None else []
    found += [ShownFile(INPUTS, path.name, path) for path in inputs if disk.stands(path)]
    if task is None and folder.rejection.exists():
        found.append(ShownFile("job", "rejection.json", folder.rejection))
    return found


def read_file(job: Job, name: str) -> tuple[ShownFile, bytes]:
    """One file of a job by its name, by `<kind>/<name>`, or `<task>/letter.json`."""
    files = files_of(job)
    found = [each for each in files if name in (each.name, f"{each.kind}/{each.name}")]
    if not found:
        raise unknown("file", name, {each.name for each in files}, where={"job": job.id})
    if len(found) > 1:
        known = ", ".join(f"{each.kind}/{each.name}" for each in found)
        raise UsageError("two files have this name", {"file": name, "known": known})
    return found[0], disk.read(found[0].path)


def with_task(root: Root, name: str, task: str | None) -> Job:
    """A usable job, with this task if one is named."""
    job = find_job(root, name)
    pipeline_with(job, task)
    return job


def pipeline_with(job: Job, task: str | None) -> Pipeline:
    """The pipeline of a usable job, which must have this task if one is named."""
    refuse_bad(job)
    assert job.pipeline is not None
    if task is not None and task not in job.pipeline.names:
        raise unknown("task", task, job.pipeline.names, where={"job": job.id})
    return job.pipeline
