"""The commands that clear away, and mend. Each docstring is a help page."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from popbuild.base.errors import OK, REJECTED
from popbuild.cli.options import (
    JSON,
    Given,
    Table,
    argument,
    flag,
    print_json,
    print_lines,
    root_of,
)

if TYPE_CHECKING:
    from popbuild.upkeep.ailments import Ailment


def _prune(given: Given) -> int:
    """Drop old jobs from pending/, complete/ and rejected/: those older than an age, all but
    the newest, and the oldest until the rest is small enough. Only says what it would drop,
    unless --yes is given. A job that is built, or was left in current/, is never touched.
    What a job was made from stays: seeds/ and the store."""
    from popbuild.build.session import whole_number
    from popbuild.cli.tidy_text import pruning_lines
    from popbuild.jobs.promotion import previous_kept
    from popbuild.model.config.config import environment_of
    from popbuild.upkeep.amounts import parse_size, seconds_of
    from popbuild.upkeep.prune import prune, rule_of

    rule = rule_of(
        given.states,
        older_than_s=None if given.older_than is None else seconds_of(given.older_than),
        keep=whole_number("--keep", given.keep),
        max_bytes=None if given.max_size is None else parse_size(given.max_size),
        orphans=given.orphans,
        kinds=tuple(kind for kind in ("logs", "tmp") if getattr(given, kind)),
    )
    root = root_of(given)
    previous = previous_kept(environment_of(root, os.environ))
    pruning = prune(root, rule, previous_kept=previous, really=given.yes)
    if given.json:
        print_json(pruning.as_json())
    else:
        print_lines(pruning_lines(pruning))
    return OK


def _doctor(given: Given) -> int:
    """Find what crashes and hands left behind and no run mends by itself, say of each what it
    is and what mending does, and mend it if told so: on a terminal it asks, --yes mends all.
    Otherwise it only says. Nothing is deleted: what must go is moved to .popbuild/doctor/.
    Exits with 1 when something is left to mend."""
    from popbuild.cli.tidy_text import checkup_lines
    from popbuild.jobs.promotion import previous_kept
    from popbuild.model.config.config import environment_of
    from popbuild.upkeep.doctor import diagnose

    root = root_of(given)

    def ask(ailment: Ailment) -> bool:
        if not given.json:
            print_lines(ailment.lines(root))
        if given.yes:
            return True
        print("Mend it? [y/N] ", end="", flush=True)
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    asks = given.yes or (sys.stdin.isatty() and not given.json)
    previous = previous_kept(environment_of(root, os.environ))
    checkup = diagnose(root, previous, ask if asks else None)
    if given.json:
        print_json(checkup.as_json())
    else:
        for each in () if asks else checkup.found:
            print_lines(each.lines(root))
        print_lines(checkup_lines(checkup))
    return OK if checkup.healthy else REJECTED


TIDYING: Table = {
    "prune": (
        _prune,
        "drop old jobs, or their logs",
        (
            argument(
                "states",
                nargs="*",
                metavar="STATE",
                help="pending, complete or rejected; all if absent",
            ),
            argument("--older-than", metavar="AGE", help="drop what is older: 12h, 30d, 8w"),
            argument("--keep", metavar="N", help="drop all but the newest N of each state"),
            argument("--max-size", metavar="SIZE", help="drop until no more is left: 500MB"),
            flag("--orphans", help="only jobs whose file under seeds/ is gone"),
            flag("--logs", help="drop the logs of these jobs instead"),
            flag("--tmp", help="drop the temporary files of these jobs instead"),
            flag("--yes", help="really drop it"),
            JSON,
        ),
    ),
    "doctor": (
        _doctor,
        "find and mend what crashes left behind",
        (flag("--yes", help="mend all of it"), JSON),
    ),
}
