"""What a dodo.py takes from popbuild: doit's settings, and the creator of all jobs' tasks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from doit import get_initial_workdir
from doit.doit_cmd import get_var
from doit.task import Task as DoitTask

from popbuild.base import paths
from popbuild.build import schedule
from popbuild.jobs import index
from popbuild.jobs.selection import Selection, select
from popbuild.jobs.surroundings import Surroundings
from popbuild.model.config import config

DOIT_CONFIG = {
    "backend": "popbuild-null",
    "check_file_uptodate": schedule.NeverDecides,
    "verbosity": 2,
}


def task_jobs() -> Iterator[DoitTask]:
    """Every job of the root: a group named by its ID, with a task for each of its pipeline."""
    start = Path(get_initial_workdir() or Path.cwd())
    root = paths.find_root(start, get_var("root"), "root=")
    yield from tasks(root, select(root, get_var("job"), ()))


def tasks(
    root: paths.Root, selection: Selection, *, groups_only: bool = False
) -> Iterator[DoitTask]:
    """The doit tasks of the selected jobs; or only the groups, a job each."""
    around = Surroundings(config.load(root))
    for job in index.find_all(selection, around):
        yield from schedule.listed(job, groups_only=groups_only)
