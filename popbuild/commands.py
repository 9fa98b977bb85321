"""What a person can ask for, as functions that give data. The CLI prints it; so may a web page."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from popbuild import (
    adoption,
    config,
    disk,
    endings,
    gate,
    index,
    jobs,
    jsonio,
    originals,
    seals,
    steps,
)
from popbuild.errors import ConfigError, GateError, InputError, TaskError, UsageError, unknown
from popbuild.exam import (
    BadSeed,
    Exam,
    Surroundings,
    examine,
    key_problems,
    read_decision,
    read_json,
    read_seed,
)
from popbuild.jobs import Job
from popbuild.layout import (
    COMPLETE,
    CURRENT,
    FILE_KINDS,
    REJECTED,
    JobFolder,
    Root,
    check_name,
    shown_name,
)
from popbuild.model import status as states
from popbuild.model.clock import run_id
from popbuild.model.decision import Decision
from popbuild.model.pipeline import Task
from popbuild.model.problem import Problem
from popbuild.others import is_foreign, shown_status, tasks_of
from popbuild.selection import select
from popbuild.steps import Samples
from popbuild.units import count

if TYPE_CHECKING:
    from popbuild.explain import Explanation
    from popbuild.validate import Finding

_GITIGNORE = "pipeline-data/\n.popbuild/\n.env\n"


def init(folder: Path) -> list[str]:
    """Make a root with the demo's seeds and pipeline. Gives what was written; refuses a folder
    that has one already."""
    if (folder / "pipeline-config").exists():
        raise UsageError("there is a root already", {"folder": folder})
    written = []
    source = _demo()
    disk.make_folder(folder)
    for name in ("seeds", "pipeline-config"):
        if (folder / name).exists():
            raise UsageError("a folder is in the way", {"folder": folder / name})
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source / name, folder / name, ignore=ignore)
        written.append(f"{name}/")
    for name, text in ((".gitignore", _GITIGNORE), ("dodo.py", _dodo())):
        if not (folder / name).exists():
            (folder / name).write_text(text, encoding="utf-8")
            written.append(name)
    steps.prepare_root(Root(folder))
    return written


def _demo() -> Path:
    packaged = Path(__file__).parent / "_demo"
    return packaged if packaged.is_dir() else Path(__file__).parent.parent / "demo"


def _dodo() -> str:
    return (
        '"""doit\'s entry: every job is a task. `doit list`, `doit run job=<id>`, '
        '`doit info <id>:<task>`."""\n\n'
        "from popbuild.engine.creators import DOIT_CONFIG, task_jobs\n\n"
        '__all__ = ["DOIT_CONFIG", "task_jobs"]\n'
    )


def submit(root: Root, file: Path, job: str | None = None) -> str:
    """Queue a one-off job from a seed file; gives its ID. The seed must be valid."""
    job = run_id() if job is None else check_name("job", job)
    try:
        seed = read_seed(file, str(file))
    except FileNotFoundError:
        raise UsageError("no such seed file", {"file": file}) from None
    except BadSeed as bad:
        raise seed_error(bad) from None
    return queue(root, seed, job)


def queue(root: Root, seed: Mapping[str, Any], job: str | None = None) -> str:
    """Queue a one-off job from a seed that is valid; gives its ID."""
    job = run_id() if job is None else check_name("job", job)
    environment = config.environment_of(root, os.environ)
    jobs.refuse_keys(job, environment)
    if problems := key_problems(seed, environment):
        raise seed_error(BadSeed("the seed", problems))
    if job.casefold() in {each.casefold() for each in jobs.known_jobs(root)}:
        raise UsageError(
            "there is a job with this ID already",
            {"job": job},
            hint="choose another ID, or edit its seed and run it",
        )
    steps.prepare_root(root)
    data = jsonio.dumps(seed, sort=False)
    if len(data) > jsonio.MAX_QUEUED_BYTES:  # with the indentation of many levels
        data = jsonio.compact(seed).encode()
    steps.submit(root, job, data)
    return job


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


def named(root: Root, names: Iterable[str] = ()) -> list[str]:
    """The IDs of the jobs that names and globs mean, or of all."""
    return list(select(root, None, names))


