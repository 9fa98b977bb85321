"""Builds jobs: takes each job's lock, drives its doit graph, promotes or rejects it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from doit.control import TaskControl
from doit.exceptions import BaseFail
from doit.task import Task as DoitTask

from popbuild.base import disk, jsonio, stdout_guard
from popbuild.base.errors import (
    BudgetError,
    ConfigError,
    FencedError,
    GateError,
    LockedError,
    PopbuildError,
    StoppedError,
)
from popbuild.base.exit_codes import in_our_words
from popbuild.base.fair_turns import Turns
from popbuild.base.paths import COMPLETE, CURRENT, REJECTED, JobFolder
from popbuild.base.redact import redact
from popbuild.base.threads import heartbeat, heartbeat_limit_s
from popbuild.build import schedule
from popbuild.build.call_notices import show_notices
from popbuild.build.doit_runner import AsyncRunner
from popbuild.build.events import Events, JobResult
from popbuild.build.nothing_to_do import Options
from popbuild.build.task import BuildServices, Tally, TaskBuild
from popbuild.jobs import lifecycle, lookup, open_job, originals, promotion
from popbuild.jobs.claims import Claims
from popbuild.jobs.config_archive import Objects
from popbuild.jobs.examine import Exam, Surroundings, examine, read_json, read_letter
from popbuild.jobs.lifecycle import Samples
from popbuild.jobs.lookup import Job
from popbuild.jobs.open_job import OpenJob
from popbuild.jobs.staleness import FRESH, Verdict
from popbuild.jobs.stop_requests import LINGER_S, POLL_S, SAID, Stops
from popbuild.llm.budget import Spending
from popbuild.llm.calls import Calls
from popbuild.llm.limits import strictest
from popbuild.llm.patience import Patience
from popbuild.model import status as states
from popbuild.model.clock import run_id, timestamp
from popbuild.model.config.config import DEFAULT_PIPELINE, export_environment
from popbuild.model.pipeline import Task
from popbuild.model.problem import Problem
from popbuild.model.schema import gate
from popbuild.query import preview
from popbuild.task.user_code import Finder

_LOCK_POLL_S = 0.1


@contextlib.asynccontextmanager
async def building(
    around: Surroundings, claims: Claims, options: Options, events: Events, mode: str
) -> AsyncIterator[Builder]:
    """A builder, for as long as it is needed in this event loop. Raises UsageError for a variable
    of the environment that is not what it should be."""
    environment, pipelines = around.config.environment, around.config.pipelines
    patience = Patience.from_environment(environment, options.in_flight, options.together)
    export_environment(environment)
    calls = Calls(
        around.root,
        patience,
        limits=strictest(pipelines.values()),
        mode=mode,
        spending=Spending(
            options.budget,
            {name: each.budget for name, each in pipelines.items()},
            options.unknown_allowed,
            options.spending_name,
        ),
    )
    timeouts_s = [task.timeout_s for each in pipelines.values() for task in each.tasks]
    builder = Builder(around, calls, claims, options, events)
    finder = Finder(around.config.snapshot, around.root.config)
    with stdout_guard.masked(environment), finder.installed():
        beating = asyncio.create_task(heartbeat(heartbeat_limit_s(timeouts_s)))
        heeding = asyncio.create_task(builder.heed_stops())
        telling = asyncio.create_task(show_notices(calls.notices, events))
        try:
            yield builder
        finally:
            heeding.cancel()
            beating.cancel()
            await calls.close()
            await telling


class Builder:
    """Builds the jobs of one command inside one event loop."""

    def __init__(
        self,
        around: Surroundings,
        calls: Calls,
        claims: Claims,
        options: Options,
        events: Events,
    ) -> None:
        templates = preview.templates_of(around.config)
        self.shared = BuildServices(around, calls, options, events, Samples(around.root), templates)
        self.previous_kept = promotion.previous_kept(around.config.environment)
        self.claims = claims
        self.broken: Mapping[str, ConfigError] = {}  # pipelines, once `prepare` has looked
        self._turns = Turns()
        self._stopping = False
        self._draining = False
        self._stops = Stops(around.root)
        self._under_way: dict[str, _JobBuild] = {}

    async def prepare(self) -> None:
        """Before the first job: check all templates, and keep the configuration's files. Raises
        ConfigError where no pipeline can be used."""
        config = self.shared.around.config
        self.broken = await asyncio.to_thread(
            preview.broken, self.shared.around, self.shared.templates
        )
        if len(self.broken) == len(config.pipelines):
            raise next(iter(self.broken.values()))
        await asyncio.to_thread(Objects(config.root).keep, config.snapshot)

    async def build_all(self, selection: Mapping[str, tuple[str, ...] | None]) -> list[JobResult]:
        """Build jobs, as many at a time as calls may be in flight, early ones first."""
        await self.prepare()
        slots = asyncio.Semaphore(self.shared.calls.patience.in_flight)
        results: dict[str, JobResult] = {}

        async def one(job: str, tasks: tuple[str, ...] | None) -> None:
            async with slots:
                if self._stopping:
                    return
                result = await self.build(job, tasks)
                results[job] = result
                over = isinstance(result.error, BudgetError)
                if over or (result.ends_command and not self.shared.options.continue_):
                    self._stopping = True

        await asyncio.gather(*(one(job, tasks) for job, tasks in selection.items()))
        return [
            results.get(job) or JobResult(job, "stopped", notes=("not started",))
            for job in selection
        ]

    async def build(self, job: str, tasks: tuple[str, ...] | None) -> JobResult:
        """Build one job, or only some of its tasks. An expected failure is a result."""
        told, before = False, self._stops.stamp(job)
        while not self.claims.acquire(job):
            if not self.shared.options.wait:
                error = LockedError("another command builds this job", {"job": job})
                return self._ended(JobResult(job, "stopped", error=error))
            if not told:
                self.shared.events.waiting_for_lock(job)
                told = True
            await asyncio.sleep(_LOCK_POLL_S)
            if self._is_asked_to_stop(job, before):
                return self._ended(JobResult(job, "stopped", notes=(SAID,)))
        heeded = False
        try:
            heeded = told and self._is_asked_to_stop(job, before)
            if heeded:
                return self._ended(JobResult(job, "stopped", notes=(SAID,)))
            self._stops.drop(job)  # it was for whoever built the job before
            build = self._under_way[job] = _JobBuild(self, job, tasks)
            async with self._turns.turn():
                result = await build.run()
            return self._ended(result)
        except PopbuildError as error:
            return self._ended(JobResult(job, "stopped", error=error))
        except Exception as error:  # a full disk, or a mistake of ours: the other jobs go on
            return self._ended(JobResult(job, "failed", error=in_our_words(error)))
        finally:
            ended = self._under_way.pop(job, None)
            stopped = ended is not None and ended.is_to_stop
            if not heeded and not stopped:
                self._stops.drop(job)
            request = self._stops.stamp(job)
            self.claims.release(job)
            if stopped and request is not None:
                await asyncio.sleep(LINGER_S)  # who waits for the lock is asked as well
                if self._stops.stamp(job) == request:
                    self._stops.drop(job)

    def _is_asked_to_stop(self, job: str, before: object) -> bool:
        """Whether a request came while this build waited for the job's lock."""
        return self._stops.stamp(job) not in (None, before)

    async def heed_stops(self) -> None:
        """Stop what somebody asks to be stopped, as long as this runs."""
        while True:
            await asyncio.sleep(POLL_S)
            if self._under_way:
                with contextlib.suppress(OSError):  # then nobody can ask
                    for job in self._stops.asked().intersection(self._under_way):
                        self._under_way[job].stop()

    def drain(self) -> None:
        """Start nothing more, and send nothing more. Jobs that are not done by then stay running,
        as after a crash: whoever finds their locks free takes them up."""
        self._stopping = self._draining = True
        self.shared.calls.drain()

    @property
    def draining(self) -> bool:
        """Whether this process is about to end."""
        return self._draining

    @property
    def stopping(self) -> bool:
        """Whether another job failed, so that nothing new should be started."""
        return self._stopping

    def _ended(self, result: JobResult) -> JobResult:
        self.shared.events.job_done(result)
        return result


