"""doit's dispatcher, driven from asyncio.

doit's thread runner costs O(workers x completions), hangs when an action raises CancelledError
and mixes captured output. Here a task that waits for a model is a coroutine and costs nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from doit.control import TaskControl
from doit.dependency import Dependency
from doit.exceptions import BaseFail
from doit.runner import Runner
from doit.task import Task as DoitTask

Execute = Callable[[DoitTask], Awaitable[BaseFail | None]]


class _Silent:
    """doit's reporter interface; popbuild reports for itself."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


class AsyncRunner(Runner):  # type: ignore[misc]  # doit has no types
    """Runs the tasks of one job: what does not depend on one another, at the same time.

    After a failure no further task is started; those under way are waited for, since their
    answers are paid for.
    """

    def __init__(
        self, manager: Dependency, execute: Execute, stopped: Callable[[], bool], always: bool
    ) -> None:
        super().__init__(manager, _Silent(), continue_=False, always_execute=always)
        self._execute = execute
        self._stopped = stopped

    async def run(self, control: TaskControl) -> None:
        """Run what the control has selected. Raises what `execute` raises, once all have ended."""
        dispatcher = control.task_dispatcher()
        under_way: dict[asyncio.Task[BaseFail | None], Any] = {}
        completed: Any = None
        dispatching = True
        try:
            while dispatching or under_way:
                if self._stop_running or self._stopped():
                    dispatching = False
                if dispatching:
                    try:
                        node = dispatcher.generator.send(completed)
                    except StopIteration:
                        dispatching = False
                        continue
                    completed = None
                    if node != "hold on":
                        if not self.select_task(node, dispatcher.tasks):
                            completed = node
                        elif node.task.has_subtask:
                            node.run_status = "successful"
                            completed = node
                        else:
                            started = asyncio.ensure_future(self._execute(node.task))
                            under_way[started] = node
                        continue
                if not under_way:
                    break
                done, _ = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                ended = next(iter(done))
                completed = under_way.pop(ended)
                self.process_task_result(completed, ended.result())
        finally:
            for task in under_way:
                task.cancel()
            if under_way:
                await asyncio.gather(*under_way, return_exceptions=True)
