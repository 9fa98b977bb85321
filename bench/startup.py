"""How long the commands that only look take, from process start to end, on a root of three
complete jobs. Target: 0.15 s each. A bare `python -c pass` beside them is the floor.
"""

from __future__ import annotations

import argparse

import helpers

_COMMANDS = {
    "python -c pass": ("python", "-c", "pass"),
    "popbuild --help": ("popbuild", "--help"),
    "popbuild status": ("popbuild", "status"),
    "popbuild status <id>": ("popbuild", "status", "job-00000"),
    "popbuild list": ("popbuild", "list"),
    "doit list -s": ("doit", "list", "-s"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    rounds = parser.parse_args().rounds
    with helpers.root(3) as root, helpers.provider() as environment:
        helpers.run(("popbuild", "run"), root, environment)
        medians = helpers.alternately(
            {name: (command, root, environment) for name, command in _COMMANDS.items()}, rounds
        )
    for name, took in medians.items():
        print(f"{name:<22} {took}")


if __name__ == "__main__":
    main()
