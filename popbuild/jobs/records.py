"""The files of a job's directory, read: letters, decisions, artifacts, samples, frozen tasks; and
which jobs another program wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from popbuild.base import disk, jsonio, paths
from popbuild.base.errors import InputError, PopbuildError
from popbuild.base.paths import STATUS, JobFolder, Root
from popbuild.model import status as states
from popbuild.model.decision import Decision, open_decision
from popbuild.model.foreign_status import in_shape, is_built_by_us, is_ours
from popbuild.model.letter import Letter, looks_ours, open_letter
from popbuild.model.pipeline import Task

_decode = json.JSONDecoder().decode


def read_json(path: str | Path) -> Any:
    """A JSON file of ours, or None where it is missing or damaged."""
    try:
        data = disk.read(path, max_bytes=jsonio.MAX_OWN_BYTES)
        try:
            return _decode(data.decode())
        except ValueError:
            return json.loads(data)  # in another encoding, if anything
    except (OSError, ValueError, PopbuildError, RecursionError):
        return None


def read_letter(folder: JobFolder, task: str) -> Letter | None:
    """A task's letter, or None: missing, truncated, altered and foreign ones are all the same."""
    return open_letter(read_json(folder.at(paths.letter_place(task))), task)


def is_foreign_letter(folder: JobFolder, task: str) -> bool:
    """Whether a task's letter.json is another program's: neither ours, nor ours but altered. What
    became of a letter of ours can be anything, so the status is asked too."""
    path = folder.letter(task)
    if not disk.is_regular(path):
        return False
    try:
        return not looks_ours(disk.read(path)) and not _is_built_by_us(folder, task)
    except (OSError, InputError):
        return False


def _is_built_by_us(folder: JobFolder, task: str) -> bool:
    status = read_json(folder.status)
    tasks = status.get("tasks") if isinstance(status, dict) else None
    return isinstance(tasks, dict) and is_built_by_us(tasks.get(task))


def read_decision(folder: JobFolder, task: str) -> Decision | None:
    """A person's decision about a task; None where there is none, or it is damaged or altered."""
    return open_decision(read_json(folder.at(paths.decision_place(task))), task)


def read_artifact(folder: JobFolder, task: Task) -> tuple[Any, str | None]:
    return read_main(folder, task.artifact)


def read_main(folder: JobFolder, name: str) -> tuple[Any, str | None]:
    """A main artifact's value and digest; (None, None) where it is missing. One that is not JSON
    any more, after an edit by hand, has the digest of its bytes."""
    try:
        data = disk.read(folder.at(paths.artifact_place(name)))
    except (OSError, InputError):
        return None, None
    try:
        value = jsonio.loads(data, name, max_bytes=jsonio.MAX_OWN_BYTES)
    except InputError:
        return None, jsonio.digest_bytes(data)
    return value, jsonio.digest(value)


def read_samples(root: Root, job: str) -> dict[str, int]:
    """Which draw each task of a job is at, as samples/<job>.json has it, raised by the draw of the
    variant; without an entry, it is at that one. The file is under version control, so a merge may
    have torn it: InputError."""
    where = root.samples_place(job)
    try:
        data = disk.read(root.at(where), max_bytes=jsonio.MAX_BYTES)
    except FileNotFoundError:
        return {}
    found = jsonio.loads(data, where)
    if not isinstance(found, dict) or not all(type(e) is int and e >= 0 for e in found.values()):
        raise InputError(
            "not the sample numbers of a job",
            {"file": where, "allowed": 'an object of tasks: {"research": 1}'},
            hint="which draw of its model each task is at; popbuild retry and fresh= count them up",
        )
    return {task: number + root.variant.draw for task, number in found.items()}


def frozen_folder(root: Root) -> Path:
    """The folder of frozen tasks: a file for each job that has any."""
    return root.own / "frozen"


def read_frozen(root: Root, job: str) -> dict[str, dict[str, Any]]:
    """The tasks of a job that a person froze, each with the values of the seed and of artifacts
    that it was made from, as far as they are known: the job's own copies go on."""
    found = read_json(frozen_folder(root) / f"{job}.json")
    if isinstance(found, list):  # from before the values were kept
        return {task: {} for task in found}
    return found if isinstance(found, dict) else {}


# What another program wrote after the storage document. Nothing here changes anything.


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
    return not is_ours(body) if isinstance(body, dict) else bool(letters)


def shown_status(folder: JobFolder) -> states.Status | None:
    """A job's status in one shape, also another program's; None if missing, or ours and damaged."""
    body = read_json(folder.at(STATUS))
    is_shown = states.usable(body) or (isinstance(body, dict) and is_foreign(folder))
    return in_shape(body) if is_shown else None


def listed_tasks(folder: JobFolder, status: states.Status | None) -> list[str]:
    """The tasks that a job's status lists, then those that only have a folder."""
    listed = list(status["tasks"]) if status else []
    tasks = folder.path / "tasks"
    there = sorted(path.name for path in tasks.iterdir()) if tasks.is_dir() else []
    return list(dict.fromkeys([*listed, *(name for name in there if not name.startswith("."))]))
