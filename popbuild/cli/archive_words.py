"""What `archive` and `backup` share: words, and how the archive is reported."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from popbuild.base.errors import OK
from popbuild.base.units import count
from popbuild.cli.options import Given, flag, option, print_result

if TYPE_CHECKING:
    from popbuild.upkeep.archive.write import Archived

OUTPUT = option(
    "-o", "--output", value="FILE", required=True, help="the archive: a name in .tar.zst or .age"
)
PLAIN = flag("--plain", help="do not encrypt, though the root has recipients")


def identity_of(given: Given) -> Path | None:
    return None if given.identity is None else Path(given.identity)


def print_archived(given: Given, archived: Archived, what: str) -> int:
    def lines() -> Iterator[str]:
        encrypted = ", encrypted" if archived.encrypted else ""
        size = f"{count(archived.files, 'file')}, {archived.size_bytes:,} bytes{encrypted}"
        done = "was there already" if archived.there else "written and read back"
        yield f"{archived.file}: {done}: {what}, {size}"
        yield from (f"removed {place}" for place in archived.removed)

    print_result(given.json, archived.as_json, lines)
    why = "neither a file nor a folder, or its name is not UTF-8"
    for place in archived.left_out:
        print(f"left out {place}: {why}", file=sys.stderr)
    return OK
