"""Names and whole folders: durable renames, copies, removal, and walks that follow no links."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from popbuild.base.disk import (
    creating,
    make_folder,
    read,
    sync_file,
    sync_folder,
    temporary_beside,
    write,
)
from popbuild.base.errors import PopbuildError
from popbuild.base.permissions import own

LEFT_OVER_S = 3600.0
_TEMPORARY = re.compile(r"\.tmp-[0-9a-f]{16}")

_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_RENAME_EXCHANGE = 2


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    return sorted(os.scandir(folder), key=lambda each: each.name)


# Renaming.


def rename_new(source: Path, target: Path) -> bool:
    """Rename, replacing nothing; False when the target exists. Durable.

    A plain `rename` of a folder silently replaces an empty one, hence renameat2.
    """
    if not _renameat2(source, target, _RENAME_NOREPLACE):
        return False
    _sync_parents(source, target)
    return True


def rename(source: Path, target: Path) -> None:
    """Rename a file, durably; a file by that name is replaced."""
    source.replace(target)
    _sync_parents(source, target)


def exchange(one: Path, other: Path) -> None:
    """Swap two names in one step, durably: neither is missing at any moment."""
    _renameat2(one, other, _RENAME_EXCHANGE)
    _sync_parents(one, other)


def _sync_parents(one: Path, other: Path) -> None:
    sync_folder(other.parent)
    if one.parent != other.parent:
        sync_folder(one.parent)


def _renameat2(source: Path, target: Path, flags: int) -> bool:
    if not sys.platform.startswith("linux"):
        return _rename_elsewhere(source, target, flags)
    library = ctypes.CDLL(None, use_errno=True)
    if library.renameat2(
        _AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), ctypes.c_uint(flags)
    ):
        code = ctypes.get_errno()
        if code == errno.EEXIST:
            return False
        if code in (errno.EINVAL, errno.ENOSYS):  # a file system without the flags
            return _rename_elsewhere(source, target, flags)
        raise OSError(code, os.strerror(code), str(source), None, str(target))
    return True


def _rename_elsewhere(source: Path, target: Path, flags: int) -> bool:
    """Where renameat2 is missing: the job's lock keeps our own processes apart."""
    if flags == _RENAME_NOREPLACE:
        if target.exists() or target.is_symlink():
            return False
        source.rename(target)
        return True
    aside = temporary_beside(target)
    target.rename(aside)
    source.rename(target)
    aside.rename(source)
    return True


def require_one_file_system(folders: list[Path]) -> None:
    """PopbuildError unless all folders are on one file system: a promotion is a rename, which fails
    with EXDEV across file systems, after everything was paid for."""
    if len({folder.stat().st_dev for folder in folders}) > 1:
        raise PopbuildError(
            "the folders of pipeline-data/ are on different file systems",
            {"folders": ", ".join(str(folder) for folder in folders)},
            hint="a job is promoted by a rename, so all four must share one file system",
        )


# Copying and removing.


def copy_folder(source: Path, target: Path) -> None:
    """Copy a folder so that no file shares an inode with the original; it appears in one step."""
    temporary = temporary_beside(target)
    shutil.copytree(source, temporary, symlinks=True, copy_function=copy_file)
    sync_all(temporary)
    if not rename_new(temporary, target):
        remove(temporary)
        raise FileExistsError(str(target))


def take_folder(source: Path, target: Path) -> None:
    """Copy another program's folder into one of ours; all but its own name is durable. Folders and
    files get our permissions. InputError for anything that is neither a file nor a folder."""
    make_folder(target)
    for entry in _entries(source):
        if entry.is_dir(follow_symlinks=False):
            take_folder(Path(entry.path), target / entry.name)
        else:
            with creating(target / entry.name) as stream:
                stream.write(read(entry.path))
    sync_folder(target)


def copy_file(source: str | Path, target: str | Path) -> None:
    """Copy a file's bytes, with our permissions; of a link, the file that it leads to."""
    shutil.copyfile(source, target)
    own(Path(target))


def write_like(path: Path, data: bytes, like: Path) -> None:
    """Write a person's own file, durably, with the permissions of another one."""
    make_folder(path.parent)
    write(path, data)
    shutil.copymode(like, path)


