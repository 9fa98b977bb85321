"""What keeps processes apart: named locks, turns at short work, and a text that they share.

The kernel holds all of it for a process, and frees it when the process dies, however it dies.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import hashlib
import itertools
import os
import signal
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from popbuild.base.disk import make_folder, open_to_read
from popbuild.base.permissions import file_mode

# struct flock of Linux on 64 bits: type, whence, start, length, process
_FLOCK = struct.Struct("@hhqqi4x")
_IS_LINUX = sys.platform.startswith("linux")

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_MAX_SHARED = 1 << 20  # bytes
_TURN = 1 << 40  # bytes of a file that are only ever locked, far behind its content
_SEATS = _TURN + 1


def _opened(path: Path) -> int:
    make_folder(path.parent)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, file_mode())


def _is_granted(take: Callable[[], object]) -> bool:
    """Whether the kernel grants a lock; False if it is held elsewhere."""
    try:
        take()
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        raise
    return True


def _lock(file: int, offset: int) -> bool:
    return _is_granted(lambda: fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, offset))


def _unlock(file: int, offset: int) -> None:
    fcntl.lockf(file, fcntl.LOCK_UN, 1, offset)


class Locks:
    """Named locks of one root, held by processes: byte ranges of a single file, so that ten
    thousand of them cost no further file or descriptor.

    POSIX locks belong to the process, so a set keeps its own threads and tasks apart. A process
    loses them when it closes *any* descriptor of the file, so nothing else ever opens it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held: set[str] = set()
        self._changing = threading.Lock()  # the kernel grants a lock to each thread of its holder

    @functools.cached_property
    def _file(self) -> int:
        return _opened(self._path)

    def acquire(self, name: str) -> bool:
        """Take a lock; False if it is held elsewhere. Never waits."""
        with self._changing:
            if name in self._held or not _lock(self._file, _offset(name)):
                return False
            self._held.add(name)
            return True

    def release(self, name: str) -> None:
        """Give a lock back."""
        with self._changing:
            if name in self._held:
                self._held.discard(name)
                _unlock(self._file, _offset(name))

    def is_free(self, name: str) -> bool:
        """Whether no process, this one included, holds a lock."""
        if name in self._held or _IS_LINUX:
            return self.holder(name) is None
        free = not self._path.exists() or self.acquire(name)
        self.release(name)
        return free

    def holder(self, name: str) -> int | None:
        """The process that holds a lock, or None. Processes of other machines have no number here,
        and outside Linux only our own locks are known: the query has another layout there."""
        if name in self._held:
            return os.getpid()
        if not _IS_LINUX or not self._path.exists():
            return None
        # A query, since a trial lock would briefly refuse a process that asks at that moment.
        question = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _offset(name), 1, 0)
        kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(self._file, fcntl.F_GETLK, question))
        return None if kind == fcntl.F_UNLCK else int(pid)


_known: dict[Path, Locks] = {}
_knowing = threading.Lock()


def locks_of(path: Path) -> Locks:
    """The locks of a file, the same object for the whole process: two would take locks from each
    other unnoticed."""
    with _knowing:
        return _known.setdefault(path, Locks(path))


class SharedText:
    """A small text that the processes of a machine change in turns, and a seat for each process.

    The text need not survive: it is never synced, and is empty if it is torn or deleted. As with
    Locks, a process has one of these for a file, and nothing else ever opens it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = -1
        self.seat = 0
        self.times_opened = 0  # each time the seat may be another

    def take(self) -> bytes | None:
        """Begin a turn: the text, or None if another process has the turn. Never waits."""
        if self._file < 0 or not os.fstat(self._file).st_nlink:
            self._open()
        if not _lock(self._file, _TURN):
            return None
        return os.pread(self._file, _MAX_SHARED, 0).partition(b"\n")[0]

    def give(self, text: bytes | None) -> None:
        """End the turn, with a new text or without."""
        try:
            if text is not None:
                # Cut afterwards: a process that is killed in between leaves a whole first line.
                os.pwrite(self._file, text + b"\n", 0)
                if len(text) + 1 < os.fstat(self._file).st_size:
                    os.ftruncate(self._file, len(text) + 1)
        finally:
            _unlock(self._file, _TURN)

    def is_taken(self, seat: int) -> bool:
        """Whether a living process has this seat."""
        if seat == self.seat:
            return True
        taken = not _lock(self._file, _SEATS + seat)
        if not taken:
            _unlock(self._file, _SEATS + seat)
        return taken

    def _open(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = _opened(self._path)
        self.seat = next(seat for seat in itertools.count() if _lock(self._file, _SEATS + seat))
        self.times_opened += 1


def machine() -> str:
    """A name for this machine until it is started again: then the clock that its processes share
    starts anew, and with it what is known."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:  # no Linux: what lies in the future is not used
        return "machine"


@contextlib.contextmanager
def turn(path: Path) -> Iterator[None]:
    """Wait for a turn at short work: one thread of one process has it at a time.

    The lock belongs to the descriptor, unlike those of Locks, so threads wait too.
    """
    file = _opened(path)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def why_not_held(folder: Path) -> str | None:
    """Why file locks in a folder exclude no other process, as on file systems that accept every
    lock and do nothing; None if they hold, as far as one machine can tell.

    One process is enough for the trial: a lock that belongs to a descriptor conflicts with another
    descriptor's, and with the process's own.
    """
    kinds = {"fcntl": _is_held_by_process, "flock": _is_held_by_descriptor}
    # Commands that check at the same time share the file, each with its own byte.
    one, other = _opened(folder / "check"), _opened(folder / "check")
    try:
        for kind, is_held in kinds.items():
            try:
                if not is_held(one, other):
                    return f"two holders got the same {kind} lock"
            except OSError as error:
                return f"{kind}: {error.strerror}"
    finally:
        os.close(other)
        os.close(one)
    return None


def _is_held_by_process(one: int, other: int) -> bool:
    if not _IS_LINUX:
        return True  # elsewhere it takes a second process to tell
    own = os.getpid()
    if not _lock(one, own):
        return True  # a process of another machine has this number, and the lock
    question = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, own, 1, 0)
    return not _is_granted(lambda: fcntl.fcntl(other, fcntl.F_OFD_SETLK, question))


def _is_held_by_descriptor(one: int, other: int) -> bool:
    # Shared, so that commands that check at the same time do not wait for each other.
    fcntl.flock(one, fcntl.LOCK_SH | fcntl.LOCK_NB)
    return not _is_granted(lambda: fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB))


def _offset(name: str) -> int:
    """Two names share a byte with a chance of one in 2**62: then one waits for the other."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 2


def is_being_written(path: Path) -> bool:
    """Whether a process of this machine has a file open for writing, as far as the kernel tells."""
    if not _IS_LINUX:
        return False
    # The kernel grants no read lease on a file that is open for writing. A process that opens the
    # file meanwhile waits for us a moment, and a signal would tell us.
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    try:
        with open_to_read(path) as file:
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    finally:
        signal.signal(signal.SIGIO, before)
    return False
