"""`popbuild validate`."""

from collections.abc import Iterator
from pathlib import Path

from popbuild.base.errors import OK, REJECTED
from popbuild.base.units import count
from popbuild.cli.options import Given, argument, command, print_result, root_of


@command(
    "check configuration, seeds and jobs",
    argument("paths", "PATH", "*", help="a file or a folder; everything if absent"),
)
def _validate(given: Given) -> int:
    """Check configuration, seeds and jobs in any state against the schemas: the given files
    and folders, or everything; and find what the configuration misspells. Prints every problem,
    and exits with 1 if there is one. Warnings name what may be a mistake, and change no exit
    code."""
    from popbuild.upkeep import validate

    result = validate.validate(root_of(given), [Path(path) for path in given.paths])

    def lines() -> Iterator[str]:
        for finding in result.findings:
            yield f"{finding.file}: {finding.problem}"
        for finding in result.warnings:
            yield f"{finding.file}: warning: {finding.problem}"
        said = count(len(result.findings), "problem") if result.findings else "all valid"
        more = f", {count(len(result.warnings), 'warning')}" if result.warnings else ""
        yield f"{result.checked} files checked: {said}{more}"

    return print_result(
        given.json,
        lambda: {
            "checked": result.checked,
            "problems": [finding.as_json() for finding in result.findings],
            "warnings": [finding.as_json() for finding in result.warnings],
        },
        lines,
        REJECTED if result.findings else OK,
    )
