"""`popbuild archive`."""

from pathlib import Path

from popbuild.base.units import count
from popbuild.cli.archive_words import OUTPUT, PLAIN, identity_of, print_archived
from popbuild.cli.options import IDENTITY, SOME_JOBS, Given, command, flag, root_of

_REMOVE = flag("--remove", help="remove the jobs once the archive was read back")


@command(
    "write jobs to a file, and remove them if asked", SOME_JOBS, OUTPUT, _REMOVE, PLAIN, IDENTITY
)
def _archive(given: Given) -> int:
    """Write complete and rejected jobs to a .tar.zst file, and read it back in full; then --remove
    removes them. A FILE that ends in .age is encrypted to the public keys in
    pipeline-config/recipients.txt."""
    from popbuild.upkeep.archive import write

    archived = write.archive(
        root_of(given),
        given.names,
        Path(given.output),
        remove=given.remove,
        plain=given.plain,
        identity=identity_of(given),
    )
    return print_archived(given, archived, count(len(archived.jobs), "job"))
