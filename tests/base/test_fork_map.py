"""Work that is shared among copies of a process."""

from __future__ import annotations

import commands

FAILING = """
import sys
from popbuild.base import fork_map

def work(share):
    if share == 0:
        raise LookupError("no share")
    return share * "a much longer answer than a pipe holds "

try:
    fork_map.each(work, [0, 100_000, 100_000, 100_000])
except LookupError as error:
    sys.exit(f"failed: {error}")
"""


def test_what_fails_here_waits_for_no_copy() -> None:
    """Copies that still write their answers end, since no process will read them."""
    said = commands.run(["python", "-c", FAILING], cwd="/", env={}, timeout_s=30)
    assert (said.code, said.err) == (1, "failed: no share\n")
