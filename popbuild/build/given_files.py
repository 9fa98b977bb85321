"""Files that go with a seed that is submitted: paths of a person, a folder, a zip file."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from popbuild.base import copies, disk, jsonio, tree
from popbuild.base.errors import InputError
from popbuild.base.paths import SEED
from popbuild.jobs.seed_files import seed_of
from popbuild.model.input_file import MAX_INPUT_BYTES, named_inputs

_PART_BYTES = 1 << 20
_ENCRYPTED = 1  # a flag of a zip file's member


@dataclass(frozen=True)
class GivenFile:
    """A file by where it comes from, as a person reads it. `put` copies it to a place, where its
    bytes are durable; it raises InputError or OSError."""

    where: str
    put: Callable[[Path], None]


def file_at(path: Path) -> GivenFile:
    """A file from anywhere; a link is refused, also as one of the person who runs the command."""
    return GivenFile(
        str(path), lambda target: copies.put_copy(path, target, max_bytes=MAX_INPUT_BYTES)
    )


def below(folder: Path, place: str) -> GivenFile:
    """A file below a folder, not through a link."""

    def put(target: Path) -> None:
        link = tree.link_on_the_way(str(folder), place)
        if link is not None:
            raise InputError("below a symbolic link", {"found": link})
        copies.put_copy(folder / place, target, max_bytes=MAX_INPUT_BYTES)

    return GivenFile(str(folder / place), put)


def bytes_of_file(name: str, data: bytes) -> GivenFile:
    """A file that is in memory already."""
    return GivenFile(name, lambda target: disk.write(target, data))


@contextmanager
def packed_seed(path: Path) -> Iterator[tuple[dict[str, Any], dict[str, GivenFile]]]:
    """A folder or a zip file with a `seed.json`: the seed, and its files, which can be put while
    this is open. Raises BadSeed, InputError, and FileNotFoundError without the seed."""
    if path.is_dir():
        data = disk.read(path / SEED, max_bytes=jsonio.MAX_BYTES)
        seed = seed_of(data, str(path / SEED))
        yield seed, {name: below(path, each) for name, each in named_inputs(seed).items()}
        return
    with disk.open_regular(path) as file, open(file, "rb", closefd=False) as stream:
        try:
            archive = zipfile.ZipFile(stream)
        except (zipfile.BadZipFile, NotImplementedError) as error:
            raise InputError("not a zip file", {"file": path, "found": error}) from None
        with archive:
            members = _members(archive, path)
            if SEED not in members:
                raise FileNotFoundError(f"{path}/{SEED}")
            data = b"".join(_parts(archive, members[SEED], jsonio.MAX_BYTES))
            seed = seed_of(data, f"{path}/{SEED}")
            named = named_inputs(seed).items()
            yield seed, {name: _packed(archive, members, path, each) for name, each in named}


def is_packed(path: Path) -> bool:
    """Whether this is a folder, or is named as a zip file is."""
    return path.is_dir() or path.suffix.lower() == ".zip"


def _members(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    """The members of a zip file by name. InputError for two of one name: which is meant?"""
    found: dict[str, zipfile.ZipInfo] = {}
    for each in archive.infolist():
        if found.setdefault(each.filename, each) is not each:
            raise InputError("two members of one name", {"file": path, "member": each.filename})
    return found


def _packed(
    archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], path: Path, place: str
) -> GivenFile:
    def put(target: Path) -> None:
        if place not in members:
            raise FileNotFoundError(place)
        with disk.creating(target) as stream:
            for part in _parts(archive, members[place], MAX_INPUT_BYTES):
                stream.write(part)

    return GivenFile(f"{path}/{place}", put)


def _parts(archive: zipfile.ZipFile, member: zipfile.ZipInfo, max_bytes: int) -> Iterator[bytes]:
    """The bytes of a member. InputError for what is no plain file, is encrypted or damaged, or is
    larger than allowed once it is unpacked, whatever it says of itself."""
    mode = member.external_attr >> 16
    if member.is_dir() or (stat.S_IFMT(mode) and not stat.S_ISREG(mode)):
        raise InputError("not a regular file", {"found": "a link, a folder or a device"})
    if member.flag_bits & _ENCRYPTED:
        raise InputError("encrypted, and popbuild has no password for it")
    size = 0
    try:
        with archive.open(member) as stream:
            while part := _read(stream):
                size += len(part)
                if size > max_bytes:
                    raise jsonio.too_large(member.filename, f"more than {max_bytes:,}", max_bytes)
                yield part
    except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError) as error:
        raise InputError("damaged in the zip file", {"found": error}) from None


def _read(stream: IO[bytes]) -> bytes:
    return stream.read(_PART_BYTES)
