"""The ears of an orchestrator: which files change below its root."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from popbuild.base.file_events import watch_files
from popbuild.base.paths import Root


@dataclass
class Hearing:
    """What to look at, since something changed there. Must be made inside an event loop.

    `again` says to look at what waits, `seeds` at seeds/ as well, `all` at everything. `woken` is
    set with each.
    """

    root: Root
    with_seeds: bool
    again: bool = False
    seeds: bool = False
    all: bool = False

    def __post_init__(self) -> None:
        self.woken = asyncio.Event()

    @property
    def watched(self) -> list[str]:
        """The folders that are watched, as a person reads them."""
        return [self.root.show(folder) for folder in self._folders()]

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Inside, changes are noted."""
        tasks = [asyncio.create_task(self._listen(folder)) for folder in self._folders()]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _folders(self) -> list[Path]:
        seeds = [self.root.seeds] if self.with_seeds else []
        folders = [self.root.pending("x").parent, self.root.config, *seeds]
        return [folder for folder in folders if folder.is_dir()]

    async def _listen(self, folder: Path) -> None:
        async for _ in watch_files([folder], below=folder == self.root.config):
            self.again = True
            self.seeds = self.seeds or folder == self.root.seeds
            self.all = self.all or folder == self.root.config
            self.woken.set()
