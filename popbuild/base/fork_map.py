"""Work that is shared among copies of this process."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

MOST = 8  # more would only wait for the disk


def processors() -> int:
    """How many copies can work at the same time; 1 if this process must not be copied."""
    # A lock that another thread holds would stay held in the copy for ever.
    if not sys.platform.startswith("linux") or threading.active_count() > 1:
        return 1
    return min(len(os.sched_getaffinity(0)), MOST)


def each(work: Callable[[Any], Any], shares: Sequence[Any]) -> list[Any]:
    """The result of `work` for each share, as JSON has it: the first computed in this process, the
    others in copies. None for a copy that ended without an answer."""
    copies = [_start(work, share) for share in shares[1:]]
    try:
        return [work(shares[0])] + [_answer(reader) for _, reader in copies]
    finally:
        # All before the first wait: a copy that still writes ends when no process can read it, and
        # the later copies hold the ends of the earlier ones.
        for _, reader in copies:
            os.close(reader)
        for pid, _ in copies:
            os.waitpid(pid, 0)


def _start(work: Callable[[Any], Any], share: object) -> tuple[int, int]:
    """A copy that works; its process ID, and where its answer can be read."""
    reader, writer = os.pipe()
    # Ctrl-C must not reach a half-made copy, which would go on as the original.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    pid = os.fork()
    if pid:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(writer)
        return pid, reader
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(reader)
        with os.fdopen(writer, "w", encoding="utf-8") as answer:
            json.dump(work(share), answer)
    finally:
        # No clean-up, flush or error message of the original here: it repeats the work of a copy
        # that failed.
        os._exit(0)


def _answer(reader: int) -> Any:
    with os.fdopen(reader, encoding="utf-8", closefd=False) as answer:
        try:
            return json.load(answer)
        except ValueError:
            return None
