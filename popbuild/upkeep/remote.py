"""Copies of the store: in a folder, or at any URL that fsspec knows. The one importer of fsspec.

A copy holds entries by name, `<first two digits>/<the rest>.json`, as the store itself does. An
entry appears under its name whole or not at all.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from popbuild.base import commits, disk
from popbuild.base.errors import PopbuildError, StoreError, UsageError, shown_error
from popbuild.base.redact import redact

_NAME = re.compile(r"(?:^|/)([0-9a-f]{2}/[0-9a-f]{62}\.json)\Z")
# Here a put is atomic and a rename is a copy; elsewhere a file is renamed into place.
_OBJECT_STORES = frozenset("s3 s3a gs gcs abfs abfss az adl oss oci cos obs tos".split())


def entry_digest(name: str) -> str:
    """The digest of the request whose answer an entry of this name holds."""
    return "sha256:" + name.replace("/", "").removesuffix(".json")


def open_copy(url: str) -> Folder | Remote:
    """The copy at a path or a URL. UsageError for one that cannot be opened here."""
    if url.startswith("file://"):
        return Folder(Path(unquote(urlsplit(url).path)), url)
    return Remote(url) if "://" in url or "::" in url else Folder(Path(url).expanduser(), url)


class Folder:
    """A folder on this machine. `shown` is the address without a user, a password or a key."""

    def __init__(self, path: Path, shown: str) -> None:
        self._path = path
        self.shown = shown

    def sizes(self) -> dict[str, int]:
        """The bytes of every entry, by name."""
        found: dict[str, int] = {}
        with contextlib.suppress(FileNotFoundError):
            for shelf in os.scandir(self._path):
                if len(shelf.name) == 2 and shelf.is_dir():
                    for entry in os.scandir(shelf):
                        name = f"{shelf.name}/{entry.name}"
                        if _NAME.match(name) and entry.is_file():
                            found[name] = entry.stat().st_size
        return found

    def read(self, names: Sequence[str]) -> dict[str, bytes]:
        """Entries by name, without those that are gone by now."""
        found: dict[str, bytes] = {}
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                found[name] = (self._path / name).read_bytes()
        return found

    def write(self, entries: Mapping[str, bytes]) -> None:
        """Put entries in their places, each whole."""
        prepared = []
        try:
            for name, data in entries.items():
                path = self._path / name
                disk.make_folder(path.parent)
                prepared.append((disk.prepare(path, data),))
        finally:
            errors = commits.commit(prepared)
        for error in errors:
            if error is not None:
                raise error


class Remote:
    """What fsspec opens. Raises StoreError where it cannot be reached."""

    def __init__(self, url: str) -> None:
        self.shown = "::".join(map(_bare, url.split("::")))
        self._secrets = _secrets_of(url)
        with self._told("opened"):
            self._fs, self._path = self._open(url)
            self._fs.invalidate_cache()
        protocols = self._fs.protocol
        names = {protocols} if isinstance(protocols, str) else set(protocols)
        self._is_object_store = bool(names & _OBJECT_STORES)

    def _open(self, url: str) -> tuple[Any, str]:
        try:
            import fsspec
        except ImportError:
            raise self._missing("fsspec") from None
        try:
            fs, path = fsspec.core.url_to_fs(url)
        except ImportError as error:
            # fsspec's own words: "Install s3fs to access S3".
            raise self._missing(str(error)) from None
        except ValueError as error:
            known = "a folder, or a URL that fsspec knows: s3://bucket/prefix, gs://…, sftp://…"
            raise UsageError(
                "not a place for a copy of the store",
                {"place": self.shown, "found": self._clean(shown_error(error)), "allowed": known},
            ) from None
        return fs, str(path).rstrip("/")

    def _missing(self, found: str) -> UsageError:
        return UsageError(
            "a package is missing that opens this place",
            {"place": self.shown, "missing": found},
            hint="pip install 'popbuild[cache]' s3fs opens s3://; a folder needs neither",
        )

    def sizes(self) -> dict[str, int]:
        with self._told("listed"):
            try:
                listed = self._fs.find(self._path, detail=True)
            except FileNotFoundError:
                if self._is_object_store:
                    raise  # the bucket is missing: a prefix need not exist
                return {}
        found = {}
        for path, information in listed.items():
            match = _NAME.search(path)
            if match and path == self._at(match[1]):
                found[match[1]] = int(information.get("size") or 0)
        return found

    def read(self, names: Sequence[str]) -> dict[str, bytes]:
        with self._told("read"):
            # File systems that can send the requests for a list concurrently.
            answers = self._fs.cat([self._at(name) for name in names], on_error="return")
            found = {}
            for name in names:
                data = answers.get(self._at(name))
                if isinstance(data, FileNotFoundError) or data is None:
                    continue
                if isinstance(data, Exception):
                    raise data
                found[name] = bytes(data)
            return found

    def write(self, entries: Mapping[str, bytes]) -> None:
        with self._told("written"):
            if self._is_object_store:
                self._fs.pipe({self._at(name): data for name, data in entries.items()})
                return
            for name, data in entries.items():
                self._rename_into_place(self._at(name), data)

    def _rename_into_place(self, path: str, data: bytes) -> None:
        folder = path.rpartition("/")[0]
        temporary = f"{folder}/.tmp-{secrets.token_hex(8)}"
        self._fs.makedirs(folder, exist_ok=True)
        try:
            self._fs.pipe_file(temporary, data)
            self._fs.mv(temporary, path)
        except BaseException:
            with contextlib.suppress(Exception):
                self._fs.rm_file(temporary)
            raise

    def _at(self, name: str) -> str:
        return f"{self._path}/{name}"

    @contextlib.contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Turns the exceptions of a file system into a StoreError without keys."""
        try:
            yield
        except PopbuildError:
            raise
        except Exception as error:  # each file system raises its own
            raise StoreError(
                f"the copy of the store cannot be {what}",
                {"place": self.shown, "found": self._clean(shown_error(error))},
                hint="is the address right, does it answer, and are its keys in the environment "
                "or in .env?",
            ) from None

    def _clean(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "[…]")
        return redact(text.splitlines()[0] if text else text, os.environ)


def _bare(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def _secrets_of(url: str) -> list[str]:
    """The secret parts of a URL, the longest first."""
    found: set[str] = set()
    for part in url.split("::"):
        rest = part.partition("://")[2]
        found.add(part if part != _bare(part) else "")
        address, _, query = rest.partition("?")
        found.add(query)
        found.update(pair.partition("=")[2] for pair in query.split("&"))
        found.update(address.partition("/")[0].rpartition("@")[0].split(":")[-1:])
    found |= {unquote(each) for each in found}
    return sorted((each for each in found if each), key=len, reverse=True)
