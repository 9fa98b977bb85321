"""Real commands as real processes, without paying for litellm's import each time.

They are forks of a server, `fork_server.py`. One serves all the workers of a run of pytest: its
controller starts it, and each worker connects to it.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, Self

import fork_server
from patience import PATIENCE_S

SCRIPTS = Path(sysconfig.get_path("scripts"))
ALL_REAL = "POPBUILD_TEST_REAL" in os.environ

# The interpreter reads PYTHON…, litellm reads LITELLM_… while it starts: too early for a fork.
_READ_AT_START = ("PYTHON", "LITELLM_")
# They fork what they start (warm.py), from a process that has had no threads.
_STARTING = (["watch"], ["serve"])


@dataclass(frozen=True)
class Result:
    """How a command ended. `code` is minus the signal's number if a signal ended it."""

    code: int
    out: str
    err: str


def run(
    argv: Sequence[str],
    *,
    cwd: str | Path,
    env: Mapping[str, str],
    timeout_s: float = PATIENCE_S,
    stdin: str | None = None,
    real: bool = False,
) -> Result:
    """Run a command to its end. Raises TimeoutError, with its output, after killing it.

    What is of popbuild runs in a process that may run others after it (`fork_server._Process`): to
    fork, and to copy the memory that a command touches, is more than half of most commands' work.
    """
    is_ours = argv[0] in ("popbuild", "doit") and list(argv[1:2]) not in _STARTING
    if is_ours and not (real or ALL_REAL or _is_read_at_start(env)):
        return _run_kept(argv, cwd, env, stdin, timeout_s)
    with start(argv, cwd=cwd, env=env, stdin=stdin, real=real) as running:
        return running.wait(timeout_s)


def start(
    argv: Sequence[str],
    *,
    cwd: str | Path,
    env: Mapping[str, str],
    stdin: str | None = None,
    real: bool = False,
) -> Running:
    """Start `popbuild`, `doit` or `python -c CODE` in a session of its own.

    It gets exactly `env`, and an empty standard input unless told otherwise. `real` starts the
    installed script in a fresh interpreter: for tests of the entry point, of imports, and of
    start-up time. POPBUILD_TEST_REAL in the tests' own environment does so for every command.
    """
    if real or ALL_REAL or _is_read_at_start(env):
        return Running(argv, _spawn(argv, cwd, env, files := _files(stdin)), files)
    return Running(argv, _forkserver().spawn(argv, cwd, env, files := _files(stdin)), files)


def _is_read_at_start(env: Mapping[str, str]) -> bool:
    return any(name.startswith(_READ_AT_START) for name in env)


def in_python(code: str, *args: str) -> Any:
    """What a program prints as JSON: for what imports litellm, which no worker of pytest should."""
    said = run(["python", "-c", code, *args], cwd="/", env={})
    assert said.code == 0, said.err
    return json.loads(said.out)


