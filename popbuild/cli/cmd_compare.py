"""`popbuild compare`."""

from popbuild.base.errors import UsageError
from popbuild.cli.hand_over_text import give_text
from popbuild.cli.options import JOBS, Given, command, flag, option, print_result, root_of


@command(
    "compare variants: pass rates, scores, cost",
    JOBS,
    option("--variants", value="NAMES", help="which, as base,cheap; all that have jobs if absent"),
    option("--task", value="TASK", help="compare this task alone"),
    flag("--csv", help="print CSV: a line for each draw of each job in each variant"),
    flag("--markdown", help="print Markdown, for a comment on a pull request"),
    option("-o", "--output", value="FILE", help="write an HTML page that needs nothing else"),
    of_variants=False,
)
def _compare(given: Given) -> int:
    """Compare what variants have of the same jobs: gate, scores, output, tokens, cost, time, and
    below the pass rate and mean scores with 95 % intervals, and the difference from the first
    variant over the jobs that both have. Reads what stands, and makes no call."""
    from popbuild.query.compare.read_results import columns_of, compare_jobs

    forms = [name for name in ("json", "csv", "markdown") if vars(given)[name]]
    if len(forms) > 1 or (given.output is not None and forms not in ([], ["json"])):
        found = [f"--{name}" for name in forms] + ["-o"] * (given.output is not None)
        raise UsageError("a comparison is printed in one form", {"found": ", ".join(found)})
    names = None if given.variants is None else given.variants.split(",")
    columns, notes = columns_of(root_of(given), names)
    table = compare_jobs(columns, given.names, given.task, notes)
    if given.csv:
        from popbuild.query.compare.comparison_csv import comparison_csv

        return give_text(comparison_csv(table), "-", given)
    if given.markdown or given.output is not None:
        from popbuild.web.pages.compared import comparison_markdown, comparison_page

        text = comparison_markdown(table) if given.markdown else comparison_page(table)
        return give_text(text, given.output or "-", given)
    from popbuild.query.compare.comparison_text import comparison_lines

    return print_result(given.json, table.as_json, lambda: comparison_lines(table))
