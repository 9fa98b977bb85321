"""A program that imports what is slow once, then forks for each order and becomes the command.

It is not multiprocessing's server: there the child re-imports pytest's main module, believes it is
a worker of it, shares its parent's fork server and skips the interpreter's own exit. Here only
the freeing of memory at the very end is skipped.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
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
import sys
import sysconfig
import tempfile
import time
import traceback
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

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
NUMBER = struct.Struct("q")
_SCRIPTS = Path(sysconfig.get_path("scripts"))
_HUGE = 2 << 20


@dataclass(frozen=True)
class _Order:
    """A child that was started: who asked for it, and where its exit code goes."""

    by: socket.socket
    report: socket.socket


def _serve(life: socket.socket, listener: socket.socket) -> tuple[socket.socket, list[int]] | None:
    """Fork once for each order. Returns None in the server at the end, and in each child its own.

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
                _kill(running)
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
                    _kill(pid for pid, order in running.items() if order.by is client)
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
        report.sendall(NUMBER.pack(os.getpid()))
        order = json.loads(b"".join(iter(lambda: report.recv(65536), b"")))
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    os.environ.clear()
    os.environ.update(order["env"])
    time.tzset()
    tempfile.tempdir = None  # chosen by $TMPDIR at first use, perhaps by a preloaded module
    os.chdir(order["cwd"])
    argv: list[str] = order["argv"]
    return argv


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
    child = _serve(life, listener)
    if child is None:
        os._exit(0)
    try:
        sys.exit(_command(_become(*child), scripts))  # type: ignore[arg-type]
    except SystemExit as end:
        # As the interpreter has it: no code is success, a text is printed and means failure.
        ending.code = end.code & 0xFF if isinstance(end.code, int) else int(end.code is not None)
        raise
    except KeyboardInterrupt:
        ending.code = -signal.SIGINT
        raise


if __name__ == "__main__":
    _main(*(socket.socket(fileno=int(each)) for each in sys.argv[1:3]))
