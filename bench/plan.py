"""How often a plan is right: 100 random edits, and whether what each came to lay in the range that
`popbuild plan` had named before.

Five jobs of four tasks on a priced model. The provider answers in 3 to 12 sentences, as the request
falls; one answer in six has no form that passes, so that it is refined. An edit changes a seed's
topic, a field that no prompt reads, a prompt, a system message or a temperature. The first build of
all is planned without history.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
from pathlib import Path

import helpers

from popbuild.base.paths import Root
from popbuild.build import session
from popbuild.build.nothing_to_do import Options
from popbuild.jobs.selection import select
from popbuild.jobs.surroundings import Surroundings
from popbuild.model.config import config
from popbuild.query.plan import plan
from popbuild.query.planned import Totals, totals

JOBS = 5
_ANSWERS = """
    def answer(r):
        if r.schema:
            return Reply("no form") if int(r.digest[:4], 16) % 6 == 0 else default_answer(r)
        return Reply(" ".join([default_answer(r).text] * (1 + int(r.digest[4:8], 16) % 4)))
    p.answer = answer
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edits", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1, help="of the random edits")
    given = parser.parse_args()
    draw = random.Random(given.seed)
    with helpers.provider(_ANSWERS) as environment, helpers.root(JOBS) as folder:
        os.environ.update(environment)
        root = Root(folder)
        first, paid = _planned_and_run(root)
        print(f"first build: {_told(first)}, came to ${paid:.6f}")
        inside, missed, widths, free = 0, [], [], 0
        for number in range(given.edits):
            what = _edit(folder, draw, number)
            before, paid = _planned_and_run(root)
            low, high = before.cost.low, before.cost.high
            if low - 1e-9 <= paid <= high + 1e-9:
                inside += 1
            else:
                missed.append(f"{what}: {_told(before)}, came to ${paid:.6f}")
            if high == 0:
                free += 1
            elif paid:
                widths.append(high / paid)
    print(f"{inside} of {given.edits} edits came to what the plan said; {free} were free, as said")
    print(f"the upper end was {statistics.median(widths):.1f} times the real cost in the median")
    for line in missed:
        print(f"missed: {line}")


def _planned_and_run(root: Root) -> tuple[Totals, float]:
    """A plan of everything, then the run of it: dollars that it came to."""
    selection = select(root, None, ())
    around = Surroundings(config.load(root))
    before = totals(task for job in plan(selection, around) for task in job.tasks)
    _, results = session.run(root, None, (), Options(continue_=True))
    return before, sum(result.usage.cost or 0.0 for result in results)


def _edit(folder: Path, draw: random.Random, number: int) -> str:
    what = draw.choice(("topic", "topic", "unread field", "prompt", "system", "temperature"))
    job, task = f"job-{draw.randrange(JOBS):05}", draw.choice(helpers.TASKS)
    if what in ("topic", "unread field"):
        path = folder / f"seeds/{job}.json"
        seed = json.loads(path.read_text())
        seed["data"]["topic" if what == "topic" else "note"] = f"something else, number {number}"
        path.write_text(json.dumps(seed))
    elif what in ("prompt", "system"):
        path = folder / f"pipeline-config/tasks/{task}/{what}.md"
        path.write_text(path.read_text() + f"Mind point {number}.\n")
    else:
        path = folder / "pipeline-config/pipeline.json"
        pipeline = json.loads(path.read_text())
        pipeline["taskConfig"][task]["temperature"] = draw.randrange(1, 100) / 100
        path.write_text(json.dumps(pipeline))
    return f"{what} of {job if what in ('topic', 'unread field') else task}"


def _told(total: Totals) -> str:
    return f"${total.cost.low:.6f} to ${total.cost.high:.6f}"


if __name__ == "__main__":
    main()
