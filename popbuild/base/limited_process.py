"""A Python module of ours in a process of its own, with limits of time and output. It gets neither
the environment nor its keys. Its memory it limits itself, by `limit_memory`."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio.subprocess import Process

_PART_BYTES = 1 << 16
_MAX_SAID = 2_000  # bytes of stderr that are kept
_NO_MEMORY = re.compile("memory allocation of|MemoryError|bad_alloc|out of memory", re.IGNORECASE)


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code, minus a signal's number if that ended it. `why` says
    which limit it went over."""

    code: int
    output: bytes
    errors: str
    why: str = ""

    @property
    def trouble(self) -> str:
        """Why it has no result, for a person."""
        if self.why:
            return self.why
        if _NO_MEMORY.search(self.errors):
            return "more memory than it may take"
        if self.code < 0:
            return f"its reader crashed ({signal.strsignal(-self.code)})"
        return f"its reader ended with exit code {self.code}"


def limit_memory(most_bytes: int, cpu_s: int) -> None:
    """Limit the address space and the processor's time of this process, for good."""
    for kind, most in (
        (resource.RLIMIT_AS, most_bytes),
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))


def run_limited(
    module: ModuleType, arguments: Sequence[str], *, timeout_s: float, max_output_bytes: int
) -> Ended:
    """Run a module as a program, to its end or to a limit; its whole process group is then killed.
    Blocks, also an event loop whose thread it is called on."""
    argv = (sys.executable, "-m", module.__name__, *arguments)
    import asyncio  # most commands run nothing, and this takes longer than all the rest

    def run() -> Ended:
        return asyncio.run(_run(argv, timeout_s, max_output_bytes))

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return run()
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:  # a thread has one event loop at most
        return pool.submit(run).result()


async def _run(argv: Sequence[str], timeout_s: float, max_output_bytes: int) -> Ended:
    import asyncio

    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.defpath, "LANG": "C.UTF-8", "PYTHONPATH": os.pathsep.join(sys.path)},
        start_new_session=True,
    )
    why = ""
    output, errors = bytearray(), b""
    assert process.stdout is not None
    assert process.stderr is not None
    stdout, stderr = process.stdout, process.stderr

    async def read_output() -> None:
        nonlocal why
        while part := await stdout.read(_PART_BYTES):
            if len(output) <= max_output_bytes:
                output.extend(part)
            else:
                why = f"more than {max_output_bytes:,} bytes of text"
                _kill(process)

    async def read_errors() -> None:
        nonlocal errors
        while part := await stderr.read(_PART_BYTES):
            errors = (errors + part)[-_MAX_SAID:]

    try:
        async with asyncio.timeout(timeout_s):
            await asyncio.gather(read_output(), read_errors())
            await process.wait()
    except TimeoutError:
        why = f"more than {timeout_s:g} s"
    finally:
        _kill(process)
        await process.wait()
    return Ended(process.returncode or 0, bytes(output), errors.decode(errors="replace"), why)


def _kill(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
