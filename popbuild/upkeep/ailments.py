"""What crashes and edits by hand leave behind and no run repairs. Reads only."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from popbuild.base import disk, paths, tree
from popbuild.base.paths import (
    COMPLETE,
    CURRENT,
    FILE_KINDS,
    PENDING,
    REJECTED,
    SEED,
    JobFolder,
    Root,
)
from popbuild.jobs import job_ids, job_state, promotion, run_log, seals
from popbuild.jobs.claims import JobLocks
from popbuild.jobs.open_job import can_be_listed
from popbuild.jobs.records import (
    is_foreign,
    is_foreign_letter,
    listed_tasks,
    read_json,
    read_letter,
)
from popbuild.model.letter import LETTER_VERSION

# Kinds, in the order of mending: a torn line must be ended before another is added.
TORN, UNFINISHED, CLAIMED, SEEDLESS, EMPTY, LETTER, UNKNOWN, MISSING, ADDED, LEFT_OVER = (
    "torn line",
    "promotion cut short",
    "claim cut short",
    "no seed",
    "empty folder",
    "broken letter",
    "not in the index",
    "missing file",
    "added file",
    "left over",
)
_SAID = {
    TORN: (
        "a line has no end: a crash cut it short",
        "ends it; one of runs.jsonl is made whole from our copy of it, or else cut off",
    ),
    UNFINISHED: (
        "its promotion was cut short by a crash",
        "finishes it: the last good result is set aside, the line of runs.jsonl is added, once",
    ),
    CLAIMED: (
        "the seed was taken out of pending/, and the build never began",
        "puts it back into pending/; where another one waits there, moves it away",
    ),
    SEEDLESS: (
        "the job has no seed, neither here nor in seeds/ or pending/: nothing can build it",
        "moves it away",
    ),
    EMPTY: (
        "holds nothing, though the job has a seed: a claim was cut short",
        "moves the folder away",
    ),
    LETTER: (
        "does not have its own digest: the letter was altered or is damaged",
        "moves it away; the next run builds its task, from the store where the answers are there",
    ),
    UNKNOWN: ("is not in the index of tasks-status.json", "puts it into the index"),
    MISSING: (
        "is in the index of tasks-status.json, and not there",
        "takes it out of the index",
    ),
    ADDED: (
        "is not in the index of tasks-status.json, and was not there at the promotion",
        "moves it away",
    ),
    LEFT_OVER: ("was left by a command that was killed", "moves it away"),
}


_INPUTS = "-inputs"  # in pending/: files of a seed that waits


@dataclass(frozen=True)
class Ailment:
    """One thing to mend. `job` is the one whose lock is needed, if any; `file` is the kind and the
    name of a file, where the index is wrong about it."""

    kind: str
    path: Path
    job: str | None = None
    file: tuple[str, str] | None = None

    @property
    def what(self) -> str:
        return _SAID[self.kind][0]

    @property
    def mending(self) -> str:
        return _SAID[self.kind][1]

    def as_json(self, root: Root) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "path": root.show(self.path),
            "job": self.job,
            "what": self.what,
            "mending": self.mending,
        }

    def lines(self, root: Root) -> Iterator[str]:
        yield f"{paths.shown_name(root.show(self.path))}: {self.what}"
        yield f"  mending {self.mending}"


def find_ailments(root: Root) -> list[Ailment]:
    """Everything to mend in a root, in the order of mending, but in jobs that are being built."""
    locks = JobLocks(root)
    found = [*_torn(root), *_left_overs(root, locks)]
    for job in sorted({*job_ids.known_jobs(root), *promotion.unfinished_promotions(root)}):
        if locks.is_free(job):
            found += look_at(root, job)
    order = list(_SAID)
    return sorted(found, key=lambda each: (order.index(each.kind), each.path))


def look_at(root: Root, job: str) -> Iterator[Ailment]:
    """Everything to mend in a job, except what killed commands left in it."""
    if promotion.is_promotion_unfinished(root, job):
        yield Ailment(UNFINISHED, root.job(COMPLETE, job).path, job)
    for state in (CURRENT, COMPLETE, REJECTED):
        folder = root.job(state, job)
        if not folder.path.is_dir() or tree.first_link(str(folder.path)) is not None:
            continue  # the build refuses the job
        if is_foreign(folder):
            continue  # another program wrote it
        if state == CURRENT:
            claimed = folder.path / job_state.CLAIMED
            if disk.stands(claimed):
                yield Ailment(CLAIMED, claimed, job)
            elif _is_seedless(root, job):
                yield Ailment(SEEDLESS, folder.path, job)
                continue
            elif not any(tree.walk_all(folder.path)):
                yield Ailment(EMPTY, folder.path, job)
        elif state == COMPLETE and _is_seedless(root, job) and not disk.stands(folder.status):
            yield Ailment(SEEDLESS, folder.path, job)  # a folder made by hand
            continue
        yield from _letters(folder)
        yield from _index(folder)


def _is_seedless(root: Root, job: str) -> bool:
    own = [root.job(state, job).path / SEED for state in (CURRENT, REJECTED, COMPLETE)]
    return not any(map(disk.stands, [root.seed(job), root.pending(job), *own]))


def _letters(folder: JobFolder) -> Iterator[Ailment]:
    for task in listed_tasks(folder, None):
        path = folder.letter(task)
        if is_foreign_letter(folder, task):
            continue
        if disk.is_regular(path) and read_letter(folder, task) is None:
            body = read_json(path)
            version = body.get("formatVersion") if isinstance(body, dict) else None
            if not isinstance(version, int) or version <= LETTER_VERSION:  # not a newer popbuild's
                yield Ailment(LETTER, path, folder.id)


def _index(folder: JobFolder) -> Iterator[Ailment]:
    status = job_state.read_status(folder)
    # Without one, the next build makes it anew.
    for gap in index_gaps(folder, status["files"]) if status is not None else ():
        kind = MISSING if gap.number is not None else UNKNOWN if gap.was_promoted else ADDED
        # An invalid file name may lead anywhere: the status is reported instead.
        bad = kind == MISSING and paths.file_name_problem(gap.name) is not None
        path = folder.status if bad else folder.path / gap.place
        yield Ailment(kind, path, folder.id, (gap.kind, gap.name))


@dataclass(frozen=True)
class IndexGap:
    """A file that the index of a job has and the disk has not, `number` then being its place in the
    index; or the other way round. A sealed job says `was_promoted` of what stood there then."""

    kind: str
    name: str
    number: int | None
    is_changing: bool  # a command that changes or removes it was killed
    was_promoted: bool

    @property
    def place(self) -> str:
        return f"files/{self.kind}/{self.name}"


def index_gaps(folder: JobFolder, index: Mapping[str, Any]) -> Iterator[IndexGap]:
    """Differences between index and files. Only a complete job of ours has all its files in the
    index, which is written when a task ends: a crash leaves it behind."""
    seal = seals.read_seal(folder)
    sealed = seal["files"] if seal is not None else {}
    changing = (seal or {}).get("changing", ())

    def gap(kind: str, name: str, number: int | None) -> IndexGap:
        place = tree.as_text(f"files/{kind}/{name}")
        promoted = seal is None or place in sealed or place in changing
        return IndexGap(kind, name, number, place in changing, promoted)

    lists = {kind: names for kind in FILE_KINDS if isinstance(names := index.get(kind), list)}
    for kind, names in lists.items():
        for number, name in enumerate(map(str, names)):
            # An invalid file name may lead anywhere.
            if paths.file_name_problem(name) or not disk.stands(folder.files(kind) / name):
                yield gap(kind, name, number)
    if folder.path.parent.name != COMPLETE or is_foreign(folder):
        return
    for kind, names in lists.items():
        for path in sorted(folder.files(kind).glob("[!.]*")):
            # Other names, and folders, came with the job of another program.
            place = tree.as_text(f"files/{kind}/{path.name}")
            is_theirs = not can_be_listed(path) and seals.vouches_for(seal, place)
            if path.name not in names and not is_theirs:
                yield gap(kind, path.name, None)


def _torn(root: Root) -> Iterator[Ailment]:
    for path in (root.runs, *sorted(root.own.glob("*.jsonl"))):
        if not disk.is_regular(path):
            continue
        ours = path in (root.runs, root.runs_copy)
        if run_log.is_torn(root, path) if ours else disk.read_end(path, 1) not in (b"", b"\n"):
            yield Ailment(TORN, path)


def _left_overs(root: Root, locks: JobLocks) -> Iterator[Ailment]:
    for top in (root.samples("any").parent, root.data, root.private):
        for path in _walk(top, skip=root.private / "doctor"):
            job = _job_of(root, path)
            if job is None or locks.is_free(job):
                yield Ailment(LEFT_OVER, path, job)
    for path in tree.old(root.data / PENDING, lambda name: name.endswith(_INPUTS)):
        job = path.name.removesuffix(_INPUTS)
        waits = root.pending(job), root.job(CURRENT, job).path / job_state.CLAIMED
        if locks.is_free(job) and not any(map(disk.stands, waits)):
            yield Ailment(LEFT_OVER, path, job)


def _walk(top: Path, skip: Path) -> Iterator[Path]:
    for folder, names, _ in os.walk(top):
        if Path(folder) == skip:
            names.clear()
            continue
        names[:] = [name for name in sorted(names) if not name.startswith(".tmp-")]
        yield from tree.left_overs(Path(folder))


def _job_of(root: Root, path: Path) -> str | None:
    for state in (CURRENT, COMPLETE, REJECTED):
        folder = root.data / state
        if path.is_relative_to(folder) and path.parent != folder:
            return path.relative_to(folder).parts[0]
    return None
