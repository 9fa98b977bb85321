"""Builds jobs: takes each job's lock, drives its doit graph, promotes or rejects it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from doit.control import TaskControl
from doit.exceptions import BaseFail
from doit.exceptions import TaskError as DoitTaskError
from doit.exceptions import TaskFailed as DoitTaskFailed
from doit.task import Task as DoitTask

from popbuild import __version__, disk, gate, jobs, jsonio, preview
from popbuild.engine import graph
from popbuild.engine.events import Events, JobResult
from popbuild.engine.runner import AsyncRunner
from popbuild.engine.settle import Options
from popbuild.errors import GateError, InputError, LockedError, PopbuildError, StoppedError
from popbuild.fingerprint import Verdict, fixed
from popbuild.guard import in_our_words
from popbuild.jobs import Exam, Job, OpenJob, Samples, Surroundings
from popbuild.layout import COMPLETE, CURRENT, REJECTED, JobFolder
from popbuild.llm.calls import Calls
from popbuild.model import status as states
from popbuild.model.clock import run_id, timestamp
from popbuild.model.letter import FORMAT_VERSION, Call, Usage, open_letter, seal
from popbuild.model.pipeline import Task
from popbuild.model.problem import Problem
from popbuild.redact import redact
from popbuild.stages.code import Finder
from popbuild.stages.files import Files
from popbuild.stages.runner import Built, NotPassed, Work, run_task

_LOCK_POLL_S = 0.1


class Builder:
    """Builds the jobs of one command inside one event loop."""

    def __init__(
        self,
        around: Surroundings,
        calls: Calls,
        locks: disk.Locks,
        options: Options,
        events: Events,
    ) -> None:
        self.around = around
        self.calls = calls
        self.options = options
        self.events = events
        self.samples = Samples(around.root)
        self.templates = preview.templates_of(around.config)
        self._locks = locks
        self._stopping = False
        Finder(around.config.snapshot).install()

    async def build_all(self, selection: Mapping[str, tuple[str, ...] | None]) -> list[JobResult]:
        """Build jobs, as many at a time as calls may be in flight, early ones first."""
        await asyncio.to_thread(preview.check, self.around, self.templates)
        slots = asyncio.Semaphore(self.calls.limits.in_flight)
        results: dict[str, JobResult] = {}

        async def one(job: str, tasks: tuple[str, ...] | None) -> None:
            async with slots:
                if self._stopping:
                    return
                result = await self.build(job, tasks)
                results[job] = result
                if result.exit_code and not self.options.continue_:
                    self._stopping = True

        try:
            await asyncio.gather(*(one(job, tasks) for job, tasks in selection.items()))
        finally:
            await self.calls.close()
        return [
            results.get(job) or JobResult(job, "stopped", notes=("not started",))
            for job in selection
        ]

    async def build(self, job: str, tasks: tuple[str, ...] | None) -> JobResult:
        """Build one job, or only some of its tasks. An expected failure is a result."""
        told = False
        while not self._locks.acquire(job):
            if not self.options.wait:
                error = LockedError("another command builds this job", {"job": job})
                return self._ended(JobResult(job, "stopped", error=error))
            if not told:
                self.events.waiting_for_lock(job)
                told = True
            await asyncio.sleep(_LOCK_POLL_S)
        try:
            return self._ended(await _JobBuild(self, job, tasks).run())
        except PopbuildError as error:
            return self._ended(JobResult(job, "stopped", error=error))
        except Exception as error:  # a full disk, or a mistake of ours: the other jobs go on
            return self._ended(JobResult(job, "failed", error=in_our_words(error)))
        finally:
            self._locks.release(job)

    @property
    def stopping(self) -> bool:
        """Whether another job failed, so that nothing new should be started."""
        return self._stopping

    def _ended(self, result: JobResult) -> JobResult:
        self.events.job_done(result)
        return result


@dataclass
class _Tally:
    """What the tasks of this run came to."""

    built: list[str] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    execution_ms: float = 0.0
    refinements: int = 0
    rejection: dict[str, Any] | None = None
    failure: PopbuildError | None = None
    failed_task: str | None = None


class _JobBuild:
    """One run of one job. The lock is held."""

    def __init__(self, builder: Builder, job: str, tasks: tuple[str, ...] | None) -> None:
        self._builder = builder
        self._around = builder.around
        self._root = builder.around.root
        self._id = job
        self._tasks = tasks
        self._run = run_id()
        self._tally = _Tally()
        self._started = time.monotonic()

    async def run(self) -> JobResult:
        options = self._builder.options
        self._refuse_links()
        jobs.finish_promotion(self._root, self._id)
        # Another command may have built it while this one waited for the lock.
        job = jobs.find(self._id, self._around)
        if job.bad_seed is not None:
            return self._reject_seed(job)
        assert job.seed is not None
        assert job.pipeline is not None
        if job.exam is not None and job.folder is not None and not options.always:
            if job.up_to_date:
                return JobResult(self._id, "up to date", path=self._show(job.exam.folder))
            if job.state == REJECTED:
                rejection = jobs.read_json(job.exam.folder.rejection)
                stands = jobs.rejection_stands(job.exam, rejection)
                if stands is not None:
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
        folder = await asyncio.to_thread(self._prepare, job)
        opened = jobs.open_job(folder, self._id, self._run, job.seed, job.pipeline)
        exam = jobs.examine(folder, job.seed, job.pipeline, self._around)
        return await self._drive(job, opened, exam)

    # Before.

    def _refuse_links(self) -> None:
        """A job's directory is moved and replaced: it must not stand elsewhere."""
        for state in (CURRENT, COMPLETE, REJECTED):
            folder = self._root.job(state, self._id)
            if folder.path.is_symlink():
                raise InputError(
                    "a job's directory is a symbolic link",
                    {"job": self._id, "link": self._show(folder)},
                    hint="put the directory itself in its place",
                )

    def _reject_seed(self, job: Job) -> JobResult:
        assert job.bad_seed is not None
        root, folder = self._root, job.folder
        if disk.stands(root.seed(self._id)) or disk.stands(root.pending(self._id)):
            folder = jobs.reject_seed(root, self._id, job.bad_seed)
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
        options = self._builder.options
        if not verdict.edited or options.discard_edits:
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
                hint="mend the file, or --discard-edits to build it anew",
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
        if not current.path.is_dir():
            if job.state == REJECTED and job.folder is not None:
                disk.rename_new(job.folder.path, current.path)
            elif job.folder is not None:
                # A copy: the good result stands until a better one passes every gate.
                disk.copy_folder(job.folder.path, current.path)
            else:
                if not self._root.pending(self._id).exists():
                    data = disk.read(self._root.seed(self._id))
                    jobs.submit(self._root, self._id, data)
                jobs.claim(self._root, self._id)
        disk.remove(current.rejection)
        if jobs.read_json(current.seed) != job.seed:
            jobs.write_seed(current, job.seed)
        jobs.finish_claim(current)
        return current

    # The build.

    async def _drive(self, job: Job, opened: OpenJob, exam: Exam) -> JobResult:
        builder = self._builder
        selected = None
        if self._tasks is not None:
            selected = [graph.name_of(self._id, name) for name in self._tasks]
        reasons = {name: str(each) for name, each in exam.verdicts.items() if each.stale}
        builder.events.job_started(self._id, self._run, reasons)
        opened.catch_up(exam)

        def decide(name: str) -> Verdict:
            return exam.look(exam.pipeline.task(name))

        async def execute(doit_task: DoitTask) -> BaseFail | None:
            task = exam.pipeline.task(doit_task.name.partition(":")[2])
            return await _TaskBuild(self._builder, self._run, opened, exam, task, self._tally).run()

        control = TaskControl(graph.tasks_of(exam, decide))
        control.process(selected)
        always = builder.options.always
        runner = AsyncRunner(graph.dependencies(), execute, lambda: builder.stopping, always)
        try:
            await runner.run(control)
        except asyncio.CancelledError:
            opened.change(lambda each: states.move_job(each, states.STOPPED, error="interrupted"))
            raise
        except PopbuildError as error:
            message = error.message
            opened.change(lambda each: states.move_job(each, states.WAITING, error=message))
            return self._result("waiting", opened.folder, error=error)
        return await asyncio.to_thread(self._finish, opened, exam)

    def _finish(self, opened: OpenJob, exam: Exam) -> JobResult:
        """Promote, reject, or leave the job in current/."""
        tally, folder = self._tally, opened.folder
        ended = {"finishedAt": timestamp(), "usage": tally.usage.as_json()}
        if tally.failure is not None:
            message = redact(tally.failure.message, self._around.config.environment)
            opened.change(lambda each: states.move_job(each, states.FAILED, error=message, **ended))
            return self._result("failed", folder, task=tally.failed_task, error=tally.failure)
        if tally.rejection is not None:
            body = tally.rejection
            opened.change(lambda each: states.move_job(each, states.REJECTED, **ended), sync=True)
            body["usage"] = tally.usage.as_json()
            target = jobs.reject(self._root, folder, body)
            problems = tuple(Problem.from_json(each) for each in body["problems"])
            return self._result("rejected", target, task=body["task"], problems=problems)
        if not exam.up_to_date():
            opened.change(lambda each: states.move_job(each, states.STOPPED, **ended))
            outcome = "built" if self._tasks is not None else "stopped"
            return self._result(outcome, folder)
        for task in exam.pipeline.tasks:
            found = self._judge_file(exam, task)
            if found:
                body = jobs.rejection(
                    self._id, self._run, task.id, "finalValidation", found, None, 0, {}
                )
                opened.change(lambda each: states.move_job(each, states.REJECTED, **ended))
                target = jobs.reject(self._root, folder, body)
                return self._result("rejected", target, task=task.id, problems=found)
        opened.change(lambda each: states.move_job(each, states.COMPLETE, **ended), sync=True)
        target = jobs.promote(self._root, folder, self._run_line(opened, exam))
        return self._result("complete", target)

    def _run_line(self, opened: OpenJob, exam: Exam) -> dict[str, Any]:
        """A line of runs.jsonl (storage format, section 8); totals are those of this run."""
        return {
            "name": exam.seed["name"],
            "pipelineId": self._run,
            "id": self._id,
            "finishedAt": timestamp(),
            "tasks": list(exam.pipeline.names),
            "totalExecutionTime": round(self._tally.execution_ms, 2),
            "totalRefinementAttempts": self._tally.refinements,
            "finalArtifacts": list(exam.pipeline.names),
            "built": self._tally.built,
            "usage": self._tally.usage.as_json(),
        }

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


