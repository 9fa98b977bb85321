"""How an attempt at a task ends on disk: files, then the log, the letter, and the status.

Only what waits for the disk goes to a thread: every system call there gives the interpreter away
and must get it back from the event loop, which costs more than a small write.
"""

from __future__ import annotations

import asyncio
import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from popbuild import __version__
from popbuild.base import commits, disk, jsonio, tree
from popbuild.base.errors import PopbuildError, StoppedError
from popbuild.base.redact import redact
from popbuild.base.stopwatch import Stopwatch
from popbuild.build import job_run
from popbuild.build.job_run import JobRun, TaskSpent
from popbuild.jobs import fingerprint, job_records, lifecycle, promotion
from popbuild.jobs.item_receipts import ItemReceipts
from popbuild.model import status as states
from popbuild.model.clock import timestamp
from popbuild.model.letter import LETTER_VERSION, Usage, open_letter, seal
from popbuild.model.pipeline import Task
from popbuild.model.problem import MISSING
from popbuild.task.attempt import Built, BuiltItems, NotPassed, Skipped, Work

_MAX_MESSAGE = 500  # characters of problems in a status


@dataclass
class TaskAttempt:
    """One attempt at one task. `watch` measures the task's own work; `work` collects results,
    and so do `receipts` if it has items."""

    run: JobRun
    task: Task
    work: Work | None = None
    receipts: ItemReceipts | None = None
    watch: Stopwatch = field(default_factory=Stopwatch)
    started_at: str = field(default_factory=timestamp)

    async def keep_built(self, work: Work, built: Built) -> job_run.TaskBuilt:
        """The output passed every gate: all files become durable, and the letter after them."""
        run, task, folder = self.run, self.task, self.run.folder
        spent, ended_at = self._spent(built.cycles), timestamp()
        prepared = [work.files.prepare_main(built.output)]
        try:
            run.opened.drop_old_files(task.id, work.files.written)
            lifecycle.write_output(folder, task, built.output, run.id)
            self._write_log()
            outputs = self._outputs(work, built.output)
            body = self._letter(work, ended_at, spent, outputs=outputs)
            if self.receipts is not None and built.items is not None:
                data = self.receipts.final(built.items.keys)
                prepared.append(disk.prepare(folder.items(task.id), data))
                body = with_items(body, built.items, data)
            prepared.append(lifecycle.prepare_letter(folder, task.id, body))
            # No other file is written again once the letter stands.
            others = commits.unsynced(self._unsynced(work))
        except BaseException:
            for each in prepared:
                disk.discard_prepared(each)
            raise
        await run.services.calls.commits.add((others, *prepared))
        receipt = open_letter(body, task.id)
        assert receipt is not None
        run.exam.settle(task, built.output, receipt)
        self._end("done", spent, endedAt=ended_at)
        run.services.events.task_done(
            run.job, task.id, spent.usage, spent.execution_ms, spent.refinements
        )
        return job_run.TaskBuilt(task.id, spent)

    async def keep_skipped(self, work: Work, skipped: Skipped) -> job_run.TaskBuilt:
        """The task's condition is false: what earlier builds made goes, and a letter says why."""
        run, task, folder = self.run, self.task, self.run.folder
        spent, ended_at = self._spent(), timestamp()
        said: dict[str, Any] = {"skipped": True, "reason": skipped.reason}
        run.opened.drop_old_files(task.id, ())
        for path in (
            folder.artifact(task.artifact),
            folder.output(task.id),
            folder.items(task.id),
        ):
            tree.remove(path)
        # After a loss of power, an artifact that came back would look like an edit by hand.
        await asyncio.to_thread(disk.sync_folder, folder.files("artifacts"))
        self._write_log()
        body = self._letter(work, ended_at, spent, configuration={}, **said)
        prepared = lifecycle.prepare_letter(folder, task.id, body)
        others = commits.unsynced(self._unsynced(work))
        await run.services.calls.commits.add((others, prepared))
        receipt = open_letter(body, task.id)
        assert receipt is not None
        run.exam.settle(task, MISSING, receipt)
        self._end("done", spent, endedAt=ended_at, **said)
        run.services.events.task_skipped(run.job, task.id, skipped.reason)
        return job_run.TaskBuilt(task.id, spent)

    def reject(self, work: Work, outcome: NotPassed) -> job_run.TaskRejected:
        """Note that the last try did not pass a gate."""
        task, spent = self.task, self._spent(outcome.cycles)
        message = "; ".join(str(problem) for problem in outcome.problems)[:_MAX_MESSAGE]
        self._end_unbuilt("error", spent, message, error=message)
        more = {"declinedBy": [task.model, *task.fallbacks]} if outcome.declined else {}
        body = promotion.rejection(
            self.run.job,
            outcome.problems,
            pipelineId=self.run.id,
            task=task.id,
            stage=outcome.stage,
            answer=outcome.answer,
            refinementAttempts=outcome.cycles,
            fingerprint=self._fingerprint(work),
            calls=[call.as_json() for call in work.made],
            **more,
        )
        return job_run.TaskRejected(task.id, spent, body)

    def fail(self, error: PopbuildError) -> job_run.TaskFailed:
        """Note that the attempt crashed."""
        task, spent, environment = self.task.id, self._spent(), self.run.services.environment
        error.values.setdefault("task", task)
        more: dict[str, Any] = {"error": redact(str(error), environment)}
        if error.spent or spent.usage.calls:
            entry = self.run.opened.status["tasks"][task]
            said = redact(error.as_line(without=("task", "tries", "retry after")), environment)
            more["failures"] = states.failed_again(entry, said, inputs_digest(self.run, self.task))
        self._end_unbuilt("error", spent, error.message, **more)
        return job_run.TaskFailed(task, spent, error)

    def stop(self, error: StoppedError) -> job_run.TaskStopped:
        """Leave the task pending. Its answers are stored, and the next run continues from there."""
        error.values.setdefault("task", self.task.id)
        spent = self._spent()
        self._end_unbuilt("pending", spent, error.message)
        return job_run.TaskStopped(self.task.id, spent, error)

    def _spent(self, refinements: int = 0) -> TaskSpent:
        usage = Usage.of(self.work.made if self.work else [])
        return TaskSpent(usage, self.watch.worked_ms, refinements)

    def _fingerprint(self, work: Work) -> dict[str, str]:
        return {**fingerprint.fixed(self.task, work.inputs), **work.trace.dependencies()}

    def _letter(self, work: Work, ended_at: str, spent: TaskSpent, **more: Any) -> dict[str, Any]:
        """The letter of an attempt that passed its gate, with `outputs`, or that was skipped, with
        its reason."""
        of_calls = [warning for call in work.made for warning in call.warnings]
        found = self._fingerprint(work)
        if "skipped" in more:
            found = {**fingerprint.of_skipped(self.task), **work.trace.dependencies()}
        jobs = job_records.records_now(found, work.inputs.jobs)
        return seal(
            {
                "formatVersion": LETTER_VERSION,
                "task": self.task.id,
                "pipelineId": self.run.id,
                "fingerprint": found,
                "outputs": {},
                "files": states.by_kind(work.files.written),
                "configuration": self.task.configuration,
                "execution": {
                    "startedAt": self.started_at,
                    "endedAt": ended_at,
                    "executionTime": round(spent.execution_ms, 2),
                    "popbuild": __version__,
                },
                "calls": [call.as_json() for call in work.made],
                "usage": spent.usage.as_json(),
                "refinementAttempts": spent.refinements,
                "validation": work.log.validations,
                "warnings": list(dict.fromkeys([*of_calls, *work.warnings])),
                "edited": False,
                **({"jobs": jobs} if jobs else {}),
                **({"vars": read} if (read := fingerprint.vars_read(found, self.task)) else {}),
                **more,
            }
        )

    def _outputs(self, work: Work, output: object) -> dict[str, str]:
        """The main artifact's digest by its value, every other's by its bytes."""
        main = self.task.artifact
        found = {
            name: jsonio.digest_bytes(disk.read(self.run.folder.artifact(name)))
            for kind, name in sorted(work.files.written)
            if kind == "artifacts" and name != main
        }
        return {**found, main: jsonio.digest(output)}

    def _unsynced(self, work: Work) -> list[Path]:
        """The task's files that are not durable yet. A stage may have removed some."""
        folder, task = self.run.folder, self.task.id
        written = [folder.files(kind) / name for kind, name in sorted(work.files.written)]
        own = [folder.output(task), folder.execution_logs(task)]
        return [path for path in [*written, *own] if disk.is_regular(path)]

    def _write_log(self) -> None:
        if self.work is not None:
            path = self.run.folder.execution_logs(self.task.id)
            disk.write(path, jsonio.dumps(self.work.log.entries, sort=False), sync=False)

    def _end_unbuilt(self, state: str, spent: TaskSpent, said: str, **more: Any) -> None:
        self._write_log()
        self._end(state, spent, **more)
        self.run.services.events.task_failed(self.run.job, self.task.id, said)

    def _end(self, state: str, spent: TaskSpent, error: str = "", **more: Any) -> None:
        task, there = self.task.id, self.run.folder.task(self.task.id)
        more = {
            "endedAt": timestamp(),
            **more,
            "executionTime": round(spent.execution_ms, 2),
            "refinementAttempts": spent.refinements,
            "usage": spent.usage.as_json(),
            "artifacts": [name for name in states.LEGACY_ARTIFACTS if (there / name).exists()],
        }
        if error:
            more["error"] = error
        # What follows is the start of the next task, or the end of the job.
        change = functools.partial(states.move_task, task=task, state=state, **more)
        self.run.opened.change(change, followed=True)


def with_items(body: dict[str, Any], items: BuiltItems, data: bytes) -> dict[str, Any]:
    """A letter that vouches for the receipts of items, which `data` is: they have the calls."""
    found = {"count": len(items.keys), "failed": items.failed, "digest": jsonio.digest_bytes(data)}
    return seal({**body, "items": found, "calls": []})


def inputs_digest(run: JobRun, task: Task) -> str:
    """What failures in a row are counted for: another try makes sense once this has changed."""
    inputs = run.exam.inputs(task)
    known, artifacts = fingerprint.fixed(task, inputs), dict(inputs.artifacts)
    files = {name: each.digest for name, each in inputs.inputs.items()} | dict(inputs.filters)
    # Another try may well be about the fallbacks.
    more = [known, inputs.seed, artifacts, list(task.fallbacks)]
    more += [{name: group.ids for name, group in inputs.jobs.items()}] if inputs.jobs else []
    more += [files] if files else []
    if task.foreach:  # or once more items ended than then
        receipts = disk.stamp(run.folder.items(task.id))
        more.append(receipts and receipts[1])
    return jsonio.digest(more)
