"""The only writer: atomic replacement, durable renames, claims and copies.

The protocol for a file is: temporary file in the same folder, write, fsync, `os.replace`, fsync
of the folder. Temporary names are random: one made from the process ID blocks every later write
once the ID repeats. POSIX only.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import secrets
import shutil
import signal
import stat
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from popbuild.base.errors import InputError, PopbuildError, UsageError

LEFT_OVER_S = 3600.0
_PRIVATE = "600"
_TEMPORARY = re.compile(r"\.tmp-[0-9a-f]{16}")

_REMOTE = frozenset(
    "nfs nfs4 cifs smb3 smbfs 9p ceph lustre gpfs afs beegfs virtiofs fuse.sshfs fuse.s3fs "
    "fuse.gcsfuse fuse.glusterfs fuse.ceph fuse.rclone".split()
)

# What a file system says that knows no file without a name.
_NO_TMPFILE = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL)
_BLOCK = 1 << 16  # bytes written at once where there is no call to allocate them

_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_RENAME_EXCHANGE = 2


def file_mode() -> int:
    """The permissions of files: 0600, or what POPBUILD_FILE_MODE says (octal)."""
    configured = os.environ.get("POPBUILD_FILE_MODE", _PRIVATE)
    try:
        mode = int(configured, 8)
    except ValueError:
        mode = 0
    if mode & ~0o666 or mode & 0o600 != 0o600:
        raise UsageError(
            "not a mode for files",
            {
                "POPBUILD_FILE_MODE": configured,
                "allowed": "octal, readable and writable by its owner",
            },
            hint="POPBUILD_FILE_MODE=640 lets the group read",
        )
    return mode


def folder_mode() -> int:
    """The permissions of folders: as for files, and who may read may enter."""
    mode = file_mode()
    return mode | (mode & 0o444) >> 2


def make_folder(path: Path) -> None:
    """Make a folder and its parents, each 0700 unless configured; one that is there stays as it
    is."""
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=folder_mode())


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
    """The first half of `write`, which waits for no disk; `put` is the other."""
    temporary = path.parent / f".tmp-{secrets.token_hex(8)}"
    with _naming(path):
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, file_mode())
        try:
            _write_all(file, data)
        except BaseException:
            os.close(file)
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
    return Prepared(path, temporary, file, len(data))


def put(prepared: Prepared, *, sync: bool) -> None:
    """The other half of `write`."""
    _replace(prepared, sync=sync)
    if sync:
        sync_folder(prepared.path.parent)


def discard_prepared(prepared: Prepared) -> None:
    """A prepared file is not wanted after all."""
    with contextlib.suppress(OSError):
        os.close(prepared.file)
    with contextlib.suppress(OSError):
        prepared.temporary.unlink()


@dataclass(frozen=True)
class AppendedLine:
    """Bytes to be appended to a file whose folder exists."""

    path: Path
    data: bytes


@dataclass(frozen=True)
class Unsynced:
    """Files, and folders, that were written without a sync, open; `release` closes them."""

    files: tuple[tuple[Path, int], ...]


DiskChange = Prepared | AppendedLine | Unsynced


def unsynced(paths: Sequence[Path]) -> Unsynced:
    """Open files to be made durable, with their folders."""
    files: list[tuple[Path, int]] = []
    try:
        for path in (*paths, *dict.fromkeys(path.parent for path in paths)):
            with _naming(path):
                file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            files.append((path, file))
    except BaseException:
        release((Unsynced(tuple(files)),))
        raise
    return Unsynced(tuple(files))


def release(group: Sequence[DiskChange]) -> None:
    """A group was committed: close what was open for it alone."""
    for each in group:
        if isinstance(each, Unsynced):
            for _, file in each.files:
                with contextlib.suppress(OSError):  # they are synced: nothing is lost with them
                    os.close(file)


def commit(several: Sequence[Sequence[DiskChange]]) -> list[OSError | None]:
    """`put` and `append` for several groups, durably. In a group each change is durable before the
    next one is seen. For each group None, or what went wrong: what stands behind it is not done."""
    errors: dict[int, OSError] = {}
    for rank in range(max(map(len, several), default=0)):
        turn = {number: group[rank] for number, group in enumerate(several) if rank < len(group)}
        files = {number: each for number, each in turn.items() if isinstance(each, Prepared)}
        lines: dict[Path, dict[int, bytes]] = {}
        for number, each in turn.items():
            if isinstance(each, AppendedLine) and number not in errors:
                lines.setdefault(each.path, {})[number] = each.data
        for number, each in turn.items():
            if isinstance(each, Unsynced) and number not in errors:
                with _blaming(errors, [number]):
                    for place, file in each.files:
                        with _naming(place):
                            os.fsync(file)
        for number, each in files.items():
            if number in errors:
                discard_prepared(each)
            else:
                with _blaming(errors, [number]):
                    _replace(each, sync=True)
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


def _replace(prepared: Prepared, *, sync: bool) -> None:
    try:
        with _naming(prepared.path):
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


def is_full(error: OSError) -> bool:
    """Whether the disk, or what this user may have of it, is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def unnamed(folder: Path) -> int:
    """An open file in a folder without a name: it is gone with the process."""
    with _naming(folder):
        flags = os.O_RDWR | os.O_CLOEXEC
        if hasattr(os, "O_TMPFILE"):
            try:
                return os.open(folder, flags | os.O_TMPFILE, file_mode())
            except OSError as error:
                if error.errno not in _NO_TMPFILE:
                    raise
        temporary = folder / f".tmp-{secrets.token_hex(8)}"
        file = os.open(temporary, flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, file_mode())
        temporary.unlink()
        return file


