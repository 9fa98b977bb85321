"""Worker processes: which worker builds which job, and what follows when a worker crashes.

A worker builds many jobs at a time, since they wait for models. When one dies, any of its jobs may
be at fault: each is built again in its own process. Starts are counted on disk and limited.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from popbuild.base.errors import PopbuildError, TaskError
from popbuild.build.events import Events, JobResult
from popbuild.build.watch import worker
from popbuild.build.watch.worker import Drain, Ready, Retire, Tell, Terms

# More than the limit of a task's starts on disk: this ends what dies outside of any task.
_MAX_CRASHES = 8


@dataclass(eq=False)
class _Worker:
    process: BaseProcess
    connection: Connection
    jobs: set[str] = field(default_factory=set)
    alone: bool = False  # for one job that may have crashed another worker
    ready: bool = False
    retiring: bool = False

    def say(self, message: object) -> None:
        with contextlib.suppress(OSError):  # its death is noticed elsewhere
            self.connection.send(message)


class Pool:
    """Must be used inside one event loop. `size` workers build up to `capacity` jobs each."""

    def __init__(self, terms: Terms, size: int, capacity: int, events: Events) -> None:
        self._terms = terms
        self._size = size
        self._capacity = capacity
        self._events = events
        self._reports: list[JobResult | PopbuildError] = []
        self._workers: list[_Worker] = []
        self._suspects: list[str] = []
        self._crashes: Counter[str] = Counter()
        self._refused = self._ending = False
        self._changed = asyncio.Event()
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(worker.PRELOAD))

    async def start(self) -> None:
        """Start the workers that are missing. Returns when their processes run."""
        while not self._refused and not self._ending and len(self._regular) < self._size:
            await self._start()
        while self._suspects and not self._refused and not self._ending:
            if sum(each.alone for each in self._workers) >= self._size:
                break
            job = self._suspects.pop()
            await self._start(job)

    @property
    def jobs(self) -> set[str]:
        """The jobs that are being built, or will be again after a crash."""
        return {job for each in self._workers for job in each.jobs}.union(self._suspects)

    @property
    def room(self) -> int:
        """How many more jobs the workers can take."""
        ready = [each for each in self._regular if each.ready]
        return 0 if self._ending else sum(self._capacity - len(each.jobs) for each in ready)

    def build(self, job: str) -> None:
        """Give a job to the worker with the fewest. There must be room."""
        ready = [each for each in self._regular if each.ready]
        least = min(ready, key=lambda each: len(each.jobs))
        least.jobs.add(job)
        least.say(job)

    def renew(self) -> None:
        """The configuration changed: workers finish their jobs, and new workers build the next."""
        self._refused = False
        for each in self._workers:
            if not each.retiring:
                each.retiring = True
                each.say(Retire())
        self._changed.set()

    def drain(self, grace_s: float) -> None:
        """Let calls in flight finish, at most so long, and end all workers."""
        self._ending = True
        for each in self._workers:
            each.retiring = True
            each.say(Drain(grace_s))
        self._changed.set()

    def kill(self) -> None:
        """End all workers now. What was acknowledged is on disk."""
        self._ending = True
        for each in self._workers:
            each.process.kill()

    async def changed(self) -> None:
        """Returns when a worker became ready, or ended."""
        await self._changed.wait()
        self._changed.clear()

    def take_reports(self) -> list[JobResult | PopbuildError]:
        """Jobs that ended since the last call, and why workers cannot start before `renew`."""
        reports, self._reports = self._reports, []
        return reports

    @property
    def empty(self) -> bool:
        """Whether no worker runs."""
        return not self._workers

    # Workers come and go.

    @property
    def _regular(self) -> list[_Worker]:
        return [each for each in self._workers if not each.alone and not each.retiring]

    async def _start(self, job: str | None = None) -> None:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=worker.run_worker,
            args=(theirs, self._terms),
            name="popbuild-worker",
            daemon=True,
        )
        # The first one waits until the fork server has loaded litellm.
        await asyncio.to_thread(process.start)
        theirs.close()
        started = _Worker(process, ours, {job} if job else set(), alone=job is not None)
        self._workers.append(started)
        loop = asyncio.get_running_loop()
        loop.add_reader(ours.fileno(), self._listen, started)
        loop.add_reader(process.sentinel, self._died, started)
        if self._ending:
            started.process.kill()

    def _listen(self, each: _Worker) -> None:
        try:
            while each.connection.poll():
                self._take(each, each.connection.recv())
        except (EOFError, OSError):
            asyncio.get_running_loop().remove_reader(each.connection.fileno())

    def _take(self, each: _Worker, message: object) -> None:
        match message:
            case Ready():
                each.ready = True
                if each.alone:
                    for job in each.jobs:
                        each.say(job)
                    each.retiring = True
                    each.say(Retire())
            case PopbuildError():
                each.retiring = True
                self._suspects += each.jobs
                each.jobs.clear()
                if not self._refused:
                    self._refused = True
                    self._reports.append(message)
            case Tell(event=event, values=values):
                getattr(self._events, event)(*values)
            case JobResult():
                each.jobs.discard(message.id)
                self._crashes.pop(message.id, None)
                self._reports.append(message)
        if not isinstance(message, Tell):
            self._changed.set()

    def _died(self, each: _Worker) -> None:
        self._listen(each)  # what it said last
        loop = asyncio.get_running_loop()
        loop.remove_reader(each.process.sentinel)
        with contextlib.suppress(OSError, ValueError):
            loop.remove_reader(each.connection.fileno())
        each.process.join()
        each.connection.close()
        self._workers.remove(each)
        for job in sorted(each.jobs) if not self._ending else ():
            self._crashed(job, each.process.exitcode)
        if not each.ready and not each.retiring and not self._refused:
            self._refused = True
            code = each.process.exitcode
            found = PopbuildError("a worker process cannot start", {"exit code": code})
            self._reports.append(found)
        self._changed.set()

    def _crashed(self, job: str, code: int | None) -> None:
        self._crashes[job] += 1
        if self._crashes[job] < _MAX_CRASHES:
            self._suspects.append(job)
            return
        error = TaskError(
            "the worker process ended again and again while it built this job",
            {"job": job, "times": self._crashes.pop(job), "exit code": code},
        )
        self._reports.append(JobResult(job, "failed", error=error))
