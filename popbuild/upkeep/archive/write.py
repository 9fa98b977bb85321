"""Jobs into archives, and a whole root into one.

An archive gets its name only after all of it was read back. Jobs are removed only after that.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO

from popbuild.base import disk, tree
from popbuild.base.errors import InputError, UsageError
from popbuild.base.paths import COMPLETE, REJECTED, JobFolder, Root, job_place, shown_name
from popbuild.jobs import job_ids, job_state, run_history, run_log, seals
from popbuild.jobs.input_files import named_by_seeds
from popbuild.jobs.lifecycle import job_lock
from popbuild.jobs.promotion import finish_promotion, previous_kept
from popbuild.model.config.config import environment_of
from popbuild.upkeep.archive import age, tarball
from popbuild.upkeep.archive.tarball import Contents, check_archive, is_encrypted
from popbuild.upkeep.verify import matching_jobs, verify

ARCHIVED_STATES = (COMPLETE, REJECTED)
BACKED_UP = ("seeds", "samples", "pipeline-config", "pipeline-data", ".popbuild")
# Of .popbuild/: what belongs to running processes, or is made again when it is missing.
_PASSING = frozenset({"locks", "limits", "index", "fences", "stops", "restoring", "serve"})


@dataclass(frozen=True)
class Archived:
    """An archive and what it holds. `there` says that an earlier command wrote it; `removed` are
    the directories that were dropped, `left_out` the places that are neither a file nor a folder,
    or have no name in UTF-8."""

    file: Path
    jobs: tuple[str, ...]
    files: int
    size_bytes: int  # of the archive
    encrypted: bool
    there: bool = False
    removed: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

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
    them once it was read back in full. LockedError for a job that is being built.

    An archive that is there already must hold these very jobs: it stays as it is, and what a killed
    command left to remove is removed. InputError for a complete job that was altered.
    """
    keys = _keys_to_read(root, file, remove, identity)
    there = disk.stands(file)
    known = _archivable(root)
    if there and is_encrypted(file) and not keys:
        raise _in_the_way(file)
    held = check_archive(file, keys) if there else None
    if held is not None:
        known = sorted({*known, *(str(each.get("id")) for each in held.jobs)})
    selected = matching_jobs(known, names, "complete or rejected")
    with _locked(root, selected):
        contents = _contents_of(root, selected)
        if held is None:
            _write(root, file, contents, plain, keys)
        elif not contents.files.items() <= held.files.items():
            raise _in_the_way(file)
        removed = [_remove(root, each) for each in contents.jobs] if remove else []
        for state in ARCHIVED_STATES if remove else ():
            tree.sweep(root.data / state)  # what a killed command had begun to remove
    total, size = len((held or contents).files), file.stat().st_size
    return Archived(file, tuple(selected), total, size, is_encrypted(file), there, tuple(removed))


def backup(
    root: Root, file: Path, *, plain: bool = False, identity: Path | None = None
) -> Archived:
    """Write a whole root to an archive: sources, configuration, jobs, and the private folder
    without its passing parts. No keys: `.env` is left out. LockedError while a job is built."""
    keys = _keys_to_read(root, file, False, identity)
    if disk.stands(file):
        raise _in_the_way(file)
    known = job_ids.known_jobs(root)
    with _locked(root, known):
        places = dict(_backed_up(root))
        left_out = [each for each in places if not disk.is_regular(root.path / each)]  # or no UTF-8
        files = {
            each: seals.file_digest(path) for each, path in places.items() if each not in left_out
        }
        _write(root, file, Contents("root", [], files), plain, keys)
    total, size = len(files), file.stat().st_size
    return Archived(file, tuple(known), total, size, is_encrypted(file), left_out=tuple(left_out))