def allocate(file: int, size_bytes: int) -> None:
    """Make an open file so large, with room on the disk for each of its bytes. Raises OSError where
    there is none."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size_bytes)
        return
    for start in range(os.fstat(file).st_size, size_bytes, _BLOCK):
        os.pwrite(file, bytes(min(_BLOCK, size_bytes - start)), start)


@contextlib.contextmanager
def creating(path: Path) -> Iterator[IO[bytes]]:
    """A file that is not there yet, written in pieces and synced at the end; its name is durable
    with `sync_folder`. Gone if anything goes wrong."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with _naming(path), os.fdopen(os.open(path, flags, file_mode()), "wb") as stream:
        try:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            # Who reads it back should read the disk, where the kernel lets us ask for that.
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        except BaseException:
            with contextlib.suppress(OSError):
                path.unlink()
            raise


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """An error inside names this file: a write's names none, others a temporary one."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise


def append(path: Path, data: bytes, *, sync: bool = True, lines: bool = True) -> None:
    """Append with one write. With `lines`, a torn last line of a crash is ended first."""
    with _naming(path):
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


def sync_file(path: Path) -> None:
    """Make the bytes of a file durable that were written without."""
    with _naming(path):
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            os.fsync(file)
        finally:
            os.close(file)


def sync_all(folder: Path) -> None:
    """Make everything below a folder durable, and the names in it. Links are not followed."""
    for entry in list(os.scandir(folder)):
        if entry.is_dir(follow_symlinks=False):
            sync_all(Path(entry.path))
        elif entry.is_file(follow_symlinks=False):
            sync_file(Path(entry.path))
    sync_folder(folder)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def stands(path: str | Path) -> bool:
    """Whether there is anything by this name, a dangling link included."""
    return os.path.lexists(path)


def is_folder(path: str | Path) -> bool:
    """Whether this is a folder, or a link to one."""
    return os.path.isdir(path)


def is_regular(path: Path) -> bool:
    """Whether this is a file: not a link, a folder, a pipe or a device."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


_seen: ContextVar[dict[str, os.stat_result | None] | None] = ContextVar("seen", default=None)


@contextlib.contextmanager
def noting_reads() -> Iterator[dict[str, os.stat_result | None]]:
    """Inside, each file that is read is noted by its path, with the stat of what was read; None
    for one that was not the same when it was read again."""
    seen: dict[str, os.stat_result | None] = {}
    token = _seen.set(seen)
    try:
        yield seen
    finally:
        _seen.reset(token)


