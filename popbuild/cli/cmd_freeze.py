"""`popbuild freeze`."""

from popbuild.cli.options import ONE_TASK, PATTERN, Given, command, print_frozen, root_of


@command("keep a task's artifact whatever changes", PATTERN, ONE_TASK)
def _freeze(given: Given) -> int:
    """Keep a task's artifact as it is: it is not rebuilt whatever changes, and every report
    says so. Tasks that need it are built from it. With a glob, in every job that matches."""
    from popbuild.build import verbs

    return print_frozen(given, verbs.freeze(root_of(given), given.job, given.task))
