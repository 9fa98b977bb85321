"""`popbuild explain`."""

from __future__ import annotations

from popbuild.base.arguments import Given
from popbuild.base.printing import print_result
from popbuild.base.words import JSON, Command, argument
from popbuild.cli.options import ONE_JOB, root_of


def _explain(given: Given) -> int:
    """Say why a job's tasks are stale, in depth: each reason with the difference in the prompt,
    the schema, the seed or the setting. With a task, also everything that its artifact depends
    on."""
    from popbuild.query import describe
    from popbuild.query.plan_text import explain_lines

    found = describe.explain_job(root_of(given), given.job, given.task)
    return print_result(
        given.json,
        lambda: [each.as_json() for each in found],
        lambda: explain_lines(found, dependencies=given.task is not None),
    )


COMMAND = Command(
    "explain",
    "say why tasks are stale, with the differences",
    (ONE_JOB, argument("task", "TASK", "?", help="all if absent"), JSON),
    _explain,
)
