"""Everything that a page about a job shows, gathered from what the commands return: no file format
is read here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from popbuild.base import disk
from popbuild.base.errors import PopbuildError
from popbuild.base.paths import Root, shown_name
from popbuild.base.units import count, seconds
from popbuild.jobs.lookup import Job, standing_status
from popbuild.jobs.originals import unowned
from popbuild.jobs.records import listed_tasks, read_json
from popbuild.model.clock import seconds_at
from popbuild.model.config.config import environment_of
from popbuild.model.foreign_status import error_text
from popbuild.model.status import RUNNING
from popbuild.query import describe, untrusted
from popbuild.web.pages.documents import Document, Documents
from popbuild.web.pages.panels import JobView, LogRow, TaskView
from popbuild.web.pages.shown_calls import TaskCalls, calls_of, kept_of
from popbuild.web.pages.shown_items import TaskItems, items_of
from popbuild.web.pages.text_budget import Room
from popbuild.web.pages.why import bad_of, changes_of, origin_of, rejection_of, stale_tasks
from popbuild.web.svg import Bar, Graph, TimelineRow, graph_of

_MAX_LINES = 200  # that the stages of one task logged
_LOOKS = 3
_MOST_UNOWNED = 20  # files of no task
_Part = TypeVar("_Part")
# What a panel may raise where another program wrote the job's directory.
_FOREIGN = (PopbuildError, OSError, KeyError, TypeError, ValueError, AttributeError)


def job_view(root: Root, name: str) -> tuple[Job, JobView]:
    """A job by its ID, and its view. UsageError where there is none."""
    for _ in range(_LOOKS):
        job = describe.find_job(root, name)
        view = view_of(root, job)
        # It may have been promoted meanwhile: then the view is of what was left of it.
        if job.folder is None or disk.is_folder(str(job.folder.path)):
            break
    return job, view


def view_of(root: Root, job: Job) -> JobView:
    """The view of a job as it was found. Only reads."""
    return _Viewer(root, job).view()


def graph_of_job(root: Root, job: Job) -> Graph | None:
    """The graph of a job's pipeline with the states of its tasks; None where the pipeline is not
    known."""
    return _Viewer(root, job).graph()


class _Viewer:
    def __init__(self, root: Root, job: Job) -> None:
        self._root = root
        self._job = job
        self._room = Room(environment_of(root, os.environ))
        self._notes: list[str] = []
        self._status = standing_status(job) or {}
        self._rejection = self._told("problems", lambda: rejection_of(job), None)
        self._logs = {
            task: untrusted.log_entries(read_json(job.folder.execution_logs(task)))
            for task in self._names()
            if job.folder
        }

    def view(self) -> JobView:
        job, status = self._job, self._status
        tasks = self._tasks()
        none: tuple[tuple[Document, ...], int] = (), 0
        files = Documents(self._root, job, status, self._room)
        documents, documents_left_out = self._told("artifacts", files.seed_and_artifacts, none)
        logs, logs_left_out = self._told("logs", files.logs, none)
        others = self._told("files of no task", self._unowned, list[str]())
        view = JobView(
            id=shown_name(job.id),
            name=str((job.seed or {}).get("name", "")),
            state=job.state,
            up_to_date=job.up_to_date or job.is_not_ours,
            description=job.description,
            path=self._root.show(job.folder.path) if job.folder else None,
            pipeline=job.pipeline.name if job.pipeline else None,
            run=untrusted.text_in(status, "pipelineId"),
            source=untrusted.text_in(status, "source"),
            created=untrusted.text_in(status, "createdAt"),
            finished=untrusted.text_in(status, "finishedAt"),
            error=error_text(status.get("error")),
            tasks=tasks,
            graph=self._graph(tasks),
            lanes=self._told("timeline", lambda: tuple(self._lanes(tasks)), ()),
            stages=self._told("timeline", lambda: tuple(self._stages()), ()),
            documents=documents,
            documents_left_out=documents_left_out,
            calls=self._told("calls", lambda: tuple(self._calls()), ()),
            items=self._told("items", lambda: tuple(self._items()), ()),
            questions=job.questions,
            bad=bad_of(self._root, job),
            rejection=self._rejection,
            stale=self._told("stale", lambda: tuple(stale_tasks(job, tasks, self._room)), ()),
            changes=self._told("diff", lambda: changes_of(self._root, job, self._room), None),
            origin=self._told("origin", lambda: tuple(origin_of(self._root, job)), ()),
            logged=self._told("logs", lambda: tuple(self._logged()), ()),
            logs=logs,
            logs_left_out=logs_left_out,
            unowned=tuple(others[:_MOST_UNOWNED]),
            unowned_left_out=len(others[_MOST_UNOWNED:]),
            notes=tuple(dict.fromkeys(self._notes)),
        )
        masked: JobView = self._room.masked(view)
        return masked

    def _told(self, panel: str, tell: Callable[[], _Part], otherwise: _Part) -> _Part:
        """A part of the view; if a file makes that impossible, a note says so."""
        try:
            return tell()
        except _FOREIGN as error:
            said = error.as_line() if isinstance(error, PopbuildError) else type(error).__name__
            self._notes.append(f"{panel} cannot be shown: {said}")
            return otherwise

    def _unowned(self) -> list[str]:
        job = self._job
        if job.folder is None or job.pipeline is None:
            return []
        found = unowned(job.folder, job.pipeline, self._status or None)
        return [shown_name(each) for each in found]

    def _names(self) -> tuple[str, ...]:
        """The tasks of its pipeline; of its status where the pipeline cannot be used."""
        job = self._job
        if job.pipeline is not None and job.exam is not None:
            return tuple(job.pipeline.names)
        if job.folder is None or job.bad_link is not None:
            return ()
        return tuple(listed_tasks(job.folder, self._status or None))

    def _tasks(self) -> tuple[TaskView, ...]:
        job = self._job
        body = describe.describe_job(job, self._root)["tasks"]
        needs = {task.id: task.needs for task in job.exam.pipeline.tasks} if job.exam else {}
        return tuple(self._task(name, needs.get(name, ()), said) for name, said in body.items())

    def _task(self, name: str, needs: tuple[str, ...], said: Mapping[str, Any]) -> TaskView:
        return TaskView(
            id=name,
            label=said["label"],
            mark=self._mark(name, said),
            needs=needs,
            artifact=said["artifact"] or "",
            attempts=int(untrusted.number_in(said["attempts"])),
            refinements=int(untrusted.number_in(said["refinementAttempts"])),
            time_ms=untrusted.number_in(said["executionTime"]),
            usage=untrusted.usage(said["usage"]),
            reasons=tuple(said["reasons"]),
            edited=said["edited"],
            frozen=said["frozen"],
            skipped=said.get("reason", ""),
            started=untrusted.text_in(self._runs(name), "startedAt"),
            stage=untrusted.text_in(said, "currentStage"),
            decision=said.get("decision"),
            error=error_text(said["error"]),
        )

    def _mark(self, task: str, said: Mapping[str, Any]) -> str:
        state = str(said["state"])
        if self._rejection is not None and self._rejection.task == task:
            return "rejected"
        if any(question.task == task for question in self._job.questions):
            return "waiting"
        if said["frozen"]:
            return "frozen"
        if state == "done" and said["stale"]:
            return "stale"
        return "skipped" if said.get("skipped") else state

    def _runs(self, task: str) -> Mapping[str, Any]:
        """The status of a task that runs; empty for any other."""
        entry: Mapping[str, Any] = self._status.get("tasks", {}).get(task, {})
        return entry if self._job.state == entry.get("state") == RUNNING else {}

    def graph(self) -> Graph | None:
        graph: Graph | None = self._room.masked(self._graph(self._tasks()))
        return graph

    def _graph(self, tasks: Iterable[TaskView]) -> Graph | None:
        if self._job.pipeline is None:
            return None
        states = {task.id: task.mark for task in tasks}
        notes = {task.id: seconds(task.time_ms) for task in tasks if task.time_ms}
        return graph_of(self._job.pipeline, shown_name(self._job.id), states, notes)

    def _items(self) -> Iterator[TaskItems]:
        job = self._job
        for task in job.exam.pipeline.tasks if job.exam and job.folder else ():
            found = items_of(job.folder, task.id, task.label, self._room) if job.folder else None
            if found is not None:
                yield found

    def _lanes(self, tasks: Iterable[TaskView]) -> Iterator[TimelineRow]:
        for task in tasks:
            log = self._logs.get(task.id, ())
            bars = [each for each in map(_bar, log) if each is not None]
            if bars:
                refined = count(task.refinements, "refinement") if task.refinements else ""
                took = seconds(task.time_ms or 1000 * sum(b.end_s - b.start_s for b in bars))
                note = ", ".join(filter(None, [took, refined]))
                bars.sort(key=lambda bar: bar.start_s)
                yield TimelineRow(task.label, note, tuple(bars))

    def _stages(self) -> Iterator[LogRow]:
        for task, entries in self._logs.items():
            yield from (_log_row(task, each) for each in entries if "outcome" in each)

    def _logged(self) -> Iterator[LogRow]:
        for task, entries in self._logs.items():
            own = [each for each in entries if "outcome" not in each]
            yield from (_log_row(task, each) for each in own[:_MAX_LINES])
            if len(own) > _MAX_LINES:
                self._notes.append(f"logs: {len(own) - _MAX_LINES} more lines of {task}")

    def _calls(self) -> Iterator[TaskCalls]:
        job = self._job
        if job.exam is None or job.folder is None:
            return
        rejected = read_json(job.folder.rejection) if self._rejection is not None else None
        files = kept_of(job.folder)
        for task in job.exam.pipeline.tasks:
            letter = job.exam.letters.get(task.id)
            calls = letter.body.get("calls") if letter is not None else None
            if rejected is not None and rejected.get("task") == task.id:
                calls = rejected.get("calls")
            names = task.id, task.label
            found = calls_of(self._root, files, names, calls, self._logs[task.id], self._room)
            if found is not None:
                yield replace(found, running=bool(self._runs(task.id)))


def _bar(entry: Mapping[str, Any]) -> Bar | None:
    """A stage that ran; None for one that was skipped, and took no time."""
    end_s, took_ms = seconds_at(entry["timestamp"]), untrusted.number_in(entry.get("durationMs"))
    if entry.get("outcome") in (None, "skipped") or end_s is None:
        return None
    start_s = end_s - took_ms / 1000
    return Bar(entry["stage"], entry["cycle"], start_s, end_s, str(entry["outcome"]))


def _log_row(task: str, entry: Mapping[str, Any]) -> LogRow:
    return LogRow(
        at=entry["timestamp"],
        task=task,
        stage=str(entry.get("stage", "")),
        cycle=int(entry.get("cycle", 0)),
        outcome=str(entry.get("outcome", "")),
        level=str(entry.get("level", "")),
        time_ms=untrusted.number_in(entry.get("durationMs")),
        message=entry["message"],
    )
