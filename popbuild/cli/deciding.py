"""The commands by which a person has a say while jobs are built. Each docstring is a help page."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from popbuild.base.errors import OK, STOPPED
from popbuild.cli.options import (
    JOB_ARGUMENT,
    JSON,
    Given,
    Table,
    argument,
    print_json,
    print_lines,
    root_of,
)

if TYPE_CHECKING:
    from popbuild.base.paths import Root
    from popbuild.build.human_gate import Decided, HumanAnswer

    Decide = Callable[[Root, str, HumanAnswer], Decided]

_PATIENCE_S = 10.0


def _approve(given: Given) -> int:
    """Say yes at a human gate: what a task made is fit, and what needs it can be built. The job
    goes on at its next run, and popbuild watch takes it up by itself. Holds for the artifacts as
    they stand; who said it, when and the note are kept with the job."""
    from popbuild.build import human_gate

    return _say(given, human_gate.approve)


def _reject(given: Given) -> int:
    """Say no at a human gate: the job goes to rejected/ with the note as its problem. It is not
    built again until something changes that the task depends on, popbuild retry draws another
    sample, or popbuild approve takes the rejection back."""
    from popbuild.build import human_gate

    return _say(given, human_gate.reject)


def _say(given: Given, decide: Decide) -> int:
    from popbuild.build.human_gate import HumanAnswer

    answer = HumanAnswer(given.task, given.note, given.by, given.of)
    decided = decide(root_of(given), given.job, answer)
    if given.json:
        print_json(decided.as_json())
    else:
        print_lines(decided.lines())
    return OK


def _stop(given: Given) -> int:
    """Stop the build of jobs, whoever builds them: a run in another terminal, or a worker of
    popbuild watch, which does not take them up again. What is under way is given up, as by
    Ctrl-C; answers that came are kept, and the next run goes on from there. Who waits for the job
    gives it up too. The other jobs of those commands go on. A job that nobody builds stays as it
    is. Exits with 4 where a job is still under way after ten seconds: it stops as soon as it
    can."""
    from popbuild.jobs import stop_requests
    from popbuild.query import describe

    root = root_of(given)
    found = stop_requests.stop(root, describe.names_to_ids(root, given.names), _PATIENCE_S)
    if given.json:
        print_json([each.as_json() for each in found])
    else:
        print_lines(line for each in found for line in each.lines())
    return OK if all(each.ended for each in found) else STOPPED


_SAID = (
    JOB_ARGUMENT,
    argument("--task", metavar="TASK", help="which task, where several wait"),
    argument("--note", metavar="TEXT", help="why"),
    argument("--by", metavar="NAME", help="who says it; the login name if absent"),
    argument(
        "--of", metavar="DIGEST", help="only if this is still asked: `of` in status JOB --json"
    ),
    JSON,
)

DECIDING: Table = {
    "approve": (_approve, "say yes at a human gate", _SAID),
    "reject": (_reject, "say no at a human gate", _SAID),
    "stop": (
        _stop,
        "stop the build of jobs",
        (argument("names", nargs="+", metavar="JOB", help="a job's ID or a glob"), JSON),
    ),
}
