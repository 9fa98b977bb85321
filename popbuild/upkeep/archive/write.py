"""Jobs into archives, and a whole root into one.

An archive appears under its name once all of it was read back. Jobs go only after that.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import io
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO

from popbuild.base import disk
from popbuild.base.errors import InputError, UsageError, no_such
from popbuild.base.paths import COMPLETE, REJECTED, JobFolder, Root, job_place, shown_name
from popbuild.jobs import job_ids, job_state, run_history, run_log, seals
from popbuild.jobs.lifecycle import job_lock
from popbuild.jobs.promotion import finish_promotion, previous_kept
from popbuild.model.config.config import environment_of
from popbuild.upkeep import verify
from popbuild.upkeep.archive import age, tarball
from popbuild.upkeep.archive.tarball import Contents

ARCHIVED_STATES = (COMPLETE, REJECTED)
BACKED_UP = ("seeds", "samples", "pipeline-config", "pipeline-data", ".popbuild")
# Of .popbuild/: what belongs to living processes, or is made anew by whoever misses it.
_PASSING = frozenset({"locks", "limits", "index", "fences", "stops", "restoring", "serve"})


@dataclass(frozen=True)
class Archived:
    """An archive that was written, or was there already, and what it holds."""

    file: Path
    jobs: tuple[str, ...]
    files: int
    size_bytes: int  # of the archive
    encrypted: bool
    there: bool = False  # it was written by an earlier command
    removed: tuple[str, ...] = ()  # the directories that went
    left_out: tuple[str, ...] = ()  # what is neither a file nor a folder, or has no name in UTF-8

    def as_json(self) -> dict[str, Any]:
        return {
            "file": str(self.file),
            "jobs": list(self.jobs),
            "files": self.files,
            "sizeBytes": self.size_bytes,
            "encrypted": self.encrypted,
            "there": self.there,
            "removed": list(self.removed),
            "leftOut": list(self.left_out),
        }


def archive(
    root: Root,
    names: Sequence[str],
    file: Path,
    *,
    remove: bool = False,
    plain: bool = False,
    identity: Path | None = None,
) -> Archived:
    """Write the complete and the rejected directories of jobs to an archive; with `remove`, drop
    them once it was read back in full. LockedError for a job that is built.

    An archive that is there already must hold these very jobs: nothing is written then, and what a
    killed command left standing is dropped. InputError for a complete job that was altered.
    """
    keys = _keys_to_read(root, file, remove, identity)
    there = disk.stands(file)
    known = _standing(root)
    held: Contents | None = None
    if there:
        if _is_encrypted(file) and not keys:
            raise _in_the_way(file)
        held = check_archive(file, keys)
        known = sorted({*known, *(str(each.get("id")) for each in held.jobs)})
    selected = archived_jobs(known, names)
    with contextlib.ExitStack() as stack:
        for job in selected:
            stack.enter_context(job_lock(root, job))
        contents = _contents_of(root, selected)
        if held is None:
            size = _write(root, file, contents, plain, keys)
        elif contents.files.items() <= held.files.items():
            size = file.stat().st_size
        else:
            raise _in_the_way(file)
        removed = [_remove(root, each) for each in contents.jobs] if remove else []
        for state in ARCHIVED_STATES if remove else ():
            disk.sweep(root.data / state)  # what a killed command had begun to remove
    total = len((held or contents).files)
    encrypted = _is_encrypted(file)
    return Archived(file, tuple(selected), total, size, encrypted, there, tuple(removed))


def backup(
    root: Root, file: Path, *, plain: bool = False, identity: Path | None = None
) -> Archived:
    """Write a whole root to an archive: sources, configuration, jobs, and the private folder
    without what passes. No keys: `.env` stays out. LockedError while a job is built."""
    keys = _keys_to_read(root, file, False, identity)
    if disk.stands(file):
        raise _in_the_way(file)
    with contextlib.ExitStack() as stack:
        known = job_ids.known_jobs(root)
        for job in known:
            stack.enter_context(job_lock(root, job))
        files: dict[str, str] = {}
        left_out = []
        for place, path in _backed_up(root):
            if disk.is_regular(root.path / place):  # and its name is UTF-8
                files[place] = seals.file_digest(path)
            else:
                left_out.append(place)
        size = _write(root, file, Contents("root", files), plain, keys)
    encrypted = _is_encrypted(file)
    return Archived(file, tuple(known), len(files), size, encrypted, left_out=tuple(left_out))


def _backed_up(root: Root) -> Iterator[tuple[str, Path]]:
    for name in BACKED_UP:
        folder = root.path / name
        for place, path in disk.walk_all(folder) if disk.is_folder(folder) else ():
            parts = place.split("/")
            passing = name == ".popbuild" and parts[0] in _PASSING
            if not passing and "__pycache__" not in parts and not parts[-1].startswith(".tmp-"):
                yield f"{name}/{place}", path


def _standing(root: Root) -> list[str]:
    """The jobs that are complete or rejected."""
    found = set()
    for state in ARCHIVED_STATES:
        with contextlib.suppress(FileNotFoundError):
            for entry in os.scandir(root.data / state):
                if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                    found.add(entry.name)
    return sorted(found)


def archived_jobs(known: Sequence[str], names: Iterable[str]) -> list[str]:
    selected: dict[str, None] = {}
    for name in names:
        found = fnmatch.filter(known, name)
        if not found:
            raise UsageError(
                "no such complete or rejected job",
                no_such("job", name, known),
                hint="popbuild list shows the jobs and their states",
            )
        selected.update(dict.fromkeys(found))
    return list(selected)


def _contents_of(root: Root, selected: Iterable[str]) -> Contents:
    """What an archive of these jobs holds. The caller has their locks."""
    kept = previous_kept(environment_of(root, os.environ))
    folders = []
    for job in selected:
        finish_promotion(root, job, kept)
        places = (root.job(state, job) for state in ARCHIVED_STATES)
        folders += [each for each in places if disk.is_folder(each.path)]
    _must_be_proven(root, [each for each in folders if _is_complete(each)])
    known = run_history.Runs(root)
    files: dict[str, str] = {}
    described = []
    for folder in folders:
        state = folder.path.parent.name
        body: dict[str, Any] = {"id": folder.id, "state": state}
        if _is_complete(folder):
            body["line"] = run_line_of(known, folder)
        described.append(body)
        for name, path in disk.walk_all(folder.path):
            if disk.is_temporary(name):
                continue
            if not disk.is_regular(folder.path / name):
                what = "not a regular file, or a name that is not UTF-8"
                raise InputError(what, {"file": disk.as_text(root.show(path))})
            files[f"{job_place(state, folder.id)}/{name}"] = seals.file_digest(path)
    return Contents("jobs", files, described)


def _is_complete(folder: JobFolder) -> bool:
    return folder.path.parent.name == COMPLETE


def _must_be_proven(root: Root, folders: Sequence[JobFolder]) -> None:
    """Nothing may be found that was altered in these complete jobs."""
    if not folders:
        return
    for one in verify.verify(root, [each.id for each in folders]).proofs:
        for found in one.alterations[:1]:
            raise InputError(
                "the job was altered since its promotion",
                {"job": one.job, "file": found.file, "found": found.what},
                hint=f"popbuild verify {one.job} tells all of it; popbuild run -a makes it anew",
            )


def run_line_of(known: run_history.Runs, folder: JobFolder) -> Mapping[str, Any] | None:
    """The line of the run that made a complete job."""
    body = seals.read_seal(folder)
    promoted = seals.promotion_of(body) if body is not None else None
    status = job_state.read_status(folder) or {}
    return known.result(promoted, status.get("pipelineId"))


def _remove(root: Root, described: Mapping[str, Any]) -> str:
    """Remove a directory that is in the archive; a complete one is written down first."""
    folder = root.job(described["state"], described["id"])
    if described["state"] == COMPLETE:
        run_log.removed(root, folder.id)
    disk.remove(folder.path)
    disk.sync_folder(folder.path.parent)
    return root.show(folder.path)


def _write(root: Root, file: Path, contents: Contents, plain: bool, keys: Sequence[Any]) -> int:
    """Write an archive, read it back, and give it its name; the size in bytes."""
    to = _recipients(root, file, plain)
    if not disk.is_folder(file.parent):
        raise UsageError("no such folder", {"folder": file.parent})
    temporary = file.parent / f".tmp-{secrets.token_hex(8)}"
    try:
        with disk.creating(temporary) as stream:
            target = _Digesting(stream)
            with age.encrypting(target, to) if to else contextlib.nullcontext(target) as plainly:
                tarball.pack(plainly, contents, lambda place: _to_keep(root, place))
        if to and not keys:
            _check_bytes(temporary, target.digest)
        elif check_archive(temporary, keys).as_json() != contents.as_json():
            raise InputError("the archive is not what was written", {"file": file})
        size = temporary.stat().st_size
        if not disk.rename_new(temporary, file):
            raise _in_the_way(file)
    finally:
        disk.remove(temporary)
    return size


def _to_keep(root: Root, place: str) -> bytes:
    """The bytes of a file for an archive. UsageError for a private key that could read archives."""
    data = disk.read(root.path / place)
    if age.holds_private_key(data):
        raise UsageError(
            "a private key lies in the root",
            {"file": shown_name(place)},
            hint="keep it elsewhere: whoever copies the root, or its archive, has it too",
        )
    return data


class _Digesting(io.RawIOBase, BinaryIO):
    """A stream that remembers what went through it."""

    def __init__(self, target: IO[bytes]) -> None:
        self._target = target
        self._sum = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._sum.update(data)
        return self._target.write(data)

    @property
    def digest(self) -> str:
        return f"sha256:{self._sum.hexdigest()}"


def _check_bytes(file: Path, digest: str) -> None:
    """Nobody here can decrypt it: at least the disk has what was written."""
    with file.open("rb") as stream:
        if f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}" != digest:
            raise InputError("the archive is not what was written", {"file": file})


def _recipients(root: Root, file: Path, plain: bool) -> list[Any]:
    """Who can read the archive; nobody in particular, if it is not encrypted."""
    shown = root.show(age.recipients_file(root))
    if file.name.endswith(".age"):
        if plain:
            raise UsageError("--plain, and a name that ends in .age", {"file": file})
        return age.recipients(root)
    if age.has_recipients(root) and not plain:
        raise UsageError(
            "archives of this root are encrypted, and the name says otherwise",
            {"file": file, "recipients": shown},
            hint=f"-o {file}.age; --plain writes it unencrypted all the same",
        )
    return []


def _keys_to_read(root: Root, file: Path, remove: bool, identity: Path | None) -> list[Any]:
    if identity is not None:
        return age.identities(identity, root.path)
    if remove and file.name.endswith(".age"):
        raise UsageError(
            "nothing is removed before its archive was read back, and this one is encrypted",
            {"missing": "--identity FILE"},
            hint="without --remove the jobs stay, and no private key is needed",
        )
    return []


def _in_the_way(file: Path) -> UsageError:
    return UsageError(
        "there is a file of this name, and it holds something else",
        {"file": file},
        hint="choose another name; archives replace nothing",
    )


# Reading.


def _is_encrypted(file: Path) -> bool:
    return _begins_with(file, age.AGE_MAGIC)


def looks_like_one(file: Path) -> bool:
    """Whether a file begins as an archive does, encrypted or not."""
    return _begins_with(file, tarball.ZSTD_MAGIC) or _is_encrypted(file)


def _begins_with(file: Path, magic: bytes) -> bool:
    with file.open("rb") as stream:
        return stream.read(len(magic)) == magic


def read_archive(
    file: Path,
    keys: Sequence[Any],
    max_bytes: int,
    opened: Callable[[Contents], tarball.Sink],
) -> None:
    if not disk.is_regular(file):
        raise UsageError("no such file", {"file": file})
    encrypted = _is_encrypted(file)
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


class _Nowhere(io.RawIOBase):
    def write(self, data: Any) -> int:
        return len(data)


def check_archive(file: Path, keys: Sequence[Any]) -> Contents:
    """Read an archive in full; gives what it holds."""
    found: list[Contents] = []

    def opened(contents: Contents) -> tarball.Sink:
        found.append(contents)
        return lambda place: contextlib.nullcontext(_Nowhere())  # type: ignore[arg-type]

    read_archive(file, keys, 1 << 62, opened)
    return found[0]
