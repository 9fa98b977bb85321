"""What the store holds and has saved, copies of it elsewhere, and the removal of old answers."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from popbuild.base import tree
from popbuild.base.errors import LockedError, UsageError
from popbuild.base.paths import Root
from popbuild.jobs import job_ids, lifecycle
from popbuild.llm.ledger import Saved, by_model, read_entries
from popbuild.llm.store import SET_ASIDE, cost_in, open_entry
from popbuild.model.config.config import export_environment
from popbuild.upkeep.prune import Candidate, PruneRule, overdue
from popbuild.upkeep.remote import Folder, Remote, entry_digest, open_copy

_RECEIPTS = ("letter.json", "rejection.json")  # the files that name a job's answers
_DIGEST = re.compile(rb"sha256:[0-9a-f]{64}")
_BATCH = 64  # entries that are copied at the same time, or fewer if they are large
_BATCH_BYTES = 32_000_000


@dataclass(frozen=True)
class Share:
    """What the store holds of one model, or in all. `cost` is what the answers of known price cost
    when they were bought, in US dollars; `unpriced` counts the others."""

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
    """None where no price is known: unknown is not 0."""
    return None if unpriced and unpriced == count else cost


@dataclass(frozen=True)
class StoreStatus:
    """`damaged` are entries that are not as they were stored; `set_aside` counts those that were
    found damaged before."""

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
    """What the store holds, and what it has saved. Checks every entry; commands count the hits
    (llm/hits.py)."""
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
    aside = len([*(root.private / "store").glob(f"[!.]*/[!.]*{SET_ASIDE}")])
    return StoreStatus(folder.shown, dict(sorted(models.items())), tuple(damaged), aside)


@dataclass(frozen=True)
class Transfer:
    """A push or a pull. `there` counts the entries that the other side had already; `damaged` ones
    were not copied."""

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
    """Copy the entries that a place lacks to it. StoreError where it cannot be reached."""
    export_environment(environment)
    place = open_copy(url)
    return _copy(_folder(root), place, place.shown)


def pull(root: Root, url: str, environment: dict[str, str]) -> Transfer:
    """Copy the entries that this store lacks from a place. StoreError as for `push`."""
    export_environment(environment)
    place = open_copy(url)
    return _copy(place, _folder(root), place.shown)


def _copy(source: Folder | Remote, target: Folder | Remote, shown: str) -> Transfer:
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
    for name, size in sizes.items():
        taken = sum(sizes[each] for each in batch)
        if batch and (len(batch) == _BATCH or taken + size > _BATCH_BYTES):
            yield batch
            batch = []
        batch.append(name)
    if batch:
        yield batch


def _folder(root: Root) -> Folder:
    path = root.private / "store"
    return Folder(path, root.show(path))


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

    Age counts from when an entry was stored or pulled. Entries that a job in any state, or a
    previous result, refers to are kept, unless `referenced`. Without `really`, only says what would
    be dropped. LockedError while a job is built: it may be about to refer to an old answer."""
    if older_than_s is None and max_bytes is None:
        raise UsageError(
            "prune needs to know what to drop",
            {"missing": "--older-than, --max-size or both"},
            hint="popbuild cache prune --older-than 30d --max-size 500MB",
        )
    rule = PruneRule(older_than_s=older_than_s, max_bytes=max_bytes)
    with _no_builds(root) if really else contextlib.nullcontext():
        kept_for = set() if referenced else _referenced(root)
        files = [replace(each, busy=each.job in kept_for) for each in stored_files(root)]
        going = list(overdue(files, rule, time.time()))
        dropped = [each for each in going if not each.busy]
        for file in dropped if really else ():
            tree.remove(file.path)
    names = tuple(f"{each.path.parent.name}/{each.path.name}" for each in dropped)
    freed = sum(each.size_bytes for each in dropped)
    left = sum(each.size_bytes for each in files) - freed
    kept, spared = len(files) - len(dropped), len(going) - len(dropped)
    return StorePruning(names, freed, kept, left, spared, really)


def stored_files(root: Root) -> Iterator[Candidate]:
    """Every entry of the store, and damaged ones that were set aside; each with the digest of its
    request as its job."""
    for path in (root.private / "store").glob("[!.]*/[!.]*"):
        aside = path.name.endswith(SET_ASIDE)
        if aside or path.suffix == ".json":
            look = path.lstat()
            digest = "" if aside else entry_digest(f"{path.parent.name}/{path.name}")
            yield Candidate(digest, "store", path, look.st_mtime, look.st_size)


def _referenced(root: Root) -> set[str]:
    """Every digest that a letter or a rejection names: of jobs in any state, of previous results,
    and of those that doctor moved away. Found in the bytes: a torn file counts too."""
    found: set[str] = set()
    for top in (root.data, root.private / "previous", root.private / "doctor"):
        for folder, _, names in os.walk(top, onerror=_raise):
            for name in names:
                if name in _RECEIPTS:
                    data = (Path(folder) / name).read_bytes()
                    found.update(match.decode() for match in _DIGEST.findall(data))
    return found


def _raise(error: OSError) -> None:
    """A folder that cannot be read may refer to anything; a missing one refers to nothing."""
    if not isinstance(error, FileNotFoundError):
        raise error


@contextlib.contextmanager
def _no_builds(root: Root) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for job in job_ids.known_jobs(root):
            try:
                stack.enter_context(lifecycle.job_lock(root, job))
            except LockedError:
                raise LockedError(
                    "another command builds a job",
                    {"job": job},
                    hint="prune when it is done: it may be about to refer to an old answer",
                ) from None
        yield