class _TaskBuild:
    """One attempt at one task, from its verdict to its letter."""

    def __init__(
        self,
        builder: Builder,
        run: str,
        opened: OpenJob,
        exam: Exam,
        task: Task,
        tally: _Tally,
    ) -> None:
        self._builder = builder
        self._around = builder.around
        self._events = builder.events
        self._run = run
        self._opened = opened
        self._folder = opened.folder
        self._exam = exam
        self._task = task
        self._tally = tally
        self._id = opened.folder.id

    async def run(self) -> BaseFail | None:
        """None for success; doit's failure for a gate's no or a crash. Raises StoppedError when
        a person must decide about an edit."""
        verdict = self._exam.verdicts[self._task.id]
        options = self._builder.options
        if verdict.edited and not options.discard_edits:
            if verdict.stale and not options.keep_edits:
                raise StoppedError(
                    "an artifact was edited by hand, and its task became stale",
                    {
                        "job": self._id,
                        "task": self._task.id,
                        "artifact": self._around.root.show(
                            self._folder.artifact(self._task.artifact)
                        ),
                        "stale": str(verdict),
                    },
                    hint="--keep-edits keeps the file as it is, --discard-edits builds it anew",
                )
            await asyncio.to_thread(keep, self._folder, self._exam, self._task, self._run, True)
            self._opened.change(lambda each: states.move_task(each, self._task.id, "done"))
            self._exam.look(self._task)
            self._events.task_kept(self._id, self._task.id)
            return None
        return await self._build(verdict)

    async def _build(self, verdict: Verdict) -> BaseFail | None:
        task, folder = self._task, self._folder
        started_at, started = timestamp(), time.monotonic()
        self._events.task_started(self._id, task.id, str(verdict) if verdict.stale else "asked for")
        disk.make_folder(folder.task(task.id))
        jobs.drop_letter(folder, task.id)
        self._opened.change(
            lambda each: states.move_task(each, task.id, "running", startedAt=started_at)
        )
        work: Work | None = None
        try:
            work = self._work()
            outcome = await run_task(work)
        except Exception as error:
            ours = error if isinstance(error, PopbuildError) else in_our_words(error)
            await asyncio.to_thread(self._fail, work, ours, started)
            return DoitTaskError(ours.message)
        if isinstance(outcome, NotPassed):
            await asyncio.to_thread(self._not_passed, work, outcome, started)
            return DoitTaskFailed(f"{task.id} did not pass its gate")
        await self._passed(work, outcome, started_at, started)
        return None

    def _work(self) -> Work:
        task, exam = self._task, self._exam
        schema, schema_files = self._around.schema(task)
        inputs = exam.inputs(task)
        return Work(
            job=self._id,
            run=self._run,
            task=task,
            config=self._around.config,
            templates=self._builder.templates,
            seed=exam.seed,
            artifacts=inputs.artifacts,
            schema=schema,
            schema_files=schema_files,
            files=Files(
                self._folder,
                task.id,
                task.artifact,
                self._owner,
                lambda kind, name: self._opened.add_file(task.id, kind, name),
            ),
            calls=self._builder.calls,
            endpoint=inputs.endpoint,
            weights=inputs.weights,
            first_sample=self._builder.samples.get(self._id, task.id),
            on_stage=lambda stage, cycle: self._events.stage(self._id, task.id, stage, cycle),
        )

    def _owner(self, kind: str, name: str) -> str | None:
        """The task that a file belongs to. Main artifacts belong to their tasks from the start."""
        if kind == "artifacts":
            for task in self._exam.pipeline.tasks:
                if task.artifact.casefold() == name.casefold():
                    return task.id
        return self._opened.owner(kind, name)

    # Afterwards. Each writes in this order: files, log, letter, status. Only what waits for the
    # disk goes to a thread: every system call there gives the interpreter away and must get it
    # back from the event loop, which costs more than a small write.

    async def _passed(self, work: Work, built: Built, started_at: str, started: float) -> None:
        task, folder = self._task, self._folder
        duration_ms = (time.monotonic() - started) * 1000
        commits = self._builder.calls.commits
        await commits.add(work.files.prepare_main(built.output))
        self._opened.drop_old_files(task.id, work.files.written)
        jobs.write_output(folder, task, built.output, self._run)
        self._write_log(work)
        body = seal(
            {
                "formatVersion": FORMAT_VERSION,
                "task": task.id,
                "pipelineId": self._run,
                "fingerprint": self._fingerprint(work),
                "outputs": self._outputs(work, built.output),
                "configuration": dict(task.settings),
                "execution": {
                    "startedAt": started_at,
                    "endedAt": timestamp(),
                    "executionTime": round(duration_ms, 2),
                    "popbuild": __version__,
                },
                "calls": [call.as_json() for call in work.made],
                "usage": Usage.of(work.made).as_json(),
                "refinementAttempts": built.cycles,
                "validation": work.validation,
                "warnings": _warnings(work.made),
                "edited": False,
            }
        )
        # The index of files goes first: after a crash behind the letter nobody writes it again.
        self._opened.change(lambda each: each)
        await commits.add(jobs.prepare_letter(folder, task.id, body))
        letter = open_letter(body, task.id)
        assert letter is not None
        self._exam.settle(task, built.output, letter)
        self._tally.built.append(task.id)
        self._count(work, duration_ms, built.cycles)
        self._end("done", work, duration_ms, built.cycles)
        self._events.task_done(self._id, task.id, Usage.of(work.made), duration_ms, built.cycles)

    def _not_passed(self, work: Work, outcome: NotPassed, started: float) -> None:
        duration_ms = (time.monotonic() - started) * 1000
        self._write_log(work)
        self._count(work, duration_ms, outcome.cycles)
        message = "; ".join(str(problem) for problem in outcome.problems)[:500]
        self._end("error", work, duration_ms, outcome.cycles, message)
        if self._tally.rejection is None:
            self._tally.rejection = jobs.rejection(
                self._id,
                self._run,
                self._task.id,
                outcome.stage,
                outcome.problems,
                outcome.answer,
                outcome.cycles,
                self._fingerprint(work),
                calls=[call.as_json() for call in work.made],
            )
        self._events.task_failed(self._id, self._task.id, message)

    def _fail(self, work: Work | None, error: PopbuildError, started: float) -> None:
        duration_ms = (time.monotonic() - started) * 1000
        error.values.setdefault("task", self._task.id)
        message = redact(str(error), self._around.config.environment)
        if work is not None:
            self._write_log(work)
            self._count(work, duration_ms, 0)
        self._end("error", work, duration_ms, 0, message)
        if self._tally.failure is None:
            self._tally.failure, self._tally.failed_task = error, self._task.id
        self._events.task_failed(self._id, self._task.id, error.message)

    def _end(
        self, state: str, work: Work | None, duration_ms: float, cycles: int, error: str = ""
    ) -> None:
        more: dict[str, Any] = {
            "endedAt": timestamp(),
            "executionTime": round(duration_ms, 2),
            "refinementAttempts": cycles,
            "usage": Usage.of(work.made if work else []).as_json(),
            "artifacts": [
                name
                for name in states.LEGACY_ARTIFACTS
                if (self._folder.task(self._task.id) / name).exists()
            ],
        }
        if error:
            more["error"] = error
        # What follows is the start of the next task, or the end of the job.
        self._opened.change(
            lambda each: states.move_task(each, self._task.id, state, **more), followed=True
        )

    def _count(self, work: Work, duration_ms: float, refinements: int) -> None:
        self._tally.usage += Usage.of(work.made)
        self._tally.execution_ms += duration_ms
        self._tally.refinements += refinements

    def _write_log(self, work: Work) -> None:
        path = self._folder.execution_logs(self._task.id)
        disk.write(path, jsonio.dumps(work.log, sort=False), sync=False)

    def _fingerprint(self, work: Work) -> dict[str, str]:
        return {
            **fixed(self._task, self._exam.inputs(self._task)),
            **work.trace.dependencies(),
        }

    def _outputs(self, work: Work, output: Any) -> dict[str, str]:
        """The main artifact's digest by its value, every other's by its bytes."""
        found = {
            name: jsonio.digest_bytes(disk.read(self._folder.artifact(name)))
            for kind, name in sorted(work.files.written)
            if kind == "artifacts"
        }
        found[self._task.artifact] = jsonio.digest(output)
        return found


