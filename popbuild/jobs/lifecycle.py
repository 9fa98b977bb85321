"""Every step of a job's life but the last: a seed is submitted and claimed, letters are written.
The caller holds the job's lock."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from popbuild.base import disk, jsonio, locks, tree
from popbuild.base.errors import InputError, LockedError, UsageError
from popbuild.base.paths import CURRENT, JobFolder, Root
from popbuild.jobs import job_records, records, seals, staleness
from popbuild.jobs.claims import JobLocks
from popbuild.jobs.examine import Exam
from popbuild.jobs.input_files import InputFiles, differing_inputs, put_inputs
from popbuild.jobs.job_state import CLAIMED, holds_seed, read_status
from popbuild.model import status as states
from popbuild.model.clock import timestamp
from popbuild.model.config import variants
from popbuild.model.letter import seal
from popbuild.model.pipeline import Task


def prepare_root(root: Root) -> None:
    """Make the four folders and the private one; refuse if they are not on one file system, or if
    a promotion would find something else where it adds its line: by then all is paid for."""
    for folder in root.folders():
        disk.make_folder(folder)
    variants.keep_said(root)
    disk.make_folder(root.own)
    tree.require_one_file_system([*root.folders(), root.own])
    for path in (root.runs, root.runs_copy):
        if disk.stands(path) and not disk.is_regular(path):
            raise InputError(
                "runs are written down in a file, and something else stands in its place",
                {"file": root.show(path)},
                hint="move it away; popbuild makes the file anew",
            )


def doubts_about_locks(root: Root) -> str | None:
    """A warning where the locks of a root do not hold; None where they do."""
    reason = locks.why_not_held(root.private / "locks")
    if reason is None:
        return None
    return (
        f"warning: locks do not hold on the file system of {root.show(root.private)}/ ({reason}): "
        "run one command at a time, or what two build may be paid for twice"
    )


@contextlib.contextmanager
def job_lock(root: Root, job: str) -> Iterator[None]:
    """Hold a job's lock; LockedError at once if another command holds it."""
    prepare_root(root)
    held = JobLocks(root)
    if not held.acquire(job):
        raise LockedError("another command builds this job", {"job": job})
    try:
        note_abandoned(root, job)
        yield
    finally:
        held.release(job)


def claim(root: Root, job: str) -> None:
    """Take a job's seed out of pending/, if there is one. The claimed file stays beside the job's
    files until seed.json is written anew, so that a crash in between loses nothing."""
    folder = root.job(CURRENT, job)
    disk.make_folder(folder.path)
    with contextlib.suppress(FileNotFoundError):  # a file that a crash left there is older
        tree.rename(root.pending(job), folder.path / CLAIMED)


def note_abandoned(root: Root, job: str) -> None:
    """Write down that a job is stopped, where its status says that it runs: the caller holds its
    lock, so the process that built it was killed. Commands that only look compute the same."""
    folder = root.job(CURRENT, job)
    status = read_status(folder)
    if status is None or status.get("state") != states.RUNNING:
        return
    if tree.first_link(str(folder.path)) is None:  # else it would be written elsewhere
        with contextlib.suppress(OSError):
            disk.write(folder.status, jsonio.dumps(states.abandoned(status), sort=False))


def refresh_seed(root: Root, folder: JobFolder, seed: Mapping[str, Any], files: InputFiles) -> None:
    """`refresh_copies`, and what waits in pending/ is taken."""
    refresh_copies(root, folder, seed, files)
    drop_pending(root, folder.id)


def refresh_copies(
    root: Root, folder: JobFolder, seed: Mapping[str, Any], files: InputFiles
) -> None:
    """Copy a seed and its files if they changed, and no task read the change."""
    differing = differing_inputs(folder, files)
    if differing or not holds_seed(folder, seed):
        with seals.changing(folder, folder.seed, *(folder.path / each for each in differing)):
            put_inputs(root, folder, files)
            write_seed(folder, seed)