def _look_of(status: os.stat_result) -> tuple[int, ...]:
    """What tells that a file was changed. Reading it changes the time of its last access."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def read(path: str | Path, *, max_bytes: int | None = None) -> bytes:
    """A regular file's bytes. A link, a folder, a pipe or a device is refused with an InputError:
    it could be anything."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise _irregular(path, "a symbolic link") from None
    try:
        status = os.fstat(file)
        seen = _seen.get()
        if seen is not None:
            before = seen.setdefault(str(path), status)
            seen[str(path)] = status if before and _look_of(before) == _look_of(status) else None
        if not stat.S_ISREG(status.st_mode):
            raise _irregular(
                path, "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or a device"
            )
        if max_bytes is not None and status.st_size > max_bytes:
            raise _too_large(path, f"{status.st_size:,}", max_bytes)
        data = os.read(file, status.st_size + 1)
        if len(data) == status.st_size:
            return data
        with os.fdopen(file, "rb", closefd=False) as stream:  # it grows, or is very large
            data += stream.read(-1 if max_bytes is None else max_bytes + 1 - len(data))
        if max_bytes is not None and len(data) > max_bytes:
            raise _too_large(path, f"more than {max_bytes:,}", max_bytes)
        return data
    finally:
        os.close(file)


def _too_large(path: str | Path, found: str, max_bytes: int) -> InputError:
    values = {"file": path, "found": f"{found} bytes", "allowed": f"{max_bytes:,} bytes"}
    return InputError("file is too large", values)


def is_being_written(path: Path) -> bool:
    """Whether a process of this machine has a file open for writing, as far as can be known."""
    if not sys.platform.startswith("linux"):
        return False
    # The kernel gives no lease for reading on such a file. Whoever opens it meanwhile waits for us
    # a moment, and a signal would tell us.
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        finally:
            os.close(file)
    except OSError as error:
        return error.errno == errno.EAGAIN
    finally:
        signal.signal(signal.SIGIO, before)
    return False


def stamp(path: Path) -> tuple[int, int, int] | None:
    """What is another one once a file was replaced or written to; None where there is none."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def read_end(path: Path, size_bytes: int) -> bytes:
    """The last bytes of a file, at most so many; none where there is no file."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return b""
    try:
        with _naming(path):
            return os.pread(file, size_bytes, max(0, os.fstat(file).st_size - size_bytes))
    finally:
        os.close(file)


def _irregular(path: str | Path, found: str) -> InputError:
    return InputError(
        "not a regular file",
        {"file": path, "found": found},
        hint="put a file in its place; popbuild follows no links",
    )


@dataclass(frozen=True)
class Moment:
    """A time by the clock of a file system, in nanoseconds, and the number of its device."""

    time_ns: int
    device: int


def now(folder: Path) -> Moment | None:
    """What time it is for the file system of a folder, which is made if need be: its clock is not
    always this machine's, nor as fine. None where it cannot be learned, since nothing can be
    written there, or where the times of files may be seen late: on a network file system."""
    try:
        make_folder(folder)
        file = os.open(
            folder / "clock", os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, file_mode()
        )
        try:
            os.utime(file)
            status = os.fstat(file)
        finally:
            os.close(file)
    except OSError:
        return None
    return None if _is_remote(status.st_dev) else Moment(status.st_ctime_ns, status.st_dev)


def _is_remote(device: int) -> bool:
    """Whether a device is a network file system, as far as this kernel tells."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
            text = mounts.read()
    except OSError:
        return False
    number = f" {os.major(device)}:{os.minor(device)} "
    return any(
        line.partition(" - ")[2].split(" ")[0] in _REMOTE
        for line in text.splitlines()
        if number in line
    )


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
    """Swap two names in one step, durably: at no moment is either missing."""
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
    aside = target.parent / f".tmp-{secrets.token_hex(8)}"
    target.rename(aside)
    source.rename(target)
    aside.rename(source)
    return True


def copy_folder(source: Path, target: Path) -> None:
    """Copy a folder so that no file shares an inode with the original; appears in one step."""
    temporary = target.parent / f".tmp-{secrets.token_hex(8)}"
    shutil.copytree(source, temporary, symlinks=True, copy_function=_copy_file)
    sync_all(temporary)
    if not rename_new(temporary, target):
        remove(temporary)
        raise FileExistsError(str(target))


def take_folder(source: Path, target: Path) -> None:
    """Copy what another program made into a folder of ours, durably but for its own name.
    Folders and files get our permissions. InputError for what is neither a file nor a folder."""
    make_folder(target)
    for entry in sorted(os.scandir(source), key=lambda each: each.name):
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            take_folder(path, target / entry.name)
        else:
            take_file(path, target / entry.name)
    sync_folder(target)


def take_file(source: Path, target: Path) -> None:
    """As `take_folder`, one file into a folder that is there."""
    with creating(target) as stream:
        stream.write(read(source))


def copy_file(source: Path, target: Path) -> None:
    """Copy one file's bytes into a file of our own; a link is copied as what it points to."""
    _copy_file(str(source), str(target))


