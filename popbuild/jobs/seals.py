"""The seal of a complete job, `seal.json`: the digests of all its files as they were promoted.

Letters vouch for artifacts alone, the seal for every file of the directory, so that `verify` finds
whatever was altered, added or removed since. An alteration with a fitting new seal is found only by
the digest of the right one in `runs.jsonl`: nothing here is signed.
"""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from popbuild.base import disk, jsonio, tree
from popbuild.base.paths import JobFolder
from popbuild.jobs.records import read_json, read_letter
from popbuild.model.letter import is_sealed, seal

SEAL_VERSION = 1


def write_seal(folder: JobFolder, last: JobFolder) -> str:
    """Seal a job that is about to be promoted; gives the seal's digest. What was altered by hand in
    the `last` good result, and came along with a copy, stays an alteration."""
    files = digests(folder)
    _leave_out_alterations(files, folder, last)
    return _put(folder, {"formatVersion": SEAL_VERSION, "files": files})


def _leave_out_alterations(files: dict[str, str], folder: JobFolder, last: JobFolder) -> None:
    before = read_seal(last)
    if before is None:
        return
    kept = _edits_kept(folder).union(before.get("changing", ()))
    stood = dict(tree.walk_all(last.path))
    for name, found in list(files.items()):
        right = before["files"].get(name)
        path = stood.get(name)
        if right == found or name in kept or path is None or file_digest(path) != found:
            continue
        if right is None:
            del files[name]
        else:
            files[name] = right


def _edits_kept(folder: JobFolder) -> set[str]:
    """The artifacts that a person edited, and that passed their gates since."""
    tasks = folder.path / "tasks"
    letters = [read_letter(folder, task.name) for task in tasks.iterdir() if task.is_dir()]
    return {
        f"files/artifacts/{letter.fingerprint.get('output')}"
        for letter in letters
        if letter is not None and letter.edited
    }


@contextlib.contextmanager
def changing(folder: JobFolder, *paths: Path) -> Iterator[None]:
    """Around a change on purpose to these files of a complete job: the seal then vouches for them
    as they are, and for all others as before. Killed in between, it says which files it cannot
    vouch for. A job without a seal, or with a damaged one, stays without."""
    body = read_seal(folder)
    if body is None:
        yield
        return
    names = [path.relative_to(folder.path).as_posix() for path in paths]
    files = dict(body["files"])
    promoted = promotion_of(body)
    changing = sorted({*names, *body.get("changing", ())})
    _put(folder, {**body, "promoted": promoted, "changing": changing})
    yield
    for name, path in zip(names, paths, strict=True):
        if disk.stands(path):
            files[name] = file_digest(path)
        else:
            files.pop(name, None)
    after: dict[str, Any] = {"formatVersion": SEAL_VERSION, "files": files, "promoted": promoted}
    unknown = [name for name in changing if name not in names]
    _put(folder, {**after, "changing": unknown} if unknown else after)


@contextlib.contextmanager
def moving(folder: JobFolder, path: Path) -> Iterator[None]:
    """`changing`, for a file that is set aside or mended: an earlier alteration stays one."""
    body = read_seal(folder)
    name = path.relative_to(folder.path).as_posix()
    if body is None or body["files"].get(name) != file_digest(path):
        yield
        return
    with changing(folder, path):
        yield


def read_seal(folder: JobFolder) -> dict[str, Any] | None:
    """A job's seal; None where it is missing or damaged."""
    body = read_json(folder.seal)
    return body if intact(body) else None


def vouches_for(body: dict[str, Any] | None, place: str) -> bool:
    """Whether a seal has this file, or files in this folder."""
    files = body["files"] if body is not None else ()
    return place in files or any(each.startswith(f"{place}/") for each in files)


def intact(body: object) -> bool:
    """Whether this is a seal as it was written."""
    return (
        isinstance(body, dict)
        and body.get("formatVersion") == SEAL_VERSION
        and isinstance(body.get("files"), dict)
        and is_sealed(body)
    )


def seal_bytes(body: dict[str, Any]) -> bytes:
    """A seal as it stands on disk."""
    return jsonio.dumps(body, sort=False)


def promotion_of(body: dict[str, Any]) -> str:
    """The digest of the seal that the promotion wrote: the line in runs.jsonl has it."""
    return str(body.get("promoted", body["digest"]))


def digests(folder: JobFolder) -> dict[str, str]:
    """The digest of every file of a job by its path, but for the seal and temporary files."""
    return {
        name: file_digest(path)
        for name, path in tree.walk_all(folder.path)
        if path != folder.seal and not tree.is_temporary(name)
    }


def file_digest(path: Path) -> str:
    """The digest of a file's bytes; of a link, of where it points to. Raises OSError."""
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return jsonio.digest_bytes(
            b"link to " + str(path.readlink()).encode(errors="surrogateescape")
        )
    if not stat.S_ISREG(mode):
        return jsonio.digest_bytes(b"neither a file nor a link")
    return jsonio.digest_bytes(disk.read(path))


def _put(folder: JobFolder, body: dict[str, Any]) -> str:
    sealed = seal(body)
    disk.write(folder.seal, seal_bytes(sealed))
    return str(sealed["digest"])
