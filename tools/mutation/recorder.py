"""Notes which functions of the package a process calls. It stands in a copy of the package alone.

A line for each function when it is first called, written at once, since a process may be killed:
the process, the one that started it, the time, the file and the line of the function.
"""

from __future__ import annotations

import os
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
_parent = os.getppid()


def forget() -> None:
    """Another test begins, or another process: each function is noted anew."""
    _seen.clear()


def _note(frame: FrameType, _event: str, _argument: object) -> None:
    code = frame.f_code
    if code not in _seen:
        _seen.add(code)
        if code.co_filename.startswith(_PACKAGE):
            file = code.co_filename.removeprefix(_PACKAGE)
            now = time.monotonic_ns()
            line = f"{os.getpid()} {_parent} {now} {file}:{code.co_firstlineno}\n"
            os.write(_OUT, line.encode())


os.register_at_fork(after_in_child=forget)
threading.settrace(_note)
sys.settrace(_note)
