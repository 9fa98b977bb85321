"""Jobs on a cluster: the one importer of Dask Distributed, which schedules, retries and scales.

This process is the coordinator: it holds the lock of each job that it has handed out. A worker
builds in the shared root under a fencing number. A worker that the scheduler gave up for lost but
that is alive promotes nothing; its answers are in the store.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import distributed

from popbuild.base import errors
from popbuild.base.errors import PopbuildError, shown_error
from popbuild.base.paths import Root
from popbuild.build.events import Events, Forwarded, JobResult, shown_by
from popbuild.build.nothing_to_do import Options
from popbuild.build.workshop import WORKSHOP
from popbuild.jobs import lifecycle
from popbuild.jobs.build_order import BuildOrder
from popbuild.jobs.claims import Claims, Fenced
from popbuild.jobs.selection import Selection
from popbuild.jobs.surroundings import Surroundings

LOCAL_CLUSTER = "local"  # workers on this machine, for as long as the command runs
_HERE = "127.0.0.1"
_IN_FLIGHT = 8
_POLL_S = 0.1
_CONNECT_S = 10.0
_ENDED = "ended"  # beside the names of events
_AHEAD = 2  # jobs handed out, for each that can be built at a time: workers never wait for one


def build_on_cluster(
    selection: Selection,
    order: BuildOrder,
    around: Surroundings,
    claims: Claims,
    options: Options,
    events: Events,
) -> dict[str, JobResult]:
    """Build jobs on the cluster that the options name."""
    with _client(options.cluster or LOCAL_CLUSTER, options.in_flight or _IN_FLIGHT) as client:
        together = sum(client.nthreads().values())
        shared = replace(options, spending_name=secrets.token_hex(4), together=together)
        return _Coordinator(client, around.root, claims, shared, events, order).run(selection)


@contextlib.contextmanager
def _client(address: str, in_flight: int) -> Iterator[distributed.Client]:
    with contextlib.ExitStack() as stack:
        if address == LOCAL_CLUSTER:
            count = min(os.cpu_count() or 1, in_flight)
            cluster = distributed.LocalCluster(
                host=_HERE,
                n_workers=count,
                threads_per_worker=-(-in_flight // count),
                dashboard_address=None,
            )
            address = stack.enter_context(cluster).scheduler_address
        try:
            client = distributed.Client(address, timeout=_CONNECT_S)
        except (OSError, ValueError) as error:
            raise errors.UsageError(
                "no Dask scheduler answers there",
                {"--dask": address, "found": shown_error(error)},
                hint="dask scheduler starts one; --dask local needs none",
            ) from None
        yield stack.enter_context(client)


@dataclass(eq=False)
class _Coordinator:
    """One command's jobs, from its locks to their results."""

    client: distributed.Client
    root: Root
    claims: Claims
    options: Options
    events: Events
    order: BuildOrder
    results: dict[str, JobResult] = field(default_factory=dict)
    futures: dict[distributed.Future[JobResult], str] = field(default_factory=dict)
    said: dict[str, JobResult] = field(default_factory=dict)
    stopping: bool = False

    @property
    def _topic(self) -> str:
        return f"popbuild-{self.options.spending_name}"

    def run(self, selection: Selection) -> dict[str, JobResult]:
        self.client.subscribe_topic(self._topic, self._tell)
        waiting = dict(selection)
        told: set[str] = set()
        try:
            while (waiting and not self.stopping) or self.futures:
                self._hand_out(waiting, told)
                self._take_back()
        finally:
            # Interrupted: a worker that goes on elsewhere has lost its claim.
            for future, job in self.futures.items():
                future.cancel()
                Fenced(self.root).acquire(job)
                lifecycle.note_abandoned(self.root, job)
                self.claims.release(job)
        for job in waiting:
            self.results[job] = JobResult(job, "stopped", notes=("not started",))
        return self.results

    def _hand_out(self, waiting: dict[str, tuple[str, ...] | None], told: set[str]) -> None:
        room = _AHEAD * max(1, sum(self.client.nthreads().values())) - len(self.futures)
        for job in list(waiting) if not self.stopping else ():
            if room <= 0:
                return
            if not all(each in self.results for each in self.order.after.get(job, ())):
                continue  # it is over these
            if not self.claims.acquire(job):
                if not self.options.wait:
                    error = errors.LockedError("another command builds this job", {"job": job})
                    self._end(JobResult(job, "stopped", error=error))
                    del waiting[job]
                elif job not in told:
                    self.events.waiting_for_lock(job)
                    told.add(job)
                continue
            future = self.client.submit(
                build_job,
                self.root,
                job,
                waiting.pop(job),
                self.options,
                shown_by(self.events),
                self._topic,
                job not in self.order.added,
                key=f"{self._topic}-{job}",
                pure=False,
            )
            self.futures[future] = job
            room -= 1

    def _take_back(self) -> None:
        if not self.futures:
            time.sleep(_POLL_S)  # other commands build all that is left
            return
        with contextlib.suppress(TimeoutError):
            distributed.wait(list(self.futures), timeout=_POLL_S, return_when="FIRST_COMPLETED")
        for future, job in list(self.futures.items()):
            # What a worker said stands. A result that it died with is computed anew, by another
            # worker, which finds the job complete.
            result = self.said.pop(job, None)
            if result is None and future.status in ("pending", "lost"):
                continue
            result = result or _result_of(future, job)
            del self.futures[future]
            self.claims.release(job)
            self._end(result)

    def _end(self, result: JobResult) -> None:
        self.results[result.id] = result
        self.events.job_done(result)
        goes_on = self.options.continue_ or result.id in self.order.left_out
        self.stopping = self.stopping or result.ends_command(goes_on)

    def _tell(self, event: tuple[float, Any]) -> None:
        name, values = pickle.loads(event[1])  # noqa: S301 - from our own workers
        if name == _ENDED:
            # A worker that was given up and woke up speaks of itself: the job goes on elsewhere.
            if not isinstance(values[0].error, errors.FencedError):
                self.said[values[0].id] = values[0]
        else:
            getattr(self.events, name)(*values)


def _result_of(future: distributed.Future[JobResult], job: str) -> JobResult:
    if future.status == "finished":
        return future.result()
    error = future.exception() if future.status == "error" else None
    if isinstance(error, PopbuildError):
        return JobResult(job, "stopped", error=error)
    if isinstance(error, distributed.KilledWorker):
        found = f"{error.allowed_failures + 1} workers died while they built it"
        failure: PopbuildError = errors.TaskError("the cluster gave the job up", {"found": found})
    elif error is not None:
        failure = errors.ProviderError(
            "a worker of the cluster failed", {"found": shown_error(error)}
        )
    else:
        failure = errors.ProviderError("the cluster lost the job", {"status": future.status})
    return JobResult(job, "failed", error=failure)


# On a worker.


def build_job(
    root: Root,
    job: str,
    tasks: tuple[str, ...] | None,
    options: Options,
    told: tuple[str, ...],
    topic: str,
    is_named: bool,
) -> JobResult:
    """Build one job, in this process's event loop. One of Dask's threads waits for it."""
    worker = distributed.get_worker()
    shared = replace(options, in_flight=worker.state.nthreads)

    def send(name: str, values: tuple[Any, ...]) -> None:
        worker.log_event(topic, pickle.dumps((name, values)))

    with WORKSHOP.open(root, shared, Forwarded(send, told), topic) as build:
        result = build(job, tasks, is_named)
    send(_ENDED, (result,))
    return result
