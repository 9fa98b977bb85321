"""Code that may never return, in a daemon thread: templates, parsers, and the user's stages."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any

from popbuild.base.errors import PopbuildError, TaskError, shown_error
from popbuild.base.fair_turns import away
from popbuild.base.threads import abandon, start_daemon
from popbuild.task.asking import Asking
from popbuild.task.attempt import AnswerRejected, RevokedError, Work
from popbuild.task.user_code import place_in

_SOON_S = 0.1  # a stage that ends by then is not worth a write


class _RaisedError(Exception):
    """Carries what the user's code raised: its interrupts and exits are not ours."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


async def in_time(work: Work, asking: Asking, stage: str, function: Callable[[], Any]) -> Any:
    """The function's result, within the task's timeout; time spent in calls does not count."""
    future = start_daemon(function)
    deadline = time.monotonic() + work.task.timeout_s - asking.waited_s()
    lasts = False
    while True:
        remaining = deadline + asking.waited_s() - time.monotonic()
        if remaining <= 0:
            work.files.revoke()
            abandon()
            raise _timeout(work, stage)
        try:
            most_s = remaining if lasts else min(remaining, _SOON_S)
            done, _ = await asyncio.wait({future}, timeout=most_s)
        except asyncio.CancelledError:
            work.files.revoke()
            abandon()  # its result is not needed any more
            raise
        if done:
            return future.result()
        if not lasts:
            lasts = True
            work.on_lasting()


async def user_stage(work: Work, asking: Asking, stage: str, function: Callable[[], Any]) -> Any:
    """The result of a function of stages.py. Raises TaskError for what it raises, but for a
    rejected answer."""

    def call() -> Any:
        try:
            result = function()
            return asyncio.run(result) if inspect.iscoroutine(result) else result
        except (AnswerRejected, PopbuildError):
            raise
        except BaseException as error:
            raise _RaisedError(error) from None

    try:
        async with away():
            return await in_time(work, asking, stage, call)
    except _RaisedError as raised:
        error = raised.error
    if isinstance(error, RevokedError):
        raise _timeout(work, stage)
    raise TaskError(
        "a stage raised an exception",
        {
            "task": work.task.id,
            "stage": stage,
            "at": place_in(error, str(work.task.stages)),
            "found": shown_error(error),
        },
        hint="--debug shows the traceback",
    ) from error


def _timeout(work: Work, stage: str) -> TaskError:
    return TaskError(
        "a stage took too long",
        {"task": work.task.id, "stage": stage, "allowed": f"{work.task.timeout_s:g} s"},
        hint="timeout in task.yaml sets the limit, in seconds",
    )
