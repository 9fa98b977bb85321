"""Builds one task: runs its stages, writes what they made, the letter last."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from doit.exceptions import BaseFail
from doit.exceptions import TaskError as DoitTaskError
from doit.exceptions import TaskFailed as DoitTaskFailed

from popbuild import __version__
from popbuild.base import disk, jsonio
from popbuild.base.errors import (
    BudgetError,
    DrainingError,
    FencedError,
    PopbuildError,
    StoppedError,
)
from popbuild.base.exit_codes import in_our_words
from popbuild.base.redact import redact
from popbuild.base.stopwatch import Stopwatch
from popbuild.build.events import Events
from popbuild.build.nothing_to_do import Options
from popbuild.jobs import lifecycle, promotion
from popbuild.jobs.examine import Exam, Surroundings
from popbuild.jobs.lifecycle import Samples
from popbuild.jobs.open_job import OpenJob
from popbuild.jobs.staleness import Seen, Verdict, fixed
from popbuild.llm.calls import Calls
from popbuild.model import status as states
from popbuild.model.clock import timestamp
from popbuild.model.letter import LETTER_VERSION, Usage, open_letter, seal
from popbuild.model.pipeline import Task
from popbuild.model.stage_names import STAGES
from popbuild.task.attempt import Built, NotPassed, Work
from popbuild.task.cycle import run_task
from popbuild.task.task_files import Files
from popbuild.task.templates.render import Templates

_MAX_SAME = 3  # failures in a row that cost something, with one error
_MAX_KILLED = 5  # starts in a row whose process was killed
_KILLED = "the process ended before the task did"


@dataclass(frozen=True)
class BuildServices:
    """What all builds of one command have in common."""

    around: Surroundings
    calls: Calls
    options: Options
    events: Events
    samples: Samples
    templates: Templates


@dataclass
class Tally:
    """What the tasks of this run came to."""

    built: list[str] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    execution_ms: float = 0.0
    refinements: int = 0
    rejection: dict[str, Any] | None = None
    failure: PopbuildError | None = None
    failed_task: str | None = None
    stopped: StoppedError | None = None


class TaskBuild:
    """One attempt at one task, from its verdict to its letter. `check` raises FencedError where the
    job was given to somebody else since: nothing more is written."""

    def __init__(
        self,
        shared: BuildServices,
        run: str,
        opened: OpenJob,
        exam: Exam,
        task: Task,
        tally: Tally,
        check: Callable[[], None],
    ) -> None:
        self._shared = shared
        self._around = shared.around
        self._events = shared.events
        self._run = run
        self._opened = opened
        self._folder = opened.folder
        self._exam = exam
        self._task = task
        self._tally = tally
        self._id = opened.folder.id
        self._check = check

    async def run(self) -> BaseFail | None:
        """None for success; doit's failure for a gate's no, a crash, or what a person decides."""
        verdict = self._exam.verdicts[self._task.id]
        options = self._shared.options
        if verdict.frozen and not verdict.edited:
            self._events.task_frozen(self._id, self._task.id)
            return None  # `--always-execute` means everything else
        if verdict.edited and (verdict.frozen or not options.discard_edits):
            if verdict.stale and not options.keep_edits:
                return self._wait_for_a_person(
                    "an artifact was edited by hand, and its task became stale",
                    {
                        "job": self._id,
                        "task": self._task.id,
                        "artifact": self._around.root.show(
                            self._folder.artifact(self._task.artifact)
                        ),
                        "stale": str(verdict),
                    },
                    "--keep-edits keeps the file as it is, --discard-edits builds it anew",
                )
            await _to_its_end(
                asyncio.to_thread(
                    lifecycle.reseal_letter, self._folder, self._exam, self._task, self._run, True
                )
            )
            self._opened.change(lambda each: states.move_task(each, self._task.id, "done"))
            self._exam.look(self._task)
            self._events.task_kept(self._id, self._task.id)
            return None
        failures = self._failures()
        if failures["count"] >= failures["allowed"] and self._task.id not in self._exam.asked:
            return self._wait_for_a_person(
                "the same error came again and again",
                {
                    "job": self._id,
                    "task": self._task.id,
                    "times": failures["count"],
                    "error": failures["error"],
                },
                f"change something, or popbuild retry {self._id} to try all the same",
            )
        return await self._build(verdict)

    def _wait_for_a_person(
        self, message: str, values: dict[str, object], hint: str
    ) -> DoitTaskError:
        self._tally.stopped = self._tally.stopped or StoppedError(message, values, hint)
        return DoitTaskError(message)

    def _failures(self) -> dict[str, Any]:
        """How often in a row this task failed on today's inputs, and how often it may."""
        entry = self._opened.status["tasks"][self._task.id]
        if entry["state"] == "running" or "abandoned" in entry:
            # Whoever started it was killed. Starts are counted, so that a task that takes its
            # process down with it cannot spend without end.
            failures = states.failed_again(entry, _KILLED, self._inputs_digest())
            self._opened.change(
                lambda each: states.move_task(each, self._task.id, "error", failures=failures)
            )
        else:
            failures = entry.get("failures", {"count": 0, "error": "", "inputs": ""})
        if not failures["count"] or failures["inputs"] != self._inputs_digest():
            return {"count": 0, "error": "", "allowed": 1}
        return {**failures, "allowed": _MAX_KILLED if failures["error"] == _KILLED else _MAX_SAME}

    def _inputs_digest(self) -> str:
        inputs = self._exam.inputs(self._task)
        fallbacks = list(self._task.fallbacks)  # which another try may well be about
        return jsonio.digest(
            [fixed(self._task, inputs), inputs.seed, dict(inputs.artifacts), fallbacks]
        )

    async def _build(self, verdict: Verdict) -> BaseFail | None:
        task, folder = self._task, self._folder
        started_at, watch = timestamp(), Stopwatch()
        why = verdict.brief if verdict.stale else "asked for"
        self._events.task_started(self._id, task.id, why)
        disk.make_folder(folder.task(task.id))
        lifecycle.drop_letter(folder, task.id)
        self._opened.change(
            lambda each: states.at_stage(
                states.move_task(each, task.id, "running", startedAt=started_at), task.id, STAGES[0]
            )
        )
        work: Work | None = None
        try:
            work = self._work(watch)
            with watch.measures():
                outcome = await run_task(work)
            self._check()
        except FencedError:
            raise
        except (BudgetError, DrainingError) as error:
            self._check()
            await _to_its_end(asyncio.to_thread(self._stop, work, error, watch.worked_ms))
            return DoitTaskError(error.message)
        except Exception as error:
            self._check()
            ours = error if isinstance(error, PopbuildError) else in_our_words(error)
            await _to_its_end(asyncio.to_thread(self._fail, work, ours, watch.worked_ms))
            return DoitTaskError(ours.message)
        if isinstance(outcome, NotPassed):
            failing = asyncio.to_thread(self._not_passed, work, outcome, watch.worked_ms)
            await _to_its_end(failing)
            return DoitTaskFailed(f"{task.id} did not pass its gate")
        await _to_its_end(self._passed(work, outcome, started_at))
        return None

    def _work(self, watch: Stopwatch) -> Work:
        task, exam = self._task, self._exam
        schema, schema_files = self._around.schema(task)
        inputs = exam.inputs(task)
        return Work(
            job=self._id,
            run=self._run,
            task=task,
            config=self._around.config,
            templates=self._shared.templates,
            seen=Seen.of(task, inputs),
            schema=schema,
            sent_schema=self._around.sent_schema(task),
            schema_files=schema_files,
            files=Files(
                self._opened,
                task,
                {each.artifact: each.id for each in exam.pipeline.tasks},
                self._around.config.environment,
            ),
            calls=self._shared.calls,
            watch=watch,
            place=inputs.place,
            place_of=lambda model: self._around.place_of(model, task.settings),
            first_sample=inputs.sample,
            on_stage=self._at_stage,
            on_lasting=self._opened.show_stage,
        )

    def _at_stage(self, stage: str, cycle: int, waits: bool) -> None:
        self._opened.at_stage(self._task.id, stage)
        if waits:
            self._check()  # before it writes, and before anything is bought
            self._opened.show_stage()
        self._events.stage(self._id, self._task.id, stage, cycle)

    # Afterwards. Each writes in this order: files, log, letter, status. Only what waits for the
    # disk goes to a thread: every system call there gives the interpreter away and must get it
    # back from the event loop, which costs more than a small write.

    async def _passed(self, work: Work, built: Built, started_at: str) -> None:
        task, folder = self._task, self._folder
        duration_ms, ended_at = work.watch.worked_ms, timestamp()
        prepared = [work.files.prepare_main(built.output)]
        try:
            self._opened.drop_old_files(task.id, work.files.written)
            lifecycle.write_output(folder, task, built.output, self._run)
            self._write_log(work)
            body = self._letter(work, built, (started_at, ended_at), duration_ms)
            prepared.append(lifecycle.prepare_letter(folder, task.id, body))
            # Nobody writes the other files again once the letter stands.
            others = disk.unsynced(self._unsynced(work))
        except BaseException:
            for each in prepared:
                disk.discard_prepared(each)
            raise
        await self._shared.calls.commits.add((others, *prepared))
        receipt = open_letter(body, task.id)
        assert receipt is not None
        self._exam.settle(task, built.output, receipt)
        self._tally.built.append(task.id)
        self._count(work, duration_ms, built.cycles)
        self._end("done", work, duration_ms, built.cycles, endedAt=ended_at)
        self._events.task_done(self._id, task.id, Usage.of(work.made), duration_ms, built.cycles)

    def _letter(
        self, work: Work, built: Built, times: tuple[str, str], duration_ms: float
    ) -> dict[str, Any]:
        started_at, ended_at = times
        return seal(
            {
                "formatVersion": LETTER_VERSION,
                "task": self._task.id,
                "pipelineId": self._run,
                "fingerprint": self._fingerprint(work),
                "outputs": self._outputs(work, built.output),
                "files": states.by_kind(work.files.written),
                "configuration": self._task.configuration,
                "execution": {
                    "startedAt": started_at,
                    "endedAt": ended_at,
                    "executionTime": round(duration_ms, 2),
                    "popbuild": __version__,
                },
                "calls": [call.as_json() for call in work.made],
                "usage": Usage.of(work.made).as_json(),
                "refinementAttempts": built.cycles,
                "validation": work.validation,
                "warnings": _warnings(work),
                "edited": False,
            }
        )

    def _not_passed(self, work: Work, outcome: NotPassed, duration_ms: float) -> None:
        self._write_log(work)
        self._count(work, duration_ms, outcome.cycles)
        message = "; ".join(str(problem) for problem in outcome.problems)[:500]
        self._end("error", work, duration_ms, outcome.cycles, message)
        more: dict[str, Any] = {}
        if outcome.declined:
            more["declinedBy"] = [self._task.model, *self._task.fallbacks]
        if self._tally.rejection is None:
            self._tally.rejection = promotion.rejection(
                self._id,
                self._run,
                self._task.id,
                outcome.stage,
                outcome.problems,
                outcome.answer,
                outcome.cycles,
                self._fingerprint(work),
                calls=[call.as_json() for call in work.made],
                **more,
            )
        self._events.task_failed(self._id, self._task.id, message)

    def _fail(self, work: Work | None, error: PopbuildError, duration_ms: float) -> None:
        error.values.setdefault("task", self._task.id)
        message = redact(str(error), self._around.config.environment)
        more: dict[str, Any] = {}
        if work is not None:
            self._write_log(work)
            self._count(work, duration_ms, 0)
        if error.spent or (work is not None and Usage.of(work.made).calls):
            entry = self._opened.status["tasks"][self._task.id]
            said = error.as_line(without=("task", "tries", "retry after"))
            said = redact(said, self._around.config.environment)
            more["failures"] = states.failed_again(entry, said, self._inputs_digest())
        self._end("error", work, duration_ms, 0, message, **more)
        if self._tally.failure is None:
            self._tally.failure, self._tally.failed_task = error, self._task.id
        self._events.task_failed(self._id, self._task.id, error.message)

    def _stop(self, work: Work | None, error: StoppedError, duration_ms: float) -> None:
        """What was bought is stored: the next run goes on from there."""
        error.values.setdefault("task", self._task.id)
        if work is not None:
            self._write_log(work)
            self._count(work, duration_ms, 0)
        self._end("pending", work, duration_ms, 0)
        self._tally.stopped = self._tally.stopped or error
        self._events.task_failed(self._id, self._task.id, error.message)

    def _end(
        self,
        state: str,
        work: Work | None,
        duration_ms: float,
        cycles: int,
        error: str = "",
        **more: Any,
    ) -> None:
        more = {
            "endedAt": timestamp(),
            **more,
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

    def _unsynced(self, work: Work) -> list[Path]:
        """What the task wrote that is not durable yet: a stage may remove what it wrote."""
        folder = self._folder
        written = [folder.files(kind) / name for kind, name in sorted(work.files.written)]
        own = [folder.output(self._task.id), folder.execution_logs(self._task.id)]
        return [path for path in [*written, *own] if disk.is_regular(path)]

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
            if kind == "artifacts" and name != self._task.artifact
        }
        found[self._task.artifact] = jsonio.digest(output)
        return found


async def _to_its_end(writing: Coroutine[Any, Any, object]) -> None:
    """Wait for what is being written, also where this task is stopped meanwhile: the job's lock
    must not be given back before."""
    task = asyncio.ensure_future(writing)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise


def _warnings(work: Work) -> list[str]:
    of_calls = [warning for call in work.made for warning in call.warnings]
    return list(dict.fromkeys([*of_calls, *work.warnings]))
