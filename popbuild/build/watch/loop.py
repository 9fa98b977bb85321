"""The orchestrator: hears of new seeds, hands jobs to workers, and ends without losing anything."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from popbuild.base import disk, errors
from popbuild.base.errors import BudgetError, ConfigError, LockedError, PopbuildError
from popbuild.base.paths import Root, name_problem, shown_name
from popbuild.build import session
from popbuild.build.events import Events, JobResult, shown_by
from popbuild.build.nothing_to_do import Options
from popbuild.build.watch.jobs_above import JobsAbove
from popbuild.build.watch.pool import Pool
from popbuild.build.watch.waiting import Hearing, Sources, Waiting, not_up_to_date
from popbuild.build.watch.worker import Terms
from popbuild.jobs import job_ids, row_seeds
from popbuild.jobs.claims import JobLocks
from popbuild.model.config import config

_UNSETTLED_S = 0.5  # how soon a seed is looked at again that was not whole


@dataclass(frozen=True)
class Settings:
    """How to watch: `workers` processes, with `in_flight` calls over all of them, waited for
    `grace_s` at the end. Every `rescan_s` everything is looked at: network file systems give no
    notice. `once` ends when nothing is left; `seeds` builds changes of seeds and configuration."""

    workers: int
    in_flight: int
    grace_s: float = 30.0
    rescan_s: float = 5.0
    once: bool = False
    seeds: bool = False


def watch(
    root: Root,
    settings: Settings,
    options: Options,
    events: Events,
    on_result: Callable[[JobResult], None],
) -> int:
    """Build incoming jobs until a signal ends it. Gives the exit code."""
    session.open_root(root, events)
    return asyncio.run(_Orchestrator(root, settings, options, events, on_result).run())


class _Orchestrator:
    def __init__(
        self,
        root: Root,
        settings: Settings,
        options: Options,
        events: Events,
        on_result: Callable[[JobResult], None],
    ) -> None:
        self._root = root
        self._settings = settings
        self._events = events
        self._on_result = on_result
        size = min(settings.workers, settings.in_flight)
        capacity = -(-settings.in_flight // size)  # each its share, rounded up
        shared = replace(
            options,
            in_flight=capacity,
            together=settings.in_flight,
            wait=False,
            spending_name=secrets.token_hex(4),  # all workers spend from one budget
        )
        terms = Terms(root, shared, shown_by(events), settings.grace_s)
        self._pool = Pool(terms, size, capacity, events)
        # This process holds no job's lock, it only asks who does.
        self._waiting = Waiting(root, JobLocks(root))
        self._queue: deque[str] = deque()
        self._seeds = Sources(root)
        self._sources: set[str] = set()  # queued since their source under seeds/ may have changed
        self._from_sources: set[str] = set()  # and which of the jobs under way were
        self._over = JobsAbove(root, self._waiting)
        self._told: set[str] = set()
        self._codes: list[int] = []
        self._signals = 0
        self._ending = False
        self._hearing = Hearing(root, settings.seeds)
        self._next_scan_s = 0.0
        self._configured = ""

    async def run(self) -> int:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._signalled)
        self._configured = await asyncio.to_thread(config.configured, self._root)
        if self._settings.seeds:
            await self._add_stale(self._seeds.changed())
        self._events.note(f"watching {', '.join(self._hearing.watched)}; Ctrl-C ends it")
        try:
            async with self._hearing.listening():
                await self._work()
        finally:
            self._pool.kill()
            while not self._pool.empty:
                await self._pool.changed()
            self._take_reports()
            self._events.close()
        if self._signals > 1:
            return errors.INTERRUPTED
        if errors.BUDGET in self._codes:
            return errors.BUDGET
        return session.overall(self._codes) if self._settings.once else errors.OK

    async def _work(self) -> None:
        while True:
            self._take_reports()
            if not self._ending:
                await self._pool.start()
                await self._look()
                self._hand_out()
                if self._settings.once and self._is_done():
                    self._end()
            if self._ending and self._pool.empty:
                return
            await self._sleep()

    async def _sleep(self) -> None:
        until_s = self._next_scan_s - time.monotonic()
        if self._waiting.unsettled:
            until_s = min(until_s, _UNSETTLED_S)
        changed = asyncio.ensure_future(self._pool.changed())
        woken = asyncio.ensure_future(self._hearing.woken.wait())
        timeout_s = None if self._ending else max(0.0, until_s)
        await asyncio.wait({changed, woken}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        changed.cancel()
        woken.cancel()
        self._hearing.woken.clear()

    # What there is to do.

    async def _look(self) -> None:
        """Look for work where something was heard, and everywhere once in a while."""
        now, heard = time.monotonic(), self._hearing
        scan = heard.all or now >= self._next_scan_s
        if scan:
            self._over.look()
        if scan or heard.ended:
            names = None if scan else heard.ended
            self._add_sources(self._over.ended_elsewhere(names, self._pool.jobs))
            heard.ended.clear()
        if not (scan or heard.again or self._waiting.unsettled):
            return
        heard.again = heard.all = False
        self._add(self._waiting.seeds())
        if self._settings.seeds and (scan or heard.seeds):
            heard.seeds = False
            self._add_sources(self._seeds.changed())
        if scan:
            self._next_scan_s = now + self._settings.rescan_s
            self._add(self._waiting.abandoned())
            self._say_ill_named()
            await self._renew_if_configured_anew()

    def _add(self, names: Iterable[str]) -> None:
        known = set(self._queue)
        new = [job for job in names if job not in known and name_problem(job) is None]
        self._over.look_at(new)
        self._queue += new

    def _add_sources(self, names: Iterable[str]) -> None:
        found = list(names)
        self._sources.update(found)
        self._add(found)

    async def _add_stale(self, names: list[str]) -> None:
        """Add all but those that the index knows to be unchanged. Their builds look again."""
        with contextlib.suppress(PopbuildError, OSError):  # workers will tell
            names = await asyncio.to_thread(not_up_to_date, self._root, names)
        self._add_sources(names)

    def _say_ill_named(self) -> None:
        for job in self._waiting.seeds():
            problem = name_problem(job)
            if problem is not None and job not in self._told:
                self._told.add(job)
                shown = shown_name(self._root.show(self._root.pending(job)))
                self._events.note(f"warning: {shown} is left: no job can have its name: {problem}")

    def _hand_out(self) -> None:
        """Give workers jobs while there is room. The others stay, for other orchestrators too."""
        if not self._pool.room:
            return
        building = self._pool.jobs
        for _ in range(len(self._queue)):
            job = self._queue.popleft()
            if job in building or self._over.has_to_wait(job, building, self._queue):
                self._queue.append(job)  # a change while it is built may come too late for it
            elif self._over.take_due(job) or self._is_to_be_built(job):
                self._from_sources |= self._sources & {job}
                self._sources.discard(job)
                self._pool.build(job)
                if not self._pool.room:
                    return

    def _is_to_be_built(self, job: str) -> bool:
        source, pending = self._root.seed(job), self._root.pending(job)
        if job in self._sources:
            row = row_seeds.of_row(self._root, job)
            if row is not None:  # a table that is being written may end in half a row
                rested = row_seeds.has_rested(self._root, row)
                self._queue += [] if rested else [job]
                return rested
            if disk.stands(source):
                is_whole = self._waiting.is_whole(source)
                self._queue += [] if is_whole else [job]
                return is_whole
            self._sources.discard(job)
        if disk.stands(pending):
            return self._waiting.is_whole(pending)
        return self._waiting.is_abandoned(job)

    def _is_done(self) -> bool:
        return not (self._queue or self._pool.jobs or self._waiting.unsettled)

    # What workers say.

    def _take_reports(self) -> None:
        for report in self._pool.take_reports():
            if isinstance(report, JobResult):
                self._ended(report)
            else:
                self._refused(report)

    def _ended(self, result: JobResult) -> None:
        is_new = result.outcome not in ("up to date", "unchanged")
        self._add_sources(self._over.ended(result, is_new=is_new))
        is_told = self._over.is_to_be_told(result)
        from_source = result.id in self._from_sources
        self._from_sources.discard(result.id)
        if isinstance(result.error, LockedError):
            return  # another command builds it
        pending = self._root.pending(result.id)
        if isinstance(result.error, ConfigError):
            self._waiting.leave(result.id)
        if disk.stands(pending):
            if result.exit_code:
                self._waiting.refuse(pending)
            self._hearing.again = True
        if (from_source and not is_new) or not is_told:
            return
        self._codes.append(result.exit_code)
        self._events.job_done(result)
        self._on_result(result)
        error = result.error
        if isinstance(error, BudgetError) and error.scope != "job" and not self._ending:
            self._events.note(f"ending: {error.message}: {error.values.get('budget', '')}")
            self._end()

    def _refused(self, error: PopbuildError) -> None:
        self._events.note(f"error: {error}\nnothing is built before this is mended")
        if self._settings.once:
            self._codes.append(error.exit_code)
            self._end()

    # The end.

    def _signalled(self) -> None:
        self._signals += 1
        self._hearing.woken.set()
        if self._signals > 1:
            self._ending = True
            self._pool.kill()
        elif not self._ending:
            count = len(self._pool.jobs)
            if count:
                self._events.note(
                    f"ending: calls in flight of {count} job{'s' * (count != 1)} are waited for, "
                    f"at most {self._settings.grace_s:g} s; once more ends it at once"
                )
            self._end()

    def _end(self) -> None:
        self._ending = True
        self._pool.drain(self._settings.grace_s)

    async def _renew_if_configured_anew(self) -> None:
        found = await asyncio.to_thread(config.configured, self._root)
        if found == self._configured:
            return
        self._configured = found
        self._waiting.try_again()
        self._hearing.again = True
        self._pool.renew()
        if self._settings.seeds:
            await self._add_stale(job_ids.known_seeds(self._root))
