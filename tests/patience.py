"""How long a test waits for what comes in the end.

It costs nothing while all goes well, so it is what a machine needs that is slow and busy: no test
says how fast anything is. What shall take long, so that another thing happens first, is set by each
test itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_S = 100.0


def eventually(is_so: Callable[[], object]) -> None:
    """Return once it is so. Raises TimeoutError."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"it did not come true in {PATIENCE_S:g} s")
        time.sleep(0.02)
