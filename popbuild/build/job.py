"""One run of one job, from the look under its lock to its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from popbuild.base import disk
from popbuild.base.errors import ConfigError, FencedError, PopbuildError
from popbuild.base.paths import REJECTED, JobFolder
from popbuild.base.printing import in_our_words
from popbuild.build import prepare
from popbuild.build.events import JobResult
from popbuild.build.finish import finish
from popbuild.build.job_run import BuildServices, JobRun
from popbuild.build.ready import ReadyTasks
from popbuild.jobs import job_ids, job_state, lifecycle, lookup, open_job, promotion
from popbuild.jobs.lookup import Job
from popbuild.jobs.records import read_json
from popbuild.jobs.seed_files import BadSeed
from popbuild.jobs.stop_requests import SAID
from popbuild.model import status as states
from popbuild.model.clock import run_id
from popbuild.model.config.config import DEFAULT_PIPELINE
from popbuild.model.problem import Problem


class JobBuild:
    """Builds one job, or only some of its tasks. The job's lock is held. `broken` are the
    pipelines that cannot be used."""

    def __init__(
        self,
        services: BuildServices,
        job: str,
        tasks: tuple[str, ...] | None,
        broken: Mapping[str, ConfigError],
    ) -> None:
        self._services = services
        self._root = services.around.root
        self._id = job
        self._tasks = tasks
        self._broken = broken
        self._started_s = time.monotonic()
        self.is_to_stop = False
        self._building: asyncio.Task[None] | None = None

    def stop(self) -> None:
        """Give up what is under way, as Ctrl-C would, and leave the job stopped. Without effect
        once the tasks have ended: the job is about to be promoted, or rejected."""
        if not self.is_to_stop:
            self.is_to_stop = True
            if self._building is not None:
                self._building.cancel()

    async def run(self) -> JobResult:
        """Make the job up to date. Raises PopbuildError for what is wrong before its first task."""
        # Another command may have built it while this one waited for the lock.
        job = self._look()
        result = self._nothing_to_build(job)
        if result is not None:
            return result
        assert job.exam is not None
        if job.folder is not None:
            prepare.check_edits(job.exam, self._services.options)
        return await self._build_tasks(await self._open(job))

    def _look(self) -> Job:
        """Finish what a crash left half done, then examine the job: once."""
        around, job = self._services.around, self._id
        job_ids.refuse_keys(job, self._services.environment)
        job_ids.refuse_links(self._root, job)
        lifecycle.note_abandoned(self._root, job)  # also where nothing is built
        promotion.finish_promotion(self._root, job, self._services.previous_kept)
        return lookup.find(job, around)

    def _nothing_to_build(self, job: Job) -> JobResult | None:
        """The result for a job that cannot be built, or has no need to be; None for any other."""
        if job.bad_seed is not None:
            return self._reject_seed(job, job.bad_seed)
        assert job.seed is not None
        broken = job.broken or self._broken.get(job.seed.get("pipeline", DEFAULT_PIPELINE))
        if broken is not None:
            path = self._show(job.folder)
            return JobResult(self._id, "stopped", path=path, error=broken, spares_others=True)
        options = self._services.options
        if job.exam is None or job.folder is None or options.always or options.fresh:
            return None
        if job.up_to_date:
            lifecycle.refresh_seed(self._root, job.folder, job.seed)
            return JobResult(self._id, "up to date", path=self._show(job.folder))
        rejection: Any = read_json(job.folder.rejection) if job.state == REJECTED else None
        stands = lookup.rejection_stands(job.exam, rejection)
        if stands is None:
            return None
        lifecycle.refresh_seed(self._root, job.folder, job.seed)
        problems = tuple(Problem.from_json(each) for each in rejection["problems"])
        path = self._show(job.folder)
        return JobResult(self._id, "unchanged", path=path, task=stands, problems=problems)

    def _reject_seed(self, job: Job, bad: BadSeed) -> JobResult:
        root, folder = self._root, job.folder
        if disk.stands(root.seed(self._id)) or disk.stands(root.pending(self._id)):
            folder = promotion.reject_seed(root, self._id, bad)
        return JobResult(
            self._id,
            "rejected",
            path=self._show(folder),
            problems=bad.problems,
            notes=(f"{bad.where} is not a valid seed",),
        )

    def _show(self, folder: JobFolder | None) -> str | None:
        return self._services.show(folder) if folder else None

    async def _open(self, job: Job) -> JobRun:
        """Take the job up in current/: from here on its status says that it runs."""
        assert job.exam is not None
        assert job.seed is not None
        assert job.pipeline is not None
        services, run = self._services, run_id()
        last_seed = read_json(job.folder.seed) if job.folder is not None else None
        # Before pending/ is emptied.
        source = job_state.seed_source(self._root, self._id, job.folder)
        goes_on = prepare.goes_on(job, self._root)
        folder = await asyncio.to_thread(prepare.take_up, job, self._root)
        opened = open_job.open_job(folder, self._id, run, job.seed, job.pipeline, source)
        exam = job.exam.moved(folder, last_seed)
        prepare.draw_again(exam, services.samples, services.options.fresh)
        partial = self._tasks is not None
        return JobRun(services, run, opened, exam, partial, goes_on, self._started_s)

    async def _build_tasks(self, run: JobRun) -> JobResult:
        services, opened = self._services, run.opened
        reasons = {name: str(each) for name, each in run.exam.verdicts.items() if each.stale}
        services.events.job_started(self._id, run.id, reasons)
        opened.catch_up(run.exam)
        ready = ReadyTasks(run, self._tasks)
        self._building = asyncio.ensure_future(ready.build())
        if self.is_to_stop:
            self._building.cancel()
        try:
            await self._building
        except asyncio.CancelledError:
            if not self.is_to_stop or _is_cancelled():
                draining = services.halt.draining
                opened.leave(states.RUNNING if draining else states.STOPPED, "interrupted")
                raise
            opened.leave(states.STOPPED, SAID)
            return run.result("stopped", ready.outcomes, notes=(SAID,), spares_others=True)
        except FencedError:
            raise  # it is another worker's now: nothing more is written here
        except PopbuildError as error:
            opened.leave(states.WAITING, error.message)
            return run.result("waiting", ready.outcomes, error=error)
        except Exception as error:  # a full disk, or a mistake of ours
            ours, cut_short = in_our_words(error), ", ".join(ready.cut_short)
            if cut_short:
                ours.values.setdefault("task", cut_short)
            opened.leave(states.FAILED, ours.message)
            return run.result("failed", ready.outcomes, task=cut_short or None, error=ours)
        with services.claims.final(self._id):
            return await asyncio.to_thread(finish, run, ready.outcomes)


def _is_cancelled() -> bool:
    """Whether this very asyncio task was cancelled, and not one that it waits for."""
    this = asyncio.current_task()
    return this is not None and this.cancelling() > 0
