"""What an orchestrator can take up: seeds, and jobs whose process died; which files change."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from popbuild.base import disk, jsonio, locks
from popbuild.base.errors import InputError
from popbuild.base.file_events import watch_files
from popbuild.base.paths import CURRENT, PENDING, Root, name_problem
from popbuild.jobs import job_ids, job_state, promotion, records, row_seeds
from popbuild.jobs.claims import JobLocks
from popbuild.jobs.index import Index
from popbuild.jobs.seed_files import BadSeed
from popbuild.jobs.surroundings import Surroundings
from popbuild.jobs.table_seeds import RowSeed
from popbuild.model.config import config
from popbuild.model.input_file import is_input_path, named_inputs
from popbuild.model.status import COMPLETE, REJECTED, RUNNING

_ENDING = "-seed.json"
_UNFINISHED = (RUNNING, COMPLETE, REJECTED)  # in current/: it was about to leave
_SETTLED_S = 2.0  # a broken seed that has not changed for this long will not become whole
_AGAIN_S = 60.0  # before a seed that could not be taken up is tried once more

_Mark = tuple[int, int, int]  # disk.stamp of a file


class Waiting:
    """Looks at the disk; takes nothing. `monotonic` gives seconds."""

    def __init__(
        self, root: Root, locks: JobLocks, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._root = root
        self._locks = locks
        self._monotonic = monotonic
        self._broken: dict[Path, tuple[_Mark, float]] = {}  # since when a seed has been like this
        self._refused: dict[Path, tuple[_Mark | None, float]] = {}
        self._idle: dict[str, int] = {}  # not abandoned, in current/: status' mtime_ns

    def seeds(self) -> list[str]:
        """The jobs whose seed waits in pending/, the oldest first."""
        found = []
        folder = self._root.data / PENDING
        with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.endswith(_ENDING) and not entry.name.startswith("."):
                    with contextlib.suppress(FileNotFoundError):  # a build took it just now
                        at = entry.stat(follow_symlinks=False).st_mtime_ns
                        found.append((at, entry.name.removesuffix(_ENDING)))
        return [job for _, job in sorted(found)]

    def is_whole(self, path: Path) -> bool:
        """Whether a seed can be taken up: it is there, and not being written. What is not JSON must
        not change for two seconds, nor be open for writing; then it is taken up, and rejected."""
        mark = disk.stamp(path)
        if mark is None or _is_object(path):
            self._broken.pop(path, None)
            return mark is not None and self._is_its_time(path, mark)
        now = self._monotonic()
        last, since = self._broken.get(path, (None, now))
        if last != mark:
            self._broken[path] = mark, now
            return False
        if now - since < _SETTLED_S or locks.is_being_written(path):
            return False
        del self._broken[path]
        return self._is_its_time(path, mark)

    @property
    def unsettled(self) -> bool:
        """Whether a seed waits that may yet become whole: not one that was taken up by another
        command meanwhile, or removed."""
        self._broken = {path: it for path, it in self._broken.items() if disk.stands(path)}
        return bool(self._broken)

    def refuse(self, path: Path) -> None:
        """A build ended and the seed still waits: do not try it again soon, unless it changes."""
        self._refused[path] = disk.stamp(path), self._monotonic() + _AGAIN_S

    def leave(self, job: str) -> None:
        """A job in current/ cannot be built with this configuration."""
        with contextlib.suppress(FileNotFoundError):
            self._idle[job] = self._root.job(CURRENT, job).status.stat().st_mtime_ns

    def try_again(self) -> None:
        """The configuration changed: what could not be built may work now."""
        self._refused.clear()
        self._idle.clear()

    def _is_its_time(self, path: Path, mark: _Mark) -> bool:
        refused, again = self._refused.get(path, (None, 0.0))
        if refused == mark and self._monotonic() < again:
            return False
        self._refused.pop(path, None)
        return True

    def under_way(self) -> Iterator[str]:
        """The jobs that processes are building, this one's workers among them."""
        with contextlib.suppress(FileNotFoundError):
            for path in (self._root.data / CURRENT).iterdir():
                if name_problem(path.name) is None and not self._locks.is_free(path.name):
                    yield path.name

    def abandoned(self) -> Iterator[str]:
        """The jobs whose build died."""
        names = set(promotion.unfinished_promotions(self._root))
        with contextlib.suppress(FileNotFoundError):
            names.update(path.name for path in (self._root.data / CURRENT).iterdir())
        for job in sorted(names):
            if name_problem(job) is None and self.is_abandoned(job):
                yield job

    def is_abandoned(self, job: str) -> bool:
        """Whether a job is running, claimed or about to leave current/, and its lock is free."""
        if not self._locks.is_free(job):
            return False
        if promotion.is_promotion_unfinished(self._root, job):
            return True
        folder = self._root.job(CURRENT, job)
        try:
            changed = folder.status.stat().st_mtime_ns
        except FileNotFoundError:
            return disk.stands(folder.seed) or disk.stands(folder.path / job_state.CLAIMED)
        if self._idle.get(job) == changed:
            return False
        status = records.read_json(folder.status)
        if isinstance(status, dict) and (
            status.get("state") in _UNFINISHED or "abandoned" in status
        ):
            return True
        self._idle[job] = changed
        return False


