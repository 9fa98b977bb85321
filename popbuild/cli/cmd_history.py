"""`popbuild history`."""

from popbuild.base.errors import UsageError
from popbuild.cli.options import Given, argument, command, option, print_result, root_of


@command(
    "show how a task did as its prompt changed",
    argument("task", "TASK", help="a task that is measured"),
    argument("points", "N", "*", help="two points, to show how the prompt differs"),
    option("--pipeline", value="NAME", help="the pipeline, where several have the task"),
)
def _history(given: Given) -> int:
    """Show a task's pass rate, its scores and what a job cost for each prompt that it had, the
    oldest first. With the numbers of two points, also how the prompt differs between them."""
    from popbuild.base.units import whole_number
    from popbuild.query import score_history

    root = root_of(given)
    points = score_history.score_history(root, given.task, given.pipeline)
    numbers = [whole_number("N", each) or 0 for each in given.points]
    if len(numbers) not in (0, 2):
        found = {"found": " ".join(map(str, numbers))}
        raise UsageError("a difference is between two points", found, "popbuild history TASK 1 2")
    difference = score_history.prompt_difference(root, points, numbers) if numbers else []
    return print_result(
        given.json,
        lambda: {"points": [each.as_json() for each in points], "difference": difference},
        lambda: [
            *score_history.history_lines(points),
            *score_history.clipped_difference(difference),
        ],
    )
