"""The store, shared and kept small: what it holds and has saved, copies elsewhere, pruning."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from popbuild.base import disk
from popbuild.base.errors import LockedError, UsageError
from popbuild.base.paths import Root
from popbuild.jobs import job_ids, lifecycle
from popbuild.jobs.claims import JobLocks
from popbuild.llm.hits import Saved, by_model
from popbuild.llm.ledger import read_entries
from popbuild.llm.store import SET_ASIDE, cost_in, open_entry
from popbuild.model.config.config import export_environment
from popbuild.upkeep.remote import Folder, StoreCopy, entry_digest, open_copy

_BATCH = 64  # entries that are copied at the same time,
_BATCH_BYTES = 32_000_000  # or fewer, if they are large
_RECEIPTS = ("letter.json", "rejection.json")  # the files that say which answers a job came from
_DIGEST = re.compile(rb"sha256:[0-9a-f]{64}")
_TIMES_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_SIZES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12} | {
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}


@dataclass(frozen=True)
class Share:
    """What the store holds of one model, or in all. `cost` is what the answers came to when they
    were bought, in US dollars, of those whose price is known; `unpriced` counts the others."""

    entries: int = 0
    size_bytes: int = 0
    cost: float = 0.0
    unpriced: int = 0
    saved: Saved = field(default_factory=Saved)

    def __add__(self, other: Share) -> Share:
        return Share(
            self.entries + other.entries,
            self.size_bytes + other.size_bytes,
            self.cost + other.cost,
            self.unpriced + other.unpriced,
            self.saved + other.saved,
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "entries": self.entries,
            "sizeBytes": self.size_bytes,
            "cost": _known(self.cost, self.entries, self.unpriced),
            "unpriced": self.unpriced,
            "hits": self.saved.hits,
            "saved": _known(self.saved.cost, self.saved.hits, self.saved.unpriced),
            "savedUnpriced": self.saved.unpriced,
        }


def _known(cost: float, count: int, unpriced: int) -> float | None:
    """None where nothing of it has a known price: that is not 0."""
    return None if unpriced and unpriced == count else cost


@dataclass(frozen=True)
class StoreStatus:
    """`damaged` are entries that are not what was stored; `set_aside` were found so before."""

    folder: str
    models: dict[str, Share]
    damaged: tuple[str, ...]
    set_aside: int

    @property
    def total(self) -> Share:
        return sum(self.models.values(), Share())

    def as_json(self) -> dict[str, Any]:
        return {
            "store": self.folder,
            **self.total.as_json(),
            "models": {name: share.as_json() for name, share in self.models.items()},
            "damaged": list(self.damaged),
            "setAside": self.set_aside,
        }


def status(root: Root) -> StoreStatus:
    """What the store holds, and what it has saved. Reads and checks every entry; hits are those
    that commands have counted (llm/hits.py)."""
    folder = _folder(root)
    models: dict[str, Share] = {}
    damaged = []
    for name in sorted(folder.sizes()):
        data = folder.read([name]).get(name)
        if data is None:
            continue  # gone since it was listed
        body = open_entry(data, entry_digest(name))
        if body is None:
            damaged.append(name)
            continue
        model, cost = body["request"]["model"], cost_in(body)
        one = Share(1, len(data), cost or 0.0, int(cost is None))
        models[model] = models.get(model, Share()) + one
    for model, saved in by_model(read_entries(root.private / "hits.jsonl")[0]).items():
        models[model] = models.get(model, Share()) + Share(saved=saved)
    aside = sum(file.path.name.endswith(SET_ASIDE) for file in _files(root))
    return StoreStatus(root.show(_path(root)), dict(sorted(models.items())), tuple(damaged), aside)


@dataclass(frozen=True)
class Transfer:
    """A push or a pull. `there` counts what the other side had already; `damaged` entries were
    not copied."""

    place: str
    copied: int = 0
    size_bytes: int = 0
    there: int = 0
    damaged: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {
            "place": self.place,
            "copied": self.copied,
            "sizeBytes": self.size_bytes,
            "there": self.there,
            "damaged": list(self.damaged),
        }


def push(root: Root, url: str, environment: dict[str, str]) -> Transfer:
    """Copy to a place the entries that it lacks. StoreError where it cannot be reached."""
    export_environment(environment)
    place = open_copy(url)
    return _copy(_folder(root), place, place.shown)


def pull(root: Root, url: str, environment: dict[str, str]) -> Transfer:
    """Copy from a place the entries that this store lacks. StoreError where it cannot be
    reached."""
    export_environment(environment)
    place = open_copy(url)
    return _copy(place, _folder(root), place.shown)


def _copy(source: StoreCopy, target: StoreCopy, shown: str) -> Transfer:
    """Copy what the target lacks, each entry only if it is intact."""
    sizes, there = source.sizes(), target.sizes()
    copied = size_bytes = 0
    damaged: list[str] = []
    lacking = {name: size for name, size in sorted(sizes.items()) if name not in there}
    for names in _batches(lacking):
        intact = {}
        for name, data in source.read(names).items():
            if open_entry(data, entry_digest(name)) is None:
                damaged.append(name)
            else:
                intact[name] = data
        if intact:
            target.write(intact)
        copied += len(intact)
        size_bytes += sum(map(len, intact.values()))
    return Transfer(shown, copied, size_bytes, len(sizes.keys() & there.keys()), tuple(damaged))


def _batches(sizes: dict[str, int]) -> Iterator[list[str]]:
    batch: list[str] = []
    size_bytes = 0
    for name, size in sizes.items():
        if batch and (len(batch) == _BATCH or size_bytes + size > _BATCH_BYTES):
            yield batch
            batch, size_bytes = [], 0
        batch.append(name)
        size_bytes += size
    if batch:
        yield batch


@dataclass(frozen=True)
class StorePruning:
    """What was dropped, or would be. `referenced` counts the entries that were kept because a job
    refers to them; `kept_bytes` may be more than was allowed because of them."""

    dropped: tuple[str, ...]
    dropped_bytes: int
    kept: int
    kept_bytes: int
    referenced: int
    done: bool

    def as_json(self) -> dict[str, Any]:
        return {
            "dropped": list(self.dropped),
            "droppedBytes": self.dropped_bytes,
            "kept": self.kept,
            "keptBytes": self.kept_bytes,
            "referenced": self.referenced,
            "done": self.done,
        }


def prune_store(
    root: Root,
    *,
    older_than_s: float | None = None,
    max_bytes: int | None = None,
    referenced: bool = False,
    really: bool = False,
) -> StorePruning:
    """Drop entries older than an age, then the oldest until the rest is small enough.

    Age counts from when an entry was stored or pulled. What a job in any state, or a previous
    result, refers to is kept, unless `referenced`. Without `really`, only says what would be
    dropped. LockedError while a job is built: it may be about to refer to an old answer.
    """
    if older_than_s is None and max_bytes is None:
        raise UsageError(
            "prune needs to know what to drop",
            {"missing": "--older-than, --max-size or both"},
            hint="popbuild cache prune --older-than 30d --max-size 500MB",
        )
    with _no_builds(root) if really else contextlib.nullcontext():
        kept_for = set() if referenced else _referenced(root)
        files = sorted(_files(root), key=lambda file: (file.mtime, file.name))
        total = sum(file.size_bytes for file in files)
        oldest = None if older_than_s is None else time.time() - older_than_s
        dropped, spared = [], 0
        for file in files:
            too_old = oldest is not None and file.mtime < oldest
            too_many = max_bytes is not None and total > max_bytes
            if not (too_old or too_many):
                continue
            if file.digest in kept_for:
                spared += 1
                continue
            dropped.append(file)
            total -= file.size_bytes
        if really:
            for file in dropped:
                disk.remove(file.path)
    return StorePruning(
        tuple(file.name for file in dropped),
        sum(file.size_bytes for file in dropped),
        len(files) - len(dropped),
        total,
        spared,
        really,
    )


@dataclass(frozen=True)
class _File:
    """An entry, or one that was set aside: nothing refers to that."""

    name: str
    path: Path
    mtime: float
    size_bytes: int
    digest: str | None


def _path(root: Root) -> Path:
    return root.private / "store"


def _folder(root: Root) -> Folder:
    path = _path(root)
    return Folder(path, root.show(path))


def _files(root: Root) -> list[_File]:
    found = []
    folder = _path(root)
    for shelf in sorted(folder.iterdir()) if folder.is_dir() else ():
        for entry in os.scandir(shelf) if shelf.is_dir() else ():
            aside = entry.name.endswith(SET_ASIDE)
            if (aside or entry.name.endswith(".json")) and not entry.name.startswith("."):
                known = entry.stat(follow_symlinks=False)
                name = f"{shelf.name}/{entry.name}"
                digest = None if aside else entry_digest(name)
                found.append(_File(name, Path(entry.path), known.st_mtime, known.st_size, digest))
    return found


def _referenced(root: Root) -> set[str]:
    """Every digest that a letter or a rejection names, of jobs in any state and of previous
    results, and those that doctor moved away. Taken from the bytes: one that is torn still says
    what it refers to."""
    found: set[str] = set()
    for top in (root.data, root.private / "previous", root.private / "doctor"):
        for folder, _, names in os.walk(top, onerror=_raise):
            for name in names:
                if name in _RECEIPTS:
                    data = (Path(folder) / name).read_bytes()
                    found.update(match.decode() for match in _DIGEST.findall(data))
    return found


def _raise(error: OSError) -> None:
    """A folder that cannot be read may refer to anything; one that is not there to nothing."""
    if not isinstance(error, FileNotFoundError):
        raise error


@contextlib.contextmanager
def _no_builds(root: Root) -> Iterator[None]:
    """Hold the locks of all jobs."""
    locks = JobLocks(root)
    held: list[str] = []
    try:
        for job in job_ids.known_jobs(root):
            if not locks.acquire(job):
                raise LockedError(
                    "another command builds a job",
                    {"job": job},
                    hint="prune when it is done: it may be about to refer to an old answer",
                )
            held.append(job)
            lifecycle.note_abandoned(root, job)
        yield
    finally:
        for job in held:
            locks.release(job)


def seconds_of(text: str) -> float:
    """An age in seconds: `30d`, `12h`. UsageError for anything else."""
    number, unit = _number_and_unit(text)
    if number is None or unit not in _TIMES_S:
        raise UsageError(
            "not an age", {"found": text, "allowed": "a number and s, m, h, d or w: 30d"}
        )
    return number * _TIMES_S[unit]


def parse_size(text: str) -> int:
    """A size in bytes: `500MB`, `2GiB`. UsageError for anything else."""
    number, unit = _number_and_unit(text)
    if number is None or unit not in _SIZES:
        raise UsageError(
            "not a size", {"found": text, "allowed": "a number and B, kB, MB, GB or TB: 500MB"}
        )
    return round(number * _SIZES[unit])


def _number_and_unit(text: str) -> tuple[float | None, str]:
    match = re.fullmatch(r"(\d{1,12}(?:\.\d{1,6})?) ?([A-Za-z]*)", text.strip(), re.ASCII)
    return (float(match[1]), match[2].lower()) if match else (None, "")
