"""`popbuild freeze`."""

from __future__ import annotations

from popbuild.base.arguments import Given
from popbuild.base.words import JSON, Command
from popbuild.cli.options import ONE_TASK, PATTERN, print_frozen, root_of


def _freeze(given: Given) -> int:
    """Keep a task's artifact as it is: it is not rebuilt whatever changes, and every report
    says so. Tasks that need it are built from it. With a glob, in every job that matches."""
    from popbuild.build import verbs

    return print_frozen(given, verbs.freeze(root_of(given), given.job, given.task))


COMMAND = Command(
    "freeze", "keep a task's artifact whatever changes", (PATTERN, ONE_TASK, JSON), _freeze
)
