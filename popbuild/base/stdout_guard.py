"""Output of a task's code: without keys, in whole lines, and on stderr, so that only the command
itself writes to stdout."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

from popbuild.base.redact import redact
from popbuild.base.threads import is_hanging

_lock = threading.Lock()
_own: list[int] = []  # the threads that entered a block, once for each
_before: list[TextIO] = []  # sys.stdout and sys.stderr as they were before the first block
_instead: list[_Masked] = []  # which take their writes
_environments: list[Mapping[str, str]] = []  # code may take a key out of its own


@contextlib.contextmanager
def masked(environment: Mapping[str, str]) -> Iterator[None]:
    """Inside, all that threads write to sys.stdout or sys.stderr loses its keys and goes to stderr;
    the writes of the thread that entered keep their stream.

    Code that writes to the descriptors (`os.write`, C, a child process), or to a stream kept from
    before, bypasses this. While abandoned work may still run, the block does not end.
    """
    with _lock:
        _own.append(threading.get_ident())
        _environments.append(dict(environment))
        if not _before:
            _before.extend((sys.stdout, sys.stderr))
            _instead.extend(_Masked(each, sys.stderr) for each in _before)
            sys.stdout, sys.stderr = map(_as_text, _instead)
    try:
        yield
    finally:
        with _lock:
            for each in _instead:
                with contextlib.suppress(OSError, ValueError):  # its reader is gone
                    each.end()
            if not is_hanging():
                _own.remove(threading.get_ident())
                if not _own:
                    sys.stdout, sys.stderr = _before
                    for kept in (_before, _instead, _environments):
                        kept.clear()


def _as_text(raw: _Masked) -> TextIO:
    return io.TextIOWrapper(  # type: ignore[type-var]  # around a raw one, as `python -u` does it
        raw, encoding="utf-8", errors="backslashreplace", newline="\n", write_through=True
    )


class _Masked(io.RawIOBase):
    """Keeps what each thread writes until it ends with a line's end, or is flushed."""

    def __init__(self, own: TextIO, errors: TextIO) -> None:
        self._stream = own
        self._errors = errors
        self._kept: dict[int, bytes] = {}  # by thread, so that no thread waits for another

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        thread, data = threading.get_ident(), bytes(data)
        self._kept[thread] = self._kept.get(thread, b"") + data
        # Not line by line: a private key has several lines.
        if data.endswith(b"\n"):
            self._tell(thread)
        return len(data)

    def flush(self) -> None:
        self._tell(threading.get_ident())

    def _tell(self, thread: int) -> None:
        text = self._kept.pop(thread, b"").decode("utf-8", "backslashreplace")
        if text:
            for environment in (os.environ, *_environments):
                text = redact(text, environment)
            stream = self._stream if thread in _own else self._errors
            stream.write(text)
            stream.flush()

    def end(self) -> None:
        """Write the rest of every thread's last line."""
        for thread in list(self._kept):
            self._tell(thread)

    def isatty(self) -> bool:
        return self._errors.isatty()

    def fileno(self) -> int:
        return self._errors.fileno()
