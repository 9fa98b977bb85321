"""Builds the jobs of one command in one event loop: takes each job's lock, heeds stop requests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping

from popbuild.base import stdout_guard
from popbuild.base.errors import LockedError, PopbuildError
from popbuild.base.fair_turns import Turns
from popbuild.base.printing import in_our_words
from popbuild.base.threads import heartbeat, heartbeat_limit_s
from popbuild.build.events import Events, JobResult
from popbuild.build.job import JobBuild
from popbuild.build.job_run import BuildServices
from popbuild.build.nothing_to_do import Options
from popbuild.jobs.claims import Claims
from popbuild.jobs.config_archive import Objects
from popbuild.jobs.promotion import previous_kept
from popbuild.jobs.stop_requests import LINGER_S, POLL_S, SAID, Stops
from popbuild.jobs.surroundings import Surroundings
from popbuild.llm.budget import Spending
from popbuild.llm.calls import Calls
from popbuild.llm.limits import strictest
from popbuild.llm.notices import Notices, ProviderWait
from popbuild.llm.patience import Patience
from popbuild.llm.store import choose_mode
from popbuild.model.config.config import export_environment
from popbuild.query import preview
from popbuild.task.user_code import Finder

_LOCK_POLL_S = 0.1


@contextlib.asynccontextmanager
async def building(
    around: Surroundings, claims: Claims, options: Options, events: Events
) -> AsyncIterator[Builder]:
    """A builder for this event loop. UsageError for a bad value of an environment variable."""
    environment, pipelines = around.config.environment, around.config.pipelines
    patience = Patience.from_environment(environment, options.in_flight, options.together)
    export_environment(environment)
    calls = Calls(
        around.root,
        patience,
        limits=strictest(pipelines.values()),
        mode=choose_mode(options.store, environment),
        spending=Spending(
            options.budget,
            {name: each.budget for name, each in pipelines.items()},
            options.unknown_allowed,
            options.spending_name,
        ),
    )
    services = BuildServices(
        around,
        calls,
        claims,
        options,
        events,
        preview.templates_of(around.config, in_build=True),
        previous_kept(environment),
    )
    timeouts_s = [task.timeout_s for each in pipelines.values() for task in each.tasks]
    builder = Builder(services)
    finder = Finder(around.config.snapshot, around.root.config)
    with stdout_guard.masked(environment), finder.installed():
        beating = asyncio.create_task(heartbeat(heartbeat_limit_s(timeouts_s)))
        heeding = asyncio.create_task(builder.heed_stops())
        telling = asyncio.create_task(_show_notices(calls.notices, events))
        try:
            yield builder
        finally:
            heeding.cancel()
            beating.cancel()
            await calls.close()
            await telling


async def _show_notices(notices: Notices, events: Events) -> None:
    """Show what calls have to say while they are made, until they are closed."""
    while (notice := await notices.get()) is not None:
        if isinstance(notice, ProviderWait):
            events.waiting_for_provider(notice.reason, notice.wait_s)
        else:
            events.store_trouble(notice.text)


class Builder:
    """Builds the jobs of one command inside one event loop."""

    def __init__(self, services: BuildServices) -> None:
        self._services = services
        self._turns = Turns()
        self._stops = Stops(services.around.root)
        self._under_way: dict[str, JobBuild] = {}

    async def prepare(self) -> None:
        """Check the templates; keep the configuration. ConfigError if no pipeline can be used."""
        around, templates = self._services.around, self._services.templates
        broken = await asyncio.to_thread(preview.broken, around, templates)
        if len(broken) == len(around.config.pipelines):
            raise next(iter(broken.values()))
        self._services.broken = broken
        await asyncio.to_thread(Objects(around.root).keep, around.config.snapshot)

    async def build_all(self, selection: Mapping[str, tuple[str, ...] | None]) -> list[JobResult]:
        """Build jobs, as many at a time as calls may be in flight, early ones first."""
        await self.prepare()
        services = self._services
        slots = asyncio.Semaphore(services.calls.patience.in_flight)

        async def one(job: str, tasks: tuple[str, ...] | None) -> JobResult:
            async with slots:
                if services.stopping:
                    return JobResult(job, "stopped", notes=("not started",))
                result = await self.build(job, tasks)
                if result.ends_command(services.options.continue_):
                    services.stopping = True
                return result

        return await asyncio.gather(*(one(job, tasks) for job, tasks in selection.items()))

    async def build(self, job: str, tasks: tuple[str, ...] | None) -> JobResult:
        """Build one job, or only some of its tasks. An expected failure is a result."""
        result = await self._lock(job)
        is_locked = result is None
        try:
            result = result or await self._build_locked(job, tasks)
            self._services.events.job_done(result)
            return result
        finally:
            if is_locked:
                await self._unlock(job)

    async def _lock(self, job: str) -> JobResult | None:
        """Take a job's lock: None once it is held, else why it is not."""
        services, waited, before = self._services, False, self._stops.stamp(job)
        stopped = JobResult(job, "stopped", notes=(SAID,))
        while not services.claims.acquire(job):
            if not services.options.wait:
                error = LockedError("another command builds this job", {"job": job})
                return JobResult(job, "stopped", error=error)
            if not waited:
                services.events.waiting_for_lock(job)
                waited = True
            await asyncio.sleep(_LOCK_POLL_S)
            if self._is_asked_to_stop(job, before):
                return stopped
        if waited and self._is_asked_to_stop(job, before):
            services.claims.release(job)
            return stopped
        return None

    async def _build_locked(self, job: str, tasks: tuple[str, ...] | None) -> JobResult:
        self._stops.drop(job)  # a request for the build before this one
        build = self._under_way[job] = JobBuild(self._services, job, tasks)
        try:
            async with self._turns.turn():
                return await build.run()
        except PopbuildError as error:
            return JobResult(job, "stopped", error=error)
        except Exception as error:  # a full disk, or a mistake of ours: the other jobs go on
            return JobResult(job, "failed", error=in_our_words(error))

    async def _unlock(self, job: str) -> None:
        stopped = self._under_way.pop(job).is_to_stop
        if not stopped:
            self._stops.drop(job)
        request = self._stops.stamp(job)
        self._services.claims.release(job)
        if stopped and request is not None:
            await asyncio.sleep(LINGER_S)  # for commands that wait for the lock: they stop as well
            if self._stops.stamp(job) == request:
                self._stops.drop(job)

    def _is_asked_to_stop(self, job: str, before: object) -> bool:
        """Whether a request came while this build waited for the job's lock."""
        return self._stops.stamp(job) not in (None, before)

    async def heed_stops(self) -> None:
        """Stop the jobs that a request names, as long as this runs."""
        while True:
            await asyncio.sleep(POLL_S)
            if self._under_way:
                with contextlib.suppress(OSError):  # then no request can be made either
                    for job in self._stops.asked().intersection(self._under_way):
                        self._under_way[job].stop()

    def drain(self) -> None:
        """Start and send nothing more. Unfinished jobs stay running, as after a crash: the next
        command that finds their locks free takes them up."""
        self._services.stopping = self._services.draining = True
        self._services.calls.drain()
