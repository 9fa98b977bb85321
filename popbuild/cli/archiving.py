"""`popbuild archive`, `restore`, `backup` and `import`. Each docstring is a help page."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from popbuild.base.errors import OK, REJECTED, UsageError
from popbuild.base.units import count
from popbuild.cli.options import (
    JSON,
    Given,
    Table,
    argument,
    flag,
    print_json,
    print_lines,
    root_of,
)

if TYPE_CHECKING:
    from popbuild.upkeep.archive.write import Archived


def _archive(given: Given) -> int:
    """Write jobs, complete and rejected ones, to a .tar.zst file, and read it back in full. With
    --remove they then go. A name that ends in .age encrypts it to the public keys in
    pipeline-config/recipients.txt."""
    from popbuild.upkeep.archive import write

    archived = write.archive(
        root_of(given),
        given.names,
        Path(given.output),
        remove=given.remove,
        plain=given.plain,
        identity=_path(given.identity),
    )
    return _say(given, archived, count(len(archived.jobs), "job"))


def _backup(given: Given) -> int:
    """Write the whole root to a .tar.zst file, and read it back in full: seeds, samples,
    configuration, jobs, store and ledger. Not .env. Refused while a job is built. A name that
    ends in .age encrypts it, as for archive."""
    from popbuild.upkeep.archive import write

    archived = write.backup(
        root_of(given), Path(given.output), plain=given.plain, identity=_path(given.identity)
    )
    return _say(given, archived, "the root")


def _say(given: Given, archived: Archived, what: str) -> int:
    if given.json:
        print_json(archived.as_json())
    else:
        encrypted = ", encrypted" if archived.encrypted else ""
        size = f"{count(archived.files, 'file')}, {archived.size_bytes:,} bytes{encrypted}"
        done = "was there already" if archived.there else "written and read back"
        print_lines([f"{archived.file}: {done}: {what}, {size}"])
        print_lines(f"removed {place}" for place in archived.removed)
    for place in archived.left_out:
        print(
            f"left out {place}: neither a file nor a folder, or no name in UTF-8", file=sys.stderr
        )
    return OK


def _restore(given: Given) -> int:
    """Put the jobs of an archive, all or the named ones, back into their places: written beside,
    held against their seals, then renamed. A job with another result is refused; --force replaces
    a complete one and keeps it as a previous result. --into makes a root of a backup."""
    from popbuild.upkeep.amounts import parse_size
    from popbuild.upkeep.archive import restore

    file, identity = Path(given.file), _path(given.identity)
    max_bytes = restore.MAX_RESTORED_BYTES if given.max_size is None else parse_size(given.max_size)
    if given.into is not None:
        if given.names or given.force:
            raise UsageError("--into restores a whole root", {"without": "JOB, --force"})
        folder = Path(given.into)
        files = restore.restore_root(folder, file, identity=identity, max_bytes=max_bytes)
        if given.json:
            print_json({"root": str(folder), "files": files})
        else:
            print_lines([f"restored {folder}: {count(files, 'file')}"])
        return OK
    found = restore.restore(
        root_of(given),
        file,
        given.names,
        force=given.force,
        identity=identity,
        max_bytes=max_bytes,
    )
    if given.json:
        print_json(found.as_json())
        return OK
    print_lines(f"restored {place}" for place in found.restored)
    print_lines(f"{place} is there already" for place in found.there)
    return OK


def _import(given: Given) -> int:
    """Copy what another program wrote by the storage document into this root: seeds, jobs in
    every state, and the lines of runs.jsonl that are not there yet. DIR is that program's root
    or its pipeline-data/, and stays as it is. A job or a seed that stands here with another
    content is left alone and named, and so is what is no file or folder; the rest comes, and
    the exit code is 1. Again, it brings what is new. A complete job is then taken over without
    a call by popbuild accept JOB."""
    from popbuild.upkeep import import_root

    found = import_root.import_data(root_of(given), Path(given.folder), dry_run=given.dry_run)
    if given.json:
        print_json(found.as_json())
    else:
        print_lines(found.lines_of_text())
    return OK if found.whole else REJECTED


def _path(given: str | None) -> Path | None:
    return None if given is None else Path(given)


_OUTPUT = argument(
    "-o", "--output", metavar="FILE", required=True, help="the archive: FILE.tar.zst, or .age"
)
_PLAIN = flag("--plain", help="do not encrypt, though the root has recipients")
_IDENTITY = argument(
    "--identity", metavar="FILE", help="a private key of age; never one in the root"
)

ARCHIVING: Table = {
    "archive": (
        _archive,
        "write jobs to a file, and remove them if asked",
        (
            argument("names", nargs="+", metavar="JOB", help="a job's ID or a glob"),
            _OUTPUT,
            flag("--remove", help="remove the jobs once the archive was read back"),
            _PLAIN,
            _IDENTITY,
            JSON,
        ),
    ),
    "restore": (
        _restore,
        "put archived jobs back, or make a root of a backup",
        (
            argument("file", metavar="FILE", help="the archive"),
            argument("names", nargs="*", metavar="JOB", help="an ID or a glob; all if absent"),
            flag("--force", help="replace complete jobs that have another result"),
            argument("--into", metavar="DIR", help="a new folder, for the root of a backup"),
            _IDENTITY,
            argument("--max-size", metavar="SIZE", help="of all files at most (10GB)"),
            JSON,
        ),
    ),
    "import": (
        _import,
        "copy another program's data folder into the root",
        (
            argument("folder", metavar="DIR", help="its root, or its pipeline-data/"),
            flag("--dry-run", help="only say what would come"),
            JSON,
        ),
    ),
    "backup": (_backup, "write the whole root to a file", (_OUTPUT, _PLAIN, _IDENTITY, JSON)),
}
