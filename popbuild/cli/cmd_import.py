"""`popbuild import`."""

from pathlib import Path

from popbuild.base.errors import OK, REJECTED
from popbuild.cli.options import Given, argument, command, flag, print_result, root_of


@command(
    "copy another program's data folder into the root",
    argument("folder", "DIR", help="that program's root or its pipeline-data/"),
    flag("--dry-run", help="only say what would be copied"),
    of_variants=False,
)
def _import(given: Given) -> int:
    """Copy what another program wrote by the storage document into this root: seeds, jobs in
    every state, and the lines of runs.jsonl that are not there yet. DIR is that program's root
    or its pipeline-data/, and is not changed. A job or a seed that is here with another content
    is named and not copied, and so is what is neither a file nor a folder; the rest is copied,
    and the exit code is 1. A second import copies what is new. Then popbuild accept JOB takes a
    complete job over without a call."""
    from popbuild.upkeep import import_root

    found = import_root.import_data(root_of(given), Path(given.folder), dry_run=given.dry_run)
    code = OK if found.whole else REJECTED
    return print_result(given.json, found.as_json, found.lines_of_text, code)
