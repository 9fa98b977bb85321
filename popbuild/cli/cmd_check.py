"""`popbuild check`."""

from popbuild.base.errors import OK, REJECTED
from popbuild.cli.options import JOBS, Given, command, print_result, root_of


@command("exit with 0 if all is up to date and valid", JOBS)
def _check(given: Given) -> int:
    """Exit with 0 when every job is complete and up to date and everything is valid, else with 1,
    and print what is not. For CI: makes no call, changes nothing."""
    from popbuild.upkeep.validate import check

    found = check(root_of(given), given.names)
    return print_result(given.json, found.as_json, found.lines, OK if found.passed else REJECTED)
