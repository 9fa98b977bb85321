"""`popbuild watch`, warm: how soon a seed's first call arrives, and many jobs that wait for models.

The provider of the tests answers after a set time, in a process of its own on the same cores.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import helpers

ARRIVAL = "latency.txt"
# Notes when a call arrives, by the clock that all processes of a machine share.
SETUP = (
    "import time; from dataclasses import replace; from pathlib import Path; "
    "note = Path({note!r}).open('a', buffering=1); "
    "p.answer = lambda r: note.write('%r\\n' % time.monotonic()) and "
    "replace(default_answer(r), delay_s={delay})"
)


@contextlib.contextmanager
def watching(root: Path, environment: Mapping[str, str], in_flight: int) -> Iterator[None]:
    """An orchestrator, and each of its workers has made a call."""
    command = [str(helpers.SCRIPTS / "popbuild"), "watch", "-n", str(in_flight)]
    with subprocess.Popen(
        command, cwd=root, env={**os.environ, **environment}, stdout=subprocess.DEVNULL
    ) as process:
        pending = root / "pipeline-data/pending"
        while not pending.is_dir():
            time.sleep(0.01)
        warm = [f"warm-{number}" for number in range(2 * (os.cpu_count() or 1))]
        for job in warm:
            drop(root, job)
        wait_for(root, warm)
        yield
        process.send_signal(signal.SIGTERM)


def drop(root: Path, job: str) -> float:
    """Put a seed into pending/ in one step; gives when."""
    target = root / f"pipeline-data/pending/{job}-seed.json"
    draft = target.with_name(f".tmp-{job}")
    draft.write_text(json.dumps({"name": job, "data": {"topic": f"the topic of {job}"}}))
    now = time.monotonic()
    draft.rename(target)
    return now


def wait_for(root: Path, jobs: list[str]) -> None:
    """Until all are promoted, and their lines are written."""
    runs = root / "pipeline-data/complete/runs.jsonl"
    wanted = {f'"id":"{job}"' for job in jobs}
    while not runs.exists() or any(each not in runs.read_text() for each in wanted):
        time.sleep(0.02)


def latency(rounds: int) -> list[float]:
    """Seconds from a seed's rename to its first call, one at a time."""
    with helpers.root(0) as root:
        note = root / ARRIVAL
        with helpers.provider(SETUP.format(note=str(note), delay=0)) as environment:
            took = []
            with watching(root, environment, 8):
                for number in range(rounds):
                    time.sleep(0.1)
                    before = len(note.read_text().splitlines())
                    at = drop(root, f"job-{number}")
                    wait_for(root, [f"job-{number}"])
                    took.append(float(note.read_text().splitlines()[before]) - at)
    return took


def many(jobs: int, delay_s: float, rounds: int) -> list[float]:
    """Seconds for all jobs of a round, dropped at once; as many calls in flight as there are
    jobs."""
    with helpers.root(0) as root:
        note = root / ARRIVAL
        with helpers.provider(SETUP.format(note=str(note), delay=delay_s)) as environment:
            took = []
            with watching(root, environment, jobs):
                for number in range(rounds):
                    names = [f"round-{number}-job-{each}" for each in range(jobs)]
                    started = time.monotonic()
                    for job in names:
                        drop(root, job)
                    wait_for(root, names)
                    took.append(time.monotonic() - started)
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    took = [1000 * each for each in latency(10 * rounds)]
    print(
        f"seed to first call               {statistics.median(took):.0f} ms (most {max(took):.0f})"
    )
    for jobs, delay_s in ((50, 0.5), (250, 2.0)):
        median_s, ideal_s = statistics.median(many(jobs, delay_s, rounds)), 4 * delay_s
        shown = f"{jobs} jobs, 4 calls of {delay_s:g} s each"
        print(
            f"{shown:<32} {median_s:.2f} s, {median_s / ideal_s:.2f} times the ideal {ideal_s:g} s"
        )


if __name__ == "__main__":
    main()
