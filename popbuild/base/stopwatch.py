"""How long a task's own work takes: a clock that stops while the task only waits.

A task waits for its turn at the processor, until a call may be sent (limits, budgets, 429, a
provider that is down, a failed try), until litellm is loaded, and for an equal request under way.
These times depend on other work, not on the task.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar


class Stopwatch:
    """Of one task; starts when it is made. `clock` gives seconds. All but `worked_ms` must be used
    inside one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started = clock()
        self._calls = 0
        self._waiting = 0
        self._waited_s = 0.0
        self._stopped_at: float | None = None

    @property
    def worked_ms(self) -> float:
        """Milliseconds since the start, without those in which the task only waited."""
        until = self._clock() if self._stopped_at is None else self._stopped_at
        return (until - self._started - self._waited_s) * 1000

    @contextlib.contextmanager
    def measures(self) -> Iterator[None]:
        """Count the waits inside as waits of this task."""
        token = _mine.set(self)
        try:
            yield
        finally:
            _mine.reset(token)

    @contextlib.contextmanager
    def call(self) -> Iterator[None]:
        """Inside, a call of this task is under way. With several at the same time, the clock stops
        only while all of them wait."""
        with self.measures():
            self._count(1, 0)
            try:
                yield
            finally:
                self._count(-1, 0)

    @contextlib.contextmanager
    def waits(self) -> Iterator[None]:
        """Inside, a call of this task waits, or the task itself does."""
        self._count(0, 1)
        try:
            yield
        finally:
            self._count(0, -1)

    def _count(self, calls: int, waiting: int) -> None:
        self._calls += calls
        self._waiting += waiting
        only_waits = self._waiting > 0 and self._waiting >= self._calls
        if only_waits and self._stopped_at is None:
            self._stopped_at = self._clock()
        elif not only_waits and self._stopped_at is not None:
            self._waited_s += self._clock() - self._stopped_at
            self._stopped_at = None


_mine: ContextVar[Stopwatch | None] = ContextVar("stopwatch", default=None)


def waiting() -> contextlib.AbstractContextManager[None]:
    """Inside, the task that is measured here waits."""
    watch = _mine.get()
    return contextlib.nullcontext() if watch is None else watch.waits()
