"""popbuild beside other tools, in one run: what costs nothing but the tool itself, and calls.

Nothing to do, for 1 to 10,000 jobs of four tasks; 1,000 tasks from nothing without a call; and jobs
of four calls that each take a set time, with all jobs in flight. Every command is a process of its
own, from its start; they take turns, the first round warms the caches, medians count. "warm" is an
orchestrator that has already loaded everything. The provider is a process on the same cores.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import helpers
import others
import watch
from helpers import Command, Timed
from others import COCOINDEX, DOCETL, NINJA, PLAIN_DOIT, SNAKEMAKE, TOOLS, Tool

SIZES = (1, 100, 1_000, 10_000)
COLD_JOBS = 250
POPBUILD, UNSYNCED, WARM = "popbuild", "popbuild, not syncing", "popbuild, warm"
# As `popbuild` itself starts, on a disk that says at once that all is safe.
_UNSYNCED = """\
import os, sys
os.fsync = lambda file: None
from popbuild.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
_TEXT = """\
def inference(context):
    return "text of " + context.read("/data/topic")
"""


@dataclass(frozen=True)
class Waiting:
    """Jobs of four calls, and what their calls wait for, in seconds."""

    jobs: int
    delay_s: float

    @property
    def ideal_s(self) -> float:
        return len(helpers.TASKS) * self.delay_s


WAITING = (Waiting(50, 0.5), Waiting(250, 2.0))


def nothing_to_do(sizes: tuple[int, ...], rounds: int) -> dict[str, dict[int, Timed]]:
    """By tool and number of jobs: a run that finds all up to date."""
    found: dict[str, dict[int, Timed]] = {}
    with helpers.provider() as environment:
        for size in sizes:
            with contextlib.ExitStack() as stack:
                commands = {
                    each.name: stack.enter_context(_built(each, size))
                    for each in (PLAIN_DOIT, NINJA, SNAKEMAKE, COCOINDEX)
                    if size <= each.most_jobs
                }
                root = stack.enter_context(helpers.root(1))
                helpers.run(("popbuild", "run"), root, environment)
                names = (f"copy-{number:06}" for number in range(1, size))
                helpers.multiply(root, "job-00000", names)
                helpers.run(("popbuild", "run"), root, environment)
                commands[POPBUILD] = (("popbuild", "run"), root, environment)
                for name, took in helpers.alternately(commands, rounds).items():
                    found.setdefault(name, {})[size] = took
    return found


def from_nothing(rounds: int) -> dict[str, Timed]:
    """By tool: 1,000 tasks in 250 jobs, without a call."""
    found: dict[str, list[Timed]] = {}
    for number in range(rounds + 1):
        for tool in (PLAIN_DOIT, NINJA, SNAKEMAKE, COCOINDEX):
            with _project(tool, COLD_JOBS) as folder:
                took = helpers.run(tool.words(tool.command), folder, tool.variables())
            found.setdefault(tool.name, []).append(took)
        for name, start in ((POPBUILD, ()), (UNSYNCED, ("-c", _UNSYNCED))):
            words = ("python", *start) if start else ("popbuild",)
            with helpers.root(COLD_JOBS) as root:
                for task in helpers.TASKS:
                    folder = root / f"pipeline-config/tasks/{task}"
                    helpers.write(folder / "stages.py", _TEXT)
                    (folder / "output.schema.json").unlink(missing_ok=True)
                took = helpers.run((*words, "run", "-n", "8"), root)
                _check(root, COLD_JOBS)
            found.setdefault(name, []).append(took)
        print(f"from nothing: round {number} of {rounds}", file=sys.stderr)
    return {name: helpers.median(times[1:]) for name, times in found.items()}


def calls(waiting: Waiting, rounds: int) -> dict[str, float]:
    """By tool: seconds for jobs whose calls wait, with all jobs in flight."""
    setup = (
        "from dataclasses import replace; "
        f"p.answer = lambda r: replace(default_answer(r), delay_s={waiting.delay_s})"
    )
    found: dict[str, list[float]] = {}
    with helpers.provider(setup) as environment:
        for number in range(rounds + 1):
            for tool in (PLAIN_DOIT, COCOINDEX, DOCETL):
                if waiting.jobs > tool.most_calls:
                    continue
                with _project(tool, waiting.jobs, calls=True) as folder:
                    words = tool.words(tool.calling, waiting.jobs)
                    took = helpers.run(words, folder, {**environment, **tool.variables()})
                found.setdefault(tool.name, []).append(took.wall)
            with helpers.root(waiting.jobs) as root:
                words = ("popbuild", "run", "-n", str(waiting.jobs))
                took = helpers.run(words, root, environment)
                _check(root, waiting.jobs)
            found.setdefault(POPBUILD, []).append(took.wall)
            print(f"{waiting.jobs} jobs: round {number} of {rounds}", file=sys.stderr)
    found = {name: times[1:] for name, times in found.items()}
    found[WARM] = watch.many(waiting.jobs, waiting.delay_s, rounds)
    return {name: statistics.median(times) for name, times in found.items()}


def _check(root: Path, jobs: int) -> None:
    """A tool that built less would seem fast."""
    lines = (root / "pipeline-data/complete/runs.jsonl").read_text().splitlines()
    if len(lines) != jobs:
        raise SystemExit(f"{len(lines)} of {jobs} jobs were built: this measured something else")


@contextlib.contextmanager
def _project(tool: Tool, jobs: int, *, calls: bool = False) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="popbuild-bench-") as name:
        folder = Path(name)
        others.write_seeds(folder, jobs)
        tool.write(folder, jobs, calls)
        yield folder
        made = _made(folder)
        if made != len(helpers.TASKS) * jobs:
            raise SystemExit(f"{tool.name} made {made} texts: this measured something else")


def _made(folder: Path) -> int:
    if (folder / "out.json").exists():
        rows = json.loads((folder / "out.json").read_bytes())
        return sum(bool(row.get(task)) for row in rows for task in helpers.TASKS)
    return sum(1 for path in (folder / "out").rglob("*.txt") if path.stat().st_size)


@contextlib.contextmanager
def _built(tool: Tool, jobs: int) -> Iterator[Command]:
    with _project(tool, jobs) as folder:
        command = (tool.words(tool.command), folder, tool.variables())
        helpers.run(*command)
        yield command


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--largest", type=int, default=10_000, help="of the sizes with nothing to do"
    )
    given = parser.parse_args()
    for tool in TOOLS:
        tool.install()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    sizes = tuple(size for size in SIZES if size <= given.largest)
    for name, by_size in nothing_to_do(sizes, given.rounds).items():
        for size, took in by_size.items():
            print(f"nothing to do, {size:>6} jobs  {name:<24}{took}")
    for name, took in from_nothing(given.rounds).items():
        print(f"1,000 tasks, no calls      {name:<24}{took}")
    for waiting in WAITING:
        for name, seconds in calls(waiting, given.rounds).items():
            times = f"{seconds:6.2f} s, {seconds / waiting.ideal_s:.2f} times the ideal"
            print(f"{waiting.jobs} jobs, calls of {waiting.delay_s:g} s  {name:<24}{times}")


if __name__ == "__main__":
    main()
