"""The clock of a file system, which may differ from this machine's and be coarser."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from popbuild.base.disk import make_folder
from popbuild.base.permissions import file_mode

_REMOTE = frozenset(
    "nfs nfs4 cifs smb3 smbfs 9p ceph lustre gpfs afs beegfs virtiofs fuse.sshfs fuse.s3fs "
    "fuse.gcsfuse fuse.glusterfs fuse.ceph fuse.rclone".split()
)

_TICKS_NS = 100_000_000  # ten ticks, and mostly more, of the clocks that file systems read
_COARSE_TICKS_NS = 4_000_000_000  # two of the coarsest: FAT's


@dataclass(frozen=True)
class Moment:
    """A time by the clock of a file system, and the number of its device."""

    time_ns: int
    device: int

    def has_passed(self, file: os.stat_result) -> bool:
        """Whether a file rested for some ticks by then: a later change shows in its times."""
        # A clock that shows no part of a second finer than 10 ms may well have none.
        ticks = _TICKS_NS if self.time_ns % 10_000_000 else _COARSE_TICKS_NS
        # Another file system has its own clock, and this one says nothing about it.
        return file.st_ctime_ns < self.time_ns - ticks and file.st_dev == self.device


def now(folder: Path) -> Moment | None:
    """The time of a folder's file system, from a file touched in it; a missing folder is made.
    None if the folder cannot be written to, and on network file systems, which show the times of
    files late."""
    try:
        make_folder(folder)
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(folder / "clock", flags, file_mode())
        try:
            os.utime(file)
            status = os.fstat(file)
        finally:
            os.close(file)
    except OSError:
        return None
    return None if _is_remote(status.st_dev) else Moment(status.st_ctime_ns, status.st_dev)


def _is_remote(device: int) -> bool:
    try:
        text = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    number = f" {os.major(device)}:{os.minor(device)} "
    return any(
        line.partition(" - ")[2].split(" ")[0] in _REMOTE
        for line in text.splitlines()
        if number in line
    )
