"""A job as doit's graph: a doit task for each task, its real files, an object that decides."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from doit import get_initial_workdir
from doit.dependency import FileChangedChecker
from doit.doit_cmd import get_var
from doit.exceptions import TaskError as DoitTaskError
from doit.task import Task as DoitTask

from popbuild.base import roots
from popbuild.base.paths import Root, shown_name
from popbuild.build import chosen_variant
from popbuild.jobs import index
from popbuild.jobs.examine import Exam
from popbuild.jobs.job_records import files_read
from popbuild.jobs.lookup import Job
from popbuild.jobs.selection import Selection, select
from popbuild.jobs.staleness import Verdict
from popbuild.jobs.surroundings import Surroundings
from popbuild.model.config import config
from popbuild.model.pipeline import Task


class NeverDecides(FileChangedChecker):  # type: ignore[misc]  # doit has no types
    """File dependencies are there for people to see; whether one changed, the letter knows."""

    def exists(self, file_path: str) -> bool:
        return True

    def info(self, file_path: str) -> None:
        return None

    def check_modified(self, file_path: str, file_stat: object, state: object) -> bool:
        return False

    def get_state(self, dep: str, current_state: object) -> None:
        return None


class UpToDate:
    """doit's `uptodate`, by the verdict that `look` gives: its `repr`, for `doit info`."""

    def __init__(self, look: Callable[[], Verdict]) -> None:
        self._look = look

    def __call__(self) -> bool:
        verdict = self._look()
        return not (verdict.stale or verdict.edited)

    def __repr__(self) -> str:
        return str(self._look())


def refuse() -> Any:
    """The action of every doit task: only popbuild's own runner builds."""
    return DoitTaskError(
        "this task is built by popbuild's own run command, which is not installed here; "
        "is popbuild installed in the environment that doit runs in?"
    )


def doit_tasks(exam: Exam) -> list[DoitTask]:
    """The doit tasks of a job that stands in `exam.folder`, to be built; no group."""
    # Looked at anew just before a task starts: a person may have edited its artifact since.
    return [
        _doit_task(exam, task, functools.partial(exam.look, task), task.label)
        for task in exam.pipeline.tasks
    ]


def _doit_task(
    exam: Exam, task: Task, look: Callable[[], Verdict], doc: str, of_others: Iterable[str] = ()
) -> DoitTask:
    folder, job = exam.folder, exam.folder.id
    needed = [exam.pipeline.task(name).artifact for name in task.needs]
    return DoitTask(
        f"{job}:{task.id}",
        [refuse],
        file_dep=[
            str(folder.seed),
            *map(folder.at, exam.input_places),
            *(str(folder.artifact(name)) for name in needed),
            *of_others,
        ],
        targets=[str(folder.artifact(task.artifact))],
        task_dep=[f"{job}:{name}" for name in task.needs],
        uptodate=[UpToDate(look)],
        io={"capture": False},
        doc=doc,
    )


def _others(exam: Exam, task: Task) -> list[str]:
    """The files of other jobs that a task depends on."""
    letter = exam.letters.get(task.id)
    return files_read(exam.jobs, letter.fingerprint if letter else None)


def _always(verdict: Verdict) -> Callable[[], Verdict]:
    return lambda: verdict


def listed(job: Job, *, groups_only: bool = False) -> list[DoitTask]:
    """A job for doit's `list` and `info`: its group, and its tasks if they are known and wanted."""
    # doit refuses a name with a sign that its own command line uses, and the whole list with it.
    exam = job.exam if job.bad_name is None and not groups_only else None
    name = shown_name(job.id).replace("=", "\\x3d")
    tasks = []
    said = [] if job.up_to_date else [job.description]
    if exam is not None:
        verdicts = exam.verdicts
        said += [f"{each}: {verdict}" for each, verdict in verdicts.items() if verdict.stale]
        tasks = [
            _doit_task(
                exam, task, _always(verdicts[task.id]), verdicts[task.id].brief, _others(exam, task)
            )
            for task in exam.pipeline.tasks
        ]
    told: list[tuple[str, ...]] = [(line,) for line in said] or [()]
    group = DoitTask(
        name,
        None,
        task_dep=[task.name for task in tasks],
        # One object for each line of `info`. A group without any would always be run.
        uptodate=[UpToDate(_always(Verdict(reasons))) for reasons in told],
        doc=job.description,
        has_subtask=True,
    )
    for task in tasks:
        task.subtask_of = job.id
    return [group, *tasks]


DOIT_CONFIG = {
    "backend": "popbuild-null",
    "check_file_uptodate": NeverDecides,
    "verbosity": 2,
}


def task_jobs() -> Iterator[DoitTask]:
    """Every job of the root: a group named by its ID, with a task for each of its pipeline."""
    start = Path(get_initial_workdir() or Path.cwd())
    root = chosen_variant.seen_by(roots.find_root(start, get_var("root"), "root="), None, None)
    yield from tasks(root, select(root, get_var("job"), ()))


def tasks(root: Root, selection: Selection, *, groups_only: bool = False) -> Iterator[DoitTask]:
    """The doit tasks of the selected jobs; or only the groups, a job each."""
    around = Surroundings(config.load(root))
    for job in index.find_all(selection, around):
        yield from listed(job, groups_only=groups_only)
