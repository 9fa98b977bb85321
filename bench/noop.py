"""What a run costs that has nothing to do: `doit run job=<id>` on a complete job of four tasks,
beside plain doit on four up-to-date Python tasks. Target: at most 1.5 times.

Both run in this environment, in which popbuild is installed: doit looks at popbuild's entry
points in every project. Each is a process of its own; they take turns, and the medians of the
wall times are compared.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import helpers

# Each task reads a file and writes one, as a small dodo.py does.
_PLAIN = """
def copy(dependencies, targets):
    with open(dependencies[0]) as source, open(targets[0], "w") as target:
        target.write(source.read())


def task_copy():
    for number in range(4):
        yield {
            "name": str(number),
            "actions": [copy],
            "file_dep": [f"{number}.txt"],
            "targets": [f"{number + 1}.txt"],
        }
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    rounds = parser.parse_args().rounds
    with (
        tempfile.TemporaryDirectory(prefix="popbuild-bench-") as folder,
        helpers.root(1) as root,
        helpers.provider() as environment,
    ):
        plain = Path(folder)
        helpers.write(plain / "dodo.py", _PLAIN)
        helpers.write(plain / "0.txt", "text\n")
        ours = ("doit", "run", "job=job-00000")
        helpers.run(("doit", "run"), plain)
        helpers.run(ours, root, environment)
        medians = helpers.alternately(
            {
                "plain": (("doit", "run"), plain, {}),
                "ours": (ours, root, environment),
                "popbuild": (("popbuild", "run", "job-00000"), root, environment),
            },
            rounds,
        )
    print(f"plain doit, four tasks up to date  {medians['plain']}")
    print(f"doit run job=<id>, up to date      {medians['ours']}")
    print(f"popbuild run <id>, up to date      {medians['popbuild']}")
    wall = medians["ours"].wall / medians["plain"].wall
    cpu = medians["ours"].cpu / medians["plain"].cpu
    print(f"doit run job=<id> to plain doit    {wall:.2f} wall, {cpu:.2f} CPU (target 1.5)")


if __name__ == "__main__":
    main()
