"""One file at a time: atomic replacement, appending, syncing, and reading what is really a file.

The protocol for writing is: a temporary file in the same folder, write, fsync, `os.replace`, fsync
of the folder. Temporary names are random: one made from the process ID would block every later
write once the ID repeats. POSIX only.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import random
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from popbuild.base.errors import InputError
from popbuild.base.jsonio import too_large
from popbuild.base.permissions import file_mode, folder_mode
from popbuild.base.read_notes import note_read

_TO_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK  # a pipe must not hold us up
# Seeded by the system once a process: to ask it for each name is a third of what a file costs.
_draw = random.Random()
os.register_at_fork(after_in_child=_draw.seed)
TO_CREATE = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def make_folder(path: Path) -> None:
    """Make a folder and its missing parents, 0700 unless configured otherwise."""
    mode = folder_mode()
    with contextlib.suppress(FileExistsError):
        try:
            path.mkdir(mode)
        except FileNotFoundError:
            make_folder(path.parent)
            path.mkdir(mode)


def stands(path: str | Path) -> bool:
    """Whether anything has this name, a dangling link included."""
    return os.path.lexists(path)


def look(path: str, folder: int | None = None) -> os.stat_result | None:
    """The stat of what has this name, a link itself; None if nothing has."""
    try:
        return os.lstat(path, dir_fd=folder)
    except OSError:
        return None


@contextlib.contextmanager
def looking_below(folder: Path) -> Iterator[Callable[[str], os.stat_result | None]]:
    """Inside, `look` for places below a folder. It is held open, so that for many files the system
    does not walk to the folder each time: a fourth of what a look costs."""
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield functools.partial(look, folder=held)
    finally:
        os.close(held)


def is_folder(path: str | Path) -> bool:
    """Whether this is a folder, or a link to one."""
    return os.path.isdir(path)


def is_regular(path: Path) -> bool:
    """Whether this is a file: not a link, a folder, a pipe or a device."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def stamp(path: Path) -> tuple[int, int, int] | None:
    """A value that differs once a file was replaced or written to; None if it is missing."""
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def temporary_beside(path: Path) -> Path:
    """A new temporary name in the same folder; `tree.is_temporary` knows it."""
    return path.parent / f".tmp-{_draw.getrandbits(64):016x}"


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let errors inside name this file: a failed write names none, others name a temporary one."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise


# Writing.


@dataclass(frozen=True)
class Prepared:
    """A file's new content, written under a temporary name beside its place."""

    path: Path
    temporary: Path
    file: int
    size_bytes: int


def write(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Replace a file's content atomically; with `sync`, durably. The folder must exist."""
    put(prepare(path, data), sync=sync)


def prepare(path: Path, data: bytes) -> Prepared:
    """The first half of `write`, which does not wait for the disk; `put` is the second."""
    temporary = temporary_beside(path)
    with naming(path):
        file = os.open(temporary, os.O_WRONLY | TO_CREATE, file_mode())
        try:
            _write_all(file, data)
        except BaseException:
            os.close(file)
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
    return Prepared(path, temporary, file, len(data))


def put(prepared: Prepared, *, sync: bool) -> None:
    """The second half of `write`."""
    replace(prepared, sync=sync)
    if sync:
        sync_folder(prepared.path.parent)


def replace(prepared: Prepared, *, sync: bool) -> None:
    """As `put`, but the new name becomes durable by `sync_folder`."""
    try:
        with naming(prepared.path):
            try:
                if sync:
                    os.fsync(prepared.file)
            finally:
                os.close(prepared.file)
            os.replace(prepared.temporary, prepared.path)
    except BaseException:
        with contextlib.suppress(OSError):
            prepared.temporary.unlink()
        raise


def discard_prepared(prepared: Prepared) -> None:
    """Drop a prepared file that is not needed after all."""
    with contextlib.suppress(OSError):
        os.close(prepared.file)
    with contextlib.suppress(OSError):
        prepared.temporary.unlink()


def append(path: Path, data: bytes, *, sync: bool = True, lines: bool = True) -> None:
    """Append with one write. With `lines`, first end a line that a crash left torn."""
    with naming(path):
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, file_mode())
        try:
            size = os.fstat(file).st_size
            if lines and size and os.pread(file, 1, size - 1) != b"\n":
                data = b"\n" + data
            _write_all(file, data)
            if sync:
                os.fsync(file)
        finally:
            os.close(file)


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:  # a full disk or a signal may cut a write short
        view = view[os.write(file, view) :]


@contextlib.contextmanager
def creating(path: Path) -> Iterator[IO[bytes]]:
    """Create a file, to be written in pieces. At the end it is synced; if anything goes wrong, it
    is removed. Its name becomes durable by `sync_folder`."""
    with (
        naming(path),
        os.fdopen(os.open(path, os.O_WRONLY | TO_CREATE, file_mode()), "wb") as stream,
    ):
        try:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            # Ask the kernel to forget it, so that reading it back reads the disk.
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        except BaseException:
            with contextlib.suppress(OSError):
                path.unlink()
            raise


def sync_file(path: Path) -> None:
    """Make a file durable after a write without a sync."""
    with naming(path), open_to_read(path) as file:
        os.fsync(file)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


# Reading.


@contextlib.contextmanager
def open_to_read(path: str | Path) -> Iterator[int]:
    """A file opened for reading, never through a link."""
    file = os.open(path, _TO_READ)
    try:
        yield file
    finally:
        os.close(file)


def read(path: str | Path, *, max_bytes: int | None = None) -> bytes:
    """A regular file's bytes. InputError for links, folders, pipes, devices and files that are too
    large."""
    file, status = _open_regular(path, max_bytes)
    try:
        data = os.read(file, status.st_size + 1)
        if len(data) == status.st_size:
            return data
        with os.fdopen(file, "rb", closefd=False) as stream:  # it grows, or is very large
            data += stream.read(-1 if max_bytes is None else max_bytes + 1 - len(data))
        if max_bytes is not None and len(data) > max_bytes:
            raise too_large(path, f"more than {max_bytes:,}", max_bytes)
        return data
    finally:
        os.close(file)


@contextlib.contextmanager
def open_regular(path: str | Path, *, max_bytes: int | None = None) -> Iterator[int]:
    """A regular file opened for reading, refused as by `read`."""
    file, _ = _open_regular(path, max_bytes)
    try:
        yield file
    finally:
        os.close(file)


def _open_regular(path: str | Path, max_bytes: int | None) -> tuple[int, os.stat_result]:
    try:
        file = os.open(path, _TO_READ)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise _irregular(path, "a symbolic link") from None
    try:
        status = os.fstat(file)
        note_read(path, status)
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or a device"
            raise _irregular(path, kind)
        if max_bytes is not None and status.st_size > max_bytes:
            raise too_large(path, f"{status.st_size:,}", max_bytes)
    except BaseException:
        os.close(file)
        raise
    return file, status


def read_end(path: Path, size_bytes: int) -> bytes:
    """At most the last `size_bytes` of a file; empty if there is no file."""
    try:
        with naming(path), open_to_read(path) as file:
            return os.pread(file, size_bytes, max(0, os.fstat(file).st_size - size_bytes))
    except FileNotFoundError:
        return b""


def _irregular(path: str | Path, found: str) -> InputError:
    hint = "put a file in its place; popbuild follows no links"
    return InputError("not a regular file", {"file": path, "found": found}, hint)
