"""Real commands as real processes, without paying for litellm's import each time.

Run as a program, this file is a fork server: it imports what is slow once, then forks for each
order and lets the child become the command. It is not multiprocessing's: there the child
re-imports pytest's main module, believes it is somebody's worker, shares its parent's fork server
and skips the interpreter's own exit. Here only the freeing of memory at the very end is skipped.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import importlib.metadata
import json
import os
import pkgutil
import select
import signal
import socket
import struct
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import traceback
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol, Self

from patience import PATIENCE_S

# Names that cannot be imported are passed over: what litellm's first call would import moves from
# release to release. popbuild's own modules come behind them.
PRELOAD = (
    "litellm",
    "litellm._service_logger",
    "litellm.llms.openai.chat.gpt_audio_transformation",
    "litellm.llms.vertex_ai.vertex_ai_partner_models.anthropic.transformation",
    "litellm.proxy._types",
    "litellm.proxy.guardrails.exception_utils",
    "litellm.proxy.openai_files_endpoints.common_utils",
    "openai.resources.beta",
    "openai.resources.chat",
    "openai.lib.streaming.chat",
    "httpcore",
    "jiter",
    "jinja2.meta",
    "jsonschema",
    "referencing",
    "regex",
    "yaml",
    "doit.doit_cmd",
    "fastapi",  # litellm takes it where it is there
    "encodings.utf_8_sig",
    "faulthandler",
    "starlette.applications",
    "uvicorn.config",
    "watchfiles",
)
# pydantic makes their validators when they are first used.
MODELS = (
    ("openai.types.chat", "ChatCompletion"),
    ("litellm.types.router", "LiteLLM_Params"),
    ("litellm.types.services", "ServiceLoggerPayload"),
    ("litellm.types.utils", "ModelResponse"),
    ("litellm.types.utils", "Usage"),
)
SCRIPTS = Path(sysconfig.get_path("scripts"))
ALL_REAL = "POPBUILD_TEST_REAL" in os.environ

# The interpreter reads PYTHON…, litellm reads LITELLM_… while it starts: too early for a fork.
_READ_AT_START = ("PYTHON", "LITELLM_")
_NUMBER = struct.Struct("q")


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
    """Run a command to its end. Raises TimeoutError, with its output, after killing it."""
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
    if real or ALL_REAL or any(name.startswith(_READ_AT_START) for name in env):
        return Running(argv, _spawn(argv, cwd, env, files := _files(stdin)), files)
    return Running(argv, _forkserver().spawn(argv, cwd, env, files := _files(stdin)), files)


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

    def __init__(self, server: _Forkserver, report: socket.socket) -> None:
        self._server = server
        self._report = report
        self.pid = self._read(PATIENCE_S)

    def wait(self, timeout_s: float) -> int:
        return self._read(timeout_s)

    def close(self) -> None:
        self._report.close()

    def _read(self, timeout_s: float) -> int:
        self._report.settimeout(timeout_s)
        data = self._report.recv(_NUMBER.size, socket.MSG_WAITALL)
        if len(data) < _NUMBER.size:
            raise RuntimeError(f"the fork server is gone\n{self._server.log()}")
        number: int = _NUMBER.unpack(data)[0]
        return number


class _Forkserver:
    """The server's process, started on first use. It ends when this process does."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair()
        self._lock = threading.Lock()
        self._log = _nameless()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__).resolve()), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
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
                stderr=self._log,
                start_new_session=True,  # a Ctrl-C for pytest is not for the server
            )
        atexit.register(self.close)

    def spawn(
        self, argv: Sequence[str], cwd: str | Path, env: Mapping[str, str], files: _Files
    ) -> _Process:
        order = json.dumps({"argv": list(argv), "cwd": str(cwd), "env": dict(env)}).encode()
        report, theirs = socket.socketpair()
        with theirs, self._lock:
            fds = [theirs.fileno(), *(file.fileno() for file in files)]
            try:
                socket.send_fds(self._control, [b"1"], fds)
            except BrokenPipeError:
                raise RuntimeError(f"the fork server is gone\n{self.log()}") from None
        report.sendall(order)
        report.shutdown(socket.SHUT_WR)
        return _Forked(self, report)

    def log(self) -> str:
        return _text(self._log)

    def close(self) -> None:
        self._control.close()
        self._process.wait(PATIENCE_S)
        self._log.close()


_the_forkserver = functools.cache(_Forkserver)
_starting = threading.Lock()  # a cache alone lets two threads start two


def _forkserver() -> _Forkserver:
    with _starting:
        return _the_forkserver()


# --- the server's side: this file run as a program ---


