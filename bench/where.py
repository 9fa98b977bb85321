"""Where the CPU of a process goes, by what its main thread does: a sample each few milliseconds of
CPU that the process uses, in any thread."""

from __future__ import annotations

import collections
import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

_EACH_S = 0.002
_LITELLM = "/litellm/"  # with what it calls: the provider's client, the connection, our transport
# From the innermost frame outwards, the first that a file's path has in it.
_PARTS = {
    "/popbuild/base/redact.py": "secrets",
    "/popbuild/base/jsonio.py": "JSON",
    "/json/": "JSON",
    "/popbuild/base/disk.py": "disk",
    "/popbuild/base/commits.py": "disk",
    "/popbuild/base/tree.py": "disk",
    "/popbuild/base/locks.py": "locks",
    "/popbuild/base/threads.py": "threads",
    "/doit/": "doit",
    "/httpx/": "litellm",
    "/httpcore/": "litellm",
    "/aiohttp/": "litellm",
    "/jinja2/": "templates",
    "/jsonschema/": "schemas",
} | {
    f"/popbuild/{room}/": f"the rest of {room}/"
    for room in ("base", "model", "llm", "jobs", "task", "query", "build")
}


@contextlib.contextmanager
def sampled() -> Iterator[collections.Counter[str]]:
    """Count samples by part of the work, inside; system calls count to who made them."""
    found: collections.Counter[str] = collections.Counter()

    def note(_: int, frame: FrameType | None) -> None:
        found[_part(frame)] += 1

    before = signal.signal(signal.SIGPROF, note)
    signal.setitimer(signal.ITIMER_PROF, _EACH_S, _EACH_S)
    try:
        yield found
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _part(frame: FrameType | None) -> str:
    part = None
    while frame is not None:
        path = frame.f_code.co_filename
        if _LITELLM in path:
            return "litellm"
        # All else stands below the event loop, and the event loop below the session.
        if part is None:
            if path.endswith("/asyncio/base_events.py"):
                part = "asyncio"
            else:
                part = next((name for mark, name in _PARTS.items() if mark in path), None)
        frame = frame.f_back
    return part or "asyncio"
