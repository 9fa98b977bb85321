"""Keeps the table like the disk: learns of changes, examines jobs again, publishes events."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator
from pathlib import Path

from popbuild.base import disk, tree
from popbuild.base.errors import PopbuildError
from popbuild.base.file_events import watch_files
from popbuild.base.paths import COMPLETE, CURRENT, PENDING, REJECTED, Root
from popbuild.base.printing import in_our_words
from popbuild.base.roots import check_there
from popbuild.jobs import job_ids, lifecycle
from popbuild.jobs.over_others import OverOthers
from popbuild.model.config import config
from popbuild.model.status import RUNNING
from popbuild.query.table.event_ring import Hub
from popbuild.query.table.job_table import NOT_LOOKED_AT, JobTable, Query
from popbuild.query.table.row import JobRow, as_words, job_rows

_RESCAN_S = 30.0  # between full scans: edits by hand below complete/ send no event
_POLL_S = 0.2  # the same for jobs with an open page
_RUNNING_S = 2.0  # the same for running jobs: a process that dies sends no event
_AGAIN_S = 1.0  # before the next try after a failure
_FEW = 200  # so many changed jobs are examined here, more by a separate process


class Eyes:
    """Keeps the table of a root current while `run` runs. `trouble` is the error that prevents
    this, in the configuration for one, or None."""

    def __init__(self, root: Root, board: JobTable, hub: Hub) -> None:
        self._root = root
        self._board = board
        self._hub = hub
        self._changed: set[str] = set()
        self._woken = asyncio.Event()
        self._scan = asyncio.Event()
        self._since: set[str] = set()  # examined since the last full scan began
        self._looks = 0
        self._looked: dict[str, int] = {}  # the number of the look that gave the row
        self._over = OverOthers(root)
        self._open: Counter[str] = Counter()
        self._marks: dict[str, object] = {}
        self._next_s = 0.0
        self.trouble: PopbuildError | None = None
        self.begun = asyncio.Event()  # all jobs are in the table, examined or not

    async def run(self) -> None:
        """Examine everything, then changes, until cancelled."""
        # A root that cannot be built in can still be read; builds report the problem.
        with contextlib.suppress(PopbuildError, OSError):
            lifecycle.prepare_root(self._root)
        async with asyncio.TaskGroup() as group:
            for work in (self._hear, self._poll, self._keep_up, self._scan_again):
                group.create_task(self._on_and_on(work))

    async def _on_and_on(self, work: Callable[[], Awaitable[None]]) -> None:
        """Repeat this for ever. An error is published and the work tried again: otherwise the
        server would go on showing old states."""
        while True:
            try:
                await work()
            except Exception as error:
                self._say_trouble(in_our_words(error))
                await asyncio.sleep(_AGAIN_S)

    @contextlib.contextmanager
    def open_page(self, job: str | None) -> Iterator[None]:
        """Watch a job closely while its page is open."""
        if job is not None:
            self._open[job] += 1
        try:
            yield
        finally:
            if job is not None:
                self._open[job] -= 1
                self._open += Counter()  # without those that are at 0

    async def look_at(self, names: Collection[str]) -> None:
        """Examine jobs now, and publish changes."""
        self._since.update(names)
        self._looks += 1
        number = self._looks
        try:
            rows = await asyncio.to_thread(lambda: list(job_rows(self._root, list(names))))
        except PopbuildError as error:
            self._say_trouble(error)
            return
        for row in rows:
            if not job_ids.is_known(self._root, row.id):  # removed meanwhile
                self._drop(row.id)
            elif self._looked.get(row.id, 0) <= number:
                self._looked[row.id] = number
                if self._board.put(row):
                    self._hub.publish("job", row.as_json())

    def heard(self, names: Collection[str]) -> None:
        """Note that these jobs changed."""
        self._changed.update(names)
        self._woken.set()

    # Learning of changes.

    async def _hear(self) -> None:
        """Learn of changes, until one of the folders itself comes or goes: a watch does not follow
        a folder that is made anew."""
        while not self._root.path.is_dir():  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(_AGAIN_S)
        root, data = self._root.path, self._root.data
        above = [root, data, data / PENDING, data / COMPLETE, data / REJECTED, self._root.seeds]
        below = [data / CURRENT, self._root.config]
        async with asyncio.TaskGroup() as group:
            deep = group.create_task(self._listen(below, set(), below=True))
            moved = await self._listen(above, {*map(str, above), *map(str, below)}, below=False)
            deep.cancel()
        if not moved:  # the operating system reports no changes, for now
            await asyncio.sleep(_RESCAN_S)
        self._scan.set()

    async def _listen(self, folders: list[Path], until: set[str], *, below: bool) -> bool:
        """Note changes in the existing folders; True once one of the paths `until` changed."""
        there = [folder for folder in folders if folder.is_dir()]
        async for paths in watch_files(there, below=below):
            if not paths:
                self._scan.set()
            for path in paths:
                self._take(path)
            self._woken.set()
            if not paths.isdisjoint(until):
                return True
        return False

    def _take(self, path: str) -> None:
        """Note the job of a changed path."""
        try:
            parts = Path(path).relative_to(self._root.path).parts
        except ValueError:
            return
        match parts:
            case ("pipeline-config", *_):
                self._scan.set()
            case ("seeds", name):
                self._changed.add(name.removesuffix(".json"))
            case _ if Path(path).is_relative_to(self._root.data):
                self._take_of_jobs(Path(path).relative_to(self._root.data).parts)

    def _take_of_jobs(self, parts: tuple[str, ...]) -> None:
        match parts:
            case ("pending", name):
                self._changed.add(name.removesuffix("-seed.json"))
            case ("current" | "complete" | "rejected", name, *_) if not name.startswith("."):
                self._changed.add(name)

    async def _poll(self) -> None:
        """Notice changes without events: edits in jobs with an open page, and dead processes."""
        await asyncio.sleep(_POLL_S)
        marks = {job: await asyncio.to_thread(self._mark, job) for job in list(self._open)}
        for job, mark in marks.items():
            if self._marks.get(job, mark) != mark:
                self._hub.publish("files", {"id": job})
                self.heard([job])
        self._marks = marks
        if time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + _RUNNING_S
            self.heard([row.id for row in self._board.matching(Query(standing=RUNNING))])

    def _mark(self, job: str) -> object:
        """A value that differs once a file of a complete job changed."""
        folder = self._root.job(COMPLETE, job).path
        try:
            return [disk.stamp(path) for _, path in sorted(tree.walk_files(folder))]
        except OSError:
            return None  # not complete, or being moved

    # Examining.

    async def _keep_up(self) -> None:
        """Examine changed jobs."""
        await self._woken.wait()
        check_there(self._root)  # otherwise all jobs would seem removed
        self._woken.clear()
        names, self._changed = self._changed, set()
        if len(names) > _FEW:
            self._scan.set()
            return
        known = {name for name in names if job_ids.is_known(self._root, name)}
        for name in names - known:
            self._drop(name)
        if known:
            await self.look_at(await asyncio.to_thread(self._with_those_above, known))

    def _with_those_above(self, jobs: set[str]) -> set[str]:
        """These jobs, and all that are over one of them."""
        self._over.look_at(jobs)
        return jobs.union(*map(self._over.all_above, jobs))

    async def _scan_again(self) -> None:
        """Scan everything now, on request, and at intervals while there are followers."""
        await self._look_at_all()
        while not self._scan.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._scan.wait(), _RESCAN_S)
            if self._hub.is_followed:
                break
        self._scan.clear()

    def _drop(self, name: str) -> None:
        self._looked.pop(name, None)
        if self._board.drop(name):
            self._hub.publish("gone", {"id": name})

    async def _look_at_all(self) -> None:
        self._since.clear()
        await asyncio.sleep(0)  # the watches start first, so that no change from here on is missed
        try:
            check_there(self._root)
            for name in self._board.expect(job_ids.known_jobs(self._root)):
                self._looked.pop(name, None)
                self._hub.publish("gone", {"id": name})
        finally:
            self.begun.set()
        try:
            await asyncio.to_thread(config.load_to_read, self._root)
            await asyncio.to_thread(self._over.look)
        except PopbuildError as error:
            self._say_trouble(error)
            return
        if self.trouble is not None:
            self.trouble = None
            self._hub.publish("reset", {})
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "popbuild.query.table.row", *as_words(self._root)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=1 << 22,
            env={**os.environ, "PYTHONSAFEPATH": "1"},
            start_new_session=True,  # a Ctrl-C is the server's, which ends it
        )
        assert process.stdout is not None
        assert process.stderr is not None
        said = asyncio.create_task(process.stderr.read())
        try:
            async for line in process.stdout:
                self._take_rows(line)
            code = await process.wait()
        finally:
            await _end(process)
        if code:
            found = (await said).decode(errors="replace")
            self._say_trouble(PopbuildError("jobs cannot be looked at", {"found": found}))
        elif not self._board.whole:
            self._board.whole = True
            self._hub.publish("reset", {})

    def _take_rows(self, line: bytes) -> None:
        for body in json.loads(line):
            row = JobRow(**body)
            before = self._board.get(row.id)
            # Jobs examined since this process began have newer rows.
            if row.id in self._since or row.id in self._changed or before is None:
                continue
            # The first full scan is published as a whole.
            if self._board.put(row) and (before.standing != NOT_LOOKED_AT or self._board.whole):
                self._hub.publish("job", row.as_json())

    def _say_trouble(self, error: PopbuildError) -> None:
        if self.trouble is not None and self.trouble.as_json() == error.as_json():
            return  # it was published at an earlier try
        self.trouble = error
        self._hub.publish("trouble", error.as_json())


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        # Not `process.kill`, which reaps one that has just ended: asyncio then says on stderr that
        # it does not know it.
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        await process.wait()
