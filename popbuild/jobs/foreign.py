"""Jobs that another program wrote after the storage document: which they are, and their status as
far as it can be shown. Reads; changes nothing."""

from __future__ import annotations

from popbuild.base import disk
from popbuild.base.paths import STATUS, JobFolder
from popbuild.jobs.records import is_foreign_letter, read_json
from popbuild.model import status as states


def is_foreign(folder: JobFolder) -> bool:
    """Whether another program wrote a job's directory: it has a status or a letter, and none is
    ours. What it lacks is not damage, and not ours to mend."""
    if disk.stands(folder.seal):
        return False
    tasks = folder.path / "tasks"
    names = [path.name for path in tasks.iterdir()] if tasks.is_dir() else []
    letters = [name for name in names if disk.stands(folder.letter(name))]
    if not all(is_foreign_letter(folder, name) for name in letters):
        return False
    body = read_json(folder.at(STATUS))
    return not states.is_ours(body) if isinstance(body, dict) else bool(letters)


def shown_status(folder: JobFolder) -> states.Status | None:
    """A job's status in one shape, for reading, also another program's. None where it is missing,
    or is ours and damaged."""
    body = read_json(folder.at(STATUS))
    is_shown = states.usable(body) or (isinstance(body, dict) and is_foreign(folder))
    return states.in_shape(body) if is_shown else None


def listed_tasks(folder: JobFolder, status: states.Status | None) -> list[str]:
    """The tasks that a job's status lists, then those that only have a folder."""
    listed = list(status["tasks"]) if status else []
    tasks = folder.path / "tasks"
    there = sorted(path.name for path in tasks.iterdir()) if tasks.is_dir() else []
    return list(dict.fromkeys([*listed, *(name for name in there if not name.startswith("."))]))