def sync_all(folder: Path) -> None:
    """Make a folder, its names and everything below durable. Follows no links."""
    for entry in _entries(folder):
        if entry.is_dir(follow_symlinks=False):
            sync_all(Path(entry.path))
        elif entry.is_file(follow_symlinks=False):
            sync_file(Path(entry.path))
    sync_folder(folder)


def remove(path: Path) -> None:
    """Remove a file or folder, if it is there. A folder is renamed first, so that a crash never
    leaves half a job under its name."""
    try:
        if not stat.S_ISDIR(path.lstat().st_mode):
            path.unlink()
            return
        doomed = temporary_beside(path)
        path.rename(doomed)
    except FileNotFoundError:
        return
    shutil.rmtree(doomed, ignore_errors=True)


def is_temporary(path: str) -> bool:
    """Whether any component of a relative path is one of our temporary names: of a file that is
    being written or removed, or that a killed command left."""
    return any(map(_TEMPORARY.fullmatch, path.split("/")))


def left_overs(folder: Path) -> Iterator[Path]:
    """What crashes left behind: temporary names that are older than an hour."""
    return old(folder, lambda name: name.startswith(".tmp-"))


def old(folder: Path, wanted: Callable[[str], bool]) -> Iterator[Path]:
    """The entries of a folder with wanted names that are older than an hour."""
    # By the time of change: a copied folder takes its other times from the original.
    limit = time.time() - LEFT_OVER_S
    with contextlib.suppress(FileNotFoundError):
        for entry in _entries(folder):
            if wanted(entry.name):
                with contextlib.suppress(FileNotFoundError):
                    if entry.stat(follow_symlinks=False).st_ctime < limit:
                        yield Path(entry.path)


def sweep(folder: Path) -> None:
    """Remove what crashes left behind."""
    for path in left_overs(folder):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


# Walking.


def walk_files(folder: Path, skip: frozenset[str] = frozenset()) -> Iterator[tuple[str, Path]]:
    """Every file below a folder as (relative POSIX path, path), sorted, without hidden ones and
    the names in `skip`. Follows no links."""
    return _walk(folder, lambda name: name in skip or name.startswith("."), str)


def walk_all(folder: Path) -> Iterator[tuple[str, Path]]:
    """As `walk_files`, with hidden files and links; each relative path is text, by `as_text`."""
    return _walk(folder, lambda name: False, as_text)


def _walk(
    folder: Path, skips: Callable[[str], bool], shown: Callable[[str], str]
) -> Iterator[tuple[str, Path]]:
    for entry in _entries(folder):
        if skips(entry.name):
            continue
        if entry.is_dir(follow_symlinks=False):
            for relative, path in _walk(Path(entry.path), skips, shown):
                yield f"{shown(entry.name)}/{relative}", path
        else:
            yield shown(entry.name), Path(entry.path)


def as_text(name: str) -> str:
    """A name as text: bytes that are not UTF-8 are escaped, and such a path leads nowhere."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def folder_size(folder: Path) -> int:
    """The bytes of all files below a folder."""
    return sum(path.lstat().st_size for _, path in walk_all(folder))


def empty_folders(folder: Path) -> Iterator[str]:
    """The empty folders below a folder, as relative POSIX paths."""
    for entry in _entries(folder):
        if entry.is_dir(follow_symlinks=False):
            if not os.listdir(entry.path):
                yield as_text(entry.name)
            yield from (f"{as_text(entry.name)}/{each}" for each in empty_folders(Path(entry.path)))


def link_on_the_way(folder: str, place: str) -> str | None:
    """A symbolic link among the folders from here to a place below; None if there is none."""
    path = folder
    for part in place.split("/")[:-1]:
        path = f"{path}/{part}"
        if os.path.islink(path):
            return path
    return None


def first_link(path: str) -> str | None:
    """A symbolic link: the path itself, or one below it; None if there is none."""
    if os.path.islink(path):
        return path
    try:
        with os.scandir(path) as entries:
            below = list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return None
    for entry in below:
        if entry.is_symlink():
            return entry.path
        if entry.is_dir(follow_symlinks=False):
            found = first_link(entry.path)
            if found is not None:
                return found
    return None


def stems_in(folder: Path, ending: str) -> list[str]:
    """The names of a folder's files with this ending, without it."""
    try:
        with os.scandir(folder) as entries:
            names = [each.name for each in entries if each.name.endswith(ending)]
    except FileNotFoundError:
        return []
    return [name.removesuffix(ending) for name in names if not name.startswith(".")]
