"""Removes jobs that are no longer wanted, or some of their files."""

from __future__ import annotations

import contextlib
import stat
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from popbuild.base import disk, jsonio, tree
from popbuild.base.errors import UsageError, no_such
from popbuild.base.paths import COMPLETE, CURRENT, PENDING, REJECTED, JobFolder, Root, shown_name
from popbuild.jobs import job_state, lifecycle, promotion, run_log, seals
from popbuild.jobs.claims import JobLocks
from popbuild.jobs.records import read_json
from popbuild.model import status as states
from popbuild.model.clock import seconds_at, timestamp

PRUNED_STATES = (PENDING, COMPLETE, REJECTED)
_ENDING = "-seed.json"


@dataclass(frozen=True)
class PruneRule:
    """What to drop. Without an age, a number and a size: everything that `orphans` and `kinds`
    select. `keep` counts within each state, `max_bytes` over all of them. With `kinds`, tmp or
    logs, these files of the jobs are dropped instead of the jobs."""

    states: tuple[str, ...] = PRUNED_STATES
    older_than_s: float | None = None
    keep: int | None = None
    max_bytes: int | None = None
    orphans: bool = False
    kinds: tuple[str, ...] = ()

    @property
    def takes_all(self) -> bool:
        return self.older_than_s is None and self.keep is None and self.max_bytes is None


@dataclass(frozen=True)
class Candidate:
    """A job in one of its folders, its seed in pending/, or an entry of the store. `at_s` is when
    it ended, or arrived; `size_bytes` is what dropping it frees. A `busy` one is in use."""

    job: str
    state: str
    path: Path
    at_s: float
    size_bytes: int
    busy: bool = False

    def as_json(self, root: Root) -> dict[str, Any]:
        return {
            "job": self.job,
            "state": self.state,
            "path": root.show(self.path),
            "at": timestamp(self.at_s),
            "sizeBytes": self.size_bytes,
        }


def choose_dropped(items: Iterable[Candidate], rule: PruneRule, now_s: float) -> list[Candidate]:
    """What a rule drops, the oldest first. A busy one stays, and counts as kept."""
    return [item for item in overdue(items, rule, now_s) if not item.busy]


def overdue(items: Iterable[Candidate], rule: PruneRule, now_s: float) -> Iterator[Candidate]:
    """What a rule would drop, the oldest first, and the busy ones among it, which stay."""
    oldest_first = sorted(items, key=lambda item: (item.at_s, item.path))
    total = sum(item.size_bytes for item in oldest_first)
    behind = Counter(item.state for item in oldest_first)
    for item in oldest_first:
        behind[item.state] -= 1  # newer ones of this state
        goes = (
            rule.takes_all
            or (rule.older_than_s is not None and item.at_s < now_s - rule.older_than_s)
            or (rule.keep is not None and behind[item.state] >= rule.keep)
            or (rule.max_bytes is not None and total > rule.max_bytes)
        )
        if goes:
            total -= 0 if item.busy else item.size_bytes
            yield item


@dataclass(frozen=True)
class Pruning:
    """What was dropped, or would be. `busy` jobs were left alone."""

    root: Root
    rule: PruneRule
    dropped: tuple[Candidate, ...]
    kept: tuple[Candidate, ...]
    busy: tuple[str, ...]
    done: bool

    @property
    def dropped_bytes(self) -> int:
        return sum(item.size_bytes for item in self.dropped)

    @property
    def kept_bytes(self) -> int:
        return sum(item.size_bytes for item in self.kept)

    def shown(self, item: Candidate) -> str:
        path = shown_name(self.root.show(item.path))
        return f"{', '.join(self.rule.kinds)} of {path}" if self.rule.kinds else path

    def as_json(self) -> dict[str, Any]:
        return {
            "dropped": [item.as_json(self.root) for item in self.dropped],
            "droppedBytes": self.dropped_bytes,
            "files": list(self.rule.kinds),
            "kept": len(self.kept),
            "keptBytes": self.kept_bytes,
            "busy": list(self.busy),
            "done": self.done,
        }


def rule_of(names: Sequence[str], **more: Any) -> PruneRule:
    """A rule for the named states, or for all. UsageError for another state, or an empty rule."""
    for name in names:
        if name not in PRUNED_STATES:
            hint = "doit clean removes jobs from current/" if name == CURRENT else None
            raise UsageError("nothing is pruned there", no_such("state", name, PRUNED_STATES), hint)
    rule = PruneRule(states=tuple(dict.fromkeys(names)) or PRUNED_STATES, **more)
    if rule.takes_all and not rule.orphans and not rule.kinds:
        raise UsageError(
            "prune needs to know what to drop",
            {"missing": "--older-than, --keep, --max-size, --orphans, --tmp or --logs"},
            hint="popbuild prune complete --older-than 30d --keep 100",
        )
    return rule


