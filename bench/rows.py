"""Jobs of the rows of a table beside jobs of seeds: two tasks each, with answers that come at once.

Both roots are built from nothing in turns, a part at a time, so that whatever else the machine does
meets both; then commands with nothing to do take turns with plain doit on a graph of the same size.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import helpers
import whole_tree

TASKS = ("gist", "label")
PART = 250  # jobs that are built by one command


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with (
        helpers.provider() as environment,
        _root(given.jobs, are_rows=True) as rows,
        _root(given.jobs, are_rows=False) as seeds,
        whole_tree.plain_tree(given.jobs * len(TASKS) // len(helpers.TASKS)) as plain,
    ):
        print(f"{given.jobs:,} jobs of {len(TASKS)} tasks")
        built: dict[str, list[float]] = {"rows": [], "seeds": []}
        for first in range(0, given.jobs, PART):
            globs = [f"job-{number:05}" for number in range(first, min(first + PART, given.jobs))]
            for name, root in (("rows", rows), ("seeds", seeds)):
                took = helpers.run(["popbuild", "run", *globs], root, environment)
                built[name].append(took.cpu / len(globs) / len(TASKS) * 1000)
        for name, times in built.items():
            print(f"built, {name:<6} {statistics.median(times):8.2f} ms of CPU a task")
        commands: dict[str, helpers.Command] = {
            "plain doit": (("doit", "run"), plain, {}),
            **{
                f"{' '.join(command)}, {name}": (command, root, environment)
                for command in (("popbuild", "run"), ("popbuild", "list"))
                for name, root in (("rows", rows), ("seeds", seeds))
            },
        }
        took_each = helpers.alternately(commands, given.rounds)
        for name, each in took_each.items():
            ratio = each.cpu / took_each["plain doit"].cpu
            print(f"{name:<22} {each}   {ratio:5.2f} of plain doit's CPU")


@contextmanager
def _root(jobs: int, *, are_rows: bool) -> Iterator[Path]:
    """A root whose jobs are rows of one table, or seeds of the same values."""
    with tempfile.TemporaryDirectory(prefix="popbuild-bench-") as folder:
        path = Path(folder)
        config = path / "pipeline-config"
        settings = {"model": helpers.MODEL, "maxTokens": 200}
        pipeline = {"name": "bench", "tasks": list(TASKS), "defaults": settings}
        helpers.write(config / "pipeline.json", json.dumps(pipeline))
        helpers.write(config / "tasks/index.yaml", "".join(f"{name}: ./{name}\n" for name in TASKS))
        helpers.write(config / "tasks/gist/prompt.md", "Gist of {{ seed.data.text }}\n")
        helpers.write(config / "tasks/label/prompt.md", "Label {{ artifacts.gist.content }}\n")
        names = [f"job-{number:05}" for number in range(jobs)]
        if are_rows:
            helpers.write(path / "seeds/all.yaml", 'rows: all.csv\nid: "{{ row.id }}"\n')
            lines = [f"{name},review {name}" for name in names]
            helpers.write(path / "seeds/all.csv", "\n".join(["id,text", *lines, ""]))
        for name in names if not are_rows else ():
            data = {"id": name, "text": f"review {name}"}
            seed = json.dumps({"name": name, "data": data})
            helpers.write(path / f"seeds/{name}.json", seed)
        yield path


if __name__ == "__main__":
    main()
