"""Reports files that change. The one importer of watchfiles."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

_GATHER_MS = 5  # changes within this time are reported together
_AGAIN_S = 0.2


async def watch_files(folders: Sequence[Path], *, below: bool) -> AsyncIterator[set[str]]:
    """The paths that changed, set by set; with `below`, also in all folders below. An empty set
    means unknown paths: one had a name that is not UTF-8.

    Ends silently if the operating system reports no changes. Callers also rescan at intervals,
    since network file systems do not report what other machines write.
    """
    import watchfiles

    if not folders:
        return
    # No watches are left, or a folder is gone; watchfiles' own error is a RuntimeError.
    with contextlib.suppress(OSError, RuntimeError):
        while True:
            try:
                async for changes in watchfiles.awatch(
                    *folders,
                    watch_filter=None,
                    recursive=below,
                    step=_GATHER_MS,
                    debounce=10 * _GATHER_MS,
                ):
                    yield {path for _, path in changes}
            except ExceptionGroup as group:
                if group.split(RuntimeError)[1] is not None:
                    raise
                await asyncio.sleep(_AGAIN_S)
                yield set()
            else:
                return
