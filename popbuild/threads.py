"""Threads for code that may never return: daemonic, so that they cannot keep a command alive."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import sys
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_Work = Callable[[], None]
_hanging = threading.Event()
_idle: list[queue.SimpleQueue[_Work]] = []  # each is the inbox of a thread that waits for work


def start_daemon(function: Callable[[], T]) -> asyncio.Future[T]:
    """Run a blocking function in a thread of its own; the future is done when it returns.

    A thread whose function has returned takes the next one: to start a thread for each of a
    thousand templates costs more than to render them. One that hangs is never waited for.
    """
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

    try:
        inbox = _idle.pop()
    except IndexError:
        inbox = queue.SimpleQueue()
        threading.Thread(target=_work, args=(inbox,), daemon=True).start()
    inbox.put(run)
    return future


def abandon() -> None:
    """Nobody waits any more for what was started: it takes too long."""
    _hanging.set()


def leave_if_hanging(code: int) -> None:
    """End the process here, with this exit code, if something still hangs.

    Python itself, on its way out, waits for the threads of executors, and for what somebody's
    async code has put there.
    """
    if _hanging.is_set():
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


def _work(inbox: queue.SimpleQueue[_Work]) -> None:
    while True:
        inbox.get()()
        _idle.append(inbox)
