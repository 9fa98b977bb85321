"""The file of an archive: a .tar.zst whose first member says what the others are.

The first member, `archive.json`, lists the place and the digest of every file; the files follow in
that order. A reader accepts exactly that, so an archive cannot hold a link, a device, a path that
leads elsewhere or a file without a digest. Plain tar can read it. The same files make the same
bytes. The one importer of zstd.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from popbuild.base import disk, jsonio
from popbuild.base.errors import InputError, UsageError
from popbuild.upkeep.archive import age

ARCHIVE_VERSION = 1
CONTENTS = "archive.json"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"

_BLOCK = tarfile.BLOCKSIZE
_CHUNK = 1 << 20
_LEVEL = 10
_MAX_WINDOW = 27  # bits: 128 MiB of memory, zstd's own default
_MAX_CONTENTS_BYTES = 64 << 20


@dataclass(frozen=True)
class Contents:
    """What an archive holds. `kind` is `jobs` or `root`, `jobs` describes each job, and `files` has
    the digest of every file by its place below a root."""

    kind: str
    jobs: list[dict[str, Any]]
    files: dict[str, str]

    def as_json(self) -> dict[str, Any]:
        return {"formatVersion": ARCHIVE_VERSION, **dataclasses.asdict(self)}


def pack(target: IO[bytes], contents: Contents, read: Callable[[str], bytes]) -> None:
    """Write an archive; `read` gives a file's bytes. InputError for one that changed meanwhile."""
    zstd = _library()
    options = {
        zstd.CompressionParameter.compression_level: _LEVEL,
        zstd.CompressionParameter.checksum_flag: 1,
    }
    with zstd.ZstdFile(target, "wb", options=options) as stream:
        _add(stream, CONTENTS, jsonio.dumps(contents.as_json()))
        for place, digest in sorted(contents.files.items()):
            data = read(place)
            if jsonio.digest_bytes(data) != digest:
                raise InputError("a file changed while it was archived", {"file": place})
            _add(stream, place, data)
        stream.write(bytes(2 * _BLOCK))


def _add(stream: IO[bytes], place: str, data: bytes) -> None:
    member = tarfile.TarInfo(place)
    member.size, member.mode = len(data), 0o600
    try:
        header = member.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict")
    except (ValueError, UnicodeEncodeError) as error:
        values = {"file": ascii(place), "found": str(error)}
        raise InputError("a file cannot be archived", values) from None
    stream.write(header)
    stream.write(data)
    stream.write(bytes(-len(data) % _BLOCK))


Sink = Callable[[str], contextlib.AbstractContextManager[IO[bytes]]]


def unpack(
    source: IO[bytes], shown: str, max_bytes: int, opened: Callable[[Contents], Sink]
) -> None:
    """Read an archive to its end. `opened` gets its contents first, and returns a function that
    opens each file for writing. InputError for anything that is not as the contents say."""
    zstd = _library()
    options = {zstd.DecompressionParameter.window_log_max: _MAX_WINDOW}
    try:
        with zstd.ZstdFile(source, "rb", options=options) as stream:
            _Reader(stream, max_bytes).read(opened)
    except (zstd.ZstdError, EOFError, tarfile.HeaderError, UnicodeError, _Wrong) as error:
        values = {"file": shown, "found": str(error)}
        raise InputError("not a whole archive of popbuild", values) from None


class _Wrong(Exception):
    """Something that an archive should not have."""


