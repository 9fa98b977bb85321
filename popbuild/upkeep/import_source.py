"""What there is to import in another program's folder, and what became of it. Reads only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from popbuild.base import disk, jsonio, paths, tree
from popbuild.base.errors import InputError, UsageError
from popbuild.base.paths import COMPLETE, CURRENT, PENDING, REJECTED, RUNS, JobFolder, Root
from popbuild.base.units import count
from popbuild.jobs.records import read_json

IMPORTED_STATES = (CURRENT, COMPLETE, REJECTED)
DATA, SEEDS = "pipeline-data", "seeds"
_SOUGHT = "seeds/, pipeline-data/, or a folder with pending/, current/, complete/ or rejected/"


@dataclass(frozen=True)
class ImportSource:
    """Another program's folder: its `pipeline-data/` and its `seeds/`, where it has them."""

    path: Path
    data: Path | None
    seeds: Path | None

    @property
    def tops(self) -> list[Path]:
        """The folders that are read."""
        return [path for path in (self.seeds, self.data) if path is not None]

    def folder(self, name: str) -> Path | None:
        """A state's folder, or `seeds`; None where it does not exist."""
        path = self.seeds if name == SEEDS else self.data and self.data / name
        return path if path is not None and disk.is_folder(path) else None

    def place(self, place: str) -> Path:
        """The path in the source of a place in a root."""
        top, _, rest = place.partition("/")
        base = self.seeds if top == SEEDS else self.data
        assert base is not None
        return base / rest


@dataclass
class Imported:
    """What was imported, what was there already, and what was left alone with the reason. Paths are
    those in the root."""

    source: ImportSource
    dry_run: bool
    imported: list[str] = field(default_factory=list)
    there: list[str] = field(default_factory=list)
    left_alone: dict[str, str] = field(default_factory=dict)
    lines: int = 0
    lines_there: int = 0
    built: dict[str, str] = field(default_factory=dict)  # an imported seed, and a job made from it

    @property
    def whole(self) -> bool:
        return not self.left_alone

    def lines_of_text(self) -> Iterator[str]:
        """As a person reads it."""
        source, would = self.source, "would import" if self.dry_run else "imported"
        yield f"found {' and '.join(paths.shown_name(str(path)) for path in source.tops)}"
        if source.seeds is None and disk.is_folder(beside := source.path.parent / SEEDS):
            yield f"not asked for: {paths.shown_name(str(beside))}"
        yield from (f"{would} {place}" for place in self.imported)
        if self.there:
            yield f"{len(self.there):,} of the seeds and jobs were there already"
        yield from (f"left alone {place}: {why}" for place, why in self.left_alone.items())
        for seed, job in self.built.items():
            yield f"{seed} is a new job here, which a run builds, though {job} was made from it"
        if self.lines or self.lines_there:
            added = "would be added" if self.dry_run else "added"
            yield f"{RUNS}: {count(self.lines, 'line')} {added}, {self.lines_there:,} there already"

    def as_json(self) -> dict[str, Any]:
        found = {name: path for name in ("data", "seeds") if (path := getattr(self.source, name))}
        return {
            "from": str(self.source.path),
            "found": {name: str(path) for name, path in found.items()},
            "imported": self.imported,
            "there": self.there,
            "leftAlone": [{"path": path, "why": why} for path, why in self.left_alone.items()],
            "runs": {"added": self.lines, "there": self.lines_there},
            "builtAs": self.built,
            "dryRun": self.dry_run,
        }


def find_source(folder: Path) -> ImportSource:
    """A program's root with seeds/ and pipeline-data/, or its pipeline-data/ itself."""
    if not disk.is_folder(folder):
        missing = "no such folder" if not disk.stands(folder) else "not a folder"
        raise UsageError(missing, {"folder": folder})
    path = folder.resolve()
    states = [name for name in (PENDING, *IMPORTED_STATES) if disk.is_folder(path / name)]
    data = path / DATA if disk.is_folder(path / DATA) else path if states else None
    seeds = path / SEEDS if disk.is_folder(path / SEEDS) else None
    if data is None and seeds is None:
        inside = sorted(each.name for each in path.iterdir() if _looks_right(each))
        raise UsageError(
            "nothing to import there",
            {"folder": folder, "for": _SOUGHT},
            hint=f"popbuild import {folder / inside[0]}" if inside else None,
        )
    return ImportSource(path, data, seeds)


def _looks_right(folder: Path) -> bool:
    return any(disk.is_folder(folder / name) for name in (DATA, SEEDS, COMPLETE))


def check_apart(root: Root, source: ImportSource) -> None:
    """UsageError where the source lies in the root, or the root in the source."""
    own = root.path.resolve()
    inside = source.path.is_relative_to(own)
    if inside or any(own.is_relative_to(each) for each in source.tops):
        raise UsageError(
            "the folder is the root itself" if source.path == own else "one lies in the other",
            {"folder": source.path, "root": own},
            hint="popbuild list shows what is in a root" if inside else "move the root away first",
        )


def check_directory(came: JobFolder) -> None:
    """InputError for anything but a job's directory of regular files with printable names."""
    link = tree.first_link(str(came.path))
    if link is not None:
        raise InputError("a symbolic link", {"link": paths.shown_name(link)})
    if not disk.is_folder(came.path):
        raise InputError("not a job's directory")
    for name, path in tree.walk_all(came.path):
        if not name.isprintable():
            raise InputError("a file has a name that cannot be printed", {"file": ascii(name)})
        if not disk.is_regular(path):
            raise InputError("neither a file nor a folder", {"path": path})


def says_the_same(one: Path, other: Path) -> bool:
    """Whether two files have the same bytes, or the same JSON."""
    if not disk.is_regular(one) or not disk.is_regular(other):
        return False
    if disk.read(one) == disk.read(other):
        return True
    return digest_in(one) is not None and digest_in(one) == digest_in(other)


def digest_in(path: Path) -> str | None:
    """The digest of a JSON file's value; None where it is not JSON."""
    document = read_json(path)
    try:
        return None if document is None else jsonio.digest(document)
    except (ValueError, RecursionError):  # NaN, half a character
        return None
