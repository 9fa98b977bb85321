"""`popbuild restore`."""

from pathlib import Path

from popbuild.base.errors import UsageError
from popbuild.base.units import count, parse_size
from popbuild.cli.archive_words import identity_of
from popbuild.cli.options import (
    IDENTITY,
    Given,
    argument,
    command,
    flag,
    option,
    print_result,
    root_of,
)


@command(
    "put archived jobs back, or make a root of a backup",
    argument("file", "FILE", help="the archive"),
    argument("names", "JOB", "*", help="an ID or a glob; all if absent"),
    flag("--force", help="replace complete jobs that have another result"),
    option("--into", value="DIR", help="a new folder, for the root of a backup"),
    IDENTITY,
    option("--max-size", value="SIZE", help="what all files may take at most (10GB)"),
)
def _restore(given: Given) -> int:
    """Put the jobs of an archive, all or the named ones, back into their places: written beside,
    checked against their seals, then renamed. A job that has another result now is refused;
    --force replaces a complete one and keeps it as a previous result. --into makes a root of a
    backup."""
    from popbuild.upkeep.archive import restore

    file, identity = Path(given.file), identity_of(given)
    max_bytes = restore.MAX_RESTORED_BYTES if given.max_size is None else parse_size(given.max_size)
    if given.into is not None:
        if given.names or given.force:
            raise UsageError("--into restores a whole root", {"without": "JOB, --force"})
        folder = Path(given.into)
        files = restore.restore_root(folder, file, identity=identity, max_bytes=max_bytes)
        return print_result(
            given.json,
            lambda: {"root": str(folder), "files": files},
            lambda: [f"restored {folder}: {count(files, 'file')}"],
        )
    found = restore.restore(
        root_of(given),
        file,
        given.names,
        force=given.force,
        identity=identity,
        max_bytes=max_bytes,
    )
    restored = [f"restored {place}" for place in found.restored]
    there = [f"{place} is there already" for place in found.there]
    return print_result(given.json, found.as_json, lambda: restored + there)