class _Reader:
    def __init__(self, stream: IO[bytes], max_bytes: int) -> None:
        self._stream = stream
        self._left = self._max = max_bytes

    def read(self, opened: Callable[[Contents], Sink]) -> None:
        size = self._header(CONTENTS)
        if size > _MAX_CONTENTS_BYTES:
            raise _Wrong(f"{CONTENTS} of {size:,} bytes")
        data = io.BytesIO()
        self._copy(size, data)
        contents = _contents_of(data.getvalue())
        sink = opened(contents)
        for place, digest in sorted(contents.files.items()):
            with sink(place) as file:
                if self._copy(self._header(place), file) != digest:
                    raise _Wrong(f"{place!a}, which is not what {CONTENTS} says")
        if self._take(2 * _BLOCK) != bytes(2 * _BLOCK) or self._stream.read(1):
            raise _Wrong(f"more than {CONTENTS} says")

    def _header(self, place: str) -> int:
        member = tarfile.TarInfo.frombuf(self._take(_BLOCK), "utf-8", "strict")
        if member.name != place or member.type != tarfile.REGTYPE:
            kind = "" if member.type == tarfile.REGTYPE else f" of type {member.type!r}"
            raise _Wrong(f"{member.name!a}{kind} where {place!a} should be")
        if not 0 <= member.size <= self._left:
            raise InputError(
                "the archive is too large",
                {"allowed": f"{self._max:,} bytes", "file": place},
                hint="--max-size allows more",
            )
        self._left -= member.size
        return member.size

    def _copy(self, size: int, target: IO[bytes]) -> str:
        """Copy a member's bytes; gives their digest."""
        digest = hashlib.sha256()
        left = size
        while left:
            data = self._take(min(left, _CHUNK))
            digest.update(data)
            target.write(data)
            left -= len(data)
        if self._take(-size % _BLOCK).strip(b"\0"):
            raise _Wrong("something behind the end of a file")
        return f"sha256:{digest.hexdigest()}"

    def _take(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self._stream.read(size - len(data))
            if not piece:
                raise _Wrong("its end, too early")
            data += piece
        return data


def _contents_of(data: bytes) -> Contents:
    body = jsonio.loads(data, CONTENTS, max_bytes=_MAX_CONTENTS_BYTES)
    if not isinstance(body, dict) or body.get("formatVersion") != ARCHIVE_VERSION:
        raise _Wrong(f"{CONTENTS} of another version than {ARCHIVE_VERSION}")
    files, jobs = body.get("files"), body.get("jobs")
    if body.get("kind") not in ("jobs", "root") or not isinstance(files, dict):
        raise _Wrong(f"{CONTENTS} that says neither jobs nor a root")
    if not isinstance(jobs, list) or not all(isinstance(each, dict) for each in jobs):
        raise _Wrong(f"{CONTENTS} whose jobs are not a list")
    for place, digest in files.items():
        if not is_safe(place) or not isinstance(digest, str):
            raise _Wrong(f"the path {place!a}")
    folders = {above for place in files for above in _folders_of(place)}
    for place in folders & files.keys():
        raise _Wrong(f"{place!a} as a file and as a folder")
    return Contents(body["kind"], jobs, files)


def _folders_of(place: str) -> Iterator[str]:
    while place:
        place = place.rpartition("/")[0]
        yield place


def is_safe(place: str) -> bool:
    """Whether a path leads to a file below the folder that it is relative to."""
    parts = place.split("/")
    return "\0" not in place and not {"", ".", ".."}.intersection(parts)


def _library() -> Any:
    try:
        from backports import zstd
    except ImportError:
        raise UsageError(
            "archives need backports.zstd",
            {"missing": "backports.zstd"},
            hint="pip install 'popbuild[archive]'",
        ) from None
    return zstd


def is_encrypted(file: Path) -> bool:
    return _begins_with(file, age.AGE_MAGIC)


def looks_like_archive(file: Path) -> bool:
    """Whether a file begins as an archive does, encrypted or not."""
    return _begins_with(file, ZSTD_MAGIC) or is_encrypted(file)


def _begins_with(file: Path, magic: bytes) -> bool:
    with file.open("rb") as stream:
        return stream.read(len(magic)) == magic


def read_archive(
    file: Path, keys: Sequence[Any], max_bytes: int, opened: Callable[[Contents], Sink]
) -> None:
    """Read an archive as `unpack` does, decrypted with one of the keys. UsageError for a
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
        unpack(data, str(file), max_bytes, opened)


class _Discard(io.RawIOBase):
    def write(self, data: Any) -> int:
        return len(data)


def check_archive(file: Path, keys: Sequence[Any]) -> Contents:
    """Read an archive in full, and keep nothing but its contents list."""
    found: list[Contents] = []

    def opened(contents: Contents) -> Sink:
        found.append(contents)
        return lambda place: contextlib.nullcontext(_Discard())  # type: ignore[arg-type]

    read_archive(file, keys, 1 << 62, opened)
    return found[0]
