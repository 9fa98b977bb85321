"""Mends a root. Nothing is deleted: things are moved to .popbuild/doctor/<time>/, and files that
are changed are copied there first."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from popbuild.base import disk, jsonio, tree
from popbuild.base.errors import LockedError
from popbuild.base.paths import COMPLETE, CURRENT, REJECTED, JobFolder, Root
from popbuild.jobs import job_state, lifecycle, open_job, promotion, run_log, seals
from popbuild.model import status as states
from popbuild.model.clock import name_stamp
from popbuild.upkeep import ailments
from popbuild.upkeep.ailments import Ailment

Confirm = Callable[[Ailment], bool]


@dataclass(frozen=True)
class Checkup:
    """What was found, what was mended, and what was not since its job is being built. `shelf` is
    the folder that things were moved to, if any were."""

    root: Root
    found: tuple[Ailment, ...]
    mended: frozenset[Ailment]
    busy: frozenset[Ailment]
    shelf: Path | None

    @property
    def healthy(self) -> bool:
        return len(self.mended) == len(self.found)

    def as_json(self) -> dict[str, Any]:
        return {
            "healthy": self.healthy,
            "findings": [
                {**each.as_json(self.root), "mended": each in self.mended} for each in self.found
            ],
            "movedTo": self.root.show(self.shelf) if self.shelf is not None else None,
        }


def diagnose(root: Root, previous_kept: int, ask: Confirm | None) -> Checkup:
    """Find everything to mend in a root, and mend what `ask` agrees to; without it, only look.

    Each thing is checked again under its job's lock: what has changed since is left alone.
    """
    found = ailments.find_ailments(root)
    if found and ask is not None:
        lifecycle.prepare_root(root)
    shelf = _Shelf(root)
    mended, busy = set(), set()
    for each in found:
        if ask is None or not ask(each):
            continue
        if each.job is None:
            _mend(root, each, shelf, previous_kept)
            mended.add(each)
            continue
        try:
            with lifecycle.job_lock(root, each.job):
                if _still_ails(root, each):
                    _mend(root, each, shelf, previous_kept)
                mended.add(each)
        except LockedError:
            busy.add(each)
    return Checkup(root, tuple(found), frozenset(mended), frozenset(busy), shelf.used)


def _still_ails(root: Root, ailment: Ailment) -> bool:
    """Whether it is still there: mending something else may have removed it."""
    if ailment.kind == ailments.LEFT_OVER:
        return disk.stands(ailment.path)
    return ailment in ailments.look_at(root, ailment.job or "")


class _Shelf:
    """`.popbuild/doctor/<time>/`, made when first used; things keep their paths below the root."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._path = root.private / "doctor" / name_stamp()
        self.used: Path | None = None

    def move(self, path: Path) -> None:
        for target in self._places(path):
            if tree.rename_new(path, target):
                return

    def copy(self, path: Path) -> None:
        target = next(each for each in self._places(path) if not disk.stands(each))
        disk.write(target, disk.read(path))

    def _places(self, path: Path) -> Iterator[Path]:
        place = self._path / path.relative_to(self._root.path)
        disk.make_folder(place.parent)
        self.used = self._path
        yield place
        yield from (place.with_name(f"{place.name}-{number}") for number in itertools.count(2))


def _mend(root: Root, ailment: Ailment, shelf: _Shelf, previous_kept: int) -> None:
    kind, path = ailment.kind, ailment.path
    if kind == ailments.TORN:
        shelf.copy(path)
        if path in (root.runs, root.runs_copy):
            run_log.mend(root, path)
        else:
            # Others may append meanwhile, so it is not rewritten. Readers skip the torn line.
            disk.append(path, b"\n", lines=False)
    elif kind == ailments.UNFINISHED:
        promotion.finish_promotion(root, ailment.job or "", previous_kept)
    elif kind == ailments.CLAIMED:
        _put_back(root, ailment.job or "", path, shelf)
    elif kind == ailments.LETTER:
        with seals.moving(_folder_of(root, ailment), path):
            shelf.move(path)
    elif kind in (ailments.UNKNOWN, ailments.MISSING):
        _mend_index(_folder_of(root, ailment), ailment, shelf)
    else:
        shelf.move(path)


def _folder_of(root: Root, ailment: Ailment) -> JobFolder:
    folders = [root.job(state, ailment.job or "") for state in (CURRENT, COMPLETE, REJECTED)]
    return next(each for each in folders if ailment.path.is_relative_to(each.path))


def _put_back(root: Root, job: str, claimed: Path, shelf: _Shelf) -> None:
    """Put a claimed seed back, unless a newer one is waiting."""
    if not tree.rename_new(claimed, root.pending(job)):
        shelf.move(claimed)
    folder = claimed.parent
    if not any(tree.walk_all(folder)):
        shelf.move(folder)


def _mend_index(folder: JobFolder, ailment: Ailment, shelf: _Shelf) -> None:
    status = job_state.read_status(folder)
    if status is None or ailment.file is None:
        return
    kind, name = ailment.file
    if ailment.kind == ailments.MISSING:
        after = states.drop_name(status, kind, name)
    else:
        after = open_job.index_anew(status, folder, kind, name)
    shelf.copy(folder.status)
    with seals.moving(folder, folder.status):
        disk.write(folder.status, jsonio.dumps(after, sort=False))
