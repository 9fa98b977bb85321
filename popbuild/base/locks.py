"""What keeps processes apart: named locks, turns at something short, a text that they share.

All of it is held by the kernel for a process, and free the moment that process dies.
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
from collections.abc import Callable, Iterator
from pathlib import Path

from popbuild.base.disk import make_folder, open_to_read
from popbuild.base.permissions import file_mode

# struct flock of Linux on 64 bits: type, whence, start, length, process
_FLOCK = struct.Struct("@hhqqi4x")

_MAX_SHARED = 1 << 20  # bytes
_TURN = 1 << 40  # bytes of a file that are only ever locked, far behind what is in it
_SEATS = _TURN + 1


class Locks:
    """Named locks of one root, held by processes: byte ranges of a single file.

    The kernel frees them when the process dies, however it dies, and ten thousand of them cost no
    file and no descriptor. POSIX locks belong to the process, so a set keeps threads and tasks of
    this process apart; and they are lost when the process closes *any* descriptor of the file,
    which is why nothing else ever opens it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        self._held: set[str] = set()

    def acquire(self, name: str) -> bool:
        """Take a lock; False if it is held elsewhere. Never waits."""
        if name in self._held:
            return False
        try:
            fcntl.lockf(self._open(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _offset(name))
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return False
            raise
        self._held.add(name)
        return True

    def release(self, name: str) -> None:
        """Give a lock back."""
        self._held.discard(name)
        if self._file is not None:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _offset(name))

    def is_free(self, name: str) -> bool:
        """Whether a lock is free, also of this process."""
        if name in self._held or sys.platform.startswith("linux"):
            return self.holder(name) is None
        free = not self._path.exists() or self.acquire(name)
        if free:
            self.release(name)
        return free

    def holder(self, name: str) -> int | None:
        """The process that holds a lock, or None. Processes of other machines cannot be told, and
        outside Linux only our own locks are known: the query has another layout there."""
        if name in self._held:
            return os.getpid()
        if not sys.platform.startswith("linux") or not self._path.exists():
            return None
        # Only asked: to take it, and be it for a moment, would turn away who comes just then.
        question = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _offset(name), 1, 0)
        answer = fcntl.fcntl(self._open(), fcntl.F_GETLK, question)
        kind, _, _, _, pid = _FLOCK.unpack(answer)
        return None if kind == fcntl.F_UNLCK else int(pid)

    def _open(self) -> int:
        if self._file is None:
            make_folder(self._path.parent)
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, file_mode())
        return self._file


@functools.cache
def locks_of(path: Path) -> Locks:
    """The locks of a file, the same ones wherever this process asks: two sets would take them from
    one another unnoticed."""
    return Locks(path)


class SharedText:
    """A small text that the processes of a machine change in turns, and a seat for each of them.

    The kernel takes turn and seat from a process that dies, however it dies. The text is nothing
    that must survive: it is never synced, and one that is torn or deleted is found empty. As with
    Locks, a process has one of these for a file, and nothing else ever opens it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        self.seat = 0
        self.times_opened = 0  # each time the seat may be another

    def take(self) -> bytes | None:
        """Begin a turn: the text, None where another process has the turn. Never waits."""
        if self._file is None or not os.fstat(self._file).st_nlink:
            self._open()
        assert self._file is not None
        if not self._lock(_TURN):
            return None
        return os.pread(self._file, _MAX_SHARED, 0).partition(b"\n")[0]

    def give(self, text: bytes | None) -> None:
        """End the turn, with a new text or without."""
        assert self._file is not None
        try:
            if text is not None:
                # Cut after, not before: a process that is killed in between leaves a first line
                # that is whole.
                os.pwrite(self._file, text + b"\n", 0)
                if len(text) + 1 < os.fstat(self._file).st_size:
                    os.ftruncate(self._file, len(text) + 1)
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _TURN)

    def is_taken(self, seat: int) -> bool:
        """Whether a living process has this seat."""
        if seat == self.seat:
            return True
        assert self._file is not None
        if self._lock(_SEATS + seat):
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _SEATS + seat)
            return False
        return True

    def _open(self) -> None:
        make_folder(self._path.parent)
        if self._file is not None:
            os.close(self._file)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = os.open(self._path, flags, file_mode())
        self.seat = next(seat for seat in itertools.count() if self._lock(_SEATS + seat))
        self.times_opened += 1

    def _lock(self, offset: int) -> bool:
        assert self._file is not None
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, offset)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return False
            raise
        return True


@contextlib.contextmanager
def turn(path: Path) -> Iterator[None]:
    """Wait for one's turn at something short: one thread of one process has it at a time.

    The lock is the descriptor's, not the process's, as those of Locks are: threads wait too.
    """
    make_folder(path.parent)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, file_mode())
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def why_not_held(folder: Path) -> str | None:
    """Why file locks in a folder do not exclude anyone: some file systems accept every lock and
    do nothing. None if they hold, as far as one machine can tell.

    A lock that belongs to a descriptor conflicts with another one's, and with the process's own:
    so one process is enough for the trial.
    """
    kinds = {"fcntl": _is_held_by_process, "flock": _is_held_by_descriptor}
    make_folder(folder)
    path = folder / "check"
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    # Shared by all who check at the same time: each has a byte of its own.
    one, other = os.open(path, flags, file_mode()), os.open(path, flags, file_mode())
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
    if not sys.platform.startswith("linux"):
        return True  # elsewhere it takes a second process to tell
    own = os.getpid()
    if _is_refused(lambda: fcntl.lockf(one, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, own)):
        return True  # a process of another machine has this number, and the lock
    question = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, own, 1, 0)
    return _is_refused(lambda: fcntl.fcntl(other, fcntl.F_OFD_SETLK, question))


def _is_held_by_descriptor(one: int, other: int) -> bool:
    # Shared locks of all who check never wait for each other; a writer's would.
    fcntl.flock(one, fcntl.LOCK_SH | fcntl.LOCK_NB)
    return _is_refused(lambda: fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB))


def _is_refused(take: Callable[[], object]) -> bool:
    try:
        take()
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return True
        raise
    return False


def _offset(name: str) -> int:
    """Two names may share a byte with a chance of one in 2**62: they would wait, not break."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 2


def is_being_written(path: Path) -> bool:
    """Whether a process of this machine has a file open for writing, as far as can be known."""
    if not sys.platform.startswith("linux"):
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
