"""What `popbuild compare` costs on 1,000 jobs of four tasks in three variants, beside `list`
of the same jobs in the main one, both warm; and on ten times as many. Target: at most 3 times.

One job is built in each variant, and multiplied. Each command is a process of its own; they take
turns, and the medians are compared.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import helpers

VARIANTS = ("base", "cheap", "other")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, nargs="+", default=[1_000, 10_000])
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    for jobs in given.jobs:
        with helpers.root(1) as root, helpers.provider() as environment:
            _fill(root, jobs, environment)
            names = ("--variants", ",".join(VARIANTS))
            medians = helpers.alternately(
                {
                    "list": (("popbuild", "list"), root, environment),
                    "compare": (("popbuild", "compare", *names), root, environment),
                    "as JSON": (("popbuild", "compare", "--json", *names), root, environment),
                },
                given.rounds,
            )
        for name, each in medians.items():
            print(f"{jobs:>6,} jobs  {name:<8}  {each}")


def _fill(root: Path, jobs: int, environment: dict[str, str]) -> None:
    for name in VARIANTS[1:]:
        text = f"{name} of {{{{ artifacts.synthesis }}}}\n"
        helpers.write(root / f"pipeline-config/variants/{name}/tasks/formatting/prompt.md", text)
    words = ("--variant", ",".join(VARIANTS))
    helpers.run(("popbuild", "run", *words), root, environment)
    for name in VARIANTS[1:]:
        complete = root / f"pipeline-data/variants/{name}/complete"
        for number in range(1, jobs):
            shutil.copytree(complete / "job-00000", complete / f"job-{number:05}")
    helpers.multiply(root, "job-00000", [f"job-{number:05}" for number in range(1, jobs)])


if __name__ == "__main__":
    main()
