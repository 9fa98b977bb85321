"""doit's order over the tasks of one job: which can start now, and what follows from one that
ended.

doit's thread runner costs O(workers x completions), hangs when an action raises CancelledError
and mixes captured output. Here a task that waits for a model is a coroutine and costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from doit.control import TaskControl
from doit.exceptions import TaskFailed as DoitTaskFailed
from doit.runner import Runner
from doit.task import Task as DoitTask

from popbuild.build.schedule import dependencies


class _Silent:
    """doit's reporter interface; popbuild reports for itself."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


class Dispatch(Runner):  # type: ignore[misc]  # doit has no types
    """Gives the tasks of a job by their doit names, each once all that it needs is done."""

    def __init__(
        self, tasks: Iterable[DoitTask], wanted: Iterable[str] | None, *, always: bool
    ) -> None:
        super().__init__(dependencies(), _Silent(), continue_=False, always_execute=always)
        control = TaskControl(list(tasks))
        control.process(None if wanted is None else list(wanted))
        self._dispatcher = control.task_dispatcher()
        self._started: dict[str, Any] = {}  # doit's nodes
        self._news: Any = None  # a node that ended, and of which the dispatcher is to hear

    def ready(self) -> str | None:
        """A task that can start now. None while all others wait for what runs, after a failure,
        and when there is no task left."""
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
        """A task ended; unless the build `goes_on`, no other can start. Ask for `ready` tasks
        before the next one ends."""
        node = self._news = self._started.pop(name)
        self.process_task_result(node, None if goes_on else DoitTaskFailed(name))
