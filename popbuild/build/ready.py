"""The ready tasks of one run of a job, side by side: each starts once all that it needs is done."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from popbuild.build import schedule
from popbuild.build.doit_runner import Dispatch
from popbuild.build.job_run import JobRun
from popbuild.build.outcomes import Outcomes, TaskBuilt, TaskOutcome, TaskSkipped
from popbuild.build.task import build_task


class ReadyTasks:
    """Builds the tasks of one run. After a failure no further task starts; those under way are
    waited for, since their answers are paid for."""

    def __init__(self, run: JobRun, tasks: Collection[str] | None) -> None:
        wanted = None if tasks is None else [schedule.name_of(run.job, name) for name in tasks]
        always = run.services.options.always
        self._run = run
        self._dispatch = Dispatch(schedule.doit_tasks(run.exam), wanted, always=always)
        self._under_way: dict[asyncio.Task[TaskOutcome], str] = {}
        self._outcomes: list[TaskOutcome] = []
        self.cut_short: list[str] = []  # by the disk

    @property
    def outcomes(self) -> Outcomes:
        """How the tasks ended, as far as they have."""
        return Outcomes(tuple(self._outcomes))

    async def build(self) -> None:
        """Build what is ready until nothing is. Raises what is wrong beyond a task's own failure,
        once all under way have ended."""
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
        halt, exam = self._run.services.halt, self._run.exam
        while not (halt.stopping or exam.refused) and (name := self._dispatch.ready()):
            self._under_way[asyncio.ensure_future(self._build(name))] = name

    async def _build(self, name: str) -> TaskOutcome:
        self._run.check()
        task = self._run.exam.pipeline.task(schedule.task_of(name))
        if self._run.exam.held_by(task):
            return TaskSkipped(task.id, held=True)  # what does not need that word goes on
        return await build_task(self._run, task)

    def _note(self, name: str, ended: asyncio.Task[TaskOutcome]) -> None:
        if ended.cancelled():
            return
        error = ended.exception()
        if error is None:
            self._outcomes.append(ended.result())
        elif isinstance(error, OSError):
            self.cut_short.append(schedule.task_of(name))
