"""Changes to many files made durable together: few waits for the disk, in a certain order."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from popbuild.base.disk import Prepared, append, discard_prepared, naming, replace, sync_folder


@dataclass(frozen=True)
class AppendedLine:
    """Bytes to be appended to a file whose folder exists."""

    path: Path
    data: bytes


@dataclass(frozen=True)
class Unsynced:
    """Open files and folders that need a sync; `release` closes them."""

    files: tuple[tuple[Path, int], ...]


DiskChange = Prepared | AppendedLine | Unsynced


def unsynced(paths: Sequence[Path]) -> Unsynced:
    """Open files to be made durable, with their folders."""
    files: list[tuple[Path, int]] = []
    try:
        for path in (*paths, *dict.fromkeys(path.parent for path in paths)):
            with naming(path):
                file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            files.append((path, file))
    except BaseException:
        release((Unsynced(tuple(files)),))
        raise
    return Unsynced(tuple(files))


def release(group: Sequence[DiskChange]) -> None:
    """Close the open files of a committed group."""
    for each in group:
        if isinstance(each, Unsynced):
            for _, file in each.files:
                with contextlib.suppress(OSError):  # they are synced, so nothing is lost
                    os.close(file)


def commit(several: Sequence[Sequence[DiskChange]]) -> list[OSError | None]:
    """Make several groups of changes durable. Within a group each change is durable before the
    next is visible. For each group: None, or the error at which it stopped."""
    errors: dict[int, OSError] = {}
    for rank in range(max(map(len, several), default=0)):
        turn = {number: group[rank] for number, group in enumerate(several) if rank < len(group)}
        files = {number: each for number, each in turn.items() if isinstance(each, Prepared)}
        lines: dict[Path, dict[int, bytes]] = {}
        for number, each in turn.items():
            if isinstance(each, AppendedLine) and number not in errors:
                lines.setdefault(each.path, {})[number] = each.data
            elif isinstance(each, Unsynced) and number not in errors:
                with _blaming(errors, [number]):
                    for place, file in each.files:
                        with naming(place):
                            os.fsync(file)
        for number, each in files.items():
            if number in errors:
                discard_prepared(each)
            else:
                with _blaming(errors, [number]):
                    replace(each, sync=True)
        for folder in {each.path.parent for each in files.values()}:
            with _blaming(errors, [no for no, each in files.items() if each.path.parent == folder]):
                sync_folder(folder)
        for path, data in lines.items():
            with _blaming(errors, data):
                append(path, b"".join(data.values()))
    return [errors.get(number) for number in range(len(several))]


@contextlib.contextmanager
def _blaming(errors: dict[int, OSError], numbers: Iterable[int]) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        for number in numbers:
            errors.setdefault(number, error)
