"""Breaks a command at its n-th call that changes something under its root, or sends a request.

Imported in the command's own process: `program` makes the code for `python -c`. Calls are counted
over all processes and threads of the command, in one file beside the root, which also says what
each of them was. What a library writes from C, past Python's own functions, is not seen: the
crash matrix holds the calls against those that strace sees.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import fcntl
import functools
import io
import json
import os
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAME = "POPBUILD_TEST_FAULT"
TESTS = str(Path(__file__).resolve().parent)

NONE, KILL, KILL_ALL, SHORT = "none", "kill", "kill all", "short write"
ERRORS = {"EIO": errno.EIO, "ENOSPC": errno.ENOSPC, "EINTR": errno.EINTR}
KINDS = (KILL, *ERRORS, SHORT)

WRITES = ("write", "pwrite")
SYNCS = ("fsync", "fdatasync")
RENAMES = ("rename", "replace", "renameat2")
# The interpreter itself calls these again after EINTR (PEP 475), so that a program never sees it.
_RETRIED = frozenset(
    ("open", *WRITES, *SYNCS, "ftruncate", "posix_fallocate", "sendfile", "copy_file_range", "send")
)

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_RECORD_BYTES = 512
_ON_FILES = (
    "write",
    "pwrite",
    "fsync",
    "fdatasync",
    "ftruncate",
    "posix_fallocate",
    "sendfile",
    "fchmod",
)
_ON_PATHS = ("unlink", "remove", "mkdir", "rmdir", "utime", "chmod", "truncate")
_ON_TWO = ("rename", "replace", "link", "symlink")


@dataclass(frozen=True)
class Fault:
    """`kind` happens at the call of this number, counted from 1; `log` must be outside `root`.
    Syncs whose kind of target is in `unsynced` ("file", "folder") do nothing at all."""

    root: str
    log: str
    kind: str = NONE
    at: int = 0
    unsynced: tuple[str, ...] = ()

    def environment(self) -> dict[str, str]:
        return {NAME: json.dumps(self.__dict__)}


@dataclass(frozen=True)
class Call:
    """A call that was counted: its number, name and path, the root cut off."""

    number: int
    name: str
    path: str

    def can(self, kind: str) -> bool:
        """Whether this can happen to it."""
        if kind == SHORT:
            return self.name in WRITES
        return kind != "EINTR" or self.name not in _RETRIED


def program(*argv: str) -> tuple[str, ...]:
    """The command line that runs popbuild with the fault that its environment names."""
    code = f"import sys; sys.path.insert(0, {TESTS!r}); import faults; faults.run({list(argv)!r})"
    return ("python", "-c", code)


def calls(log: Path) -> list[Call]:
    """What was counted, in order."""
    data = log.read_bytes() if log.exists() else b""
    records = [data[at : at + _RECORD_BYTES] for at in range(0, len(data), _RECORD_BYTES)]
    return [Call(n, *json.loads(each)) for n, each in enumerate(records, 1)]


def run(argv: list[str]) -> None:
    """In the command's process: break it as the environment says, and be popbuild."""
    install()
    # For worker processes, which are made by an interpreter of their own.
    os.environ["PYTHONPATH"] = f"{TESTS}/injected{os.pathsep}{TESTS}"
    from popbuild.cli.main import main

    sys.exit(main(argv))


def install() -> None:
    """Put the fault in place; nothing without one in the environment."""
    if NAME in os.environ:
        values: Mapping[str, Any] = json.loads(os.environ[NAME])
        _Injector(Fault(**values)).install()


class _Raw(io.FileIO):
    def write(self, data: Any) -> int:
        return os.write(self.fileno(), data)


