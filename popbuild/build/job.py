"""One run of one job, from the look under its lock to its end: edits by hand are settled, and its
directory stands in current/ before its first task starts."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from popbuild.base import disk, jsonio, tree
from popbuild.base.errors import FencedError, GateError, PopbuildError, StoppedError
from popbuild.base.paths import CURRENT, REJECTED, JobFolder, Root
from popbuild.base.printing import in_our_words
from popbuild.build import over_jobs
from popbuild.build.events import JobResult
from popbuild.build.finish import finish
from popbuild.build.job_run import BuildServices, JobRun
from popbuild.build.measuring import measured_after, measured_in_place
from popbuild.build.nothing_to_do import Options
from popbuild.build.ready import ReadyTasks
from popbuild.jobs import (
    job_ids,
    job_state,
    lifecycle,
    lookup,
    open_job,
    originals,
    promotion,
    row_seeds,
)
from popbuild.jobs.examine import Exam
from popbuild.jobs.extraction import looks_at_files
from popbuild.jobs.input_files import InputFiles, put_inputs
from popbuild.jobs.records import read_json
from popbuild.jobs.rejections import rejection_stands
from popbuild.jobs.seed_files import BadSeed
from popbuild.jobs.staleness import FRESH
from popbuild.jobs.stop_requests import SAID
from popbuild.model import status as states
from popbuild.model.clock import run_id
from popbuild.model.config.config import DEFAULT_PIPELINE
from popbuild.model.problem import Problem
from popbuild.query.describe import seed_error
from popbuild.task.attaching import attachment_problems


@dataclass(eq=False)
class JobBuild:
    """Builds one job, or some of its tasks, under its lock."""

    services: BuildServices
    id: str
    tasks: tuple[str, ...] | None
    is_named: bool = True  # else another job is over it, and that one is to be built
    started_s: float = field(default_factory=time.monotonic)
    is_to_stop: bool = False
    building: asyncio.Task[None] | None = None

    @property
    def root(self) -> Root:
        return self.services.around.root

    @property
    def _is_forced(self) -> bool:
        """Whether tasks are built that are up to date."""
        options = self.services.options
        return self.is_named and (options.always or bool(options.fresh))

    def stop(self) -> None:
        """Cancel what is under way, and leave the job stopped. No effect once all tasks ended."""
        if not self.is_to_stop:
            self.is_to_stop = True
            if self.building is not None:
                self.building.cancel()

    async def run(self) -> JobResult:
        """Make the job up to date. Raises PopbuildError for what is wrong before its first task."""
        # Another command may have built it while this one waited for the lock.
        job = self._look()
        if self._is_text_needed(job):
            job = await asyncio.to_thread(self._with_texts, job)
        result = self._nothing_to_build(job)
        if result is not None:
            return await measured_in_place(self.services, job, result)
        assert job.exam is not None
        for problem in attachment_problems(job.exam.pipeline, job.files):
            raise problem
        if job.folder is not None:
            _check_edits(job.exam, self.services.options)
        return await self._build_tasks(await self._open(job))

    def _look(self) -> lookup.Job:
        """Finish what a crash left half done, then examine the job: once."""
        around, job = self.services.around, self.id
        job_ids.refuse_keys(job, self.services.environment)
        job_ids.refuse_links(self.root, job)
        lifecycle.note_abandoned(self.root, job)  # also where nothing is built
        promotion.finish_promotion(self.root, job, self.services.previous_kept)
        return lookup.find(job, around)

    def _is_text_needed(self, job: lookup.Job) -> bool:
        """Whether documents of the job were not extracted yet, and its pipeline looks at files."""
        if job.pipeline is None or not any(each.is_unread for each in job.files.values()):
            return False
        return looks_at_files(self.services.around.config, job.pipeline)

    def _with_texts(self, job: lookup.Job) -> lookup.Job:
        """The job, looked at again with the texts of its documents: they decide what is stale."""
        try:
            self.services.around.inputs.extract(job.files)
        except BadSeed as bad:
            where = BadSeed(job_ids.place_of(self.root, job.id), bad.problems)
            return dataclasses.replace(job, bad_seed=where, exam=None)
        return lookup.find(self.id, self.services.around)

    def _nothing_to_build(self, job: lookup.Job) -> JobResult | None:
        """The result for a job that cannot be built, or has no need to be; None for any other."""
        if job.bad_seed is not None:
            return self._reject_seed(job, job.bad_seed)
        assert job.seed is not None
        broken = job.broken or self.services.broken.get(job.seed.get("pipeline", DEFAULT_PIPELINE))
        if broken is not None:
            path = self._show(job.folder)
            return JobResult(self.id, "stopped", path=path, error=broken, spares_others=True)
        lacking = over_jobs.result_without(job)
        if lacking is not None:
            return lacking
        if job.exam is None or job.folder is None or self._is_forced:
            return None
        if job.up_to_date:
            lifecycle.refresh_seed(self.root, job.folder, job.seed, job.files)
            return JobResult(self.id, "up to date", path=self._show(job.folder))
        rejection: Any = read_json(job.folder.rejection) if job.state == REJECTED else None
        stands = rejection_stands(job.exam, rejection)
        if stands is None:
            return None
        lifecycle.refresh_seed(self.root, job.folder, job.seed, job.files)
        problems = tuple(Problem.from_json(each) for each in rejection["problems"])
        path = self._show(job.folder)
        return JobResult(self.id, "unchanged", path=path, task=stands, problems=problems)

    def _reject_seed(self, job: lookup.Job, bad: BadSeed) -> JobResult:
        root, folder = self.root, job.folder
        if disk.stands(root.seed(self.id)) or disk.stands(root.pending(self.id)):
            folder = promotion.reject_seed(root, self.id, bad)
        return JobResult(
            self.id,
            "rejected",
            path=self._show(folder),
            problems=bad.problems,
            notes=(f"{bad.where} is not a valid seed",),
        )

    def _show(self, folder: JobFolder | None) -> str | None:
        return self.services.show(folder) if folder else None

    async def _open(self, job: lookup.Job) -> JobRun:
        """Take the job up in current/: from here on its status says that it runs."""
        assert job.exam is not None
        assert job.seed is not None
        assert job.pipeline is not None
        services, run = self.services, run_id()
        last_seed = read_json(job.folder.seed) if job.folder is not None else None
        # Before pending/ is emptied.
        source = job_state.seed_source(self.root, self.id, job.folder)
        # There are results of earlier runs that were not promoted.
        in_current = self.root.job(CURRENT, job.id).path.is_dir() and not job.matches
        goes_on = in_current or job.state == REJECTED
        folder, files = await asyncio.to_thread(take_up, job, self.root)
        if self._is_text_needed(dataclasses.replace(job, files=files)):
            files = await asyncio.to_thread(self._texts_again, folder, files)
        opened = open_job.open_job(folder, self.id, run, job.seed, job.pipeline, source)
        exam = job.exam.moved(folder, last_seed, files)
        _draw_again(exam, services.options.fresh if self.is_named else ())
        partial = self.tasks is not None
        return JobRun(services, run, opened, exam, partial, goes_on, self.started_s)

    def _texts_again(self, folder: JobFolder, files: InputFiles) -> InputFiles:
        """The job's copies of documents that were changed just before they were copied."""
        try:
            files = self.services.around.inputs.extract(files)
        except BadSeed as bad:
            raise seed_error(bad) from None
        return put_inputs(self.root, folder, files)

    async def _build_tasks(self, run: JobRun) -> JobResult:
        services, opened = self.services, run.opened
        reasons = {name: str(each) for name, each in run.exam.verdicts.items() if each.stale}
        services.events.job_started(self.id, run.id, reasons)
        opened.catch_up(run.exam)
        ready = ReadyTasks(run, self.tasks, always=services.options.always and self.is_named)
        self.building = asyncio.ensure_future(measured_after(ready.build(), run, ready.outcomes))
        if self.is_to_stop:
            self.building.cancel()
        try:
            await self.building
        except asyncio.CancelledError:
            if not self.is_to_stop or _is_cancelled():
                state = states.RUNNING if services.draining else states.STOPPED
                opened.leave(state, "interrupted")
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
        with services.claims.final(self.id):
            return await asyncio.to_thread(finish, run, ready.outcomes)


