"""Encryption of archives with age. The one importer of pyrage.

Recipients are in `pipeline-config/recipients.txt`, a public key a line. Reading an archive takes a
file with a private key, which never lies in the root: a copy of the root would include it.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from popbuild.base import disk
from popbuild.base.errors import ConfigError, InputError, UsageError
from popbuild.base.paths import Root

AGE_MAGIC = b"age-encryption.org/v1\n"
_MAX_KEYS_BYTES = 1 << 20
# A whole line: in the JSON of a seed or an answer, which strangers write, it does not count.
_PRIVATE_LINE = re.compile(
    rb"^(?:AGE-SECRET-KEY-1[0-9A-Z]{50,}|-----BEGIN OPENSSH PRIVATE KEY-----)[ \t\r]*$",
    re.MULTILINE,
)
_PRIVATE = ("AGE-SECRET-KEY-", "AGE-PLUGIN-", "-----BEGIN")


def recipients_file(root: Root) -> Path:
    """Where a root says who can read its archives."""
    return root.config / "recipients.txt"


def recipients(root: Root) -> list[Any]:
    """The public keys of those who can read this root's archives."""
    path, shown = recipients_file(root), root.show(recipients_file(root))
    if not disk.stands(path):
        raise UsageError(
            "the archive would have no recipients",
            {"missing": shown},
            hint="put age's public keys there, one a line: age1…",
        )
    age = _library()
    found: list[Any] = []
    try:
        lines = _text_lines(disk.read(path, max_bytes=_MAX_KEYS_BYTES))
    except UnicodeDecodeError:
        raise ConfigError("file is not UTF-8", {"file": path}) from None
    for number, line in enumerate(lines, 1):
        if line.startswith(_PRIVATE):
            raise ConfigError(
                "a private key stands among the public ones",
                {"file": shown, "at": f"line {number}"},
                hint="take it out of the root, and do not use it again: it may have been copied",
            )
        kind = age.ssh if line.startswith("ssh-") else age.x25519
        try:
            found += [kind.Recipient.from_str(line)] if line else []
        except age.RecipientError:
            raise ConfigError(
                "not a public key of age",
                {"file": shown, "at": f"line {number}", "allowed": "age1…, ssh-ed25519 …"},
            ) from None
    if not found:
        raise ConfigError("no public key of age", {"file": shown, "allowed": "age1…, one a line"})
    return found


def identities(path: Path, root: Path | None) -> list[Any]:
    """The private keys of a file, which must not lie in the root."""
    real = path.resolve()
    if root is not None and real.is_relative_to(root.resolve()):
        raise UsageError(
            "the private key lies in the root",
            {"file": path, "root": root},
            hint="keep it elsewhere: a copy of the root could then read all its archives",
        )
    try:
        data = disk.read(real, max_bytes=_MAX_KEYS_BYTES)
    except FileNotFoundError:
        raise UsageError("no such file", {"--identity": path}) from None
    age = _library()
    try:
        if b"-----BEGIN" in data:
            return [age.ssh.Identity.from_buffer(data)]
        keys = [age.x25519.Identity.from_str(line) for line in _text_lines(data) if line]
    except (age.IdentityError, UnicodeDecodeError):
        keys = []
    if not keys:
        # Nothing of it is shown: it may be a key all the same.
        raise InputError("not a private key of age", {"file": path}, hint="age-keygen makes one")
    return keys


def holds_private_key(data: bytes) -> bool:
    return _PRIVATE_LINE.search(data) is not None


def _text_lines(data: bytes) -> list[str]:
    """Line by line, comments made empty."""
    lines = [line.strip() for line in data.decode().splitlines()]
    return ["" if line.startswith("#") else line for line in lines]


@contextlib.contextmanager
def encrypting(target: IO[bytes], to: Sequence[Any]) -> Iterator[IO[bytes]]:
    """A stream whose content reaches the target encrypted, and the disk in no other form."""
    age = _library()
    watched = _Watched(target)
    try:
        with _beside(lambda stream: age.encrypt_io(stream, watched, to), writing=True) as stream:
            yield stream
    except age.EncryptError:
        if watched.error is None:
            raise
    if watched.error is not None:
        raise watched.error  # a full disk, say: pyrage reports none at the very end


@contextlib.contextmanager
def decrypting(source: IO[bytes], keys: Sequence[Any]) -> Iterator[IO[bytes]]:
    """A stream of the decrypted source. InputError where no key fits, or it was altered."""
    age = _library()
    watched = _Watched(source)
    try:
        with _beside(lambda out: age.decrypt_io(watched, out, keys), writing=False) as stream:
            yield stream
    except (age.DecryptError, OSError) as error:
        if watched.error is not None:
            raise watched.error from None
        if getattr(error, "errno", None) is not None:
            raise  # raised by the code that reads the stream
        raise InputError(
            "the archive cannot be decrypted",
            {"found": str(error)},
            hint="is it the private key of one of its recipients, and is the file whole?",
        ) from None


class _Watched:
    """A stream that remembers its own error, of which pyrage keeps only the text."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.error: OSError | None = None

    def read(self, size: int = -1) -> Any:
        return self._remembering(self._stream.read, size)

    def write(self, data: bytes) -> Any:
        return self._remembering(self._stream.write, data)

    def flush(self) -> None:
        self._remembering(self._stream.flush)

    def _remembering(self, act: Callable[..., Any], *given: Any) -> Any:
        try:
            return act(*given)
        except OSError as error:
            self.error = error
            raise


@contextlib.contextmanager
def _beside(work: Callable[[IO[bytes]], Any], *, writing: bool) -> Iterator[IO[bytes]]:
    """A pipe to a thread that does the work. If the work fails, its error is raised."""
    reader, writer = os.pipe()
    ours, theirs = (writer, reader) if writing else (reader, writer)
    failed: list[BaseException] = []
    left = threading.Event()

    def run() -> None:
        mode = "rb" if writing else "wb"
        with contextlib.suppress(BrokenPipeError), os.fdopen(theirs, mode) as stream:
            try:
                work(stream)
            except BaseException as error:  # recorded before the pipe ends in the other thread
                if not left.is_set():
                    failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    stream = os.fdopen(ours, "wb" if writing else "rb")
    try:
        yield stream
        if writing:
            stream.close()
        else:
            stream.read(1)  # to the end: its last part may be wrong as well
    except BaseException:
        left.set()
        with contextlib.suppress(OSError):
            stream.close()
        thread.join()
        if failed:
            raise failed[0] from None
        raise
    stream.close()
    thread.join()
    if failed:
        raise failed[0]


def _library() -> Any:
    try:
        import pyrage
        import pyrage.ssh
        import pyrage.x25519
    except ImportError:
        raise UsageError(
            "encryption needs pyrage", {"missing": "pyrage"}, "pip install 'popbuild[archive]'"
        ) from None
    return pyrage
