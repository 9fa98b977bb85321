"""`popbuild explain`."""

from popbuild.cli.options import ONE_JOB, Given, argument, command, print_result, root_of


@command(
    "say why tasks are stale, with the differences",
    ONE_JOB,
    argument("task", "TASK", "?", help="a task; all if absent"),
)
def _explain(given: Given) -> int:
    """Say why a job's tasks are stale, in depth: each reason with the difference in the prompt,
    the schema, the seed or the setting. With a task, also everything that its artifact depends
    on."""
    from popbuild.query.explain import explain_job, explain_lines

    found = explain_job(root_of(given), given.job, given.task)
    return print_result(
        given.json,
        lambda: [each.as_json() for each in found],
        lambda: explain_lines(found, dependencies=given.task is not None),
    )
