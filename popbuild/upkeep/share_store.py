"""What the store holds and has saved, and copies of it elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from popbuild.base.paths import Root
from popbuild.llm.ledger import Saved, by_model, read_entries
from popbuild.llm.store import SET_ASIDE, cost_in, open_entry
from popbuild.model.config.config import export_environment
from popbuild.upkeep.remote import Folder, StoreCopy, entry_digest, open_copy

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
    aside = sum(file.path.name.endswith(SET_ASIDE) for file in stored_files(root))
    return StoreStatus(root.show(_path(root)), dict(sorted(models.items())), tuple(damaged), aside)


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
class StoredFile:
    """An entry; `digest` is its request's, None for a damaged one that was set aside."""

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


def stored_files(root: Root) -> list[StoredFile]:
    """Every entry of the store, damaged ones that were set aside too."""
    found = []
    folder = _path(root)
    for shelf in sorted(folder.iterdir()) if folder.is_dir() else ():
        for entry in os.scandir(shelf) if shelf.is_dir() else ():
            aside = entry.name.endswith(SET_ASIDE)
            if (aside or entry.name.endswith(".json")) and not entry.name.startswith("."):
                look, name = entry.stat(follow_symlinks=False), f"{shelf.name}/{entry.name}"
                digest, path = None if aside else entry_digest(name), Path(entry.path)
                found.append(StoredFile(name, path, look.st_mtime, look.st_size, digest))
    return found
