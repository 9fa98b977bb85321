"""What a command starts with a fresh interpreter, which imports for two seconds: here a fork of the
command's own process, made before that has threads. A `real` command starts the real one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
import sys
import traceback
from collections.abc import Callable, Mapping
from multiprocessing import forkserver, resource_tracker, util
from pathlib import Path
from typing import IO, Any

Child = tuple[socket.socket, list[int]]  # where a fork reports, and its standard files
NUMBER = struct.Struct("q")  # a process ID, an exit code


def fork_workers() -> None:
    """Make multiprocessing's fork server, from which the workers of `popbuild watch` come."""
    patched: Any = util
    resource_tracker.ensure_running()
    plain, patched.spawnv_passfds = patched.spawnv_passfds, _fork
    try:
        forkserver.ensure_running()
    finally:
        patched.spawnv_passfds = plain


def _fork(_path: object, argv: list[str], passed: list[int]) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        for each in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):  # the folder itself, which is closed
                # The end of a pipe or a socket would keep others from seeing that it is closed.
                is_end = str(each.readlink()).startswith(("pipe:", "socket:"))
                if is_end and int(each.name) not in (0, 1, 2, *passed):
                    os.close(int(each.name))
        exec(argv[-1])  # noqa: S102 - multiprocessing's own line
    except Exception:
        traceback.print_exc()
        os._exit(1)
    finally:
        os._exit(0)


def fork_builds(serve: Callable[..., Child | None]) -> Child | None:
    """Make what forks the builds of `popbuild serve`. They outlive it, as they do in earnest.
    Returns None in the server, and in each build what it is to become."""
    life, theirs = socket.socketpair()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("")  # Linux gives it a name that is no file
    listener.listen()
    if os.fork() == 0:
        os.setsid()  # a Ctrl-C is for the server, which passes it on
        life.close()
        child = serve(theirs, listener, is_deadly=False)
        if child is None:
            os._exit(0)
        return child
    theirs.close()
    name = listener.getsockname()
    listener.close()
    plain: Any = asyncio.create_subprocess_exec

    async def start(*argv: str, **options: Any) -> Any:
        if argv[:3] != (sys.executable, "-m", "popbuild"):
            return await plain(*argv, **options)
        return await _Build.start(name, ["popbuild", *argv[3:]], **options)

    asyncio.create_subprocess_exec = start  # type: ignore[assignment]
    _KEPT.append(life)
    return None


_KEPT: list[socket.socket] = []  # closed by the end of this process


class _Build:
    """As much of asyncio's process as the server uses."""

    returncode: int | None = None

    def __init__(self, report: socket.socket, pid: int) -> None:
        self._report = report
        self.pid = pid

    @classmethod
    async def start(
        cls,
        name: bytes,
        argv: list[str],
        *,
        stdout: IO[bytes],
        stderr: IO[bytes],
        env: Mapping[str, str],
        **_other: object,
    ) -> _Build:
        report, theirs = socket.socketpair()
        order = {"argv": argv, "cwd": str(Path.cwd()), "env": dict(env)}
        with socket.socket(socket.AF_UNIX) as server, theirs:
            server.connect(name)
            # Of the server itself a build gets its input, which is empty.
            files = [theirs.fileno(), 0, stdout.fileno(), stderr.fileno()]
            socket.send_fds(server, [b"1"], files)
            report.sendall(json.dumps(order).encode())
            report.shutdown(socket.SHUT_WR)
            build = cls(report, 0)
            build.pid = await build._number()
        return build

    async def wait(self) -> int:
        self.returncode = await self._number()
        self._report.close()
        return self.returncode

    async def _number(self) -> int:
        self._report.setblocking(False)
        data = await asyncio.get_running_loop().sock_recv(self._report, NUMBER.size)
        number: int = NUMBER.unpack(data)[0]
        return number
