"""`popbuild doctor`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from popbuild.base.errors import OK, REJECTED
from popbuild.cli.options import Given, command, flag, print_lines, print_result, root_of

if TYPE_CHECKING:
    from popbuild.upkeep.ailments import Ailment


@command(
    "find and mend what crashes left behind", flag("--yes", help="mend everything without asking")
)
def _doctor(given: Given) -> int:
    """Find what crashes and edits by hand left behind that no run mends by itself; say what each is
    and how it is mended. On a terminal it asks before it mends; --yes mends everything;
    otherwise it only reports. It deletes nothing: what must go is moved to .popbuild/doctor/.
    Exits with 1 when something is left to mend."""
    from popbuild.cli.text import checkup_lines
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
    if not (asks or given.json):
        print_lines(line for each in checkup.found for line in each.lines(root))
    return print_result(
        given.json,
        checkup.as_json,
        lambda: checkup_lines(checkup),
        OK if checkup.healthy else REJECTED,
    )