class Running:
    """A started command. Leave its `with` block, or `close` it: what still runs is killed."""

    def __init__(self, argv: Sequence[str], process: _Process, files: _Files) -> None:
        self.argv = tuple(argv)
        self.pid = process.pid  # also the number of its process group
        self._process = process
        self._files = files
        self._result: Result | None = None
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def out(self) -> str:
        """Standard output so far."""
        return self._result.out if self._result else _text(self._files[1])

    @property
    def err(self) -> str:
        """Standard error so far."""
        return self._result.err if self._result else _text(self._files[2])

    def kill(self) -> None:
        """SIGKILL the command and everything in its process group, as a power cut would."""
        self._signal_group(signal.SIGKILL)

    def kill_alone(self) -> None:
        """SIGKILL the command only, as `kill -9` would: its own children live on."""
        self._signal(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM to the command only, as a supervisor does."""
        self._signal(signal.SIGTERM)

    def interrupt(self) -> None:
        """SIGINT to the whole process group, as Ctrl-C in a terminal does."""
        self._signal_group(signal.SIGINT)

    def wait(self, timeout_s: float = PATIENCE_S) -> Result:
        """The result, once the command has ended. After `timeout_s`: kill, and TimeoutError."""
        if self._result is None:
            try:
                code = self._process.wait(timeout_s)
            except TimeoutError:
                _say_where(self.pid, self._files[2])
                self.kill()
                self.wait(PATIENCE_S)
                raise TimeoutError(
                    f"{self.argv} ran for more than {timeout_s:g} s\n{self.out}\n{self.err}"
                ) from None
            self._result = Result(code, _text(self._files[1]), _text(self._files[2]))
        return self._result

    def wait_for(self, text: str, timeout_s: float = PATIENCE_S) -> None:
        """Return once the output or the errors contain `text`. Raises TimeoutError.

        A real command buffers its standard output: ask only for what it flushes.
        """
        deadline = time.monotonic() + timeout_s
        while text not in self.out and text not in self.err:
            if time.monotonic() > deadline:
                _say_where(self.pid, self._files[2])
                raise TimeoutError(f"no {text!r} in {timeout_s:g} s\n{self.out}\n{self.err}")
            time.sleep(0.01)

    def close(self) -> None:
        """Kill what is left of the process group and let go of the files. May be called twice."""
        if self._closed:
            return
        self._closed = True
        self._signal_group(signal.SIGKILL)
        if self._result is None:
            self.wait(PATIENCE_S)
        self._process.close()
        for file in self._files:
            file.close()

    def _signal(self, number: signal.Signals) -> None:
        if self._result is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


def _say_where(group: int, errors: IO[bytes]) -> None:
    """Have the forks in a process group write where their threads are, to their errors. Others end
    by the signal, and write nothing."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, fork_server.ASKED_WHERE)
    deadline = time.monotonic() + 1
    while "most recent call first" not in _text(errors) and time.monotonic() < deadline:
        time.sleep(0.01)


class _Process(Protocol):
    @property
    def pid(self) -> int: ...

    def wait(self, timeout_s: float) -> int:
        """The exit code. Raises TimeoutError."""

    def close(self) -> None: ...


_Files = tuple[IO[bytes], IO[bytes], IO[bytes]]


def _files(stdin: str | None) -> _Files:
    """Standard input, output and error as files without a name."""
    given, out, err = (_nameless() for _ in range(3))
    given.write((stdin or "").encode())
    given.seek(0)
    return given, out, err


def _nameless() -> IO[bytes]:
    return tempfile.TemporaryFile(buffering=0)


def _text(file: IO[bytes]) -> str:
    # Not read(): the command shares the position, and writes where it stands.
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode(errors="replace")


# --- a fresh interpreter ---


class _Fresh:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.pid = process.pid

    def wait(self, timeout_s: float) -> int:
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise TimeoutError from None

    def close(self) -> None:
        pass


def _spawn(argv: Sequence[str], cwd: str | Path, env: Mapping[str, str], files: _Files) -> _Process:
    program = sys.executable if argv[0] == "python" else str(SCRIPTS / argv[0])
    given, out, err = files
    return _Fresh(
        subprocess.Popen(
            [program, *argv[1:]],
            cwd=cwd,
            env=dict(env),
            stdin=given,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
    )


# --- a fork of the server: the side of the tests ---


class _Forked:
    """The child sends its process ID when it stands by itself; the server its exit code."""

    def __init__(self, server: _Connection, report: socket.socket) -> None:
        self._server = server
        self._report = report
        self.pid = self._read(PATIENCE_S)

    def wait(self, timeout_s: float) -> int:
        return self._read(timeout_s)

    def close(self) -> None:
        self._report.close()

    def _read(self, timeout_s: float) -> int:
        number = self._next(timeout_s)
        if number is None:
            raise self._server.gone()
        return number

    def _next(self, timeout_s: float) -> int | None:
        """The number that the child, or the server, sends next; None where none will come."""
        self._report.settimeout(timeout_s)
        data = self._report.recv(fork_server.NUMBER.size, socket.MSG_WAITALL)
        if len(data) < fork_server.NUMBER.size:
            return None
        number: int = fork_server.NUMBER.unpack(data)[0]
        return number


class _Kept(_Forked):
    """A child that runs one command after another."""

    def run(self, order: bytes, files: _Files, timeout_s: float) -> tuple[int, bool]:
        """The exit code, and whether the child can run another command. It says both itself, but
        where the command ends it: then the server says how."""
        head = fork_server.NUMBER.pack(len(order))
        socket.send_fds(self._report, [head], [file.fileno() for file in files])
        self._report.sendall(order)
        return self._read(timeout_s), bool(self._next(timeout_s))


_idle: list[_Kept] = []


def _run_kept(
    argv: Sequence[str],
    cwd: str | Path,
    env: Mapping[str, str],
    stdin: str | None,
    timeout_s: float,
) -> Result:
    files = _files(stdin)
    child = _idle.pop() if _idle else _forkserver().keep()
    is_free = False
    try:
        code, is_free = child.run(_order(argv, cwd, env), files, timeout_s)
        return Result(code, _text(files[1]), _text(files[2]))
    except TimeoutError:
        _say_where(child.pid, files[2])
        out, err = map(_text, files[1:])
        raise TimeoutError(f"{argv} ran for more than {timeout_s:g} s\n{out}\n{err}") from None
    finally:
        for file in files:
            file.close()
        if is_free:
            _idle.append(child)
        else:  # what the command left running, too
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
            child.close()


def _order(argv: Sequence[str], cwd: str | Path, env: Mapping[str, str]) -> bytes:
    return json.dumps({"argv": list(argv), "cwd": str(cwd), "env": dict(env)}).encode()


class ForkServer:
    """The server's process, listening in a folder that only this user can read.

    It ends when this process does, however that ends.
    """

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="popbuild-tests-")
        self.address = f"{self._folder}/socket"
        # The server holds the other end: closed, it tells it that we are gone.
        self._life, theirs = socket.socketpair()
        with (
            theirs,
            socket.socket(socket.AF_UNIX) as listener,
            Path(self._folder, "log").open("wb") as log,
        ):
            listener.bind(self.address)
            listener.listen(128)  # those who connect meanwhile wait until all is imported
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    fork_server.__file__,
                    str(theirs.fileno()),
                    str(listener.fileno()),
                ],
                pass_fds=[theirs.fileno(), listener.fileno()],
                cwd="/",
                env={
                    "PATH": os.defpath,
                    "HOME": "/nonexistent",
                    "LANG": "C.UTF-8",
                    # Else the import asks the network for prices and reads a .env file.
                    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                    "LITELLM_MODE": "PRODUCTION",
                },
                # Not ours: an xdist worker talks to its master over them.
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,  # a Ctrl-C for pytest is not for the server
            )
        atexit.register(self.close)

    def close(self) -> None:
        """End the server and every command that it started. May be called twice."""
        self._life.close()
        self._process.wait(PATIENCE_S)
        shutil.rmtree(self._folder, ignore_errors=True)