def prune(root: Root, rule: PruneRule, *, previous_kept: int, really: bool = False) -> Pruning:
    """Drop jobs, or some of their files; without `really`, only say which.

    A job that is being built, or is in current/, is never touched. A kill at any moment leaves each
    job either whole or gone. The removal of a complete job is recorded first, so that `verify` does
    not miss it; its previous results go with it."""
    locks = JobLocks(root)
    items = list(_items(root, rule, locks))
    chosen = choose_dropped(items, rule, time.time())
    dropped = [
        item for item in chosen if not really or _drop(root, rule, item, locks, previous_kept)
    ]
    gone = set(dropped)
    busy = {item.job for item in items if item.busy} | {each.job for each in {*chosen} - gone}
    if really:
        for state in rule.states:
            tree.sweep(root.data / state)
    kept = tuple(item for item in items if item not in gone)
    return Pruning(root, rule, tuple(dropped), kept, tuple(sorted(busy)), really)


def _items(root: Root, rule: PruneRule, locks: JobLocks) -> Iterator[Candidate]:
    for state in rule.states:
        for path in (root.data / state).glob("[!.]*"):
            item = _item(root, rule, state, path)
            if item is not None:
                held = not locks.is_free(item.job)
                yield replace(item, busy=held or _is_open(root, item.job))


def _is_open(root: Root, job: str) -> bool:
    """Whether a job is in current/: its other directories may be needed there."""
    return disk.stands(root.job(CURRENT, job).path)


def _item(root: Root, rule: PruneRule, state: str, path: Path) -> Candidate | None:
    """An entry of a state's folder; None where the rule does not apply, or it is gone by now."""
    with contextlib.suppress(FileNotFoundError):
        status = path.lstat()
        if state == PENDING:
            wanted = path.name.endswith(_ENDING) and stat.S_ISREG(status.st_mode)
            if not wanted or rule.orphans or rule.kinds:
                return None
            job = path.name.removesuffix(_ENDING)
            inputs = root.pending_inputs(job)
            own = tree.folder_size(inputs) if disk.is_folder(inputs) else 0
            return Candidate(job, state, path, status.st_mtime, status.st_size + own)
        folder = JobFolder(path)
        is_unwanted = rule.orphans and not job_state.is_orphan(root, folder)
        if is_unwanted or not stat.S_ISDIR(status.st_mode):
            return None
        if not rule.kinds:
            previous = _previous(root, folder.id)
            tops = [path, previous] if state == COMPLETE and disk.stands(previous) else [path]
        elif _names_of(folder, rule.kinds):
            tops = list(_folders(folder, rule.kinds))
        else:
            return None
        at_s = _ended_at(folder) or status.st_mtime
        return Candidate(folder.id, state, path, at_s, sum(map(tree.folder_size, tops)))
    return None


def _ended_at(folder: JobFolder) -> float | None:
    """When a job was promoted or rejected, from its own files: a copy has other file times."""
    for place, key in ((folder.rejection, "rejectedAt"), (folder.status, "finishedAt")):
        body = read_json(place)
        at_s = seconds_at(body.get(key)) if isinstance(body, dict) else None
        if at_s is not None:
            return at_s
    return None


def _previous(root: Root, job: str) -> Path:
    return root.own / "previous" / job


def _drop(
    root: Root, rule: PruneRule, item: Candidate, locks: JobLocks, previous_kept: int
) -> bool:
    """Remove one, unless another command uses it or it has changed since it was chosen."""
    if not locks.acquire(item.job):
        return False
    try:
        lifecycle.note_abandoned(root, item.job)
        promotion.finish_promotion(root, item.job, previous_kept)
        if _is_open(root, item.job) or _item(root, rule, item.state, item.path) != item:
            return False
        if rule.kinds:
            _drop_files(JobFolder(item.path), rule.kinds)
            return True
        if item.state == COMPLETE:
            tree.remove(_previous(root, item.job))
            run_log.removed(root, item.job)
        tree.remove(item.path)
        if item.state == PENDING:
            tree.remove(root.pending_inputs(item.job))
        return True
    finally:
        locks.release(item.job)


# Parts of a job.


def _folders(folder: JobFolder, kinds: Iterable[str]) -> Iterator[Path]:
    """The folders of these kinds; symbolic links are left alone."""
    for kind in kinds:
        path = folder.files(kind)
        if all(each.is_dir() and not each.is_symlink() for each in (path.parent, path)):
            yield path


def _names_of(folder: JobFolder, kinds: Iterable[str]) -> list[str]:
    """The files of these kinds, relative to the job: those on disk, and those that only its index
    or seal has, because a removal was cut short."""
    status, seal = job_state.read_status(folder), seals.read_seal(folder) or {"files": {}}
    found: set[str] = set()
    for kind in kinds:
        start = f"files/{kind}/"
        for top in _folders(folder, (kind,)):
            found.update(start + name for name, _ in tree.walk_all(top))
        if status is not None:
            found.update(start + name for name in status["files"][kind])
        sealed = (*seal["files"], *seal.get("changing", ()))
        found.update(name for name in sealed if name.startswith(start))
    return sorted(name for name in found if ".." not in Path(name).parts)


def _drop_files(folder: JobFolder, kinds: Sequence[str]) -> None:
    status = job_state.read_status(folder)
    names = _names_of(folder, kinds)
    with seals.changing(folder, folder.status, *(folder.path / name for name in names)):
        if status is not None:
            after = states.without_files(status, kinds)
            disk.write(folder.status, jsonio.dumps(after, sort=False))
        for top in _folders(folder, kinds):
            for path in sorted(top.iterdir()):
                tree.remove(path)
