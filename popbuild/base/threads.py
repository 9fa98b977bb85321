"""Threads: daemons for code that may never return, so that it cannot keep a command alive; and one
thread for all work that waits for the disk."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Generic, NoReturn, TypeVar

if TYPE_CHECKING:
    import asyncio  # at run time where it is used: a command with nothing to do ends here too

T = TypeVar("T")

_Work = Callable[[], None]
_hanging = threading.Event()
_leave = os._exit
_exits = threading.Lock()
_blocks: list[Callable[[int], NoReturn]] = []  # where `os._exit` is replaced, the newest last
_idle: list[queue.SimpleQueue[_Work]] = []  # each is the inbox of a thread that waits for work


def start_daemon(function: Callable[[], T]) -> asyncio.Future[T]:
    """Run a blocking function in a separate thread; the future is done when it returns.

    Idle threads are used again: starting one for each of a thousand templates costs more than
    rendering them.
    """
    import asyncio

    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def finish(setter: Callable[[], None]) -> None:
        if not future.done():
            setter()

    def run() -> None:
        try:
            result = function()
        except BaseException as error:  # the waiting caller gets every kind
            outcome = error if not isinstance(error, StopIteration) else RuntimeError(repr(error))
            setter = lambda: future.set_exception(outcome)  # noqa: E731 - one line each way
        else:
            setter = lambda: future.set_result(result)  # noqa: E731
        # Once the loop has ended, no caller waits.
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
    """Note that work was abandoned because it took too long."""
    _hanging.set()


def is_hanging() -> bool:
    """Whether abandoned work may still be running."""
    return _hanging.is_set()


def leave_if_hanging(code: int) -> None:
    """End the process here, with this exit code, if abandoned work may still run: at its end Python
    waits for the threads of executors, and for all that foreign async code has registered."""
    if _hanging.is_set():
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


@contextlib.contextmanager
def no_exit_as_if_done(code: int) -> Iterator[None]:
    """In this block, `os._exit(0)` ends the process with `code`, and a message.

    Nothing can be done after it: a command that built nothing would say that all is well. Processes
    that were forked off end as they like. Blocks of several threads may overlap.
    """
    process = os.getpid()

    def end(status: int) -> NoReturn:
        if status == 0 and os.getpid() == process:
            with contextlib.suppress(OSError, ValueError):
                print("error: a stage ended the process: os._exit(0)", file=sys.stderr, flush=True)
            _leave(code)
        _leave(status)

    with _exits:
        _blocks.append(end)
        os._exit = end
    try:
        yield
    finally:
        with _exits:
            _blocks.remove(end)
            os._exit = _blocks[-1] if _blocks else _leave  # type: ignore[assignment] # Callable names no parameter


def _work(inbox: queue.SimpleQueue[_Work]) -> None:
    while True:
        inbox.get()()
        _idle.append(inbox)


def heartbeat_limit_s(timeouts_s: Iterable[float]) -> float:
    """How many seconds the event loop may be silent: more than any stage may take."""
    longest = max(timeouts_s, default=0.0)
    return longest + min(max(longest, 5.0), 60.0)


async def heartbeat(limit_s: float) -> None:
    """End the process with exit code 1, and each thread's place on stderr, if the event loop is
    silent for longer. A stage that never releases the interpreter, in a regular expression for
    one, blocks timeouts and signals too; faulthandler needs no interpreter. Nothing is lost.
    """
    import asyncio

    try:
        while True:
            faulthandler.dump_traceback_later(limit_s, exit=True)
            await asyncio.sleep(min(limit_s / 4, 5.0))
    finally:
        faulthandler.cancel_dump_traceback_later()


class Batches(Generic[T]):
    """Work on many items in a thread: while one batch is under way, the next gathers, since the way
    there and back costs more than most of the work.

    `work` gives None or an error for each item; `after` is called for each, in the event loop, once
    it is done. Must be used inside one event loop.
    """

    def __init__(
        self,
        work: Callable[[list[T]], Sequence[Exception | None]],
        after: Callable[[T], None] = lambda item: None,
    ) -> None:
        self._work = work
        self._after = after
        self._waiting: list[tuple[T, asyncio.Future[None]]] = []
        self._worker: asyncio.Task[None] | None = None

    async def add(self, item: T) -> None:
        """Return when the item is done, or raise its error."""
        import asyncio

        done = asyncio.get_running_loop().create_future()
        self._waiting.append((item, done))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._run())
        await done

    async def drain(self) -> None:
        """Return once no item is left."""
        if self._worker is not None:
            await self._worker

    async def _run(self) -> None:
        import asyncio

        while self._waiting:
            batch, self._waiting = self._waiting, []
            items = [item for item, _ in batch]
            outcomes: Sequence[Exception | None]
            try:
                outcomes = await asyncio.to_thread(self._work, items)
            except Exception as error:  # the callers must not wait for ever
                outcomes = [error] * len(items)
            for (item, done), outcome in zip(batch, outcomes, strict=True):
                self._after(item)
                if done.done():
                    continue  # the waiting caller was stopped
                if outcome is None:
                    done.set_result(None)
                else:
                    done.set_exception(outcome)
