"""A job's directory about itself: its status, the source of its seed, its copy of the seed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from popbuild.base import disk, jsonio, paths
from popbuild.base.errors import InputError
from popbuild.base.paths import (
    COMPLETE,
    CURRENT,
    REJECTED,
    SEED,
    STATUS,
    JobFolder,
    Root,
    file_name_problem,
)
from popbuild.jobs import row_seeds
from popbuild.jobs.claims import JobLocks
from popbuild.jobs.records import is_foreign, read_json, shown_status
from popbuild.jobs.seed_files import BadSeed, read_seed
from popbuild.jobs.table_seeds import TABLE_ENDING
from popbuild.model import status as states
from popbuild.model.pipeline import Pipeline
from popbuild.model.problem import Problem

CLAIMED = ".claimed-seed.json"
SUBMITTED = "submit"  # the source of a job that has none under seeds/
DAMAGE = f"{STATUS} is damaged or altered"


def standing_state(root: Root, folder: JobFolder, state: str) -> str:
    """The state of a job by its directory in this folder; running only while its lock is held."""
    if state != CURRENT:
        return state
    found = state_in(folder)
    if found not in (states.RUNNING, states.STOPPED, states.FAILED, states.WAITING):
        found = _state_of_tasks(folder)
    if found == states.RUNNING and is_foreign(folder):
        return states.RUNNING  # no lock of ours tells
    if found in (states.FAILED, states.WAITING) or (
        found == states.RUNNING and _held(root, folder)
    ):
        return str(found)
    # Without a readable status a claim was cut short: it goes on like any stopped job.
    return states.STOPPED


def _state_of_tasks(folder: JobFolder) -> str | None:
    """The state of another program's job that does not say it, or not in our words."""
    status = shown_status(folder) if is_foreign(folder) else None
    found = {entry["state"] for entry in status["tasks"].values()} if status else set()
    said = {*found, state_in(folder)} if status else set()
    if not said.isdisjoint({states.FAILED, "error"}):
        return states.FAILED
    return states.RUNNING if states.RUNNING in found else None


def _held(root: Root, folder: JobFolder) -> bool:
    try:
        return not JobLocks(root).is_free(folder.id)
    except OSError:
        return True  # a root that we may only read: its status decides


def read_status(folder: JobFolder) -> states.Status | None:
    """A job's status, or None where it is missing or cannot be used."""
    body = read_json(folder.at(STATUS))
    return body if states.usable(body) else None


def damage_of(folder: JobFolder) -> str | None:
    return None if read_status(folder) or is_foreign(folder) else DAMAGE


def removed_tasks(status: states.Status, pipeline: Pipeline) -> tuple[str, ...]:
    """The tasks that a job was built with, and that its pipeline has no longer."""
    known = pipeline.names
    return tuple(name for name in status["tasks"] if name not in known)


def state_in(folder: JobFolder) -> Any:
    """The state in a job's own status, None where it cannot be read."""
    body = read_json(folder.status)
    return body.get("state") if isinstance(body, dict) else None


def seed_source(root: Root, job: str, folder: JobFolder | None) -> str | None:
    """The source of today's seed: its file's name, that of the table whose row it is, or SUBMITTED.
    None for a job without any."""
    source = row_seeds.source_of_row(root, job)
    if source is not None:
        return source
    if disk.stands(root.seed(job)):
        return root.seed(job).name
    waits = [root.pending(job), root.job(CURRENT, job).path / CLAIMED]
    return SUBMITTED if folder is None or any(map(disk.stands, waits)) else None


def todays_seed(root: Root, job: str) -> tuple[dict[str, Any], str]:
    """A job's seed and its place: the source under seeds/, else what waits in pending/, else the
    job's own copy, the newest first: what was claimed, what is built or was rejected since, and the
    last good result's. Raises BadSeed."""
    source = paths.seed_place(job)
    claimed = f"{root.job_place(CURRENT, job)}/{CLAIMED}"
    own = [f"{root.job_place(state, job)}/{SEED}" for state in (CURRENT, REJECTED, COMPLETE)]
    limits = {source: jsonio.MAX_BYTES, root.pending_place(job): jsonio.MAX_QUEUED_BYTES}
    row = row_seeds.of_row(root, job)
    if row is not None:
        if disk.stands(root.at(source)) and source not in row_seeds.table_files(root):
            raise BadSeed(source, (Problem(f"{row.place} makes a job of the same ID"),))
        return row.seed(job), row.place
    for place in (*limits, claimed, *own):
        try:
            most = limits.get(place, jsonio.MAX_OWN_BYTES)
            return read_seed(root.at(place), place, max_bytes=most), place
        except FileNotFoundError:
            continue
    what = "the job has no seed.json: put it into seeds/, or move its folder away"
    raise BadSeed(job, (Problem(what),))


def may_be_over(root: Root, job: str) -> bool:
    """Whether a job may be over others, at a glance: most are not, and there may be many."""
    if row_seeds.source_of_row(root, job) is not None:
        return False  # no table says that
    own = [f"{root.job_place(state, job)}/{SEED}" for state in (CURRENT, REJECTED, COMPLETE)]
    for place in (paths.seed_place(job), root.pending_place(job), *own):
        try:
            data = disk.read(root.at(place), max_bytes=jsonio.MAX_OWN_BYTES)
        except (OSError, InputError):
            continue
        return b'"jobs"' in data or b"\\u" in data
    return False


def is_orphan(root: Root, folder: JobFolder) -> bool:
    """Whether a job was built from a file under seeds/ that is gone, or from a row. No where it
    does not say."""
    source = None
    for place in (folder.rejection, folder.status):  # a bad seed never had a status
        body = read_json(place)
        if source is None and isinstance(body, dict):
            source = body.get("source")
    if not isinstance(source, str) or file_name_problem(source):
        return False
    if source.endswith(TABLE_ENDING):
        gone = row_seeds.source_of_row(root, folder.id) is None and row_seeds.tells_of(root, source)
        return gone and not any(map(disk.stands, (root.seed(folder.id), root.pending(folder.id))))
    if not source.endswith(".json"):
        return False
    places = [root.seeds / source, root.seed(folder.id), root.pending(folder.id)]
    return not any(map(disk.stands, places))


def holds_seed(folder: JobFolder, seed: Mapping[str, Any]) -> bool:
    """Whether the job's own copy of its seed says the same, as JSON: to Python, 1 is true too."""
    own = read_json(folder.at(SEED))
    return _as_text(own) == _as_text(seed)


_as_text = json.JSONEncoder(sort_keys=True).encode
