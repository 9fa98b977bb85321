"""How jobs stand and what they hold, for every way of asking."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from popbuild.base import disk
from popbuild.base.errors import ConfigError, InputError, TaskError, UsageError, no_such
from popbuild.base.paths import COMPLETE, FILE_KINDS, JobFolder, Root
from popbuild.jobs import index, job_ids, lookup, originals
from popbuild.jobs.examine import Exam
from popbuild.jobs.lookup import Job
from popbuild.jobs.records import is_foreign, listed_tasks, read_decision, shown_status
from popbuild.jobs.seed_files import BadSeed
from popbuild.jobs.selection import select
from popbuild.jobs.surroundings import Surroundings
from popbuild.model import status as states
from popbuild.model.config import config
from popbuild.model.decision import Decision
from popbuild.model.foreign_status import NOTHING_SAID, error_text, is_amount, state_of, task_usage
from popbuild.model.pipeline import Task

if TYPE_CHECKING:
    from popbuild.query.explain import Explanation


def seed_error(bad: BadSeed) -> InputError:
    """What is wrong with a seed, as an error."""
    problems = {f"problem {n}": str(each) for n, each in enumerate(bad.problems, 1)}
    return InputError("not a valid seed", {"file": bad.where, **problems})


def refuse_bad(job: Job) -> None:
    """InputError for a job whose seed cannot be used, ConfigError for one whose pipeline cannot."""
    if job.bad_seed is not None:
        raise seed_error(job.bad_seed)
    if job.broken is not None:
        raise job.broken


def around(root: Root) -> Surroundings:
    """Configuration and environment as they are now, for a look."""
    return Surroundings(config.load_to_read(root))


def names_to_ids(root: Root, names: Iterable[str] = ()) -> list[str]:
    """The IDs of the jobs that names and globs mean, or of all."""
    return list(select(root, None, names))


def jobs_of(root: Root, ids: Collection[str]) -> Iterator[Job]:
    """Jobs, each held against today's inputs. Builds nothing."""
    return index.find_all(ids, around(root))


def describe_job(job: Job, root: Root, *, unowned: bool = False) -> dict[str, Any]:
    """A job as `status --json` shows it; with `unowned`, which looks at every file, also the files
    that no task owns."""
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
    """What a job's status says of its last run."""
    body: dict[str, Any] = {"pipelineId": status.get("pipelineId"), "usage": status.get("usage")}
    if isinstance(status.get("currentStage"), str) and job.state == states.RUNNING:
        body |= {"current": status.get("current"), "currentStage": status["currentStage"]}
    if isinstance(status.get("state"), str) and status["state"] not in states.JOB_STATES:
        body["statusSays"] = status["state"]
    if error_text(status.get("error")) is not None and job.state != COMPLETE:
        body["error"] = status["error"]
    return body


def _as_judged(job: Job, exam: Exam, task: Task, entry: Mapping[str, Any]) -> dict[str, Any]:
    """A task that is held against today's inputs."""
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
    if isinstance(entry.get("currentStage"), str) and said == "running" and not killed:
        body["currentStage"] = entry["currentStage"]
    decision = _decision(exam, task) if job.folder else None
    return body if decision is None else {**body, "decision": decision.as_json()}


