"""The first build of many jobs: time and memory, with answers that come at once."""

from __future__ import annotations

import argparse
import os

import helpers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=500, help="to be built, with -n 64")
    jobs = parser.parse_args().jobs
    with helpers.provider() as environment, helpers.root(jobs) as root:
        took = helpers.run(("popbuild", "run", "-n", "64"), root, environment)
    calls = jobs * len(helpers.TASKS)
    print(f"{jobs} jobs built, {calls} calls, {os.cpu_count()} cores")
    print(f"popbuild run {took}  {calls / took.wall:.0f} calls a second")


if __name__ == "__main__":
    main()
