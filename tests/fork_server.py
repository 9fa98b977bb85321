"""A program that imports what is slow once, then forks for each order and becomes the command.

A child that gets no files with its order is kept: it runs one command after another, as long as
each leaves the process as it was.

It is not multiprocessing's server: there the child re-imports pytest's main module, believes it is
a worker of it, shares its parent's fork server and skips the interpreter's own exit. Here only
the freeing of memory at the very end is skipped.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import faulthandler
import gc
import importlib
import importlib.metadata
import json
import os
import pkgutil
import select
import signal
import socket
import sys
import sysconfig
import tempfile
import threading
import time
import traceback
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import warm
from warm import NUMBER, Child

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
    "starlette.applications",
    "uvicorn.config",
    "watchfiles",
)
# pydantic makes their validators when they are first used.
MODELS = (
    ("openai.types.chat", "ChatCompletion"),
    ("openai.types.chat", "ChatCompletionMessage"),
    ("openai.types.chat.chat_completion", "Choice"),
    ("litellm.types.router", "LiteLLM_Params"),
    ("litellm.types.services", "ServiceLoggerPayload"),
    ("litellm.types.utils", "Message"),
    ("litellm.types.utils", "Choices"),
    ("litellm.types.utils", "CompletionTokensDetailsWrapper"),
    ("litellm.types.utils", "PromptTokensDetailsWrapper"),
    ("litellm.types.utils", "ModelResponse"),
    ("litellm.types.utils", "Usage"),
)
# A command says then on its standard error where each of its threads is.
ASKED_WHERE = signal.SIGUSR2
_SCRIPTS = Path(sysconfig.get_path("scripts"))
_HUGE = 2 << 20
_COMMANDS = 200  # that one process runs, at most
_HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE)
_CODE = ("stdlib", "platstdlib", "purelib", "platlib")
_INSTALLED = (
    *map(sysconfig.get_path, _CODE),
    str(Path(__file__).resolve().parents[1] / "popbuild"),
)


@dataclass(frozen=True)
class _Order:
    """A child that was started: who asked for it, and where its exit code goes."""

    by: socket.socket
    report: socket.socket


def serve(life: socket.socket, listener: socket.socket, *, is_deadly: bool = True) -> Child | None:
    """Fork once for each order. Returns None in the server at the end, and in each child its own.
    `is_deadly` says that children end with the server, and with those who ordered them.

    Single-threaded on purpose: a fork beside threads can hang, and Python 3.12 warns of it.
    """
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    clients: dict[int, socket.socket] = {}
    running: dict[int, _Order] = {}  # by process ID
    try:
        while True:
            readable, _, _ = select.select([life, listener, woken, *clients], [], [])
            if life in readable:
                _kill(running if is_deadly else ())
                return None
            if woken in readable:
                os.read(woken, 65536)
                _reap(running)
            if listener in readable:
                client, _ = listener.accept()
                clients[client.fileno()] = client
            for client in [clients[fd] for fd in readable if fd in clients]:
                data, fds, _, _ = socket.recv_fds(client, 1, 4)
                if not data:
                    _kill(pid for pid, order in running.items() if is_deadly and order.by is client)
                    del clients[client.fileno()]
                    client.close()
                    continue
                report = socket.socket(fileno=fds[0])
                pid = os.fork()
                if pid == 0:
                    return report, fds[1:]
                running[pid] = _Order(client, report)
                for fd in fds[1:]:
                    os.close(fd)
    finally:
        signal.set_wakeup_fd(-1)
        os.close(woken)
        os.close(wake)
        for each in (
            life,
            listener,
            *clients.values(),
            *(order.report for order in running.values()),
        ):
            each.close()


def _reap(running: dict[int, _Order]) -> None:
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        with running.pop(pid).report as report, contextlib.suppress(OSError):
            report.sendall(NUMBER.pack(os.waitstatus_to_exitcode(status)))


def _kill(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)


def _begin(report: socket.socket, fds: list[int]) -> list[str]:
    """Take up the one order of this child; returns the command line."""
    _lead_a_session(report)
    with report:
        order = json.loads(b"".join(iter(lambda: report.recv(65536), b"")))
    return _become(order, fds)


def _lead_a_session(report: socket.socket) -> None:
    os.setsid()
    report.sendall(NUMBER.pack(os.getpid()))
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _become(order: Mapping[str, Any], fds: Iterable[int]) -> list[str]:
    """Make this child what a shell would have started; returns the command line."""
    for number, fd in enumerate(fds):
        # Where the old ones stood: log handlers made by the preloaded modules follow along.
        os.dup2(fd, number)
        os.close(fd)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    faulthandler.register(ASKED_WHERE, file=2)
    os.environ.clear()
    os.environ.update(order["env"])
    time.tzset()
    tempfile.tempdir = None  # chosen by $TMPDIR at first use, perhaps by a preloaded module
    os.chdir(order["cwd"])
    if (recorder := sys.modules.get("popbuild._recorder")) is not None:  # of tools/mutate
        recorder.forget()
    argv: list[str] = order["argv"]
    return argv


def _are_idle(threads: list[threading.Thread]) -> bool:
    return all(each is threading.main_thread() or "(_work)" in each.name for each in threads)


def _is_of_a_root(module: str) -> bool:
    top = sys.modules.get(module.partition(".")[0])
    path = getattr(top, "__file__", None) or next(iter(getattr(top, "__path__", ())), "")
    return bool(path) and not path.startswith(_INSTALLED)


def _open_files() -> dict[int, str]:
    found = {}
    for each in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the folder itself
            found[int(each.name)] = str(each.readlink())
    return found


def _has_children() -> bool:
    try:
        os.waitpid(-1, os.WNOHANG)
        return True
    except ChildProcessError:
        return False


class _Process:
    """What a command may change in its process, as it was: `restore` says whether the next one can
    run here too. What it left running, or open, ends with the process instead."""

    def __init__(self) -> None:
        self._modules = set(sys.modules)
        self._lists = [(each, list(each)) for each in (sys.path, sys.meta_path, sys.path_hooks)]
        self._importers = set(sys.path_importer_cache)
        self._streams = sys.stdout, sys.stderr
        self._umask = os.umask(0o077)
        os.umask(self._umask)
        self._open = set(_open_files())
        self._handlers = {each: signal.getsignal(each) for each in _HANDLED}

    def restore(self) -> bool:
        gc.collect()  # closes what nothing holds any more
        if not _are_idle(threading.enumerate()) or _has_children():
            return False
        for file, path in _open_files().items():
            if file in self._open:
                continue
            if "/.popbuild/" not in path:
                return False
            os.close(file)  # of locks, which are held until their process ends
        importlib.import_module("popbuild.base.locks")._known.clear()
        for each, before in self._lists:
            each[:] = before
        for path in set(sys.path_importer_cache) - self._importers:
            del sys.path_importer_cache[path]
        for name in [each for each in sys.modules.keys() - self._modules if _is_of_a_root(each)]:
            del sys.modules[name]
        os.chdir("/")  # a file system of the test's can be unmounted
        sys.stdout, sys.stderr = self._streams
        sys.stdin = open(0, closefd=False, encoding="utf-8")  # noqa: SIM115 - not ours to close
        os.umask(self._umask)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        return True


def _serve_commands(
    report: socket.socket, scripts: Mapping[str, importlib.metadata.EntryPoint]
) -> NoReturn:
    """Run one command after another, as long as each leaves this process as it was."""
    _lead_a_session(report)
    process = _Process()
    for left in reversed(range(_COMMANDS)):
        head, fds, _, _ = socket.recv_fds(report, NUMBER.size, 3)
        if not head:
            os._exit(0)
        order = json.loads(report.recv(NUMBER.unpack(head)[0], socket.MSG_WAITALL))
        argv = _become(order, fds)
        try:
            code = exit_code(_command(argv, scripts))
        except SystemExit as end:
            code = exit_code(end.code)
        except Exception:
            traceback.print_exc()
            code = 1
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        again = bool(left) and process.restore()
        report.sendall(NUMBER.pack(code) + NUMBER.pack(again))
        if not again:
            break
    os._exit(0)


def exit_code(said: object) -> int:
    """As the interpreter has it: no code is success, a text is printed and means failure."""
    if isinstance(said, int):
        return said & 0xFF
    if said is not None:
        print(said, file=sys.stderr)
    return int(said is not None)


def _command(argv: list[str], scripts: Mapping[str, importlib.metadata.EntryPoint]) -> object:
    """Run the command as its installed script does; returns its exit code."""
    script = str(_SCRIPTS / argv[0])
    main = types.ModuleType("__main__")
    main.__dict__.update(__file__=script, __builtins__=__builtins__)
    sys.modules["__main__"] = main
    sys.argv = [script, *argv[1:]]
    sys.path[0] = str(_SCRIPTS)
    # doit noted the name of the program when it was imported.
    importlib.import_module("doit.doit_cmd").DoitMain.BIN_NAME = argv[0]
    if argv[:2] == ["popbuild", "watch"]:
        warm.fork_workers()
    elif argv[:2] == ["popbuild", "serve"]:
        build = warm.fork_builds(serve)
        if build is not None:
            return _command(_begin(*build), scripts)
    if argv[0] in scripts:
        return scripts[argv[0]].load()()
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
    with contextlib.suppress(ImportError, AttributeError):
        # Reads the certificates of all authorities, for 30 ms, and remembers them by file.
        http = importlib.import_module("litellm.llms.custom_httpx.http_handler")
        http.get_ssl_configuration()
    gc.collect()
    gc.freeze()  # the children's collections shall not touch, and so copy, all this memory
    _in_huge_pages()


def _in_huge_pages() -> None:
    """Have the kernel gather this memory in huge pages, where it can: a fork copies one entry for
    each page, and its end drops them, which is most of what a short command costs."""
    madvise, collapse = ctypes.CDLL(None).madvise, 25
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    for line in Path("/proc/self/maps").read_text().splitlines():
        area, may, _, _, _, *name = line.split()
        if may.startswith("rw") and name in ([], ["[heap]"]):
            start, end = (int(each, 16) for each in area.split("-"))
            for page in range(-(-start // _HUGE) * _HUGE, end // _HUGE * _HUGE, _HUGE):
                madvise(page, _HUGE, collapse)


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


def _main(life: socket.socket, listener: socket.socket) -> None:
    ending = _Ending()
    atexit.register(_leave, ending)  # before all else: the first registered is the last called
    _preload()
    # Looked up once: it reads a file of each installed package.
    found = importlib.metadata.entry_points(group="console_scripts")
    scripts = {entry.name: entry for entry in found}
    child = serve(life, listener)
    if child is None:
        os._exit(0)
    try:
        if not child[1]:
            _serve_commands(child[0], scripts)
        sys.exit(_command(_begin(*child), scripts))  # type: ignore[arg-type]
    except SystemExit as end:
        ending.code = exit_code(end.code)
        sys.exit(ending.code)
    except KeyboardInterrupt:
        ending.code = -signal.SIGINT
        raise


if __name__ == "__main__":
    _main(*(socket.socket(fileno=int(each)) for each in sys.argv[1:3]))
