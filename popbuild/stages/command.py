"""A task that is a command in any language: JSON on its stdin, its answer on its stdout."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from popbuild import jsonio
from popbuild.errors import TaskError
from popbuild.model.pipeline import Task

MAX_OUTPUT_BYTES = 64 * 1024 * 1024
_SHOWN_CHARS = 1_000


async def run(
    task: Task, folder: Path, given: Mapping[str, Any], log: Callable[[str], None]
) -> str:
    """Run a task's command, without a shell, in its folder. Gives what it wrote to stdout.

    Raises TaskError when it cannot be started, ends with another code than 0, takes longer than
    the task's timeout (its whole process group is then killed), or writes too much.
    """
    assert task.command is not None
    where = {"task": task.id, "command": " ".join(task.command)}
    try:
        process = await asyncio.create_subprocess_exec(
            *task.command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=folder,
            start_new_session=True,
            limit=MAX_OUTPUT_BYTES,
        )
    except OSError as error:
        raise TaskError(
            "a task's command cannot be started", {**where, "found": error.strerror or error}
        ) from None
    try:
        output, errors = await asyncio.wait_for(
            process.communicate(jsonio.dumps(dict(given))), task.timeout_s
        )
    except TimeoutError:
        raise TaskError(
            "a task's command took too long",
            {**where, "allowed": f"{task.timeout_s:g} s"},
            hint="timeout in task.yaml sets the limit, in seconds",
        ) from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    complaint = errors.decode(errors="replace").strip()
    if complaint:
        log(complaint[-_SHOWN_CHARS:])
    if process.returncode:
        raise TaskError(
            "a task's command failed",
            {
                **where,
                "exit code": process.returncode,
                "stderr": complaint[-_SHOWN_CHARS:] or "empty",
            },
        )
    if len(output) > MAX_OUTPUT_BYTES:
        raise TaskError(
            "a task's command wrote too much",
            {**where, "found": f"{len(output):,} bytes", "allowed": f"{MAX_OUTPUT_BYTES:,} bytes"},
        )
    try:
        return output.decode()
    except UnicodeDecodeError as error:
        raise TaskError(
            "a task's command wrote text that is not UTF-8", {**where, "at": f"byte {error.start}"}
        ) from None
