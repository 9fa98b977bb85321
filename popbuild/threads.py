"""A thread for code that may never return: daemonic, so that it cannot keep a command alive."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def start_daemon(function: Callable[[], T]) -> asyncio.Future[T]:
    """Run a blocking function in a thread of its own; the future is done when it returns."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def finish(setter: Callable[[], None]) -> None:
        if not future.done():
            setter()

    def run() -> None:
        try:
            result = function()
        except BaseException as error:  # whatever it is, it belongs to whoever waits
            outcome = error if not isinstance(error, StopIteration) else RuntimeError(repr(error))
            setter = lambda: future.set_exception(outcome)  # noqa: E731 - one line each way
        else:
            setter = lambda: future.set_result(result)  # noqa: E731
        # Once the loop has ended, nobody waits any more.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(finish, setter)

    threading.Thread(target=run, daemon=True).start()
    return future
