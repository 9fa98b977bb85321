"""What another program left in a job's directory: the files that no task owns, and the copy that is
kept for good before a build changes anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from popbuild.base import disk, tree
from popbuild.base.paths import SEED, STATUS, JobFolder, Root
from popbuild.jobs import records, seals
from popbuild.jobs.input_files import own_places
from popbuild.jobs.job_state import CLAIMED
from popbuild.model.clock import name_stamp
from popbuild.model.pipeline import Pipeline
from popbuild.model.status import Status

IMPORTED = "import"  # the source of a job that another program began

_OF_JOB = frozenset({SEED, STATUS, CLAIMED, "seal.json", "rejection.json"})
_OF_TASK = frozenset(
    "output.json letter.json items.jsonl decision.json scores.json execution-logs.json".split()
)


def keep_original(root: Root, folder: JobFolder) -> None:
    """Keep a copy of a directory that is as another program left it, once, for good: no rule and no
    later result takes it away. One of our own is left alone. The caller holds the job's lock."""
    if not records.is_foreign(folder):
        return
    shelf = _shelf(root, folder.id)
    there = kept(root, folder.id)
    if any(is_same(each, folder) for each in there):
        return
    disk.make_folder(shelf)
    for path in shelf.iterdir():
        if tree.is_temporary(path.name):
            tree.remove(path)  # of a command that was killed: the job's lock is ours
    tree.copy_folder(folder.path, shelf / f"{len(there) + 1:06d}-{name_stamp()}")


def discard_original(root: Root, folder: JobFolder) -> None:
    """Remove a job's directory that another one has taken the place of."""
    keep_original(root, folder)
    tree.remove(folder.path)


def kept(root: Root, job: str) -> list[JobFolder]:
    """The directories that other programs left of a job, from before popbuild built there."""
    shelf = _shelf(root, job)
    found = sorted(shelf.iterdir()) if shelf.is_dir() else []
    return [JobFolder(path) for path in found if not path.name.startswith(".")]


def _shelf(root: Root, job: str) -> Path:
    return root.own / "originals" / job


def is_same(one: JobFolder, other: JobFolder) -> bool:
    """Whether two directories hold the same files."""
    return _all(one) == _all(other)


def _all(folder: JobFolder) -> dict[str, str]:
    named = tree.walk_all(folder.path)
    return {name: seals.file_digest(path) for name, path in named if not tree.is_temporary(name)}


def unowned(folder: JobFolder, pipeline: Pipeline, status: Status | None) -> list[str]:
    """The files of a job's directory that are neither its own nor a task's, as paths in it. Each
    build keeps them. Of another program's files a task has its main artifact alone."""
    ours = status if status is not None and not records.is_foreign(folder) else None
    inputs = own_places(folder)
    owned = {("artifacts", task.artifact) for task in pipeline.tasks}
    indexed = set(_indexed(ours or {}))
    for name in pipeline.names:
        owned.update(_indexed((ours or {}).get("tasks", {}).get(name, {})))

    def is_owned(path: str) -> bool:
        top, *rest = path.split("/")
        if top == "files" and len(rest) == 2:
            file = rest[0], rest[1]
            # A task that was killed has written files that no index has yet.
            begun = ours is not None and file not in indexed
            begun = begun and any(rest[1].startswith(f"{name}-") for name in pipeline.names)
            return begun or file in owned
        if top == "tasks" and len(rest) == 2:
            return rest[0] in pipeline.names and rest[1] in _OF_TASK
        return path in _OF_JOB or path in inputs

    found = (name for name, _ in tree.walk_all(folder.path))
    return [name for name in found if not is_owned(name) and not tree.is_temporary(name)]


def _indexed(entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The kind and the name of each file in an index."""
    for kind, names in entry.get("files", {}).items():
        yield from ((kind, name) for name in names)