class _Injector:
    def __init__(self, fault: Fault) -> None:
        self._fault = fault
        self._lock = threading.Lock()
        self._inside = threading.local()
        self._open, self._write = os.open, os.write
        self._close, self._fstat, self._kill = os.close, os.fstat, os.kill

    def install(self) -> None:
        from popbuild.base import tree

        self._wrap_opens()
        for name in _ON_FILES:
            self._wrap(os, name, self._of_file)
        for name in _ON_PATHS:
            self._wrap(os, name, self._of_path)
        for name in _ON_TWO:
            self._wrap(os, name, self._of_second)
        self._wrap(os, "copy_file_range", lambda source, target, *_: self._of_file(target))
        self._wrap(tree, "_renameat2", self._of_second, "renameat2")
        self._wrap(socket.socket, "send", self._of_socket)

    def _wrap(
        self, owner: Any, name: str, place: Callable[..., str | None], called: str | None = None
    ) -> None:
        function = getattr(owner, name)

        @functools.wraps(function)
        def broken(*arguments: Any, **keywords: Any) -> Any:
            with self._once() as first:
                path = place(*arguments, **keywords) if first else None
                if path is None:
                    return function(*arguments, **keywords)
                short = self._meet(called or name, path)
                if name in SYNCS and self._is_unsynced(arguments[0]):
                    return None
                if short:
                    file, data, *more = arguments
                    arguments = (file, memoryview(data)[: max(1, len(data) // 2)], *more)
                return function(*arguments, **keywords)

        setattr(owner, name, broken)

    def _wrap_opens(self) -> None:
        os_open, io_open = os.open, io.open

        def opened(path: Any, flags: int, *arguments: Any, **keywords: Any) -> int:
            with self._once() as first:
                if first and flags & _WRITING:
                    place = self._of_path(path, dir_fd=keywords.get("dir_fd"))
                    if place is not None:
                        self._meet("open", place)
                return os_open(path, flags, *arguments, **keywords)

        def opened_as_stream(path: Any, mode: str = "r", *arguments: Any, **keywords: Any) -> Any:
            with self._once() as first:
                writes = first and set(mode) & set("wax+")
                if writes and not isinstance(path, int):
                    place = self._of_path(path)
                    if place is not None:
                        self._meet("open", place)
                if writes and isinstance(path, int) and self._of_file(path) and "b" in mode:
                    # Its writes are made in C: here by a function that can be broken.
                    return io.BufferedWriter(_Raw(path, mode))
                return io_open(path, mode, *arguments, **keywords)

        os.open = opened
        builtins.open = io.open = opened_as_stream  # type: ignore[assignment]

    @contextlib.contextmanager
    def _once(self) -> Iterator[bool]:
        """Whether this is the outermost call: Path.open calls io.open, and our own calls none."""
        first = not getattr(self._inside, "yes", False)
        self._inside.yes = True
        try:
            yield first
        finally:
            if first:
                self._inside.yes = False

    def _meet(self, name: str, path: str) -> bool:
        """Count a call, and let happen what shall; whether it shall be a short write."""
        number = self._count(name, path)
        kind = self._fault.kind
        if number != self._fault.at or not Call(number, name, path).can(kind):
            return False
        if kind == KILL:
            self._kill(os.getpid(), signal.SIGKILL)
        if kind == KILL_ALL:
            os.killpg(0, signal.SIGKILL)
        if kind in ERRORS:
            raise OSError(ERRORS[kind], os.strerror(ERRORS[kind]), path)
        return kind == SHORT

    def _count(self, name: str, path: str) -> int:
        record = json.dumps([name, path[-300:]]).encode().ljust(_RECORD_BYTES)
        # Opened each time: a lock of the descriptor keeps apart what did not inherit it.
        file = self._open(self._fault.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            with self._lock:
                fcntl.flock(file, fcntl.LOCK_EX)
                number = self._fstat(file).st_size // _RECORD_BYTES + 1
                self._write(file, record)
        finally:
            self._close(file)
        return number

    def _is_unsynced(self, file: int) -> bool:
        folder = os.path.isdir(f"/proc/self/fd/{file}")
        return ("folder" if folder else "file") in self._fault.unsynced

    # Where a call leads: the path below the root, None where it leads elsewhere.

    def _below(self, path: str) -> str | None:
        root = self._fault.root
        if path == root:
            return "."
        return path.removeprefix(f"{root}/") if path.startswith(f"{root}/") else None

    def _of_file(self, file: int, *_: Any, **__: Any) -> str | None:
        try:
            return self._below(os.readlink(f"/proc/self/fd/{file}").removesuffix(" (deleted)"))
        except OSError:
            return None

    def _of_path(self, path: Any, *_: Any, dir_fd: int | None = None, **__: Any) -> str | None:
        if isinstance(path, int):
            return self._of_file(path)
        given = os.fsdecode(path)
        if dir_fd is not None:
            given = os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}"), given)
        return self._below(os.path.abspath(given))

    def _of_second(self, first: Any, second: Any, *_: Any, **__: Any) -> str | None:
        return self._of_path(second) or self._of_path(first)

    def _of_socket(self, connection: socket.socket, *_: Any, **__: Any) -> str | None:
        if connection.family != socket.AF_INET:
            return None
        # A socket that is not connected has no peer.
        with contextlib.suppress(OSError, struct.error):
            return f"provider:{connection.getpeername()[0]}"
        return None
