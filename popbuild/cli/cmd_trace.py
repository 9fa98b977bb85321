"""`popbuild trace`."""

from popbuild.cli.options import Given, argument, command, print_result, root_of


@command(
    "say where an artifact came from",
    argument("artifact", "ARTIFACT", help="a file, or <job>/<name>"),
)
def _trace(given: Given) -> int:
    """Say where an artifact came from: task, run, model and settings, every call with its
    tokens and cost, the files of the configuration, what it read from the seed and from
    the artifacts above, and the same for those. ARTIFACT is a file under pipeline-data/,
    <job>/<artifact>, <job>/<task>, or a file that was exported: found by its digest."""
    from popbuild.query.provenance import trace
    from popbuild.query.provenance_text import provenance_lines

    found = trace(root_of(given), given.artifact)
    return print_result(given.json, found.as_json, lambda: provenance_lines(found))
