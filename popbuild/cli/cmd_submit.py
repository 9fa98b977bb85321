"""`popbuild submit`."""

from pathlib import Path

from popbuild.base.errors import UsageError
from popbuild.cli.options import Given, argument, command, option, print_result, root_of


@command(
    "queue a one-off job from a seed file",
    argument("file", "FILE", help="the seed; a folder or .zip of seed.json and its files; a table"),
    option("--id", value="ID", help="the job's ID, of a table a template; pl-... if absent"),
    option("--pipeline", value="NAME", help="the pipeline of a table's jobs"),
    option("--sheet", value="NAME", help="the sheet of a workbook; the first if absent"),
    option(
        "--file",
        dest="files",
        value="NAME=PATH",
        repeated=True,
        help="a file for the prompts, which read it as files.NAME; repeatable",
    ),
)
def _submit(given: Given) -> int:
    """Queue a one-off job: the seed is copied to pending/ under a new ID, or under --id, and
    the files that it names with it. A seed under seeds/ needs no submit: its file name is its
    job's ID. A table (.csv, .tsv, .jsonl, .xlsx, .parquet, or .json with an array) gives a job
    for each row: `submit reviews.csv --pipeline triage --id 'review-{{ row.id }}'`."""
    from popbuild.build.submission import is_table, submit, submit_table

    root, path = root_of(given), Path(given.file)
    if is_table(path):
        if given.files:
            raise UsageError("--file is for one seed, and this is a table", {"file": given.file})
        if given.sheet == "":
            raise UsageError("--sheet names no sheet", {"file": given.file})
        jobs = submit_table(root, path, given.id, given.pipeline, given.sheet or "")
        none = [f"nothing to queue: {given.file} has no rows"]
        return print_result(given.json, lambda: {"ids": jobs}, lambda: jobs or none)
    if given.pipeline is not None:
        raise UsageError("--pipeline is for a table: a seed names its own", {"file": given.file})
    if given.sheet is not None:
        raise UsageError("--sheet is for a workbook, and this is a seed", {"file": given.file})
    job = submit(root, path, given.id, _files(given.files or []))
    return print_result(given.json, lambda: {"id": job}, lambda: [job])


def _files(given: list[str]) -> dict[str, Path]:
    """The files that were given, by name."""
    found: dict[str, Path] = {}
    for each in given:
        name, separator, path = each.partition("=")
        if not separator or not path or name in found:
            what = "a file was given twice" if name in found else "a file is given by name and path"
            raise UsageError(what, {"--file": each}, hint="--file report=q3.md")
        found[name] = Path(path)
    return found
