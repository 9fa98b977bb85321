"""Times as the storage format writes them, and the IDs of runs."""

from __future__ import annotations

import functools
import secrets
import time
from datetime import UTC, datetime


def timestamp(now_s: float | None = None) -> str:
    """ISO 8601 in UTC with milliseconds and Z: `2025-10-02T06:37:29.984Z`."""
    milliseconds = int((time.time() if now_s is None else now_s) * 1000)
    return f"{_to_the_second(milliseconds // 1000)}.{milliseconds % 1000:03}Z"


@functools.lru_cache(maxsize=4)  # a task writes twenty times
def _to_the_second(now_s: int) -> str:
    return datetime.fromtimestamp(now_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def seconds_at(text: object) -> float | None:
    """The seconds since the epoch of a timestamp; None for any other value."""
    try:
        found = datetime.fromisoformat(text) if isinstance(text, str) else None
        return found.timestamp() if found is not None and found.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def name_stamp(now_s: float | None = None) -> str:
    """The same for the names of files and runs: `2025-10-02T06-37-29-984Z`."""
    return timestamp(now_s).replace(":", "-").replace(".", "-")


def run_id(now_s: float | None = None, suffix: str | None = None) -> str:
    """A run's pipeline ID: `pl-2025-10-02T06-37-29-980Z-0d57ec`."""
    return f"pl-{name_stamp(now_s)}-{suffix or secrets.token_hex(3)}"
