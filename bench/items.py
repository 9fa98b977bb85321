"""What popbuild costs an item of one task, with an answer that comes at once. Targets: at most 0.5
times the CPU of litellm's own call above it, not syncing; 5,000 items in at most 100 MB more than
one.

Jobs of one task with `foreach` and the requests that they sent, through a bare loop of litellm's
calls, take turns in one process; the provider runs in another and is not counted. The lower
quartile over the rounds, and the median; the first round imports, connects and does not count. For
memory two commands are run, with one item and with many.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import engine
import helpers

from popbuild.jobs.item_receipts import read_receipts
from popbuild.llm.request import Request


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=200, help="a round")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--many", type=int, default=5000, help="items of which memory is measured")
    given = parser.parse_args()
    with helpers.provider() as environment:
        os.environ.update(environment)
        items, alone = measure(given.items, given.rounds)
        one, many = (memory(count) for count in (1, given.many))
    print(f"{given.rounds} rounds of {given.items} items; ms of CPU an item: quartile, median")
    for name, times in (("popbuild, not syncing", items), ("litellm alone", alone)):
        print(f"{name:<22} {statistics.quantiles(times)[0]:8.2f} {statistics.median(times):8.2f}")
    low = statistics.quantiles(items)[0] / statistics.quantiles(alone)[0] - 1
    print(f"above litellm's call: {low:.2f} times that call")
    print(f"memory: {many / 1e6:.0f} MB with {given.many:,} items, {one / 1e6:.0f} MB with one")


def measure(items: int, rounds: int) -> tuple[list[float], list[float]]:
    """Milliseconds of CPU an item, by round: of popbuild, and of litellm alone."""
    ours, alone = [], []
    with root({f"round-{n}": items for n in range(rounds + 1)}) as folder:
        for number in range(rounds + 1):
            job = f"round-{number}"
            with engine.not_syncing():
                took = engine.measured(lambda job=job: engine.build(folder, [job], items), items)
            requests = list(_requests(folder, job))
            assert len(requests) == items
            bare = engine.measured(lambda asked=requests: asyncio.run(engine.ask_all(asked)), items)
            if number:
                ours.append(took.cpu)
                alone.append(bare.cpu)
    return ours, alone


def memory(items: int) -> int:
    """The most bytes that a build of one job with so many items has."""
    with root({"all": items}) as folder:
        return helpers.run(["popbuild", "run", "all"], folder).memory


@contextmanager
def root(jobs: dict[str, int]) -> Iterator[Path]:
    """A root with a task over items, and a job with so many items for each name."""
    with tempfile.TemporaryDirectory(prefix="popbuild-bench-") as folder:
        path = Path(folder)
        config = path / "pipeline-config"
        settings = {"model": helpers.MODEL, "temperature": 0.2, "maxTokens": 200}
        pipeline = {"name": "bench", "tasks": ["classify"], "taskConfig": {"classify": settings}}
        helpers.write(config / "pipeline.json", json.dumps(pipeline))
        helpers.write(config / "tasks/index.yaml", "classify: ./classify\n")
        task = config / "tasks/classify"
        helpers.write(task / "task.yaml", "foreach: seed.data.rows\nkey: id\nmax_items: 100000\n")
        helpers.write(task / "system.md", "You classify reviews.\n")
        helpers.write(task / "prompt.md", "Classify {{ item.text }}\n")
        for name, count in jobs.items():
            rows = [{"id": n, "text": f"review {n} of {name}"} for n in range(count)]
            helpers.write(
                path / f"seeds/{name}.json", json.dumps({"name": name, "data": {"rows": rows}})
            )
        yield path


def _requests(folder: Path, job: str) -> Iterator[Request]:
    """What was sent for a job's items, from the store."""
    path = folder / "pipeline-data/complete" / job / "tasks/classify/items.jsonl"
    for receipt in read_receipts(path):
        yield engine.stored_request(folder, receipt["calls"][0]["request"])


if __name__ == "__main__":
    main()
