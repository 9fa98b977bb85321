"""The commands by which a person has a say while jobs are built. Each docstring is a help page."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from popbuild.arguments import JOB, JSON, Given, Table, argument, print_json, print_lines, root_of
from popbuild.errors import OK

if TYPE_CHECKING:
    from popbuild.decisions import Decided
    from popbuild.layout import Root

    Decide = Callable[[Root, str, str | None, str | None, str | None], Decided]


def _approve(given: Given) -> int:
    """Say yes at a human gate: what a task made is fit, and what needs it can be built. The job
    goes on at its next run, and popbuild watch takes it up by itself. Holds for the artifacts as
    they stand; who said it, when and the note are kept with the job."""
    from popbuild import decisions

    return _say(given, decisions.approve)


def _reject(given: Given) -> int:
    """Say no at a human gate: the job goes to rejected/ with the note as its problem. It is not
    built again until something changes that the task depends on, popbuild retry draws another
    sample, or popbuild approve takes the rejection back."""
    from popbuild import decisions

    return _say(given, decisions.reject)


def _say(given: Given, decide: Decide) -> int:
    decided = decide(root_of(given), given.job, given.task, given.note, given.by)
    if given.json:
        print_json(decided.as_json())
    else:
        print_lines(decided.lines())
    return OK


_SAID = (
    JOB,
    argument("--task", metavar="TASK", help="which task, where several wait"),
    argument("--note", metavar="TEXT", help="why"),
    argument("--by", metavar="NAME", help="who says it; the login name if absent"),
    JSON,
)

DECIDING: Table = {
    "approve": (_approve, "say yes at a human gate", _SAID),
    "reject": (_reject, "say no at a human gate", _SAID),
}
