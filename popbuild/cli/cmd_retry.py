"""`popbuild retry`."""

import sys

from popbuild.cli.options import ITEM, STORE, Given, argument, command, flag, root_of


@command(
    "build a rejected job with another sample",
    argument("job", "JOB", help="the job's ID, or JOB:TASK"),
    flag("--failed", help="of a task with foreach: only its failed items"),
    ITEM,
    STORE,
)
def _retry(given: Given) -> int:
    """Let the task that rejected a job draw another sample, or let one that failed too often be
    tried once more, then build the job. Of a task with foreach only the items that failed draw
    again, or the one that --item names; in a complete job too, with --failed."""
    from popbuild.build import draws
    from popbuild.build.nothing_to_do import Options
    from popbuild.build.run_command import run_and_print
    from popbuild.llm.store import choose_mode
    from popbuild.query import describe

    root = root_of(given)
    choose_mode(given.store, describe.around(root).config.environment)
    said = draws.retry(root, given.job, failed=given.failed, item=given.item)
    job = given.job.partition(":")[0]
    print(f"{job}: {said}", file=sys.stderr)
    return run_and_print([root], given, None, [job], Options(store=given.store))
