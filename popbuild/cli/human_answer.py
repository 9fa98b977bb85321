"""What `approve` and `reject` share: the words of an answer, and giving it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from popbuild.base.roots import as_seen
from popbuild.cli.options import ONE_JOB, Given, option, print_result, root_of

if TYPE_CHECKING:
    from popbuild.base.paths import Root
    from popbuild.build.human_gate import Decided, HumanAnswer

ANSWER = (
    ONE_JOB,
    option("--task", value="TASK", help="which task, where several wait"),
    option("--note", value="TEXT", help="why"),
    option("--by", value="NAME", help="who says it; the login name if absent"),
    option("--of", value="DIGEST", help="only if this is still asked: `of` in status JOB --json"),
)


def give_answer(given: Given, decide: Callable[[Root, str, HumanAnswer], Decided]) -> int:
    from popbuild.build.human_gate import HumanAnswer

    answer = HumanAnswer(given.task, given.note, given.by, given.of)
    root = root_of(given)
    decided = decide(root, given.job, answer)
    return print_result(
        given.json, decided.as_json, lambda: (as_seen(root, line) for line in decided.lines())
    )
