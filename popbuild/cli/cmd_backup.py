"""`popbuild backup`."""

from pathlib import Path

from popbuild.cli.archive_words import OUTPUT, PLAIN, identity_of, print_archived
from popbuild.cli.options import IDENTITY, Given, command, root_of


@command("write the whole root to a file", OUTPUT, PLAIN, IDENTITY, of_variants=False)
def _backup(given: Given) -> int:
    """Write the whole root to a .tar.zst file, and read it back in full: seeds, samples,
    configuration, jobs, store and ledger, but not .env. Refused while a job is built. A FILE that
    ends in .age is encrypted, as by archive."""
    from popbuild.upkeep.archive import write

    root, file = root_of(given), Path(given.output)
    archived = write.backup(root, file, plain=given.plain, identity=identity_of(given))
    return print_archived(given, archived, "the root")
