"""Notes which functions of the package a process calls. It stands in a copy of the package alone.

A line for each function when it is first called, written at once, since a process may be killed:
the worker of pytest for which this process works, the time, the file and the line of the function.
The commands of all workers are forks of one process; the home directory that a test gives to its
commands says whose they are.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from pathlib import Path
from types import CodeType, FrameType

_PACKAGE = f"{Path(__file__).parent}{os.sep}"
_OUT = os.open(
    Path(__file__).parent.parent / ".called", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
)
_seen: set[CodeType] = set()
_worker: str | None = None


def forget() -> None:
    """Another test begins, or another process: each function is noted anew."""
    global _worker  # noqa: PLW0603 - a fork is another process with the same module
    _seen.clear()
    _worker = None


def _working_for() -> str:
    """The name of the worker, empty in a process that serves all of them."""
    global _worker  # noqa: PLW0603 - as above
    if _worker is None:
        home = re.search(r"/popen-(gw\d+)/", os.environ.get("HOME", ""))
        _worker = os.environ.get("PYTEST_XDIST_WORKER") or (home[1] if home else "")
    return _worker


def _note(frame: FrameType, _event: str, _argument: object) -> None:
    code = frame.f_code
    if code not in _seen:
        _seen.add(code)
        if code.co_filename.startswith(_PACKAGE) and _working_for():
            file = code.co_filename.removeprefix(_PACKAGE)
            line = f"{_worker} {time.monotonic_ns()} {file}:{code.co_firstlineno}\n"
            os.write(_OUT, line.encode())


os.register_at_fork(after_in_child=forget)
threading.settrace(_note)
sys.settrace(_note)
