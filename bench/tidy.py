"""What clearing away and mending cost on many jobs: prune, doctor, archive and restore.

The jobs are complete; all but one are copies of one that was built. Each command is run once on so
many jobs and on a tenth of them, so that what grows faster than the jobs is seen.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import helpers
from helpers import Timed

_JOB = "job-00000"
_NOTHING = (
    ("popbuild", "doctor"),
    ("popbuild", "prune", "--older-than", "9000d"),
    ("popbuild", "prune", "--keep", "10"),
    ("popbuild", "prune", "--orphans"),
)
_ARCHIVING = (
    ("popbuild", "archive", "copy-*", "-o", "a.tar.zst", "--remove"),
    ("popbuild", "restore", "a.tar.zst"),
)
_CHANGING = (
    ("popbuild", "doctor", "--yes"),
    ("popbuild", "prune", "--logs", "--yes"),
    ("popbuild", "prune", "--keep", "10", "--yes"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    jobs = parser.parse_args().jobs
    few, many = measure(jobs // 10), measure(jobs)
    print(f"{'':<42}{jobs // 10:>7} jobs{'':<36}{jobs:>7} jobs")
    for name, took in many.items():
        print(f"{name:<42}{few[name]}   {took}")


def measure(jobs: int) -> dict[str, Timed]:
    """By command; doctor mends a tenth of the jobs: each lost a log and has a file more."""
    found = {}
    with helpers.root(1) as root, helpers.provider() as environment:
        helpers.run(("popbuild", "run"), root, environment)
        helpers.multiply(root, _JOB, (f"copy-{number:06}" for number in range(1, jobs)))
        _lengthen(root, jobs)
        for command in (*_NOTHING, *_ARCHIVING):
            found[" ".join(command[1:])] = helpers.run(command, root)
        for number in range(1, jobs, 10):
            _harm(root / f"pipeline-data/complete/copy-{number:06}")
        for command in _CHANGING:
            found[" ".join(command[1:])] = helpers.run(command, root)
        left = [path for path in (root / "pipeline-data/complete").iterdir() if path.is_dir()]
        assert len(left) == 10, left
        shutil.rmtree(root / ".popbuild/doctor")
    return found


def _lengthen(root: Path, jobs: int) -> None:
    """A line of runs.jsonl for each job, as they were before lines had an ID, a seal and a digest:
    all copies have the seal of the one that was built."""
    for path in (root / "pipeline-data/complete/runs.jsonl", root / ".popbuild/runs.jsonl"):
        line = json.loads(path.read_text())
        old = {name: line[name] for name in line if name not in ("id", "digest")}
        bare = {name: old[name] for name in old if name != "seal"}
        several = [
            old,
            *({**bare, "pipelineId": f"{old['pipelineId']}{n}"} for n in range(1, jobs)),
        ]
        path.write_text("".join(f"{json.dumps(each)}\n" for each in several))


def _harm(job: Path) -> None:
    next((job / "files/logs").iterdir()).unlink()
    (job / "files/artifacts/added.json").write_text("{}")


if __name__ == "__main__":
    main()