def _serve(control: socket.socket) -> tuple[socket.socket, list[int]] | None:
    """Fork once for each order. Returns None in the server at the end, and in each child its own.

    Single-threaded on purpose: a fork beside threads can hang, and Python 3.12 warns of it.
    """
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    reports: dict[int, socket.socket] = {}  # by process ID
    try:
        while True:
            readable, _, _ = select.select([control.fileno(), woken], [], [])
            if woken in readable:
                os.read(woken, 65536)
                _reap(reports)
            if control.fileno() not in readable:
                continue
            data, fds, _, _ = socket.recv_fds(control, 1, 4)
            if not data:
                _kill(reports)
                return None
            report = socket.socket(fileno=fds[0])
            pid = os.fork()
            if pid == 0:
                return report, fds[1:]
            reports[pid] = report
            for fd in fds[1:]:
                os.close(fd)
    finally:
        signal.set_wakeup_fd(-1)
        os.close(woken)
        os.close(wake)
        control.close()
        for report in reports.values():
            report.close()


def _reap(reports: dict[int, socket.socket]) -> None:
    while reports:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        with reports.pop(pid) as report, contextlib.suppress(OSError):
            report.sendall(_NUMBER.pack(os.waitstatus_to_exitcode(status)))


def _kill(pids: Mapping[int, object]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)


def _become(report: socket.socket, fds: list[int]) -> list[str]:
    """Make this child what a shell would have started; returns the command line."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for number, fd in enumerate(fds):
        # Where the old ones stood: log handlers made by the preloaded modules follow along.
        os.dup2(fd, number)
        os.close(fd)
    with report:
        report.sendall(_NUMBER.pack(os.getpid()))
        order = json.loads(b"".join(iter(lambda: report.recv(65536), b"")))
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    os.environ.clear()
    os.environ.update(order["env"])
    time.tzset()
    tempfile.tempdir = None  # chosen by $TMPDIR at first use, perhaps by a preloaded module
    os.chdir(order["cwd"])
    argv: list[str] = order["argv"]
    return argv


def _command(argv: list[str]) -> object:
    """Run the command as its installed script does; returns its exit code."""
    script = str(SCRIPTS / argv[0])
    main = types.ModuleType("__main__")
    main.__dict__.update(__file__=script, __builtins__=__builtins__)
    sys.modules["__main__"] = main
    sys.argv = [script, *argv[1:]]
    sys.path[0] = str(SCRIPTS)
    # doit noted the name of the program when it was imported.
    importlib.import_module("doit.doit_cmd").DoitMain.BIN_NAME = argv[0]
    for entry in importlib.metadata.entry_points(group="console_scripts", name=argv[0]):
        return entry.load()()
    if argv[:2] != ["python", "-c"]:
        raise LookupError(f"no script of this name is installed: {argv[0]}")
    del main.__dict__["__file__"]
    sys.argv = argv[1:2] + argv[3:]
    sys.path[0] = ""
    exec(compile(argv[2], "<string>", "exec"), main.__dict__)  # noqa: S102 - that is its work
    return None


def _preload() -> None:
    ours = pkgutil.walk_packages(importlib.import_module("popbuild").__path__, "popbuild.")
    for name in (*PRELOAD, *(each.name for each in ours if not each.name.endswith("__main__"))):
        try:
            importlib.import_module(name)
        except Exception:  # the child will meet it too, and show it to the test
            traceback.print_exc()
    for name, model in MODELS:
        with contextlib.suppress(ImportError, AttributeError):
            getattr(importlib.import_module(name), model).model_rebuild()
    gc.collect()
    gc.freeze()  # the children's collections shall not touch, and so copy, all this memory


@dataclass
class _Ending:
    code: int = 1  # an uncaught exception, until something else is known


def _leave(ending: _Ending) -> None:
    """The last step of a child's exit: all but the taking apart of its memory is done.

    That would take 0.6 s for what was preloaded.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    if ending.code == -signal.SIGINT:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(ending.code)


def _main(control: socket.socket) -> None:
    ending = _Ending()
    atexit.register(_leave, ending)  # before all else: the first registered is the last called
    _preload()
    child = _serve(control)
    if child is None:
        os._exit(0)
    try:
        sys.exit(_command(_become(*child)))  # type: ignore[arg-type]
    except SystemExit as end:
        # As the interpreter has it: no code is success, a text is printed and means failure.
        ending.code = end.code & 0xFF if isinstance(end.code, int) else int(end.code is not None)
        raise
    except KeyboardInterrupt:
        ending.code = -signal.SIGINT
        raise


if __name__ == "__main__":
    _main(socket.socket(fileno=int(sys.argv[1])))
