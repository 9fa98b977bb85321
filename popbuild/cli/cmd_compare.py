"""`popbuild compare`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from popbuild.base.errors import OK, REJECTED, UsageError
from popbuild.cli.hand_over_text import give_text
from popbuild.cli.options import (
    BUDGET_USD,
    JOBS,
    STORE,
    UNKNOWN_COST,
    Given,
    command,
    flag,
    option,
    print_result,
    root_of,
)

if TYPE_CHECKING:
    from popbuild.base.paths import Root
    from popbuild.query.compare.comparison import Comparison


@command(
    "compare variants: pass rates, scores, cost",
    JOBS,
    option("--variants", value="NAMES", help="which, as base,cheap; all that have jobs if absent"),
    option("--task", value="TASK", help="compare this task alone"),
    option("--run", value="RUN", help="a job with what this earlier run of it made"),
    flag("--build", help="build first what is stale or missing"),
    BUDGET_USD,
    option("--ask-above", value="USD", help="show the plan and ask if it may cost more"),
    UNKNOWN_COST,
    STORE,
    flag("--csv", help="print CSV: a line for each draw of each job in each variant"),
    flag("--markdown", help="print Markdown, for a comment on a pull request"),
    option("-o", "--output", value="FILE", help="write an HTML page that needs nothing else"),
    of_variants=False,
)
def _compare(given: Given) -> int:
    """Compare what variants have of the same jobs: gate, scores, output, tokens, cost, time, and
    below the pass rate and mean scores with 95 % intervals, and the difference from the first
    variant over the jobs that both have. It reads what stands and makes no call, unless --build
    lets it. Two jobs by their IDs, without --variants, are shown as two documents side by side with
    words marked; so is one job with --run, which names an earlier run of it."""
    root = root_of(given)
    is_pair = len(given.names) == 2 and not any(set(name) & set("*?[") for name in given.names)
    if given.run is not None or (is_pair and given.variants is None):
        return _side_by_side(root, given)
    from popbuild.query.compare.read_results import columns_of, compare_jobs

    _check_form(given)
    names = None if given.variants is None else given.variants.split(",")
    columns, notes = columns_of(root, names)
    code = _build([each for column in columns for each in column.roots], given)
    try:
        _show(compare_jobs(columns, given.names, given.task, notes), given)
    except UsageError as error:
        if code == OK:
            raise
        # What ended the build is told already, and is what the exit code is about.
        print(f"not compared: {error.as_line()}", file=sys.stderr)
    return code


def _check_form(given: Given) -> None:
    """UsageError for two forms at once, and for words that --build alone has."""
    found = [f"--{name}" for name in ("json", "csv", "markdown") if vars(given)[name]]
    found += ["-o"] if given.output is not None else []
    if len(found) > 1 and found != ["--json", "-o"]:
        raise UsageError("a comparison is printed in one form", {"found": ", ".join(found)})
    said = ("budget", "ask_above", "unknown_cost", "store")
    alone = [f"--{name.replace('_', '-')}" for name in said if vars(given)[name]]
    if alone and not given.build:
        hint = "without --build, compare makes no call"
        raise UsageError("these go with --build", {"found": ", ".join(alone)}, hint)


def _build(roots: list[Root], given: Given) -> int:
    """Build what is missing, if asked. A rejection is a result like any other; of all else, the
    exit code tells."""
    if not given.build:
        return OK
    from popbuild.build import progress, session
    from popbuild.build.nothing_to_do import Options
    from popbuild.build.run_command import run_each

    options = Options(
        continue_=True,
        store=given.store,
        budget=session.dollars("--budget", given.budget),
        ask_above=session.dollars("--ask-above", given.ask_above),
        unknown_allowed=given.unknown_cost,
    )
    code, results = run_each(roots, None, given.names, options, as_json=True)
    progress.print_results(results, as_json=False, debug=given.debug)
    return OK if code == REJECTED else code


def _show(table: Comparison, given: Given) -> None:
    if given.csv:
        from popbuild.query.compare.comparison_csv import comparison_csv

        give_text(comparison_csv(table), "-", given)
    elif given.markdown or given.output is not None:
        from popbuild.web.pages.compared import comparison_markdown, comparison_page

        text = comparison_markdown(table) if given.markdown else comparison_page(table)
        give_text(text, given.output or "-", given)
    else:
        from popbuild.query.compare.comparison_text import comparison_lines

        print_result(given.json, table.as_json, lambda: comparison_lines(table))


def _side_by_side(root: Root, given: Given) -> int:
    from popbuild.query.compare.side_by_side import against_run, two_jobs

    words = ("variants", "build", "csv", "markdown", "output")
    found = [f"--{name}" for name in words if vars(given)[name]]
    if found:
        values = {"found": ", ".join(found)}
        raise UsageError("two documents are shown as text or --json", values)
    if given.run is None:
        shown = two_jobs(root, given.names, given.task)
    elif len(given.names) == 1:
        shown = against_run(root, given.names[0], given.run, given.task)
    else:
        raise UsageError("--run is an earlier run of one job", {"jobs": len(given.names)})
    return print_result(given.json, shown.as_json, shown.lines_of_text)
