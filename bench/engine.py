"""What popbuild itself costs a task, with an answer that comes at once. Target: at most 5 ms of
CPU above litellm's own call of the same request, without syncing to disk.

In one process, user and system CPU of all its threads; the provider runs in another and is not
counted. Three kinds of work take turns, so that whatever else the machine does meets all of them:
jobs built with `session.run`, as a command does it; the same with `os.fsync` doing nothing; and
the requests that were just sent, through a bare loop of litellm's calls. The lower quartile over
the rounds, since a busy neighbour makes every instruction dearer, and the median; a first round
imports, connects and does not count. At the end it says where a task's CPU goes: disk, JSON, and so
on.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import helpers
import where

from popbuild.base.paths import Root
from popbuild.build import session
from popbuild.build.nothing_to_do import Options
from popbuild.llm.request import Request

IN_FLIGHT = 8
KINDS = ("popbuild, not syncing", "popbuild", "litellm alone")


@dataclass(frozen=True)
class Took:
    """Milliseconds a task."""

    cpu: float
    wall: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=20, help="a round and kind, of four tasks each")
    parser.add_argument("--rounds", type=int, default=10)
    given = parser.parse_args()
    times = measure(given.jobs, given.rounds)
    cpu = {kind: statistics.quantiles(each.cpu for each in times[kind]) for kind in KINDS}
    shape = f"{given.rounds} rounds of {given.jobs} jobs of {len(helpers.TASKS)} tasks"
    print(f"{shape}, {IN_FLIGHT} in flight")
    print("ms a task               CPU: quartile, median   wall: median")
    for kind in KINDS:
        wall = statistics.median(each.wall for each in times[kind])
        print(f"{kind:<22} {cpu[kind][0]:15.2f} {cpu[kind][1]:8.2f} {wall:14.2f}")
    for name, more, less in (("popbuild above litellm", 0, 2), ("syncing", 1, 0)):
        above = [x - y for x, y in zip(cpu[KINDS[more]], cpu[KINDS[less]], strict=True)]
        print(f"{name:<22} {above[0]:15.2f} {above[1]:8.2f}")
    print("where it goes, not syncing, in a round apart")
    for part, share in parts(2 * given.jobs):
        print(f"{part:<22} {share:15.0%}")


def measure(size: int, rounds: int) -> dict[str, list[Took]]:
    """By kind of work: what each round took, of so many jobs."""
    times: dict[str, list[Took]] = {kind: [] for kind in KINDS}
    with helpers.provider() as environment, helpers.root(2 * size * (rounds + 1)) as folder:
        os.environ.update(environment)
        names = iter(sorted(path.stem for path in (folder / "seeds").iterdir()))
        for number in range(rounds + 1):
            took = _round(folder, [[next(names) for _ in range(size)] for _ in range(2)])
            for kind, each in zip(KINDS, took, strict=True):
                if number:
                    times[kind].append(each)
    return times


def _round(folder: Path, jobs: list[list[str]]) -> tuple[Took, Took, Took]:
    tasks = len(jobs[0]) * len(helpers.TASKS)
    with not_syncing():
        unsynced = measured(lambda: build(folder, jobs[0]), tasks)
    synced = measured(lambda: build(folder, jobs[1]), tasks)
    requests = list(_requests(folder, jobs[1]))
    assert len(requests) == tasks
    return unsynced, synced, measured(lambda: asyncio.run(ask_all(requests)), tasks)


def parts(size: int) -> list[tuple[str, float]]:
    """The parts of what so many jobs take, with their shares of the CPU, the largest first."""
    with helpers.provider() as environment, helpers.root(size + 5) as folder, not_syncing():
        os.environ.update(environment)
        names = sorted(path.stem for path in (folder / "seeds").iterdir())
        build(folder, names[:5])
        with where.sampled() as found:
            build(folder, names[5:])
    total = sum(found.values())
    return [(part, count / total) for part, count in found.most_common()]


@contextlib.contextmanager
def not_syncing() -> Iterator[None]:
    fsync = os.fsync
    os.fsync = lambda file: None
    try:
        yield
    finally:
        os.fsync = fsync


def measured(work: Callable[[], None], tasks: int) -> Took:
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    wall = time.perf_counter() - wall
    # litellm logs in threads of its own, behind the answers: to whom it belongs it shall count.
    time.sleep(0.3)
    cpu = time.process_time() - cpu
    return Took(cpu / tasks * 1000, wall / tasks * 1000)


def build(folder: Path, names: list[str], calls_a_job: int = len(helpers.TASKS)) -> None:
    code, results = session.run(Root(folder), None, names, Options(in_flight=IN_FLIGHT))
    calls = sum(result.usage.calls for result in results)
    if code or calls != len(names) * calls_a_job:
        raise SystemExit(f"exit code {code}, {calls} calls: this measured something else")


def _requests(folder: Path, names: Iterable[str]) -> Iterable[Request]:
    """What was sent for these jobs, from the store."""
    for name in names:
        for task in helpers.TASKS:
            letter = folder / "pipeline-data/complete" / name / "tasks" / task / "letter.json"
            yield stored_request(folder, json.loads(letter.read_bytes())["calls"][0]["request"])


def stored_request(folder: Path, digest: str) -> Request:
    """A request that was sent, from the store."""
    digest = digest.removeprefix("sha256:")
    stored = folder / ".popbuild/store" / digest[:2] / f"{digest[2:]}.json"
    body = json.loads(stored.read_bytes())["request"]
    return Request(body["model"], tuple(body["messages"]), body["settings"], body["schema"])


async def ask_all(requests: list[Request]) -> None:
    from popbuild.llm import client  # sets litellm up as popbuild does

    slots = asyncio.Semaphore(IN_FLIGHT)

    async def ask(request: Request) -> None:
        async with slots:
            await client.litellm.acompletion(
                model=request.model,
                messages=list(request.messages),
                max_retries=0,
                num_retries=0,
                timeout=600,
                **request.parameters(),
            )

    await asyncio.gather(*(ask(request) for request in requests))
    await client.close()


if __name__ == "__main__":
    main()
