"""Why a job is stale, rejected or cannot be built, what its last rebuild changed, and where its
artifacts came from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from os.path import commonpath

from popbuild.base import disk, jsonio
from popbuild.base.paths import COMPLETE, REJECTED, Root
from popbuild.jobs.job_ids import place_of
from popbuild.jobs.lookup import Job
from popbuild.jobs.promotion import previous_results
from popbuild.jobs.records import read_json
from popbuild.model.problem import MISSING
from popbuild.query import untrusted
from popbuild.query.diff import ValueChange, diff
from popbuild.query.explain import explain
from popbuild.query.provenance import TracedTask, trace
from popbuild.web.pages import panels
from popbuild.web.pages.panels import Bad, Changes, Rejection, StaleTask, TaskView
from popbuild.web.pages.text_budget import Room

_MAX_DIFFERENCE = 16 * 1024  # characters
_MAX_PLACES = 50  # of an artifact that changed
_MAX_PLACE = 4 * 1024  # characters of one
_LEAD = 120  # characters before the first that differs


def bad_of(root: Root, job: Job) -> Bad | None:
    """Why a job cannot be built; None where it can."""
    return None if job.bad is None else Bad(job.bad[0], place_of(root, job.id), job.bad[1])


def rejection_of(job: Job) -> Rejection | None:
    """Why a rejected job was rejected; None for any other."""
    if job.state != REJECTED or job.folder is None:
        return None
    body = read_json(job.folder.rejection)
    if not isinstance(body, dict):
        return None
    return Rejection(
        at=untrusted.text_in(body, "rejectedAt") or "",
        task=untrusted.text_in(body, "task"),
        stage=untrusted.text_in(body, "stage"),
        refinements=int(untrusted.number_in(body.get("refinementAttempts"))),
        problems=untrusted.problems(body.get("problems")),
        answer=untrusted.text_in(body, "answer"),
    )


def stale_tasks(job: Job, tasks: Iterable[TaskView], room: Room) -> Iterator[StaleTask]:
    """The stale tasks, each with its reasons; a task that was never built needs none."""
    exam = job.exam
    if exam is None or job.folder is None:
        return
    wanted = [
        task.id
        for task in tasks
        if (task.reasons or task.edited or task.frozen)
        and exam.last_letter(exam.pipeline.task(task.id)) is not None
    ]
    for each in explain(job, wanted):
        reasons = tuple(
            (reason.text, room.text("\n".join(reason.difference), _MAX_DIFFERENCE))
            for reason in each.reasons
        )
        yield StaleTask(each.task, each.state, each.built, reasons)


def changes_of(root: Root, job: Job, room: Room) -> Changes | None:
    """What the last rebuild of a complete job changed; None without a previous result."""
    if job.state != COMPLETE or job.bad_link or not previous_results(root, job.id):
        return None
    found = diff(root, job.id)
    artifacts = tuple(
        panels.ChangedArtifact(
            each.name,
            each.kind,
            tuple(_place(change, room) for change in each.changes[:_MAX_PLACES]),
            max(len(each.changes) - _MAX_PLACES, 0),
        )
        for each in found.artifacts
    )
    return Changes(found.run_before, found.run_after, found.tasks, artifacts)


def _place(change: ValueChange, room: Room) -> panels.ChangedPlace:
    """A place; both texts start shortly before they differ."""
    texts = [
        None if each is MISSING else each if isinstance(each, str) else jsonio.compact(each)
        for each in (change.before, change.after)
    ]
    same = len(commonpath([text for text in texts if text is not None]))
    start = max(same - _LEAD, 0) if None not in texts else 0
    before, after = (None if text is None else room.text(text, _MAX_PLACE, start) for text in texts)
    return panels.ChangedPlace(change.pointer, before, after)


def origin_of(root: Root, job: Job) -> Iterator[TracedTask]:
    """Where each artifact came from. The chain of a task has those above it, so the last tasks are
    traced first."""
    told = set[str]()
    if job.folder is None or job.exam is None:
        return
    for task in reversed(job.exam.pipeline.in_order):
        path = job.folder.artifact(task.artifact)
        if task.id in told or not job.exam.letters.get(task.id) or not disk.is_regular(path):
            continue
        for each in trace(root, str(path)).tasks:
            if each.body["task"] not in told:
                told.add(each.body["task"])
                yield each