class _Connection:
    """What orders commands of a server. Those still running are killed when it is closed."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._lock = threading.Lock()
        self._socket = socket.socket(socket.AF_UNIX)
        atexit.register(self._socket.close)
        self._socket.connect(address)

    def spawn(
        self, argv: Sequence[str], cwd: str | Path, env: Mapping[str, str], files: _Files
    ) -> _Process:
        report = self._fork(files)
        report.sendall(_order(argv, cwd, env))
        report.shutdown(socket.SHUT_WR)
        return _Forked(self, report)

    def keep(self) -> _Kept:
        return _Kept(self, self._fork(()))

    def _fork(self, files: Iterable[IO[bytes]]) -> socket.socket:
        report, theirs = socket.socketpair()
        with theirs, self._lock:
            fds = [theirs.fileno(), *(file.fileno() for file in files)]
            try:
                socket.send_fds(self._socket, [b"1"], fds)
            except BrokenPipeError:
                raise self.gone() from None
        return report

    def gone(self) -> RuntimeError:
        log = Path(self._address).with_name("log")
        text = log.read_text(errors="replace") if log.exists() else ""
        return RuntimeError(f"the fork server is gone\n{text}")


ADDRESS = "POPBUILD_TEST_FORK_SERVER"  # where a worker finds the server of its controller
# A cache alone lets two threads start two.
_starting = threading.Lock()
own_server = functools.cache(ForkServer)
_the_connection = functools.cache(_Connection)


def _forkserver() -> _Connection:
    with _starting:
        return _the_connection(os.environ.get(ADDRESS) or own_server().address)
