"""Archives back into a root.

Jobs are extracted beside it, checked against their digests and seals, and renamed into place.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

from popbuild.base import disk, locks, tree
from popbuild.base.errors import InputError, UsageError
from popbuild.base.paths import COMPLETE, JobFolder, Root, check_name, job_place
from popbuild.jobs import job_ids, job_state, originals, run_history, run_log, seals
from popbuild.jobs.lifecycle import job_lock, prepare_root
from popbuild.jobs.promotion import finish_promotion, keep_copy, previous_kept
from popbuild.model.config.config import environment_of
from popbuild.model.input_file import may_be_backed_up
from popbuild.upkeep.archive import age, tarball
from popbuild.upkeep.archive.tarball import Contents, read_archive
from popbuild.upkeep.archive.write import ARCHIVED_STATES, BACKED_UP, is_complete, run_line_of
from popbuild.upkeep.verify import matching_jobs

MAX_RESTORED_BYTES = 10 * 10**9


@dataclass(frozen=True)
class Restored:
    """The directories that were put into place, and those that were there already."""

    restored: tuple[str, ...]
    there: tuple[str, ...]
    files: int

    def as_json(self) -> dict[str, Any]:
        restored, there = list(self.restored), list(self.there)
        return {"restored": restored, "there": there, "files": self.files}


def restore(
    root: Root,
    file: Path,
    names: Sequence[str] = (),
    *,
    force: bool = False,
    identity: Path | None = None,
    max_bytes: int = MAX_RESTORED_BYTES,
) -> Restored:
    """Put the jobs of an archive, all or the named ones, back into their places.

    A job that is there already, as it is in the archive, is left alone. Another result is refused
    before anything is placed; with `force` a complete one is replaced in one step, and kept as a
    previous result. A command that was killed is simply run again.
    """
    keys = age.identities(identity, root.path) if identity is not None else []
    with shelved(root) as shelf:
        contents = _extract(file, keys, max_bytes, shelf.path, "jobs")
        return _place(root, shelf, contents, names, force)


@contextlib.contextmanager
def shelved(root: Root) -> Iterator[Root]:
    """A folder laid out as a root, from which finished things are renamed into the root. One
    command at a time has one; what a killed command left there is removed."""
    prepare_root(root)
    with locks.turn(root.private / "locks" / "restore"):
        shelves = root.private / "restoring"
        shelf = shelves / secrets.token_hex(8)
        disk.make_folder(shelf)
        for path in shelves.iterdir():
            if path != shelf:
                tree.remove(path)
        try:
            yield Root(shelf)
        finally:
            tree.remove(shelf)


def restore_root(
    folder: Path, file: Path, *, identity: Path | None = None, max_bytes: int = MAX_RESTORED_BYTES
) -> int:
    """Make a root from a backup, in a folder that does not exist yet; gives the number of files."""
    keys = age.identities(identity, None) if identity is not None else []
    if disk.stands(folder):
        message = "a root is restored into a folder that is not there yet"
        raise UsageError(message, {"folder": folder})
    disk.make_folder(folder.parent)
    temporary = folder.parent / f".tmp-{secrets.token_hex(8)}"
    disk.make_folder(temporary)
    try:
        contents = _extract(file, keys, max_bytes, temporary, "root")
        disk.make_folder(temporary / "pipeline-config")
        tree.sync_all(temporary)
        if not tree.rename_new(temporary, folder):
            raise UsageError("another command made this folder", {"folder": folder})
    finally:
        tree.remove(temporary)
    return len(contents.files)


def _extract(file: Path, keys: Sequence[Any], max_bytes: int, below: Path, kind: str) -> Contents:
    found: list[Contents] = []

    def opened(contents: Contents) -> tarball.Sink:
        _check_kind(file, contents, kind)
        found.append(contents)
        return sink

    @contextlib.contextmanager
    def sink(place: str) -> Iterator[IO[bytes]]:
        path = below / place
        disk.make_folder(path.parent)
        with disk.creating(path) as stream:
            yield stream

    read_archive(file, keys, max_bytes, opened)
    return found[0]


def _check_kind(file: Path, contents: Contents, kind: str) -> None:
    """An archive must hold what was asked for, and no path outside of that."""
    if contents.kind != kind:
        holds, hint = (
            ("a root", "popbuild restore FILE --into DIR makes a root of a backup")
            if kind == "jobs"
            else ("jobs", "popbuild restore FILE, without --into")
        )
        raise UsageError(f"the archive holds {holds}", {"file": file}, hint)
    allowed, depth = [*BACKED_UP], 1
    if kind == "jobs":
        for each in contents.jobs:
            job = check_name("job", str(each.get("id")), str(file))
            if each.get("state") not in ARCHIVED_STATES:
                raise InputError("not a state of a job in an archive", {"file": file, "job": job})
        allowed = [job_place(each["state"], each["id"]) for each in contents.jobs]
        depth = job_place(COMPLETE, "any").count("/") + 1
    tops = set(allowed)
    if len(tops) != len(allowed):
        raise InputError("a job is twice in the archive", {"file": file})
    for place in contents.files:
        # Nothing beside the jobs, where a command would take it for its own.
        parts = place.split("/")
        is_outside = len(parts) == depth or "/".join(parts[:depth]) not in tops
        if is_outside and not (kind == "root" and may_be_backed_up(place)):
            raise InputError(
                "the archive has a file that belongs to none of its jobs",
                {"file": file, "path": ascii(place)},
            )


class _Placement(NamedTuple):
    """A directory that is to be put into place, and the line of the run that made it."""

    came: JobFolder
    stands: JobFolder
    line: Mapping[str, Any] | None


def _place(
    root: Root, source: Root, contents: Contents, names: Sequence[str], force: bool
) -> Restored:
    known = [each["id"] for each in contents.jobs]
    selected = set(matching_jobs(known, names, "complete or rejected") if names else known)
    wanted = [each for each in contents.jobs if each["id"] in selected]
    kept = previous_kept(environment_of(root, os.environ))
    with contextlib.ExitStack() as stack:
        for job in dict.fromkeys(each["id"] for each in wanted):
            stack.enter_context(job_lock(root, job))
            job_ids.refuse_links(root, job)
            finish_promotion(root, job, kept)
        _check_case(root, wanted)
        runs = run_history.Runs(root)
        new, there = [], []
        for each in wanted:
            came, stands = (base.job(each["state"], each["id"]) for base in (source, root))
            placement = _Placement(came, stands, _check_job(runs, came, each))
            if disk.stands(stands.path) and originals.is_same(came, stands):
                there.append(root.show(stands.path))
                if is_complete(stands) and not _is_expected(runs, stands):
                    run_log.restored(root, stands.id, placement.line)  # a killed command placed it
            elif disk.stands(stands.path) and not (
                force and is_complete(stands) and disk.is_folder(stands.path)
            ):
                raise _job_in_the_way(root, stands)
            else:
                new.append(placement)
        for came, stands, line in new:
            tree.sync_all(came.path)
            if not tree.rename_new(came.path, stands.path):
                keep_copy(root, stands, kept)
                tree.exchange(came.path, stands.path)
            if is_complete(stands):
                run_log.restored(root, stands.id, line)
    restored = tuple(root.show(each.stands.path) for each in new)
    return Restored(restored, tuple(there), len(contents.files))


def _check_case(root: Root, wanted: Iterable[Mapping[str, Any]]) -> None:
    """InputError where the root has a job whose ID differs only by case."""
    by_folded = {each.casefold(): each for each in job_ids.known_jobs(root)}
    for each in wanted:
        other = by_folded.get(each["id"].casefold(), each["id"])
        if other != each["id"]:
            raise InputError(
                "there is a job whose ID differs only by upper and lower case",
                {"job": each["id"], "other": other},
            )


def _job_in_the_way(root: Root, stands: JobFolder) -> InputError:
    values = {"job": stands.id, "folder": root.show(stands.path)}
    hint = "move it away first; a rejection is never replaced"
    if is_complete(stands):
        hint = "--force replaces it, and keeps it as a previous result"
    return InputError("the job is there, with another result", values, hint)


def _check_job(runs: run_history.Runs, came: JobFolder, described: Mapping[str, Any]) -> Any:
    """The line of the run that made a complete job, which must be as its seal says, and its seal as
    this root knows it."""
    if described["state"] != COMPLETE:
        return None
    given = described.get("line")
    line = given if isinstance(given, dict) and run_log.is_line(given) else None
    body = seals.read_seal(came)
    if body is None and not disk.stands(came.seal) and (line is None or "seal" not in line):
        return line  # from before there were seals: its digests in the archive must do
    altered = body is None or seals.digests(came) != body["files"] or body.get("changing")
    promoted = seals.promotion_of(body) if body is not None else None
    run = line["pipelineId"] if line else (job_state.read_status(came) or {}).get("pipelineId")
    known = runs.result(promoted, run)
    said = [each["seal"] for each in (line, known) if each is not None and "seal" in each]
    if altered or any(each != promoted for each in said):
        raise InputError(
            "the job in the archive is not as it was promoted",
            {"job": came.id},
            hint="the archive was made by something else than popbuild, or altered",
        )
    return known or line


def _is_expected(runs: run_history.Runs, folder: JobFolder) -> bool:
    """Whether our copy of runs.jsonl already expects this result."""
    last, line = runs.last(folder.id), run_line_of(runs, folder)
    return last is not None and last == line and runs.is_missed(folder.id)
