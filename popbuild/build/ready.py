"""The ready tasks of one run of a job, side by side: each starts once all that it needs is done.

doit gives their order. Its own thread runner costs O(workers x completions), hangs when an action
raises CancelledError and mixes output. Here a task that waits for a model is a cheap coroutine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from typing import Any

from doit.control import TaskControl
from doit.dependency import Dependency
from doit.exceptions import TaskFailed as DoitTaskFailed
from doit.runner import Runner
from doit.task import Task as DoitTask

from popbuild.build import schedule
from popbuild.build.doit_backend import NullBackend
from popbuild.build.job_run import JobRun, Outcomes, TaskBuilt, TaskOutcome, TaskSkipped, TaskSpent
from popbuild.build.task import build_task


class _Silent:
    """doit's reporter interface; popbuild reports for itself."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


class Dispatch(Runner):  # type: ignore[misc]  # doit has no types
    """Gives the tasks of a job by their doit names, each once all that it needs is done."""

    def __init__(
        self, tasks: Iterable[DoitTask], wanted: Iterable[str] | None, *, always: bool
    ) -> None:
        # doit's dependency manager over nothing: its database is not the truth.
        nothing = Dependency(NullBackend, "", checker_cls=schedule.NeverDecides)
        super().__init__(nothing, _Silent(), continue_=False, always_execute=always)
        control = TaskControl(list(tasks))
        control.process(None if wanted is None else list(wanted))
        self._dispatcher = control.task_dispatcher()
        self._started: dict[str, Any] = {}  # doit's nodes
        self._news: Any = None  # a node that ended, and of which the dispatcher is to hear

    def ready(self) -> str | None:
        """The next task that can start; None while all wait, after a failure, and at the end."""
        while not self._stop_running:
            try:
                node = self._dispatcher.generator.send(self._news)
            except StopIteration:
                return None
            self._news = None
            if node == "hold on":
                return None
            if self.select_task(node, self._dispatcher.tasks):
                self._started[node.task.name] = node
                return str(node.task.name)
            self._news = node
        return None

    def ended(self, name: str, *, goes_on: bool) -> None:
        """Note the end of a task. No other starts unless the build `goes_on`; ask for `ready`."""
        node = self._news = self._started.pop(name)
        self.process_task_result(node, None if goes_on else DoitTaskFailed(name))


class ReadyTasks:
    """Builds the tasks of one run. After a failure those under way, which are paid for, end."""

    def __init__(self, run: JobRun, tasks: Collection[str] | None, *, always: bool) -> None:
        wanted = None if tasks is None else [f"{run.job}:{name}" for name in tasks]
        self._run = run
        self._dispatch = Dispatch(schedule.doit_tasks(run.exam), wanted, always=always)
        self._under_way: dict[asyncio.Task[TaskOutcome], str] = {}
        self.outcomes = Outcomes()  # so far
        self.cut_short: list[str] = []  # by the disk

    async def build(self) -> None:
        """Build until no task is ready. Errors that belong to no task come once all have ended."""
        try:
            while True:
                self._start()
                if not self._under_way:
                    return
                await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
                ended = next(each for each in self._under_way if each.done())
                name = self._under_way.pop(ended)
                self._note(name, ended)
                goes_on = isinstance(ended.result(), TaskBuilt | TaskSkipped)
                self._dispatch.ended(name, goes_on=goes_on)
        finally:
            for task in self._under_way:
                task.cancel()
            await asyncio.gather(*self._under_way, return_exceptions=True)
            for task, name in self._under_way.items():
                self._note(name, task)

    def _start(self) -> None:
        services, exam = self._run.services, self._run.exam
        while not (services.stopping or exam.refused) and (name := self._dispatch.ready()):
            self._under_way[asyncio.ensure_future(self._build(name))] = name

    async def _build(self, name: str) -> TaskOutcome:
        self._run.check()
        task = self._run.exam.pipeline.task(name.partition(":")[2])
        if self._run.exam.held_by(task):
            # What does not need that decision goes on.
            return TaskSkipped(task.id, TaskSpent(), held=True)
        return await build_task(self._run, task)

    def _note(self, name: str, ended: asyncio.Task[TaskOutcome]) -> None:
        if ended.cancelled():
            return
        error = ended.exception()
        if error is None:
            self.outcomes.all.append(ended.result())
        elif isinstance(error, OSError):
            self.cut_short.append(name.partition(":")[2])
