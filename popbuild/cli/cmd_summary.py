"""`popbuild summary`."""

from pathlib import Path

from popbuild.base import disk, permissions
from popbuild.base.errors import UsageError
from popbuild.cli.hand_over_text import give_text, say_where
from popbuild.cli.options import JOBS, Given, command, option, root_of


@command(
    "print how jobs stand as Markdown, for CI",
    JOBS,
    option("-o", "--output", value="FILE", help="append it to this file"),
)
def _summary(given: Given) -> int:
    """Print how jobs stand as Markdown, for the page of a CI run: a table, the problems of those
    that did not pass, and a graph. Makes no call."""
    from popbuild.web.pages.report import summary

    text = summary(root_of(given), given.names)
    if given.output is None:
        return give_text(text, "-", given)
    target = Path(given.output)
    if not target.parent.is_dir():
        raise UsageError("no such folder", {"folder": target.parent})
    # The page of a CI run is one file to which each step adds its own. It may be a link.
    if not disk.stands(target):
        target.touch(permissions.file_mode())
    with target.open("a", encoding="utf-8") as file:
        file.write(text)
    return say_where(target, given)