@contextlib.contextmanager
def _locked(root: Root, jobs: Iterable[str]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for job in jobs:
            stack.enter_context(job_lock(root, job))
        yield


def _backed_up(root: Root) -> Iterator[tuple[str, Path]]:
    for name in BACKED_UP:
        folder = root.path / name
        for place, path in tree.walk_all(folder) if disk.is_folder(folder) else ():
            parts = place.split("/")
            passing = name == ".popbuild" and parts[0] in _PASSING
            if not passing and "__pycache__" not in parts and not parts[-1].startswith(".tmp-"):
                yield f"{name}/{place}", path
    for place in named_by_seeds(root):
        if disk.is_regular(root.path / place):
            yield place, root.path / place


def _archivable(root: Root) -> list[str]:
    entries = [each for state in ARCHIVED_STATES for each in (root.data / state).glob("[!.]*")]
    return sorted({each.name for each in entries if each.is_dir() and not each.is_symlink()})


def _contents_of(root: Root, selected: Iterable[str]) -> Contents:
    """What an archive of these jobs holds. The caller holds their locks."""
    kept = previous_kept(environment_of(root, os.environ))
    folders = []
    for job in selected:
        finish_promotion(root, job, kept)
        places = (root.job(state, job) for state in ARCHIVED_STATES)
        folders += [each for each in places if disk.is_folder(each.path)]
    _check_proven(root, [each.id for each in folders if is_complete(each)])
    known = run_history.Runs(root)
    files: dict[str, str] = {}
    described = []
    for folder in folders:
        state = folder.path.parent.name
        body: dict[str, Any] = {"id": folder.id, "state": state}
        if is_complete(folder):
            body["line"] = run_line_of(known, folder)
        described.append(body)
        for name, path in tree.walk_all(folder.path):
            if tree.is_temporary(name):
                continue
            if not disk.is_regular(folder.path / name):
                what = "not a regular file, or a name that is not UTF-8"
                raise InputError(what, {"file": tree.as_text(root.show(path))})
            files[f"{job_place(state, folder.id)}/{name}"] = seals.file_digest(path)
    return Contents("jobs", described, files)


def is_complete(folder: JobFolder) -> bool:
    return folder.path.parent.name == COMPLETE


def _check_proven(root: Root, jobs: Sequence[str]) -> None:
    for proof in verify(root, jobs).proofs if jobs else ():
        for found in proof.alterations[:1]:
            job = proof.folder.id
            raise InputError(
                "the job was altered since its promotion",
                {"job": job, "file": found.file, "found": found.what},
                hint=f"popbuild verify {job} tells all of it; popbuild run -a makes it anew",
            )


def run_line_of(known: run_history.Runs, folder: JobFolder) -> Mapping[str, Any] | None:
    """The line of the run that made a complete job."""
    body = seals.read_seal(folder)
    promoted = seals.promotion_of(body) if body is not None else None
    status = job_state.read_status(folder) or {}
    return known.result(promoted, status.get("pipelineId"))


def _remove(root: Root, described: Mapping[str, Any]) -> str:
    """Remove a directory that is in the archive, a complete one after that was recorded."""
    folder = root.job(described["state"], described["id"])
    if described["state"] == COMPLETE:
        run_log.removed(root, folder.id)
    tree.remove(folder.path)
    disk.sync_folder(folder.path.parent)
    return root.show(folder.path)


def _write(root: Root, file: Path, contents: Contents, plain: bool, keys: Sequence[Any]) -> None:
    """Write an archive, read it back, and give it its name."""
    to = _recipients(root, file, plain)
    if not disk.is_folder(file.parent):
        raise UsageError("no such folder", {"folder": file.parent})
    temporary = file.parent / f".tmp-{secrets.token_hex(8)}"
    try:
        with disk.creating(temporary) as stream:
            target = _Digesting(stream)
            with age.encrypting(target, to) if to else contextlib.nullcontext(target) as plainly:
                tarball.pack(plainly, contents, lambda place: _to_keep(root, place))
        if to and not keys:  # it cannot be decrypted here: at least the bytes are on disk
            with temporary.open("rb") as written:
                same = hashlib.file_digest(written, "sha256").hexdigest() == target.digest
        else:
            same = check_archive(temporary, keys).as_json() == contents.as_json()
        if not same:
            raise InputError("the archive is not what was written", {"file": file})
        if not tree.rename_new(temporary, file):
            raise _in_the_way(file)
    finally:
        tree.remove(temporary)


def _to_keep(root: Root, place: str) -> bytes:
    """The bytes of a file for an archive. UsageError for a private key that could read archives."""
    data = disk.read(root.path / place)
    if age.holds_private_key(data):
        raise UsageError(
            "a private key lies in the root",
            {"file": shown_name(place)},
            hint="keep it elsewhere: a copy of the root, or its archive, would include it",
        )
    return data


class _Digesting(io.RawIOBase, BinaryIO):
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
        return self._sum.hexdigest()


def _recipients(root: Root, file: Path, plain: bool) -> list[Any]:
    """The public keys to encrypt to; none where the archive is not encrypted."""
    if file.name.endswith(".age"):
        if plain:
            raise UsageError("--plain, and a name that ends in .age", {"file": file})
        return age.recipients(root)
    if disk.stands(age.recipients_file(root)) and not plain:
        raise UsageError(
            "archives of this root are encrypted, and the name says otherwise",
            {"file": file, "recipients": root.show(age.recipients_file(root))},
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
    message = "there is a file of this name, and it holds something else"
    return UsageError(message, {"file": file}, "choose another name; archives replace nothing")
