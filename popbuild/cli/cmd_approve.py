"""`popbuild approve`."""

from __future__ import annotations

from popbuild.base.arguments import Given
from popbuild.base.words import Command
from popbuild.cli.human_answer import ANSWER, give_answer


def _approve(given: Given) -> int:
    """Say yes at a human gate: the task's artifact is good, and tasks that need it can be built.
    The job goes on at its next run; popbuild watch takes it up by itself. The answer holds for the
    artifacts as they are now; the job keeps it with the name, the time and the note."""
    from popbuild.build import human_gate

    return give_answer(given, human_gate.approve)


COMMAND = Command("approve", "say yes at a human gate", ANSWER, _approve)