def drop_pending(root: Root, job: str) -> None:
    """Remove what waits of a job: its seed before the files that the seed needs."""
    tree.remove(root.pending(job))
    tree.remove(root.pending_inputs(job))


def write_seed(folder: JobFolder, seed: Mapping[str, Any]) -> None:
    """Write the job's own copy of its seed, if it says something else."""
    if not holds_seed(folder, seed):
        disk.write(folder.seed, jsonio.dumps(seed, sort=False))


def write_output(
    folder: JobFolder, task: Task, value: Any, run: str, *, sync: bool = False
) -> None:
    """output.json of the storage format (section 5): the artifact as text."""
    is_text = isinstance(value, dict) and value.keys() == {"content"}
    is_text = is_text and isinstance(value["content"], str)
    body = {
        task.id: {
            "content": value["content"] if is_text else jsonio.compact(value),
            "metadata": {"artifact": task.artifact, "model": task.model, "pipelineId": run},
            "timestamp": timestamp(),
        }
    }
    disk.write(folder.output(task.id), jsonio.dumps(body, sort=False), sync=sync)


def prepare_letter(folder: JobFolder, task: str, body: Mapping[str, Any]) -> disk.Prepared:
    """A letter, to be committed after everything that it vouches for."""
    disk.make_folder(folder.task(task))
    return disk.prepare(folder.letter(task), jsonio.dumps(dict(body), sort=False))


def write_letter(folder: JobFolder, task: str, body: Mapping[str, Any]) -> None:
    """Write a letter, durably."""
    disk.put(prepare_letter(folder, task, body), sync=True)


def reseal_letter(folder: JobFolder, exam: Exam, task: Task, run: str | None, edited: bool) -> None:
    """Write a new letter for what stands there, with the last one's dependencies as of today."""
    last, value = exam.letters[task.id], exam.artifacts[task.id]
    assert last is not None
    body = dict(last.body)
    now = staleness.now_of(last, task, exam.inputs(task))
    if run is not None and exam.verdicts[task.id].frozen:
        # What it was made from stays what it was: thawed, it is as stale as before.
        now = dict(last.fingerprint)
    outputs = {**last.outputs, task.artifact: jsonio.digest(value)}
    body.update(fingerprint=now, outputs=outputs, edited=edited or body.get("edited", False))
    if now != last.fingerprint and exam.jobs:
        body["jobs"] = job_records.records_now(now, exam.jobs)
    if run is not None:
        body["pipelineId"] = run
    changed = [folder.letter(task.id)]
    if edited:
        changed += [folder.artifact(task.artifact), folder.output(task.id)]
    with seals.changing(folder, *changed):
        if edited:
            write_output(folder, task, value, run or "", sync=True)
        write_letter(folder, task.id, seal(body))


def set_frozen(root: Root, job: str, tasks: Mapping[str, Mapping[str, Any]]) -> None:
    """Write down which tasks of a job are frozen, with the values that each was made from."""
    path = records.frozen_folder(root) / f"{job}.json"
    if tasks:
        disk.make_folder(path.parent)
        disk.write(path, jsonio.dumps(tasks))
    else:
        tree.remove(path)


def set_samples(root: Root, job: str, samples: Mapping[str, int]) -> None:
    """Note which draw these tasks, and items as `task:key`, are at. Each job has its own file,
    which the job's lock guards. UsageError in a further draw, which follows its variant's."""
    if root.variant.draw:
        raise UsageError(
            "a further draw of a variant draws no other samples",
            {"variant": root.variant.label, "job": job},
            hint=f"draw again in {variants.drawn(root, 0).variant.label}, or draw more: --samples",
        )
    disk.make_folder(root.samples(job).parent)
    disk.write(root.samples(job), jsonio.dumps({**records.read_samples(root, job), **samples}))


def replace_samples(root: Root, job: str, samples: Mapping[str, int]) -> None:
    """Note these draws in the place of all that were noted."""
    if samples:
        disk.make_folder(root.samples(job).parent)
        disk.write(root.samples(job), jsonio.dumps(dict(samples)))
    else:
        tree.remove(root.samples(job))
