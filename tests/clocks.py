"""The clock of the file system that tests write to."""

from __future__ import annotations

import tempfile
from pathlib import Path

from popbuild.base import file_clock


def rest() -> None:
    """Return once files have rested for some ticks of the clock, as they mostly have: a change
    from now on shows in their times."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        began = folder.stat()
        while (now := file_clock.now(folder)) is not None and not now.has_passed(began):
            pass  # asked again: how long a tick is depends on the file system