def _as_it_says(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A task that is held against nothing: what the job's status says of it."""
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
    """Attempts, time and usage as a status has them; what is not of its kind is none."""
    counts, took_ms = ("attempts", "refinementAttempts"), entry.get("executionTime")
    error = entry.get("error")
    return {
        **{name: int(entry[name]) if is_amount(entry.get(name)) else 0 for name in counts},
        "executionTime": took_ms if is_amount(took_ms) else 0,
        "usage": task_usage(dict(entry)),
        "error": error if error_text(error) is not None else None,
    }


def _decision(exam: Exam, task: Task) -> Decision | None:
    """What a person said about a task's artifact, if that is the one that stands there."""
    decision = read_decision(exam.folder, task.id)
    found = exam.digests.get(task.id)  # not read where the job is as it was
    same = decision is None or found in (None, decision.artifacts.get(task.artifact))
    return decision if same else None


def check_known(root: Root, name: str) -> None:
    """UsageError, that names the known ones, where there is no job of this ID."""
    if not job_ids.is_known(root, name):
        raise UsageError(
            "no such job",
            no_such("job", name, job_ids.known_jobs(root)),
            hint="a job is a file seeds/<id>.json, or comes from popbuild submit",
        )


def find_job(root: Root, name: str) -> Job:
    """One job by its exact ID, also one whose ID cannot be one; UsageError that names the known
    ones."""
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
    """A file of a job: `kind` is artifacts, logs, tmp, or tasks for the fixed files of a task."""

    kind: str
    name: str
    path: Path


def tasks_in(job: Job) -> list[str]:
    """The tasks of a job as its directory has them."""
    return listed_tasks(job.folder, shown_status(job.folder)) if job.folder else []


def files_of(job: Job, task: str | None = None) -> list[ShownFile]:
    """The files of a job, or of one of its tasks, as its index has them."""
    folder = folder_of(job)
    status, tasks = shown_status(folder), tasks_in(job)
    if task is not None and task not in tasks:
        raise UsageError("no such task", no_such("task", task, tasks, where={"job": job.id}))
    entry = status if task is None or status is None else status["tasks"].get(task)
    index = entry["files"] if entry else {}
    # Another program's index may lack files, and the folder is the truth.
    whole = task is None and is_foreign(folder)
    found = [
        ShownFile(kind, name, folder.files(kind) / name)
        for kind in FILE_KINDS
        for name in dict.fromkeys(
            [*index.get(kind, []), *(_standing(folder.files(kind)) if whole else ())]
        )
    ]
    for each in [task] if task else tasks:
        own = (folder.output, folder.letter, folder.decision, folder.execution_logs)
        for path in (place(each) for place in own):
            if path.exists():
                found.append(ShownFile("tasks", f"{each}/{path.name}", path))
    if task is None and folder.rejection.exists():
        found.append(ShownFile("job", "rejection.json", folder.rejection))
    return found


def _standing(folder: Path) -> list[str]:
    """The names of the files in a folder."""
    return sorted(path.name for path in folder.glob("[!.]*") if disk.is_regular(path))


def read_file(job: Job, name: str) -> tuple[ShownFile, bytes]:
    """One file of a job by its name, by `<kind>/<name>`, or `<task>/letter.json`."""
    files = files_of(job)
    found = [each for each in files if name in (each.name, f"{each.kind}/{each.name}")]
    if not found:
        names = {each.name for each in files}
        raise UsageError("no such file", no_such("file", name, names, where={"job": job.id}))
    if len(found) > 1:
        raise UsageError(
            "two files have this name",
            {"file": name, "job": job.id, "known": ", ".join(f"{f.kind}/{f.name}" for f in found)},
        )
    return found[0], disk.read(found[0].path)


def prompt(root: Root, job: Job, task_name: str) -> list[dict[str, Any]]:
    """The messages that a task's first try would send, rendered now. No call is made."""
    from popbuild.query.preview import render_preview

    refuse_bad(job)
    assert job.exam is not None
    pipeline = job.exam.pipeline
    if task_name not in pipeline.names:
        raise UsageError(
            "no such task", no_such("task", task_name, pipeline.names, where={"job": job.id})
        )
    task = pipeline.task(task_name)
    missing = [name for name in task.needs if name not in job.exam.artifacts]
    if missing and task.needs:
        raise UsageError(
            "the prompt needs artifacts that are not there yet",
            {"job": job.id, "task": task_name, "missing": ", ".join(missing)},
            hint=f"doit run {job.id}:{missing[0]}",
        )
    try:
        return render_preview(job.exam.around.config, job.exam, task)
    except TaskError as error:
        # No task failed: the files do not let it be rendered, and nothing was built.
        raise ConfigError(error.message, error.values, error.hint) from None


def explain_job(root: Root, name: str, task: str | None = None) -> list[Explanation]:
    """Why a job's tasks, or one of them, are stale, with the differences."""
    from popbuild.query.explain import explain

    job = with_task(root, name, task)
    assert job.pipeline is not None
    return list(explain(job, job.pipeline.names if task is None else [task]))


def with_task(root: Root, name: str, task: str | None) -> Job:
    """A job whose seed can be read and which has this task, if one is named."""
    job = find_job(root, name)
    refuse_bad(job)
    assert job.pipeline is not None
    known = job.pipeline.names
    if task is not None and task not in known:
        raise UsageError("no such task", no_such("task", task, known, where={"job": name}))
    return job
