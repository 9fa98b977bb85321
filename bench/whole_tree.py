"""Many jobs on disk: what a command over the whole tree costs, beside plain doit on the same graph.

The jobs are complete; all but one are copies of one that was built, from seeds of the same value.
Plain doit has the same graph in a folder of its own: a task for each of theirs, with the seed and
the artifacts above as `file_dep`, the artifact as target, and doit's own database. Both are warm,
and take turns. Each row is a ratio inside this run, with its bound.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import helpers
import others
from helpers import Command, Timed

_JOB = "job-00000"
_RUN = ("doit", "run")
_LIST = ("popbuild", "list")


PLAIN, NOTHING, ALONE = "plain doit, nothing to do", "doit run", "doit run, one job in all"
NAMED, NAMED_ALONE = "doit run job=<id>", "doit run job=<id>, one job in all"
FIRST, EDITED = "doit run, first index", "doit run, one seed edited"
EDITED_ALONE = "doit run, its seed edited, one job in all"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--largest", type=int, default=100_000, help="of the growth's sizes")
    given = parser.parse_args()
    took = beside_plain_doit(given.jobs, given.rounds)
    print(f"{given.jobs} complete jobs of {len(helpers.TASKS)} tasks, {given.rounds} rounds")
    for name, each in took.items():
        print(f"{name:<42}{each}")
    for name, found, bound in ratios(took, given.jobs):
        print(f"{name:<46}{found:8.2f}   at most {bound:g}")
    print(f"{'jobs':>7}  {'doit run':<36}  popbuild list")
    for size, (run, listed) in growth(given.largest, given.rounds).items():
        print(f"{size:>7}  {run}  {listed}")


def beside_plain_doit(jobs: int, rounds: int) -> dict[str, Timed]:
    """By command: the medians over a tree of so many jobs."""
    with (
        helpers.provider() as environment,
        _tree(1, environment) as one,
        _tree(jobs, environment) as many,
        plain_tree(jobs) as plain,
    ):
        job = ("doit", "run", f"job={_JOB}")
        commands: dict[str, Command] = {
            PLAIN: (_RUN, plain, {}),
            NOTHING: (_RUN, many, environment),
            "popbuild list": (_LIST, many, environment),
            "popbuild status": (("popbuild", "status"), many, environment),
            "popbuild plan": (("popbuild", "plan"), many, environment),
            "doit list": (("doit", "list"), many, environment),
            ALONE: (_RUN, one, environment),
            NAMED: (job, many, environment),
            NAMED_ALONE: (job, one, environment),
        }
        took = helpers.alternately(commands, rounds)
        first, edited, edited_one = [], [], []
        for number in range(rounds):
            shutil.rmtree(many / ".popbuild/index")
            first.append(helpers.run(_RUN, many, environment))
            for root, times in ((many, edited), (one, edited_one)):
                topic = {"topic": f"edited {number}"}
                helpers.write(
                    root / f"seeds/{_JOB}.json", json.dumps({"name": "job", "data": topic})
                )
                times.append(helpers.run(_RUN, root, environment))
                helpers.run(_RUN, root, environment)
        took[FIRST] = helpers.median(first)
        took[EDITED] = helpers.median(edited)
        took[EDITED_ALONE] = helpers.median(edited_one)
        return took


def ratios(took: Mapping[str, Timed], jobs: int) -> list[tuple[str, float, float]]:
    """What was compared, what was found, and what it should be at most."""
    plain, nothing, alone = took[PLAIN], took[NOTHING], took[ALONE]
    apart = nothing.wall + took[EDITED_ALONE].wall - alone.wall
    memory = (nothing.memory - alone.memory) / 1000 / max(jobs - 1, 1)
    return [
        ("one job among all, to the same alone", took[NAMED].wall / took[NAMED_ALONE].wall, 1.2),
        ("nothing to do, to plain doit", nothing.wall / plain.wall, 0.2),
        ("nothing to do, MB", nothing.memory / 1e6, 100),
        ("one seed edited, to nothing to do + that job", took[EDITED].wall / apart, 1),
        ("first index, to plain doit", took[FIRST].wall / plain.wall, 0.7),
        ("memory, KB a job", memory, 4),
    ]


def growth(largest: int, rounds: int) -> dict[int, tuple[Timed, Timed]]:
    """No-op and list by the number of jobs: what a job more costs must not grow."""
    found = {}
    with helpers.provider() as environment, _tree(1, environment) as root:
        there, sizes = 1, [size for size in (1, 100, 1_000, 10_000, 100_000) if size <= largest]
        for size in sizes:
            names = (f"copy-{each:06}" for each in range(there, size))
            helpers.multiply(root, _JOB, names, bare=True)
            there = size
            helpers.run(_RUN, root, environment)
            took = helpers.alternately(
                {"run": (_RUN, root, environment), "list": (_LIST, root, environment)}, rounds
            )
            found[size] = took["run"], took["list"]
    return found


@contextlib.contextmanager
def _tree(jobs: int, environment: Mapping[str, str]) -> Iterator[Path]:
    with helpers.root(1) as root:
        helpers.run(("popbuild", "run"), root, environment)
        helpers.multiply(root, _JOB, (f"copy-{number:06}" for number in range(1, jobs)))
        helpers.run(_RUN, root, environment)
        yield root


@contextlib.contextmanager
def plain_tree(jobs: int) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="popbuild-bench-") as folder:
        plain = Path(folder)
        others.write_seeds(plain, jobs)
        others.PLAIN_DOIT.write(plain, jobs, False)
        helpers.run(_RUN, plain)
        yield plain


if __name__ == "__main__":
    main()
