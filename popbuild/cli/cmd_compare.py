"""`popbuild compare`."""

from popbuild.cli.options import JOBS, Given, command, option, print_result, root_of


@command(
    "compare variants: pass rates, scores, cost",
    JOBS,
    option("--variants", value="NAMES", help="which, as base,cheap; all that have jobs if absent"),
    option("--task", value="TASK", help="compare this task alone"),
    of_variants=False,
)
def _compare(given: Given) -> int:
    """Compare what variants have of the same jobs: gate, scores, output, tokens, cost, time, and
    below the pass rate and mean scores with 95 % intervals, and the difference from the first
    variant over the jobs that both have. Reads what stands, and makes no call."""
    from popbuild.query.compare.comparison_text import comparison_lines
    from popbuild.query.compare.read_results import columns_of, compare_jobs

    names = None if given.variants is None else given.variants.split(",")
    columns, notes = columns_of(root_of(given), names)
    found = compare_jobs(columns, given.names, given.task, notes)
    return print_result(given.json, found.as_json, lambda: comparison_lines(found))
