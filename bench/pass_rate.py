"""How often the demo passes its gates on the embedded model, over many samples.

    python bench/pass_rate.py --samples 100 --seed market-analysis

Makes a root with the demo's pipeline and one job a sample: the same seed, and each task told to
draw sample number n, which moves the sampler's seed. Builds them all with popbuild, then counts
what stands in complete/ and in rejected/, and how many refinements each task took. Runs for
minutes; prints Markdown, and one real rejection if there was one.
"""

from __future__ import annotations

import argparse
import collections
import json
import tempfile
from pathlib import Path

from popbuild.base.paths import COMPLETE, REJECTED, Root
from popbuild.build import new_root, session
from popbuild.build.nothing_to_do import Options
from popbuild.jobs.lifecycle import Samples
from popbuild.jobs.records import read_json
from popbuild.model.config import config


def measure(seed: str, samples: int, folder: Path) -> None:
    """Build `samples` jobs from one of the demo's seeds, and print what became of them."""
    new_root.init(folder)
    root = Root(folder)
    text = root.seed(seed).read_bytes()
    for path in root.seeds.iterdir():
        path.unlink()
    tasks = config.load(root).pipelines[""].names
    draws = Samples(root)
    jobs = [f"sample-{number:03d}" for number in range(samples)]
    for number, job in enumerate(jobs):
        root.seed(job).write_bytes(text)
        for task in tasks:
            draws.set(job, task, number)
    session.run(root, None, [], Options(in_flight=1, continue_=True))

    refinements: dict[str, collections.Counter[int]] = {
        task: collections.Counter() for task in tasks
    }
    rejected = []
    for job in jobs:
        for state in (COMPLETE, REJECTED):
            status = read_json(root.job(state, job).status)
            for task, entry in (status or {}).get("tasks", {}).items():
                if entry["state"] == "done":
                    refinements[task][entry["refinementAttempts"]] += 1
        rejection = read_json(root.job(REJECTED, job).rejection)
        if rejection is not None:
            rejected.append((job, rejection))
    complete = sum(root.job(COMPLETE, job).path.is_dir() for job in jobs)
    print(f"{seed}: {complete} of {samples} complete, {len(rejected)} rejected\n")
    print("| task | at the first try | one refinement | two | rejected |")
    print("|---|---|---|---|---|")
    for task in tasks:
        tries = refinements[task]
        lost = sum(rejection["task"] == task for _, rejection in rejected)
        print(f"| {task} | {tries[0]} | {tries[1]} | {tries[2]} | {lost} |")
    for job, rejection in rejected[:1]:
        print(f"\n{job}:\n" + json.dumps({k: rejection[k] for k in _SHOWN}, indent=2))
        print((root.job(REJECTED, job).path / rejection["answer"]).read_text())


_SHOWN = ("task", "stage", "problems", "answer", "refinementAttempts")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", default="market-analysis", help="one of the demo's seeds")
    parser.add_argument("--samples", type=int, default=100)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(given.seed, given.samples, Path(folder) / "root")


if __name__ == "__main__":
    main()
