"""`popbuild retry`."""

import sys

from popbuild.cli.options import ONE_JOB, STORE, Given, command, root_of


@command("build a rejected job with another sample", ONE_JOB, STORE)
def _retry(given: Given) -> int:
    """Let the task that rejected a job draw another sample, or let one that failed too often be
    tried once more, then build the job."""
    from popbuild.build import verbs
    from popbuild.build.nothing_to_do import Options
    from popbuild.build.run_command import run_and_print
    from popbuild.llm.store import choose_mode
    from popbuild.query import describe

    root = root_of(given)
    choose_mode(given.store, describe.around(root).config.environment)
    task, what = verbs.retry(root, given.job)
    print(f"{given.job}: {task} {what}", file=sys.stderr)
    return run_and_print(root, given, None, [given.job], Options(store=given.store))
