"""Room on the disk: whether there is any, and how a file without a name reserves it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from popbuild.base.disk import TO_CREATE, naming, temporary_beside
from popbuild.base.permissions import file_mode

# How a file system without nameless files answers.
_NO_TMPFILE = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL)
_BLOCK = 1 << 16  # bytes written at once where no call allocates them


def is_full(error: OSError) -> bool:
    """Whether the disk, or the user's quota, is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def unnamed(folder: Path) -> int:
    """Open a file without a name in a folder: it disappears with the process."""
    with naming(folder):
        flags = os.O_RDWR | os.O_CLOEXEC
        if hasattr(os, "O_TMPFILE"):
            try:
                return os.open(folder, flags | os.O_TMPFILE, file_mode())
            except OSError as error:
                if error.errno not in _NO_TMPFILE:
                    raise
        temporary = temporary_beside(folder / "unnamed")
        file = os.open(temporary, os.O_RDWR | TO_CREATE, file_mode())
        temporary.unlink()
        return file


def allocate(file: int, size_bytes: int) -> None:
    """Grow an open file and reserve disk space for all of it. OSError if there is too little."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size_bytes)
        return
    for start in range(os.fstat(file).st_size, size_bytes, _BLOCK):
        os.pwrite(file, bytes(min(_BLOCK, size_bytes - start)), start)


def give_back(file: int, size_bytes: int) -> None:
    """Shrink an open file to this size, which frees the rest of its room."""
    os.ftruncate(file, size_bytes)
