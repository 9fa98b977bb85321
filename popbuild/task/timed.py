"""Code that may never return, within the task's timeout: templates, parsers and the user's stages
in a daemon thread; a command, in any language, in a process group."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from popbuild.base import jsonio
from popbuild.base.errors import PopbuildError, TaskError, shown_error
from popbuild.base.fair_turns import away
from popbuild.base.threads import abandon, start_daemon
from popbuild.model.pipeline import Task
from popbuild.model.problem import MISSING
from popbuild.task.asking import Asking
from popbuild.task.attempt import AnswerRejected, RevokedError, Work
from popbuild.task.input_views import OpenFileView
from popbuild.task.job_views import given_jobs
from popbuild.task.user_code import place_in

T = TypeVar("T")

_SOON_S = 0.1  # a stage that ends by then is not worth a write
MAX_OUTPUT_BYTES = 64 * 1024 * 1024  # of a command
_SHOWN_CHARS = 1_000
_PART_BYTES = 1024 * 1024
_TIMEOUT_HINT = "timeout in task.yaml sets the limit, in seconds"


class _RaisedError(Exception):
    """Carries what the user's code raised: its interrupts and exits are not ours."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


async def in_time(work: Work, asking: Asking, stage: str, function: Callable[[], T]) -> T:
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
            work.opened.show_stage()


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
        _TIMEOUT_HINT,
    )


async def run_command(work: Work, progress: Mapping[str, Any], log: logging.Logger) -> str:
    """Run a task's command, without a shell, in its folder. Gives what it wrote to stdout. Raises
    TaskError when it cannot be started, ends with another code than 0, takes longer than the task's
    timeout (its whole process group is then killed), or writes too much."""
    given = _input(work, progress)
    async with away():
        output, errors, code = await _run(work.task, work.around.root.config, given)
    if len(output) > MAX_OUTPUT_BYTES:
        raise _failed(work.task, "wrote too much", {"allowed": f"{MAX_OUTPUT_BYTES:,} bytes"})
    complaint = errors.decode(errors="replace").strip()[-_SHOWN_CHARS:]
    if complaint:
        log.info("%s", complaint)
    if code:
        found = {"exit code": code, "stderr": complaint or "empty"}
        raise _failed(work.task, "failed", found)
    try:
        return output.decode()
    except UnicodeDecodeError as error:
        at = {"at": f"byte {error.start}"}
        raise _failed(work.task, "wrote text that is not UTF-8", at) from None


def _input(work: Work, progress: Mapping[str, Any]) -> bytes:
    """What the command reads: all of the task's inputs, on which the task then depends."""
    seen, trace = work.seen, work.trace
    trace.needs(seen.artifacts)
    for name, value in seen.artifacts.items():
        trace.read(f"artifact:{name}", "", value)
    for name in seen.skipped:
        trace.read(f"artifact:{name}", "", MISSING)
    trace.read("seed", "", seen.seed)
    trace.job(work.inputs.job)
    given = {
        "job": work.inputs.job,
        "task": work.task.id,
        "seed": seen.seed,
        "artifacts": dict(seen.artifacts),
        "config": dict(seen.config),
        **progress,
    }
    if work.item is not None:
        trace.read("item", "", work.item.value)
        trace.position(work.item.position)
        given.update(item=work.item.value, position=work.item.position)
    if seen.files:
        trace.inputs(seen.files)
        views = [OpenFileView(each, trace, work.around.root) for each in seen.files.values()]
        given["files"] = {view.name: view.as_json() for view in views}
    if seen.vars:
        trace.read("vars", "", seen.vars)
        given["vars"] = seen.vars
    if seen.jobs:
        given["jobs"] = given_jobs(seen.jobs, trace)
    return jsonio.dumps(given)


def _failed(
    task: Task, what: str, values: Mapping[str, object], hint: str | None = None
) -> TaskError:
    where = {"task": task.id, "command": " ".join(task.command or ())}
    return TaskError(f"a task's command {what}", {**where, **values}, hint)


async def _run(task: Task, config: Path, given: bytes) -> tuple[bytes, bytes, int | None]:
    assert task.command is not None
    try:
        process = await asyncio.create_subprocess_exec(
            *task.command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=config / task.folder,
            start_new_session=True,
        )
    except OSError as error:
        found = {"found": error.strerror or error}
        raise _failed(task, "cannot be started", found) from None
    try:
        output, errors = await asyncio.wait_for(_talk(process, given), task.timeout_s)
    except BaseException as error:
        _kill(process)
        await process.communicate()  # what is still in the pipes would hold `wait` back
        if not isinstance(error, TimeoutError):
            raise
        allowed = {"allowed": f"{task.timeout_s:g} s"}
        raise _failed(task, "took too long", allowed, _TIMEOUT_HINT) from None
    return output, errors, process.returncode


def _kill(process: asyncio.subprocess.Process) -> None:
    """End the whole group: what the command started may hold its output open."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


async def _talk(process: asyncio.subprocess.Process, given: bytes) -> tuple[bytes, bytes]:
    """Write all to stdin; gives what came on stdout, and the end of what came on stderr. A command
    that writes more than it may is killed, and its output is then longer than allowed."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    stdin, stdout, stderr = process.stdin, process.stdout, process.stderr

    async def write() -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it reads no input
            stdin.write(given)
            await stdin.drain()
        stdin.close()

    async def read_output() -> bytes:
        output = bytearray()
        while part := await stdout.read(_PART_BYTES):
            if len(output) <= MAX_OUTPUT_BYTES:
                output += part
            else:
                _kill(process)
        return bytes(output)

    async def read_errors() -> bytes:
        errors = b""
        while part := await stderr.read(_PART_BYTES):
            errors = (errors + part)[-4 * _SHOWN_CHARS :]
        return errors

    _, output, errors = await asyncio.gather(write(), read_output(), read_errors())
    await process.wait()
    return output, errors
