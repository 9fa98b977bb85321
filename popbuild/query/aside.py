"""Code of filters.py where nothing is built: in a thread of its own, for so long, with what it
prints on stderr."""

from __future__ import annotations

import functools
import queue
import threading
from collections.abc import Callable
from typing import Any

from popbuild.base.errors import TaskError
from popbuild.base.stdout_guard import masked
from popbuild.base.threads import abandon
from popbuild.model.config.config import Config
from popbuild.model.config.rules import FILTERS_FILE
from popbuild.task.user_code import Finder

MOST_S = 30.0  # of one call; in a build the task's timeout counts


class Aside:
    """Runs functions of one configuration. An instance is called with the function."""

    def __init__(self, settings: Config) -> None:
        self._settings = settings

    @functools.cached_property
    def _finder(self) -> Finder:
        return Finder(self._settings.snapshot, self._settings.root.config)

    def __call__(self, function: Callable[[], Any]) -> Any:
        """The function's result, or what it raises. TaskError where it takes too long."""
        ended: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

        def run() -> None:
            try:
                ended.put((function(), None))
            except BaseException as error:
                ended.put((None, error))

        with masked(self._settings.environment), self._finder.installed():
            threading.Thread(target=run, daemon=True).start()
            try:
                result, error = ended.get(timeout=MOST_S)
            except queue.Empty:
                abandon()
                raise TaskError(
                    "a filter took too long",
                    {"at": f"pipeline-config/{FILTERS_FILE}", "allowed": f"{MOST_S:g} s"},
                ) from None
        if error is not None:
            raise error
        return result