def look(root: Root, ids: Collection[str]) -> Iterator[Job]:
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
    status = jobs.standing_status(job)
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
        body["pipelineId"] = status.get("pipelineId")
        body["usage"] = status.get("usage")
        if isinstance(status.get("currentStage"), str) and job.state == states.RUNNING:
            body |= {"current": status.get("current"), "currentStage": status["currentStage"]}
        if isinstance(status.get("state"), str) and status["state"] not in states.JOB_STATES:
            body["statusSays"] = status["state"]
        if states.error_text(status.get("error")) is not None and job.state != COMPLETE:
            body["error"] = status["error"]
    if job.as_built:
        body["asBuilt"] = list(job.as_built)
    if unowned and job.folder is not None and job.pipeline is not None:
        body["unowned"] = originals.unowned(job.folder, job.pipeline, status)
    if job.questions:
        body["waiting"] = [question.as_json() for question in job.questions]
    if job.exam is not None:
        for task in job.exam.pipeline.tasks:
            verdict = job.exam.verdicts[task.id]
            entry = entries.get(task.id, {})
            said = entry.get("state", "pending")
            killed = said == "running" and job.state != states.RUNNING
            body["tasks"][task.id] = {
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
                body["tasks"][task.id]["currentStage"] = entry["currentStage"]
            decision = _decision(job, task) if job.folder else None
            if decision is not None:
                body["tasks"][task.id]["decision"] = decision.as_json()
    elif job.folder is not None and job.bad_link is None:
        body["tasks"] = {
            name: {"label": name} | _as_it_says(entries.get(name, states.NOTHING_SAID))
            for name in tasks_of(job.folder, status)
        }
    return body


def _as_it_says(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A task that is held against nothing: what the job's status says of it."""
    made = entry["files"]["artifacts"]
    return {
        "state": states.state_of(entry),
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
        **{name: int(entry[name]) if states.is_amount(entry.get(name)) else 0 for name in counts},
        "executionTime": took_ms if states.is_amount(took_ms) else 0,
        "usage": states.usage_of(dict(entry)),
        "error": error if states.error_text(error) is not None else None,
    }


def _decision(job: Job, task: Task) -> Decision | None:
    """What a person said about a task's artifact, if that is the one that stands there."""
    assert job.exam is not None
    decision = read_decision(job.exam.folder, task.id)
    found = job.exam.digests.get(task.id)  # not read where the job is as it was
    same = decision is None or found in (None, decision.artifacts.get(task.artifact))
    return decision if same else None


def check_known(root: Root, name: str) -> None:
    """UsageError, that names the known ones, where there is no job of this ID."""
    if not jobs.is_known(root, name):
        raise UsageError(
            "no such job",
            unknown("job", name, jobs.known_jobs(root)),
            hint="a job is a file seeds/<id>.json, or comes from popbuild submit",
        )


def find_job(root: Root, name: str) -> Job:
    """One job by its exact ID, also one whose ID cannot be one; UsageError that names the known
    ones."""
    check_known(root, name)
    jobs.refuse_links(root, name)
    bad = jobs.bad_names(root, [name])
    return replace(jobs.find(name, around(root)), bad_name=bad.get(name))


def _folder(job: Job) -> JobFolder:
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
    return tasks_of(job.folder, shown_status(job.folder)) if job.folder else []


def files_of(job: Job, task: str | None = None) -> list[ShownFile]:
    """The files of a job, or of one of its tasks, as its index has them."""
    folder = _folder(job)
    status, tasks = shown_status(folder), tasks_in(job)
    if task is not None and task not in tasks:
        raise UsageError("no such task", unknown("task", task, tasks, where={"job": job.id}))
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
        raise UsageError("no such file", unknown("file", name, names, where={"job": job.id}))
    if len(found) > 1:
        raise UsageError(
            "two files have this name",
            {"file": name, "job": job.id, "known": ", ".join(f"{f.kind}/{f.name}" for f in found)},
        )
    return found[0], disk.read(found[0].path)


def prompt(root: Root, job: Job, task_name: str) -> list[dict[str, Any]]:
    """The messages that a task's first try would send, rendered now. No call is made."""
    from popbuild.preview import render

    refuse_bad(job)
    assert job.exam is not None
    pipeline = job.exam.pipeline
    if task_name not in pipeline.names:
        raise UsageError(
            "no such task", unknown("task", task_name, pipeline.names, where={"job": job.id})
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
        return render(job.exam.around.config, job.exam, task)
    except TaskError as error:
        # No task failed: the files do not let it be rendered, and nothing was built.
        raise ConfigError(error.message, error.values, error.hint) from None


def explain(root: Root, name: str, task: str | None = None) -> list[Explanation]:
    """Why a job's tasks, or one of them, are stale, with the differences."""
    from popbuild.explain import explain

    job = _with_task(root, name, task)
    assert job.pipeline is not None
    return list(explain(job, job.pipeline.names if task is None else [task]))


@dataclass(frozen=True)
class Check:
    """How many jobs and files were looked at; jobs that are not complete and up to date, with
    their descriptions; the frozen tasks of those that are; and what `validate` found."""

    jobs: int
    files: int
    stale: list[tuple[str, str]]
    frozen: dict[str, tuple[str, ...]]
    findings: list[Finding]

    @property
    def passed(self) -> bool:
        return not self.stale and not self.findings

    def lines(self) -> Iterator[str]:
        """Everything that is not as it should be, and a line that sums up."""
        for job, description in self.stale:
            yield f"{job}: {description}"
        for finding in self.findings:
            yield f"{finding.file}: {finding.problem}"
        for job, tasks in self.frozen.items():
            yield f"{job}: frozen: {', '.join(tasks)}"
        jobs, files = count(self.jobs, "job"), count(self.files, "file")
        if self.passed:
            yield f"{jobs} up to date, {files} valid"
        else:
            found = count(len(self.findings), "problem")
            yield f"{len(self.stale)} of {jobs} not up to date, {found} in {files}"

    def as_json(self) -> dict[str, Any]:
        return {
            "passed": self.passed,
            "jobs": self.jobs,
            "checkedFiles": self.files,
            "notUpToDate": [{"id": job, "state": state} for job, state in self.stale],
            "frozen": {job: list(tasks) for job, tasks in self.frozen.items()},
            "problems": [finding.as_json() for finding in self.findings],
        }


def check(root: Root, names: Iterable[str] = ()) -> Check:
    """Whether jobs, the named ones or all, are complete and up to date, and everything is valid."""
    from popbuild.validate import validate

    names = list(names)
    ids = named(root, names)
    paths: list[Path] = []
    stale = []
    frozen: dict[str, tuple[str, ...]] = {}
    for job in look(root, ids):
        if names:
            paths += [root.seed(job.id), root.samples(job.id)]
            paths += [job.folder.path] if job.folder else []
        if not job.up_to_date:
            stale.append((shown_name(job.id), job.description))  # which says what is frozen
        elif job.exam is not None and job.exam.frozen:
            frozen[job.id] = job.exam.frozen
    validation = validate(root, [root.config, *filter(Path.exists, paths)] if names else ())
    return Check(len(ids), validation.checked, stale, frozen, validation.findings)


def export(root: Root, job: Job, target: Path, artifact: str | None = None) -> Path:
    """Copy a complete job's final artifact (the last task's, or a named one) to a path. Of a job
    that another program built, whether it is up to date cannot be told, and is not asked."""
    if job.is_not_ours:
        if job.state != COMPLETE:
            raise InputError("the job is not complete", {"job": job.id, "state": job.description})
        return _export(job, artifact or _last_artifact(job), target)
    refuse_bad(job)
    if job.state != COMPLETE or job.exam is None or job.folder is None:
        raise InputError(
            "the job is not complete",
            {"job": job.id, "state": job.description},
            hint=f"doit run job={job.id}",
        )
    if not job.up_to_date:
        raise InputError(
            "the job is not up to date",
            {"job": job.id, "state": job.description},
            hint=f"doit run job={job.id}",
        )
    return _export(job, artifact or job.exam.pipeline.tasks[-1].artifact, target)


def _last_artifact(job: Job) -> str:
    """The artifact that another program's job made last: its status lists them as they were
    written."""
    listed = [file.name for file in files_of(job) if file.kind == "artifacts"]
    if not listed:
        raise UsageError("the job has no artifact", {"job": job.id, "path": _folder(job).path})
    return listed[-1]


def _export(job: Job, name: str, target: Path) -> Path:
    found = {each.name: each.path for each in files_of(job) if each.kind == "artifacts"}
    if name not in found:
        raise UsageError("no such artifact", unknown("artifact", name, found))
    if not disk.stands(found[name]):
        there = [each for each, path in found.items() if disk.stands(path)]
        raise InputError(
            "the artifact is in the index, and not there",
            {"job": job.id, "missing": name, "known": ", ".join(there) or "none"},
            hint="--artifact names another one",
        )
    if target.is_dir():
        target = target / name
    hand_over(target, disk.read(found[name]))
    return target


def hand_over(target: Path, data: bytes) -> None:
    """Write a file that a person asked for, wherever it stands, with the permissions that all of
    ours have. UsageError where there is no such folder."""
    if not target.parent.is_dir():
        raise UsageError("no such folder", {"folder": target.parent})
    disk.write(target, data, sync=False)


def retry(root: Root, name: str) -> tuple[str, str]:
    """Let the task that was rejected draw a new sample at the next run, or one that failed again
    and again be tried once more; gives the task, and what it does now."""
    from popbuild.steps import job_lock

    task, rejection = check_retry(root, name)
    if rejection is None:
        with job_lock(root, name):
            steps.forget_failures(root.job(CURRENT, name))
        return task, "is tried again"
    with job_lock(root, name):
        samples = Samples(root)
        last = max(
            (call["sample"] for call in rejection.get("calls", ()) if isinstance(call, dict)),
            default=samples.get(name, task),
        )
        # A dependency like any other: the rejection does not hold the task back any more.
        samples.set(name, task, max(last, samples.get(name, task)) + 1)
    return task, "draws another sample"


def check_retry(root: Root, name: str) -> tuple[str, dict[str, Any] | None]:
    """The task that `retry` is about, with the job's rejection if there is one. UsageError for a
    job that was not rejected and did not fail again and again."""
    job = find_job(root, name)
    if job.is_not_ours:
        refuse_bad(job)
    rejection = read_json(root.job(REJECTED, name).rejection)
    failed = _failed_again(root, name)
    if rejection is None and failed is not None:
        return failed, None
    if not isinstance(rejection, dict):
        raise UsageError(
            "the job is not rejected",
            {"job": name, "state": job.description},
            hint=f"popbuild reject {name} says no to what waits; then retry draws another sample"
            if job.questions
            else f"doit run job={name} goes on with a job that failed or stopped",
        )
    task = rejection.get("task")
    if not isinstance(task, str):
        raise UsageError(
            "the seed was rejected, not a task",
            {"job": name},
            hint=f"mend the seed, then doit run job={name}",
        )
    return task, rejection


def _failed_again(root: Root, name: str) -> str | None:
    """The task of a job in current/ that failed in a row, or None."""
    status = jobs.read_status(root.job(CURRENT, name))
    entries = status["tasks"] if status else {}
    return next((task for task, entry in entries.items() if "failures" in entry), None)


def accept(root: Root, name: str, tasks: Iterable[str] = ()) -> list[str]:
    """Write new letters for what stands there, so that it counts as up to date; gives the tasks.

    Each artifact must pass its gate. In order, so that what stands below is judged by it. A
    complete job of another program is adopted: see adoption.py.
    """
    from popbuild.steps import job_lock

    check_known(root, name)
    with job_lock(root, name):
        kept = endings.previous_kept(config.environment_of(root, os.environ))
        endings.finish_promotion(root, name, kept)
        job = find_job(root, name)
        refuse_bad(job)
        folder = _folder(job)
        assert job.seed is not None
        assert job.pipeline is not None
        exam = examine(folder, job.seed, job.pipeline, around(root))
        wanted = list(tasks) or list(job.pipeline.names)
        for task_name in wanted:
            if task_name not in job.pipeline.names:
                raise UsageError(
                    "no such task",
                    unknown("task", task_name, job.pipeline.names, where={"job": name}),
                )
        original = adoption.original_of(job, exam.around)
        if original is not None:
            return adoption.adopt(job, original, wanted, exam.around)
        adoption.refuse_unless_complete(job)
        accepted = []
        for task in job.pipeline.in_order:
            verdict = exam.look(task)
            if task.id not in wanted or not (verdict.stale or verdict.edited):
                continue
            _check_accept(exam, task)
            steps.keep(folder, exam, task, None, verdict.edited)
            exam.look(task)
            accepted.append(task.id)
        if not jobs.holds_seed(folder, job.seed):
            with seals.changing(folder, folder.seed):
                steps.write_seed(folder, job.seed)
        return accepted


def freeze(root: Root, pattern: str, task: str) -> dict[str, tuple[str, ...]]:
    """Let a task of a job, or of every job that a glob matches, not be rebuilt whatever changes;
    gives the frozen tasks of each. All of them or none: it must have been built in each."""
    found = {}
    for job in _all_with_task(root, pattern, task):
        assert job.exam is not None
        if job.exam.letters[task] is None or job.exam.digests[task] is None:
            raise UsageError(
                "there is nothing to freeze: the task was never built",
                {"job": job.id, "task": task},
                hint=f"doit run {job.id}:{task}",
            )
        frozen = job.exam.around.frozen(job.id)
        found[job.id] = {**frozen, task: job.exam.made_from(task)}
    return _set_frozen(root, found)


def thaw(root: Root, pattern: str, task: str) -> dict[str, tuple[str, ...]]:
    """Let a frozen task be rebuilt again, of a job or of every job that a glob matches and where it
    is frozen; gives those of each that are still frozen."""
    frozen = {}
    for job in _all_with_task(root, pattern, task):
        assert job.exam is not None
        frozen[job.id] = dict(job.exam.around.frozen(job.id))
    found = {job: tasks for job, tasks in frozen.items() if task in tasks}
    if not found:
        others = ", ".join(sorted(set().union(*frozen.values())))
        raise UsageError(
            "the task is not frozen",
            {"job": pattern, "task": task, "frozen": others or "nothing"},
        )
    for tasks in found.values():
        del tasks[task]
    return _set_frozen(root, found)


def _all_with_task(root: Root, pattern: str, task: str) -> Iterator[Job]:
    """The jobs that a pattern means, whose seeds can be read and which all have this task."""
    globs = any(sign in pattern for sign in "*?[") and ":" not in pattern
    for name in select(root, None, [pattern]) if globs else [pattern]:
        yield _with_task(root, name, task)


def _with_task(root: Root, name: str, task: str | None) -> Job:
    """A job whose seed can be read and which has this task, if one is named."""
    job = find_job(root, name)
    refuse_bad(job)
    assert job.pipeline is not None
    known = job.pipeline.names
    if task is not None and task not in known:
        raise UsageError("no such task", unknown("task", task, known, where={"job": name}))
    return job


def _set_frozen(
    root: Root, tasks_by_job: Mapping[str, Mapping[str, Mapping[str, Any]]]
) -> dict[str, tuple[str, ...]]:
    from popbuild.steps import job_lock

    with contextlib.ExitStack() as held:
        for job in tasks_by_job:
            held.enter_context(job_lock(root, job))
        for job, tasks in tasks_by_job.items():
            steps.set_frozen(root, job, tasks)
    return {job: tuple(sorted(tasks)) for job, tasks in tasks_by_job.items()}


def _check_accept(exam: Exam, task: Any) -> None:
    where = {"job": exam.folder.id, "task": task.id, "artifact": task.artifact}
    if exam.digests[task.id] is None:
        raise InputError("there is nothing to accept", {**where, "missing": task.artifact})
    if exam.letters[task.id] is None:
        raise InputError(
            "there is no letter to go by",
            where,
            hint="what the task read is not known, so it has to be built once",
        )
    schema, _ = exam.around.schema(task)
    value = exam.artifacts[task.id]
    problems: tuple[Problem, ...] = ()
    if value is None:
        problems = (Problem("the file is not valid JSON"),)
    elif schema is not None:
        problems = gate.judge(value, schema)
    if problems:
        listed = {f"problem {n}": str(each) for n, each in enumerate(problems, 1)}
        raise GateError("the artifact does not pass its gate", {**where, **listed})
