"""`popbuild report`."""

from popbuild.cli.hand_over_text import give_text
from popbuild.cli.options import JOBS, Given, command, option, root_of


@command(
    "write one HTML file about jobs",
    JOBS,
    option(
        "-o",
        "--output",
        value="FILE",
        required=True,
        help="the file to write; - prints it",
    ),
)
def _report(given: Given) -> int:
    """Write a report on jobs as one HTML file that needs nothing else: a table, and of each job
    its graph, tasks, timeline, artifacts, calls with prompts and answers, problems, origin and
    logs. What looks like a key is masked. The same files give the same bytes. Makes no call."""
    from popbuild.web.pages.report import report_page

    return give_text(report_page(root_of(given), given.names), given.output, given)
