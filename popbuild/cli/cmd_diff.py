"""`popbuild diff`."""

from popbuild.cli.options import ONE_JOB, Given, command, option, print_result, root_of


@command(
    "show what the last rebuild changed",
    ONE_JOB,
    option("--against", value="N", help="the N-th result before this one (1)"),
)
def _diff(given: Given) -> int:
    """Show what the last rebuild of a complete job changed: each artifact, place by place,
    and each task with its tokens and cost, then and now."""
    from popbuild.base.units import whole_number
    from popbuild.query.diff import diff

    found = diff(root_of(given), given.job, whole_number("--against", given.against) or 1)
    return print_result(given.json, found.as_json, found.lines)
