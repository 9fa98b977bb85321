"""`popbuild thaw`."""

from __future__ import annotations

from popbuild.base.arguments import Given
from popbuild.base.words import JSON, Command
from popbuild.cli.options import ONE_TASK, PATTERN, print_frozen, root_of


def _thaw(given: Given) -> int:
    """Let a frozen task be rebuilt again when something changes; with a glob, in every job that
    matches and where it is frozen."""
    from popbuild.build import verbs

    return print_frozen(given, verbs.thaw(root_of(given), given.job, given.task))


COMMAND = Command("thaw", "let a frozen task be rebuilt again", (PATTERN, ONE_TASK, JSON), _thaw)