class Sources:
    """The seeds under seeds/ and their files, as they were when they were last looked at."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._marks: dict[str, tuple[object, ...]] = {}
        self._files: dict[str, tuple[object, list[Path]]] = {}  # by the seed's own mark

    def changed(self) -> list[str]:
        """The jobs whose seed, or a file of it, is new or was changed since the last time; at
        first, all."""
        marks = {job: self._marks_of(job) for job in job_ids.known_seeds(self._root)}
        found = [job for job, mark in marks.items() if self._marks.get(job) != mark]
        self._marks = marks
        return found

    def _marks_of(self, job: str) -> tuple[object, ...]:
        seed, row = self._root.seed(job), row_seeds.of_row(self._root, job)
        mark = disk.stamp(seed) if row is None else row.digest
        last, files = self._files.get(job, (None, []))
        if mark != last:
            sources = named_inputs(records.read_json(seed) if row is None else _seed_of(row, job))
            files = [self._root.path / each for each in sources.values() if is_input_path(each)]
            self._files[job] = mark, files
        return (mark, *(disk.stamp(each) for each in files))


def _seed_of(row: RowSeed, job: str) -> dict[str, object]:
    try:
        return row.seed(job)
    except BadSeed:
        return {}


def not_up_to_date(root: Root, names: list[str]) -> list[str]:
    """The jobs that are not complete and up to date with the configuration of just now."""
    with Index(Surroundings(config.load(root)), names) as index:
        return [job for job in names if not index.knows(job)]


def _is_object(path: Path) -> bool:
    try:
        return isinstance(json.loads(disk.read(path, max_bytes=jsonio.MAX_QUEUED_BYTES)), dict)
    except (OSError, ValueError, InputError, RecursionError):
        return False


@dataclass
class Hearing:
    """What to look at, since something changed there: `again` what waits, `seeds` seeds/ as well,
    `all` everything, `ended` jobs of these names in complete/ and rejected/. `woken` is set with
    each. Must be made inside an event loop."""

    root: Root
    with_seeds: bool
    again: bool = False
    seeds: bool = False
    all: bool = False

    def __post_init__(self) -> None:
        self.woken = asyncio.Event()
        self.ended: set[str] = set()

    @property
    def watched(self) -> list[str]:
        """The folders that are watched, as a person reads them."""
        return [self.root.show(folder) for folder in self._folders()]

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Inside, changes are noted."""
        tasks = [asyncio.create_task(self._listen(folder)) for folder in self._folders()]
        tasks.append(asyncio.create_task(self._listen_to_ends()))
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

    async def _listen_to_ends(self) -> None:
        folders = [self.root.data / state for state in (COMPLETE, REJECTED)]
        async for changed in watch_files(folders, below=False):
            names = {Path(path).name for path in changed}
            self.ended |= {name for name in names if name_problem(name) is None}
            if self.ended:
                self.woken.set()
