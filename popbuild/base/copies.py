"""A copy of one file that takes no room of its own where the file system shares blocks."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from popbuild.base.disk import creating, naming, open_regular, temporary_beside

_PART_BYTES = 1 << 24  # copied at once
# How a kernel says that it cannot copy between these files: on two file systems, or of a kind.
_NO_RANGES = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)


def put_copy(source: Path, target: Path, *, max_bytes: int) -> None:
    """Put a copy of a file into a place, atomically; its bytes are durable, its name is by
    `sync_folder`. The copy shares its blocks with the file where the file system can. InputError
    for links, folders, pipes, devices and files that are too large."""
    temporary = temporary_beside(target)
    try:
        with open_regular(source, max_bytes=max_bytes) as file, creating(temporary) as stream:
            _copy_bytes(file, stream.fileno())
        with naming(target):
            temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _copy_bytes(source: int, target: int) -> None:
    """Copy one open file into another."""
    try:
        while hasattr(os, "copy_file_range") and os.copy_file_range(source, target, _PART_BYTES):
            pass
    except OSError as error:
        if error.errno not in _NO_RANGES:
            raise
    # What is left, which is all of it where the kernel cannot copy from this file system.
    while part := os.read(source, _PART_BYTES):
        view = memoryview(part)
        while view:
            view = view[os.write(target, view) :]