def _copy_file(source: str, target: str) -> str:
    shutil.copyfile(source, target)
    Path(target).chmod(file_mode())
    return target


def remove(path: Path) -> None:
    """Remove a file or folder; nothing happens if it is not there.

    A folder is renamed first, so that a crash never leaves half a job under its name.
    """
    try:
        is_folder = stat.S_ISDIR(path.lstat().st_mode)
        if not is_folder:
            path.unlink()
            return
        doomed = path.parent / f".tmp-{secrets.token_hex(8)}"
        path.rename(doomed)
    except FileNotFoundError:
        return
    shutil.rmtree(doomed, ignore_errors=True)


def is_temporary(path: str) -> bool:
    """Whether a relative path has a name in it that only something has that is being written or
    removed, or that a killed command left: it is no part of the folder that it is in."""
    return any(map(_TEMPORARY.fullmatch, path.split("/")))


def left_overs(folder: Path) -> Iterator[Path]:
    """What crashes left behind: temporary names that nobody has touched for an hour."""
    # By the time that nobody can set: a folder gets that of what it is a copy of.
    limit = time.time() - LEFT_OVER_S
    with contextlib.suppress(FileNotFoundError):
        for entry in sorted(os.scandir(folder), key=lambda each: each.name):
            if entry.name.startswith(".tmp-"):
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


def require_one_file_system(folders: list[Path]) -> None:
    """Promotion is a rename: across file systems it would fail with EXDEV, at the worst time."""
    devices = {folder.stat().st_dev for folder in folders}
    if len(devices) > 1:
        raise PopbuildError(
            "the folders of pipeline-data/ are on different file systems",
            {"folders": ", ".join(str(folder) for folder in folders)},
            hint="a job is promoted by a rename, so all four must share one file system",
        )


def walk_files(folder: Path, skip: frozenset[str] = frozenset()) -> Iterator[tuple[str, Path]]:
    """Every file below a folder as (relative POSIX path, path), sorted; links are not followed."""
    for entry in sorted(os.scandir(folder), key=lambda each: each.name):
        if entry.name in skip or entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            for relative, path in walk_files(Path(entry.path), skip):
                yield f"{entry.name}/{relative}", path
        else:
            yield entry.name, Path(entry.path)


def as_text(name: str) -> str:
    """A name as UTF-8 can say it: a byte that is none is shown by its number."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def empty_folders(folder: Path) -> Iterator[str]:
    """The folders below a folder that hold nothing at all, as relative POSIX paths."""
    for entry in sorted(os.scandir(folder), key=lambda each: each.name):
        if entry.is_dir(follow_symlinks=False):
            if not os.listdir(entry.path):
                yield as_text(entry.name)
            yield from (f"{as_text(entry.name)}/{each}" for each in empty_folders(Path(entry.path)))


def first_link(path: str) -> str | None:
    """A symbolic link: the path itself, or something below it; None where there is none."""
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


def walk_all(folder: Path) -> Iterator[tuple[str, Path]]:
    """Everything below a folder that is no folder itself, hidden files and links too, as (relative
    POSIX path, path), sorted; links are not followed. What of a path is not UTF-8 is shown by its
    number: such a path leads nowhere."""
    for entry in sorted(os.scandir(folder), key=lambda each: each.name):
        if entry.is_dir(follow_symlinks=False):
            for relative, path in walk_all(Path(entry.path)):
                yield f"{as_text(entry.name)}/{relative}", path
        else:
            yield as_text(entry.name), Path(entry.path)
