"""`popbuild thaw`."""

from popbuild.cli.options import ONE_TASK, PATTERN, Given, command, print_frozen, root_of


@command("let a frozen task be rebuilt again", PATTERN, ONE_TASK)
def _thaw(given: Given) -> int:
    """Let a frozen task be rebuilt again when something changes; with a glob, in every job that
    matches and where it is frozen."""
    from popbuild.build import verbs

    return print_frozen(given, verbs.thaw(root_of(given), given.job, given.task))