def _is_cancelled() -> bool:
    """Whether this very asyncio task was cancelled, and not one that it waits for."""
    this = asyncio.current_task()
    return this is not None and this.cancelling() > 0


def _check_edits(exam: Exam, options: Options) -> None:
    """An artifact edited by hand is a decision of a person, never overwritten unasked. Raises
    StoppedError where its task is stale as well, GateError where it does not pass its gate."""
    for task in exam.pipeline.tasks:
        verdict = exam.verdicts[task.id]
        if not verdict.edited or (options.discard_edits and not verdict.frozen):
            continue
        artifact = exam.around.root.show(exam.folder.artifact(task.artifact))
        where = {"job": exam.folder.id, "artifact": artifact}
        if verdict.stale and not options.keep_edits:
            raise StoppedError(
                "an artifact was edited by hand, and its task is stale too",
                {**where, "task": task.id, "stale": str(verdict)},
                hint="--keep-edits keeps the file as it is, --discard-edits builds it anew",
            )
        problems = exam.judge(task)
        if problems:
            raise GateError(
                "an artifact was edited by hand and does not pass its gate",
                {**where, **{f"problem {n}": each for n, each in enumerate(problems, 1)}},
                hint="mend the file"
                + ("" if verdict.frozen else ", or --discard-edits to build it anew"),
            )


