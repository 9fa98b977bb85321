"""How a build is shown: plain lines, and on a terminal also a line for each running task."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TextIO

from popbuild.base.errors import LockedError, describe, printable
from popbuild.base.paths import Root, artifact_place
from popbuild.base.printing import show_traceback, write_nowhere
from popbuild.base.redact import redact
from popbuild.base.roots import as_seen
from popbuild.base.units import fit_line, money, seconds, tokens
from popbuild.build.events import Events, JobResult
from popbuild.model.letter import Usage
from popbuild.model.problem import Problem

if TYPE_CHECKING:
    from popbuild.query.planned import PlannedJob

_REPAINT_S = 0.25
_MAX_PROBLEMS = 10
_MAX_JOBS = 10
_HELD = 100  # lines about jobs with nothing to do that are printed at once


def choose_printer(as_json: bool, root: Root) -> Events:
    """The printer for where the output goes; with --json progress goes to stderr."""
    stream = sys.stderr if as_json else sys.stdout
    if stream.isatty() and os.environ.get("TERM") != "dumb":
        return Terminal(stream, root)
    return Plain(stream, root)


def used(usage: Usage) -> str:
    """`118 tokens (40 cached), $0`, `from the store`."""
    if not usage.calls:
        return "from the store" if usage.stored_calls else "no call"
    parts = [f"{tokens(usage.tokens)}{usage.parts}", money(usage.cost)]
    if usage.counted_calls:
        parts.append("counted by us")
    if usage.stored_calls:
        parts.append(f"{usage.stored_calls} from the store")
    return ", ".join(parts)


class Plain(Events):
    """A line for everything that ends."""

    def __init__(self, stream: TextIO, root: Root) -> None:
        self._stream = stream
        self._root = root  # whose jobs they are, for the commands in hints
        self._lock = threading.RLock()  # tasks end in threads of their own
        self._held: list[str] = []

    def line(self, text: str) -> None:
        with self._lock:
            text = "\n".join([*self._held, text])
            self._held.clear()
            try:
                self._stream.write(redact(text, os.environ) + "\n")
                self._stream.flush()
            except BrokenPipeError:  # the reader went away: what is paid for is built all the same
                write_nowhere(self._stream)

    def close(self) -> None:
        if self._held:
            self.line(self._held.pop())

    def waiting_for_lock(self, job: str) -> None:
        self.line(f"{job}: waiting for another command that builds this job")

    def waiting_for_provider(self, reason: str, seconds: float) -> None:
        self.line(f"{reason}: trying again in {seconds:.1f} s")

    def store_trouble(self, text: str) -> None:
        self.line(f"warning: {text}")

    def note(self, text: str) -> None:
        self.line(text)

    def left(self, jobs: Sequence[str]) -> None:
        shown = ", ".join(jobs[:_MAX_JOBS])
        more = f" and {len(jobs) - _MAX_JOBS} more" if len(jobs) > _MAX_JOBS else ""
        self.line(f"left by the budget: {shown}{more}; the next run goes on from here")

    def confirm(self, planned: Sequence[PlannedJob]) -> bool | None:
        from popbuild.query.planned import plan_lines

        for text in plan_lines(planned):
            self.line(text)
        if not sys.stdin.isatty():
            return None
        self._stream.write("Build? [y/N] ")
        self._stream.flush()
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    def job_started(self, job: str, run: str, reasons: Mapping[str, str]) -> None:
        self.line(f"{job}: {run}")

    def task_started(self, job: str, task: str, reason: str) -> None:
        self.line(fit_line(f".  {job}:{task}  ", reason))

    def task_done(
        self, job: str, task: str, usage: Usage, duration_ms: float, refinements: int
    ) -> None:
        refined = f", {refinements} refinement{'s' * (refinements > 1)}" if refinements else ""
        self.line(f"   {job}:{task}  {seconds(duration_ms)}, {used(usage)}{refined}")

    def task_skipped(self, job: str, task: str, reason: str) -> None:
        self.line(fit_line(f"   {job}:{task}  skipped: ", reason))

    def task_kept(self, job: str, task: str) -> None:
        self.line(f"   {job}:{task}  kept as edited by hand")

    def task_frozen(self, job: str, task: str) -> None:
        self.line(f"   {job}:{task}  frozen: left as it is")

    def task_failed(self, job: str, task: str, message: str) -> None:
        self.line(f"!  {job}:{task}  {message}")

    def job_done(self, result: JobResult) -> None:
        *before, last = _ending(result)
        for text in before:
            self.line(as_seen(self._root, text) if text.startswith("hint: ") else text)
        with self._lock:
            if result.outcome == "up to date" and len(self._held) < _HELD:
                # Of ten thousand such lines, each would be searched for keys by itself.
                self._held.append(last)
            else:
                self.line(last)


def _ending(result: JobResult) -> list[str]:
    job = result.id
    frozen = f", frozen: {', '.join(result.frozen)}" if result.frozen else ""
    where = [f"  -> {result.path}"] if result.path else []
    at = f" at {result.task}" if result.task else ""
    match result.outcome:
        case "up to date":
            measured = f", scores measured: {', '.join(result.measured)}" if result.measured else ""
            return [f"-- {job}  up to date{measured}{frozen}"]
        case "complete":
            what = f"{seconds(result.duration_ms)}, {used(result.usage)}"
            return [f"{job}: complete, {what}{frozen}", *where]
        case "built":
            return [f"{job}: {', '.join(result.built) or 'nothing'} built", *where]
        case "rejected" | "unchanged":
            head = f"{job}: rejected{at}"
            if result.outcome == "unchanged":
                head += ", and nothing changed since: not bought again"
            head = ": ".join([head, *result.notes])
            lines = [head, *_listed(result.problems)]
            if result.notes:
                lines.append("hint: mend the seed and run the job again")
            if result.task:
                lines.append(f"hint: change something, or popbuild retry {job} for another draw")
            return [*lines, *where]
        case "failed":
            return [f"{job}: failed{at}", *where]
        case "waiting" if result.questions:
            return list(_asked(result))
        case _ if isinstance(result.error, LockedError):
            return [f"{job}: built by another command"]
        case _:
            head = ": ".join([f"{job}: {result.outcome}", *result.notes])
            return [head, *where]


def _asked(result: JobResult) -> Iterator[str]:
    """The questions, what to look at, and how to answer."""
    job = result.id
    yield f"{job}: waiting for a person"
    for question in result.questions:
        first, *rest = question.message.strip().splitlines() or [""]
        yield f"  {question.task}: {printable(first)}"
        yield from (f"    {printable(line)}" for line in rest)
        for name in question.artifacts:
            yield f"    {result.path}/{artifact_place(name)}"
    task = f" --task {result.questions[0].task}" if len(result.questions) > 1 else ""
    yield f"hint: popbuild approve {job}{task}, or popbuild reject {job}{task} --note TEXT"
    yield f"  -> {result.path}"


def _listed(problems: Sequence[Problem]) -> list[str]:
    lines = [f"  {problem}" for problem in problems[:_MAX_PROBLEMS]]
    if len(problems) > _MAX_PROBLEMS:
        lines.append(f"  and {len(problems) - _MAX_PROBLEMS} more, see rejection.json")
    return lines


class Terminal(Plain):
    """Plain lines scroll; below them stands a line for each running task, with its stage."""

    def __init__(self, stream: TextIO, root: Root) -> None:
        super().__init__(stream, root)
        self._running: dict[tuple[str, str], tuple[float, str, int]] = {}
        self._painted = 0
        self._used = Usage()
        self._ended = threading.Event()
        self._painter: threading.Thread | None = None

    def line(self, text: str) -> None:
        with self._lock:
            self._erase()
            super().line(text)
            self._paint()

    def task_started(self, job: str, task: str, reason: str) -> None:
        with self._lock:
            self._running[job, task] = (time.monotonic(), "", 0)
            if self._painter is None:
                self._painter = threading.Thread(target=self._repaint, daemon=True)
                self._painter.start()
        super().task_started(job, task, reason)

    def stage(self, job: str, task: str, stage: str, cycle: int) -> None:
        with self._lock:
            started = self._running.get((job, task), (time.monotonic(), "", 0))[0]
            self._running[job, task] = (started, stage, cycle)

    def task_done(
        self, job: str, task: str, usage: Usage, duration_ms: float, refinements: int
    ) -> None:
        with self._lock:
            self._running.pop((job, task), None)
            self._used += usage
        super().task_done(job, task, usage, duration_ms, refinements)

    def task_failed(self, job: str, task: str, message: str) -> None:
        with self._lock:
            self._running.pop((job, task), None)
        super().task_failed(job, task, message)

    def task_skipped(self, job: str, task: str, reason: str) -> None:
        with self._lock:
            self._running.pop((job, task), None)
        super().task_skipped(job, task, reason)

    def close(self) -> None:
        super().close()
        self._ended.set()
        with self._lock:
            self._running.clear()
            self._erase()
            self._stream.flush()

    def _repaint(self) -> None:
        while not self._ended.wait(_REPAINT_S):
            with self._lock:
                if not self._ended.is_set():
                    self._erase()
                    self._paint()
                    self._stream.flush()

    def _erase(self) -> None:
        if self._painted:
            self._stream.write(f"\x1b[{self._painted}F\x1b[J")
            self._painted = 0

    def _paint(self) -> None:
        size = shutil.get_terminal_size()
        rows = list(self._running.items())[: max(1, size.lines // 2)]
        now = time.monotonic()
        for (job, task), (started, stage, cycle) in rows:
            refinement = f", refinement {cycle}" if cycle else ""
            text = f"   {job}:{task}  {stage}{refinement}  {seconds((now - started) * 1000)}"
            self._stream.write(f"\x1b[2m{text[: size.columns - 1]}\x1b[0m\n")
        if rows:
            text = f"   {tokens(self._used.tokens)}, {money(self._used.cost)}"
            self._stream.write(f"\x1b[2m{text[: size.columns - 1]}\x1b[0m\n")
            self._painted = len(rows) + 1


def print_results(
    results: Sequence[tuple[str | None, JobResult]], *, as_json: bool, debug: bool
) -> None:
    """Print the end of a run: errors to stderr, or everything as JSON to stdout. Each result comes
    with the variant that it is of, where there are several."""
    if as_json:
        bodies = [{**_variant(label), **result.as_json()} for label, result in results]
        print(redact(json.dumps(bodies, indent=2), os.environ))
    for label, result in results:
        if result.error is None:
            continue
        if debug and result.error.__cause__ is not None:
            show_traceback(result.error.__cause__)
        values = {**_variant(label), "job": result.id, **result.error.values}
        text = describe(result.error.message, values, result.error.hint)
        print(f"error: {redact(text, os.environ)}", file=sys.stderr)


def _variant(label: str | None) -> dict[str, str]:
    return {} if label is None else {"variant": label}
