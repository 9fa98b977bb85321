"""`popbuild validate`."""

from collections.abc import Iterator
from pathlib import Path

from popbuild.base.errors import OK, REJECTED
from popbuild.base.units import count
from popbuild.build.chosen_variant import is_named
from popbuild.cli.options import Given, argument, command, print_result, root_of


@command(
    "check configuration, seeds and jobs",
    argument("paths", "PATH", "*", help="a file or a folder; everything if absent"),
)
def _validate(given: Given) -> int:
    """Check configuration, seeds and jobs in any state against the schemas: the given files
    and folders, or everything, that of all variants too; and find what the configuration
    misspells. Prints every problem, and exits with 1 if there is one. Warnings name what may be a
    mistake, and change no exit code."""
    from popbuild.upkeep import validate

    root = root_of(given)
    if given.paths or is_named(root, given):
        result = validate.validate(root, [Path(path) for path in given.paths])
    else:
        result = validate.validate_all(root)

    def lines() -> Iterator[str]:
        for finding in result.findings:
            yield f"{finding.file}: {finding.problem}"
        for finding in result.warnings:
            yield f"{finding.file}: warning: {finding.problem}"
        said = count(len(result.findings), "problem") if result.findings else "all valid"
        more = f", {count(len(result.warnings), 'warning')}" if result.warnings else ""
        others = f", and {count(result.variants, 'variant')}" if result.variants else ""
        yield f"{result.checked} files checked{others}: {said}{more}"

    return print_result(
        given.json,
        lambda: {
            "checked": result.checked,
            "variants": result.variants,
            "problems": [finding.as_json() for finding in result.findings],
            "warnings": [finding.as_json() for finding in result.warnings],
        },
        lines,
        REJECTED if result.findings else OK,
    )
