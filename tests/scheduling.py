"""Which worker of xdist runs which tests.

Those of a file that share what one of its fixtures builds stay on one worker; each other test goes
to whichever is free. xdist's own groups are lost with pytest 9.2, which keeps a test's name where
xdist does not write.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from xdist.scheduler import LoadScopeScheduling

_ENOUGH = 2  # a worker starts a test when it knows of another, or that there is none


class ByFixture(LoadScopeScheduling):
    """xdist's own by scope, but for the end of a worker: there it hands out tests again that have
    been run, never marks them as done, and waits for them for ever."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if _shares_a_fixture(self.config.rootpath / file) else nodeid

    def mark_test_complete(self, node: Any, item_index: int, duration: float = 0) -> None:
        test = self.registered_collections[node][item_index]
        scope = self._split_scope(test)
        unit = self.assigned_work[node][scope]
        unit[test] = True
        if all(unit.values()):
            del self.assigned_work[node][scope]
        self._reschedule(node)

    def remove_node(self, node: Any) -> str | None:
        """Name the test in which a worker ended, and give its others to other workers: not that one
        too, in which the next would end or hang."""
        units = self.assigned_work[node].items()
        left = ((each, test) for each, unit in units for test, done in unit.items() if not done)
        scope, ended_in = next(left, ("", None))
        if ended_in is not None:
            del self.assigned_work[node][scope][ended_in]
        super().remove_node(node)
        return ended_in

    def _reschedule(self, node: Any) -> None:
        if node.shutting_down:
            return
        while self.workqueue and self._pending_of(self.assigned_work[node]) <= _ENOUGH:
            self._assign_work_unit(node)
        if not self.workqueue:
            node.shutdown()


@functools.cache
def _shares_a_fixture(file: Path) -> bool:
    return 'scope="module"' in file.read_text(encoding="utf-8")
