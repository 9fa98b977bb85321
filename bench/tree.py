"""Many jobs: what a run over the whole tree costs that has nothing to do, and what the first
build of many jobs takes in time and memory, with answers that come at once.

A run with nothing to do makes no doit task: a job more costs what it takes to read it. Its price
is the difference between all jobs and one, so that the start of the command does not count. The
complete jobs are copies of one that was built.
"""

from __future__ import annotations

import argparse
import os
import resource

import helpers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000, help="with nothing to do")
    parser.add_argument("--cold", type=int, default=500, help="to be built, with -n 64")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with helpers.provider() as environment:
        _nothing_to_do(given.jobs, given.rounds, environment)
        _cold(given.cold, environment)


def _nothing_to_do(jobs: int, rounds: int, environment: dict[str, str]) -> None:
    with helpers.root(1) as root:
        helpers.run(("popbuild", "run"), root, environment)
        for number in range(1, jobs):
            helpers.copy_job(root, "job-00000", f"copy-{number:05}")
        commands = {
            "one": ("doit", "run", "job=job-00000"),
            "doit run": ("doit", "run"),
            "popbuild status": ("popbuild", "status"),
            "doit list -s": ("doit", "list", "-s"),
        }
        took = helpers.alternately(
            {name: (command, root, environment) for name, command in commands.items()}, rounds
        )
    print(f"{jobs} complete jobs of {len(helpers.TASKS)} tasks")
    for name, each in took.items():
        if name != "one":
            more = (each.cpu - took["one"].cpu) / (jobs - 1) * 1000
            print(f"{name:<16} {each}  {more:.2f} ms CPU a job")


def _cold(jobs: int, environment: dict[str, str]) -> None:
    with helpers.root(jobs) as root:
        took = helpers.timed(("popbuild", "run", "-n", "64"), root, environment)
    # The largest of all commands so far, of which this one is.
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    calls = jobs * len(helpers.TASKS)
    print(f"{jobs} jobs built, {calls} calls, {os.cpu_count()} cores")
    print(f"popbuild run     {took}  {calls / took.wall:.0f} calls a second, {largest:.0f} MB")


if __name__ == "__main__":
    main()