def keep(folder: JobFolder, exam: Exam, task: Task, run: str | None, edited: bool) -> None:
    """Write a new letter for what stands there: `accept`, and edits that are kept.

    The dependencies are those of the last letter, with today's digests.
    """
    from popbuild.fingerprint import current

    last = exam.letters[task.id]
    value = exam.artifacts[task.id]
    body = dict(last.body) if last else _empty_letter(task)
    now = current(last.fingerprint if last else {}, task, exam.inputs(task))
    outputs = {**(last.outputs if last else {}), task.artifact: jsonio.digest(value)}
    body.update(fingerprint=now, outputs=outputs, edited=edited or body.get("edited", False))
    if run is not None:
        body["pipelineId"] = run
    if edited:
        jobs.write_output(folder, task, value, run or "")
    jobs.write_letter(folder, task.id, seal(body))


def _empty_letter(task: Task) -> dict[str, Any]:
    """The letter of an artifact that popbuild did not make, before its fingerprint."""
    return {
        "formatVersion": FORMAT_VERSION,
        "task": task.id,
        "fingerprint": {},
        "outputs": {},
        "configuration": dict(task.settings),
        "calls": [],
        "usage": Usage().as_json(),
        "refinementAttempts": 0,
        "validation": [],
        "warnings": [],
        "edited": False,
    }


def _warnings(calls: list[Call]) -> list[str]:
    return list(dict.fromkeys(warning for call in calls for warning in call.warnings))