class _JobBuild:
    """One run of one job. The lock is held."""

    def __init__(self, builder: Builder, job: str, tasks: tuple[str, ...] | None) -> None:
        self._builder = builder
        self._shared = builder.shared
        self._around = self._shared.around
        self._root = self._around.root
        self._id = job
        self._tasks = tasks
        self._run = run_id()
        self._tally = Tally()
        self._started = time.monotonic()
        self._goes_on = False  # from what earlier runs built, that were not promoted
        self.is_to_stop = False
        self._running: asyncio.Task[None] | None = None

    def stop(self) -> None:
        """Give up what is under way, as Ctrl-C would, and leave the job stopped. Without effect
        once the tasks have ended: the job is about to be promoted, or rejected."""
        if not self.is_to_stop:
            self.is_to_stop = True
            if self._running is not None:
                self._running.cancel()

    async def run(self) -> JobResult:
        options = self._shared.options
        lookup.refuse_keys(self._id, self._around.config.environment)
        lookup.refuse_links(self._root, self._id)
        lifecycle.note_abandoned(self._root, self._id)  # also where nothing is built
        self._around.look_for_frozen()
        promotion.finish_promotion(self._root, self._id, self._builder.previous_kept)
        # Another command may have built it while this one waited for the lock.
        job = lookup.find(self._id, self._around)
        if job.bad_seed is not None:
            return self._reject_seed(job)
        assert job.seed is not None
        broken = job.broken or self._builder.broken.get(job.seed.get("pipeline", DEFAULT_PIPELINE))
        if broken is not None:
            path = self._show(job.folder) if job.folder else None
            return JobResult(self._id, "stopped", path=path, error=broken, spares_others=True)
        assert job.pipeline is not None
        if job.exam is not None and job.folder is not None and not self._asked_for:
            if job.up_to_date:
                lifecycle.refresh_seed(self._root, job.folder, job.seed)
                return JobResult(self._id, "up to date", path=self._show(job.exam.folder))
            if job.state == REJECTED:
                rejection = read_json(job.exam.folder.rejection)
                stands = lookup.rejection_stands(job.exam, rejection)
                if stands is not None:
                    lifecycle.refresh_seed(self._root, job.folder, job.seed)
                    problems = tuple(Problem.from_json(each) for each in rejection["problems"])
                    return JobResult(
                        self._id,
                        "unchanged",
                        path=self._show(job.exam.folder),
                        task=stands,
                        problems=problems,
                    )
        if job.exam is not None and job.folder is not None:
            for task in job.pipeline.tasks:
                self._check_edit(job.exam, task)
        last_seed = read_json(job.folder.seed) if job.folder is not None else None
        source = lookup.seed_source(self._root, self._id, job.folder)  # before pending/ is emptied
        folder = await asyncio.to_thread(self._prepare, job)
        opened = open_job.open_job(folder, self._id, self._run, job.seed, job.pipeline, source)
        exam = examine(folder, job.seed, job.pipeline, self._around, last_seed)
        for name in options.fresh:
            self._draw_again(exam, name)
        return await self._drive(job, opened, exam)

    # Before.

    @property
    def _asked_for(self) -> bool:
        """Whether a person wants something built that is up to date."""
        return self._shared.options.always or bool(self._shared.options.fresh)

    def _draw_again(self, exam: Exam, name: str) -> None:
        """Let a task draw the sample after its last one."""
        number = exam.draw_again(exam.pipeline.task(name))
        self._shared.samples.set(self._id, name, number)
        exam.asked[name] = FRESH
        for task in exam.pipeline.in_order:
            exam.look(task)

    def _reject_seed(self, job: Job) -> JobResult:
        assert job.bad_seed is not None
        root, folder = self._root, job.folder
        if disk.stands(root.seed(self._id)) or disk.stands(root.pending(self._id)):
            folder = promotion.reject_seed(root, self._id, job.bad_seed)
        return JobResult(
            self._id,
            "rejected",
            path=self._show(folder) if folder else None,
            problems=job.bad_seed.problems,
            notes=(f"{job.bad_seed.where} is not a valid seed",),
        )

    def _check_edit(self, exam: Exam, task: Task) -> None:
        """An artifact edited by hand is a decision of a person: never overwritten unasked."""
        verdict = exam.verdicts[task.id]
        options = self._shared.options
        if not verdict.edited or (options.discard_edits and not verdict.frozen):
            return
        where = {"job": self._id, "artifact": self._root.show(exam.folder.artifact(task.artifact))}
        if verdict.stale and not options.keep_edits:
            raise StoppedError(
                "an artifact was edited by hand, and its task is stale too",
                {**where, "task": task.id, "stale": str(verdict)},
                hint="--keep-edits keeps the file as it is, --discard-edits builds it anew",
            )
        problems = self._judge_file(exam, task)
        if problems:
            raise GateError(
                "an artifact was edited by hand and does not pass its gate",
                {**where, **{f"problem {n}": each for n, each in enumerate(problems, 1)}},
                hint="mend the file"
                + ("" if verdict.frozen else ", or --discard-edits to build it anew"),
            )

    def _judge_file(self, exam: Exam, task: Task) -> tuple[Problem, ...]:
        if exam.digests[task.id] is None or task.id not in exam.artifacts:
            return (Problem("the artifact is missing"),)
        value = exam.artifacts[task.id]
        if value is None:
            return (Problem("the file is not valid JSON"),)
        schema, _ = self._around.schema(task)
        return gate.judge(value, schema) if schema else ()

    def _prepare(self, job: Job) -> JobFolder:
        """The job's directory in current/, with today's seed in it."""
        assert job.seed is not None
        current = self._root.job(CURRENT, self._id)
        if job.matches:
            for state in (CURRENT, REJECTED):  # as where there is nothing to do
                originals.discard_original(self._root, self._root.job(state, self._id))
        self._goes_on = current.path.is_dir() or job.state == REJECTED
        if not current.path.is_dir():
            if job.state == REJECTED and job.folder is not None:
                disk.rename_new(job.folder.path, current.path)
            elif job.folder is not None:
                # A copy: the good result stands until a better one passes every gate.
                disk.copy_folder(job.folder.path, current.path)
            elif not self._root.pending(self._id).exists():
                data = disk.read(self._root.seed(self._id), max_bytes=jsonio.MAX_BYTES)
                lifecycle.queue_seed(self._root, self._id, data)
        originals.keep_original(self._root, current)
        lifecycle.claim(self._root, self._id)
        disk.remove(current.rejection)
        if not lookup.holds_seed(current, job.seed):
            lifecycle.write_seed(current, job.seed)
        lifecycle.finish_claim(current)
        return current

    # The build.

    async def _drive(self, job: Job, opened: OpenJob, exam: Exam) -> JobResult:
        selected = None
        if self._tasks is not None:
            selected = [schedule.name_of(self._id, name) for name in self._tasks]
        reasons = {name: str(each) for name, each in exam.verdicts.items() if each.stale}
        self._shared.events.job_started(self._id, self._run, reasons)
        opened.catch_up(exam)

        check = functools.partial(self._builder.claims.check, self._id)
        under_way: list[str] = []  # the tasks that the disk cut short
        held: list[str] = []  # the tasks that wait for a person's word about one above

        def decide(name: str) -> Verdict:
            return exam.look(exam.pipeline.task(name))

        async def execute(doit_task: DoitTask) -> BaseFail | None:
            task = exam.pipeline.task(doit_task.name.partition(":")[2])
            check()
            if exam.held_by(task):
                held.append(task.id)
                return None  # no failure: what does not need that word goes on
            build = TaskBuild(self._shared, self._run, opened, exam, task, self._tally, check)
            try:
                return await build.run()
            except OSError:
                under_way.append(task.id)
                raise

        control = TaskControl(schedule.doit_tasks(exam, decide))
        control.process(selected)
        always, builder = self._shared.options.always, self._builder

        def stopped() -> bool:
            return builder.stopping or exam.refused is not None

        runner = AsyncRunner(schedule.dependencies(), execute, stopped, always)
        self._running = asyncio.ensure_future(runner.run(control))
        if self.is_to_stop:
            self._running.cancel()
        try:
            await self._running
        except asyncio.CancelledError:
            if not self.is_to_stop or _is_cancelled():
                opened.leave(self._left, "interrupted")
                raise
            opened.leave(states.STOPPED, SAID)
            return self._result("stopped", opened.folder, notes=(SAID,), spares_others=True)
        except FencedError:
            raise  # it is another worker's now: not a word more is written here
        except PopbuildError as error:
            opened.leave(states.WAITING, error.message)
            return self._result("waiting", opened.folder, error=error)
        except Exception as error:  # a full disk, or a mistake of ours
            ours, cut_short = in_our_words(error), ", ".join(under_way)
            if cut_short:
                ours.values.setdefault("task", cut_short)
            opened.leave(states.FAILED, ours.message)
            return self._result("failed", opened.folder, task=cut_short or None, error=ours)
        with self._builder.claims.final(self._id):
            return await asyncio.to_thread(self._finish, opened, exam, held)

    def _finish(self, opened: OpenJob, exam: Exam, held: list[str]) -> JobResult:
        """Promote, reject, or leave the job in current/."""
        tally, folder = self._tally, opened.folder
        # One time, for all files that tell of this end.
        ended: dict[str, Any] = {"finishedAt": timestamp(), "usage": tally.usage.as_json()}
        if tally.failure is not None:
            message = redact(tally.failure.message, self._around.config.environment)
            opened.change(lambda each: states.move_job(each, states.FAILED, error=message, **ended))
            return self._result("failed", folder, task=tally.failed_task, error=tally.failure)
        body = tally.rejection
        if body is None and exam.refused is not None:
            body = promotion.refusal_body(exam, exam.refused, self._run)
        if body is None:
            stays = self._stays(opened, exam, held, ended)
            if stays is not None:
                return stays
            body = self._last_look(exam)
        if body is not None:
            return self._reject(opened, body, ended)
        opened.change(lambda each: states.move_job(each, states.COMPLETE, **ended), sync=True)
        line = self._run_line(exam, ended["finishedAt"])
        target = promotion.promote(self._root, folder, line, self._builder.previous_kept)
        return self._result("complete", target, frozen=exam.frozen)

    def _stays(
        self, opened: OpenJob, exam: Exam, held: list[str], ended: Mapping[str, Any]
    ) -> JobResult | None:
        """The result for a job that stays in current/, since something is left to be done, or to be
        decided by a person; None for one that is done."""
        folder, stopped = opened.folder, self._tally.stopped
        if self._builder.draining and self._could_go_on(exam):
            opened.change(lambda each: states.move_job(each, states.RUNNING))
            return self._result("stopped", folder, notes=("taken up again at the next start",))
        if stopped is not None:
            message = stopped.message
            state = states.STOPPED if isinstance(stopped, BudgetError) else states.WAITING
            opened.change(lambda each: states.move_job(each, state, error=message, **ended))
            return self._result(state, folder, error=stopped)
        if self._builder.claims.is_shared():
            # Whoever was given up for lost may have written here as well: what counts is the disk.
            for task in exam.pipeline.in_order:
                exam.look(task)
        asked = exam.questions
        if asked and (held or exam.up_to_date()):
            opened.change(lambda each: states.move_job(each, states.WAITING, **ended))
            return self._result("waiting", folder, questions=asked, spares_others=True)
        if not exam.up_to_date():
            opened.change(lambda each: states.move_job(each, states.STOPPED, **ended))
            return self._result("built" if self._tasks is not None else "stopped", folder)
        return None

    def _last_look(self, exam: Exam) -> dict[str, Any] | None:
        """Judge every main artifact once more: the body of a rejection, None if all pass."""
        for task in exam.pipeline.tasks:
            found = self._judge_file(exam, task)
            if found:
                stage = "finalValidation"
                return promotion.rejection(self._id, self._run, task.id, stage, found, None, 0, {})
        return None

    def _reject(self, opened: OpenJob, body: dict[str, Any], ended: Mapping[str, Any]) -> JobResult:
        opened.change(lambda each: states.move_job(each, states.REJECTED, **ended), sync=True)
        body |= {"rejectedAt": ended["finishedAt"], "usage": self._tally.usage.as_json()}
        target = promotion.promote_to_rejected(self._root, opened.folder, body)
        problems = tuple(Problem.from_json(each) for each in body["problems"])
        return self._result("rejected", target, task=body["task"], problems=problems)

    def _could_go_on(self, exam: Exam) -> bool:
        """Whether something is left to be built, or promoted, without a person's word."""
        left = [task for task in exam.pipeline.tasks if not exam.up_to_date([task.id])]
        return bool(left) and not all(exam.held_by(task) for task in left)

    @property
    def _left(self) -> str:
        """The state of a job that is cut short."""
        return states.RUNNING if self._builder.draining else states.STOPPED

    def _run_line(self, exam: Exam, finished_at: str) -> dict[str, Any]:
        """A line of runs.jsonl (storage format, section 8); totals are those of this run."""
        earlier = self._built_earlier(exam) if self._goes_on else {}
        return {
            "name": exam.seed["name"],
            "pipelineId": self._run,
            "id": self._id,
            "finishedAt": finished_at,
            "tasks": list(exam.pipeline.names),
            "totalExecutionTime": round(self._tally.execution_ms, 2),
            "totalRefinementAttempts": self._tally.refinements,
            "finalArtifacts": list(exam.pipeline.names),
            "built": self._tally.built,
            **({"earlier": earlier} if earlier else {}),
            "usage": self._tally.usage.as_json(),
        }

    def _built_earlier(self, exam: Exam) -> dict[str, str]:
        """The tasks that an earlier run built, which was not promoted and has no line of its own,
        each with that run: their results are promoted now."""
        good = self._root.job(COMPLETE, self._id)
        found: dict[str, str] = {}
        for task, letter in exam.letters.items():
            run = letter.body.get("pipelineId") if letter is not None else None
            if run is None or run == self._run:
                continue
            last = read_letter(good, task)
            if last is None or last.body.get("pipelineId") != run:
                found[task] = run
        return found

    def _result(self, outcome: str, folder: JobFolder, **more: Any) -> JobResult:
        return JobResult(
            self._id,
            outcome,
            run=self._run,
            built=tuple(self._tally.built),
            usage=self._tally.usage,
            duration_ms=round((time.monotonic() - self._started) * 1000, 1),
            path=self._show(folder),
            **more,
        )

    def _show(self, folder: JobFolder) -> str:
        return self._root.show(folder.path)


def _is_cancelled() -> bool:
    """Whether this very asyncio task was cancelled, and not one that it waits for."""
    this = asyncio.current_task()
    return this is not None and this.cancelling() > 0