def take_up(job: lookup.Job, root: Root) -> tuple[JobFolder, InputFiles]:
    """The job's directory in current/, with today's seed in it, and the copies of its files."""
    assert job.seed is not None
    current = root.job(CURRENT, job.id)
    if job.matches:
        for state in (CURRENT, REJECTED):  # as where there is nothing to do
            originals.discard_original(root, root.job(state, job.id))
    if not current.path.is_dir():
        if job.state == REJECTED and job.folder is not None:
            tree.rename_new(job.folder.path, current.path)
        elif job.folder is not None:
            # A copy: the good result stands until a better one passes every gate.
            tree.copy_folder(job.folder.path, current.path)
        elif not root.pending(job.id).exists():
            disk.write(root.pending(job.id), _source(job, root))
    originals.keep_original(root, current)
    # Before the seed: from then on the job's own copies answer for what it names.
    files = put_inputs(root, current, job.files)
    lifecycle.claim(root, job.id)
    tree.remove(current.rejection)
    lifecycle.write_seed(current, job.seed)
    tree.remove(current.path / job_state.CLAIMED)
    tree.remove(root.pending_inputs(job.id))
    return current, files


def _source(job: lookup.Job, root: Root) -> bytes:
    """A job's seed as it waits in pending/: byte for byte as its file, or as its row makes it."""
    if row_seeds.source_of_row(root, job.id) is not None:
        return jsonio.dumps(job.seed, sort=False)
    return disk.read(root.seed(job.id), max_bytes=jsonio.MAX_BYTES)


def _draw_again(exam: Exam, tasks: Iterable[str]) -> None:
    """Let these tasks draw the sample after their last one."""
    for name in tasks:
        number = exam.draw_again(exam.pipeline.task(name))
        lifecycle.set_samples(exam.around.root, exam.folder.id, {name: number})
        exam.asked[name] = FRESH
        for task in exam.pipeline.in_order:
            exam.look(task)
