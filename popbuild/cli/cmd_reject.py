"""`popbuild reject`."""

from __future__ import annotations

from popbuild.base.arguments import Given
from popbuild.base.words import Command
from popbuild.cli.human_answer import ANSWER, give_answer


def _reject(given: Given) -> int:
    """Say no at a human gate: the job goes to rejected/ with the note as its problem. It is not
    built again until something changes that the task depends on, popbuild retry draws another
    sample, or popbuild approve takes the rejection back."""
    from popbuild.build import human_gate

    return give_answer(given, human_gate.reject)


COMMAND = Command("reject", "say no at a human gate", ANSWER, _reject)
