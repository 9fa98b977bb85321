"""Archives, read in full and checked as they are read."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from popbuild.base import disk
from popbuild.base.errors import UsageError
from popbuild.upkeep.archive import age, tarball
from popbuild.upkeep.archive.tarball import Contents


def is_encrypted(file: Path) -> bool:
    return _begins_with(file, age.AGE_MAGIC)


def looks_like_archive(file: Path) -> bool:
    """Whether a file begins as an archive does, encrypted or not."""
    return _begins_with(file, tarball.ZSTD_MAGIC) or is_encrypted(file)


def _begins_with(file: Path, magic: bytes) -> bool:
    with file.open("rb") as stream:
        return stream.read(len(magic)) == magic


def read_archive(
    file: Path, keys: Sequence[Any], max_bytes: int, opened: Callable[[Contents], tarball.Sink]
) -> None:
    """Read an archive as `tarball.unpack` does, decrypted with one of the keys. UsageError for a
    file that is not there, or is encrypted where no key is given."""
    if not disk.is_regular(file):
        raise UsageError("no such file", {"file": file})
    encrypted = is_encrypted(file)
    if encrypted and not keys:
        raise UsageError(
            "the archive is encrypted",
            {"file": file},
            hint="--identity FILE names the private key of one of its recipients",
        )
    with (
        file.open("rb") as source,
        age.decrypting(source, keys) if encrypted else contextlib.nullcontext(source) as data,
    ):
        tarball.unpack(data, str(file), max_bytes, opened)


class _Discard(io.RawIOBase):
    def write(self, data: Any) -> int:
        return len(data)


def check_archive(file: Path, keys: Sequence[Any]) -> Contents:
    """Read an archive in full, and keep nothing but its contents list."""
    found: list[Contents] = []

    def opened(contents: Contents) -> tarball.Sink:
        found.append(contents)
        return lambda place: contextlib.nullcontext(_Discard())  # type: ignore[arg-type]

    read_archive(file, keys, 1 << 62, opened)
    return found[0]
