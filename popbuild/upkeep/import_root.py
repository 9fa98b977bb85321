"""A data folder of another program into a root: seeds, jobs in every state, lines of runs.jsonl.

The source is only read. Each job, and each file, is copied beside and put into its place by a
rename. What stands there already with another content is left alone and named; the rest comes.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from popbuild.base import disk, jsonio
from popbuild.base.errors import InputError, LockedError, PopbuildError, UsageError
from popbuild.base.paths import (
    COMPLETE,
    CURRENT,
    PENDING,
    REJECTED,
    RUNS,
    JobFolder,
    Root,
    job_place,
    name_problem,
    pending_place,
    seed_place,
    shown_name,
)
from popbuild.base.redact import redact
from popbuild.base.units import count
from popbuild.jobs import job_ids, originals, run_lines, run_log
from popbuild.jobs.lifecycle import job_lock
from popbuild.jobs.records import read_json
from popbuild.model.config.config import environment_of
from popbuild.upkeep.archive.restore import shelved

_STATES = (CURRENT, COMPLETE, REJECTED)
_DATA, _SEEDS = "pipeline-data", "seeds"
_SEED_ENDINGS = {_SEEDS: ".json", PENDING: "-seed.json"}


@dataclass(frozen=True)
class ImportSource:
    """What was found of another program's folder: its `pipeline-data/`, and its `seeds/`."""

    path: Path
    data: Path | None
    seeds: Path | None

    @property
    def tops(self) -> list[Path]:
        """What of it is read."""
        return [path for path in (self.seeds, self.data) if path is not None]

    def folder(self, name: str) -> Path | None:
        """A state's folder, or `seeds`, None where it is not there."""
        path = self.seeds if name == _SEEDS else self.data and self.data / name
        return path if path is not None and disk.is_folder(path) else None

    def place(self, place: str) -> Path:
        """Where that is which stands at this place of a root."""
        top, _, rest = place.partition("/")
        base = self.seeds if top == _SEEDS else self.data
        assert base is not None
        return base / rest


@dataclass
class Imported:
    """What came, what was there already, and what was left alone, each with the reason. Paths are
    those in the root."""

    source: ImportSource
    dry_run: bool
    imported: list[str] = field(default_factory=list)
    there: list[str] = field(default_factory=list)
    left_alone: dict[str, str] = field(default_factory=dict)
    lines: int = 0
    lines_there: int = 0
    built: dict[str, str] = field(default_factory=dict)  # seeds that came, and a job of each

    @property
    def whole(self) -> bool:
        """Whether nothing was left alone."""
        return not self.left_alone

    def lines_of_text(self) -> Iterator[str]:
        """As a person reads it."""
        source, would = self.source, "would import" if self.dry_run else "imported"
        yield f"found {' and '.join(shown_name(str(path)) for path in source.tops)}"
        if source.seeds is None and disk.is_folder(beside := source.path.parent / _SEEDS):
            yield f"not asked for: {shown_name(str(beside))}"
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


def import_data(root: Root, folder: Path, *, dry_run: bool = False) -> Imported:
    """Copy another program's data folder into a root; with `dry_run`, only say what would come.

    A command that was killed is simply run again. UsageError for a folder without any such data, or
    one that the root lies in, or that lies in the root.
    """
    source = find_source(folder)
    _must_be_apart(root, source)
    found = Imported(source, dry_run)
    if dry_run:
        _Import(root, None, found).run()
        return found
    with shelved(root) as shelf:
        run_log.start_anew(root)
        _Import(root, shelf, found).run()
    return found


# What is there.


def find_source(folder: Path) -> ImportSource:
    """A program's root with seeds/ and pipeline-data/, or its pipeline-data/ itself."""
    if not disk.is_folder(folder):
        missing = "no such folder" if not disk.stands(folder) else "not a folder"
        raise UsageError(missing, {"folder": folder})
    path = folder.resolve()
    states = [name for name in (PENDING, *_STATES) if disk.is_folder(path / name)]
    data = path / _DATA if disk.is_folder(path / _DATA) else path if states else None
    seeds = path / _SEEDS if disk.is_folder(path / _SEEDS) else None
    if data is None and seeds is None:
        inside = sorted(each.name for each in path.iterdir() if _looks_right(each))
        raise UsageError(
            "nothing to import there",
            {
                "folder": folder,
                "for": "seeds/, pipeline-data/, or a folder with pending/, current/, complete/ "
                "or rejected/",
            },
            hint=f"popbuild import {folder / inside[0]}" if inside else None,
        )
    return ImportSource(path, data, seeds)


def _looks_right(folder: Path) -> bool:
    return any(disk.is_folder(folder / name) for name in (_DATA, _SEEDS, COMPLETE))


def _must_be_apart(root: Root, source: ImportSource) -> None:
    own = root.path.resolve()
    inside = source.path.is_relative_to(own)
    if inside or any(own.is_relative_to(each) for each in source.tops):
        raise UsageError(
            "the folder is the root itself" if source.path == own else "one lies in the other",
            {"folder": source.path, "root": own},
            hint="popbuild list shows what is in a root" if inside else "move the root away first",
        )


# What comes.


class _Import:
    """One import, as it goes. Without a shelf nothing is written."""

    def __init__(self, root: Root, shelf: Root | None, found: Imported) -> None:
        self._root = root
        self._shelf = shelf
        self._source = found.source
        self._found = found
        self._environment = environment_of(root, os.environ)
        self._known = {job.casefold(): job for job in job_ids.known_jobs(root)}

    def run(self) -> None:
        for name in self._names(_SEEDS):
            self._trying([f"{_SEEDS}/{name}"], functools.partial(self._seed, name))
        for job, places in self._jobs().items():
            self._trying(places, functools.partial(self._job, job, places))
        self._found.built = self._built()
        path = self._source.data and self._source.data / COMPLETE / RUNS
        if path is not None and disk.stands(path):
            self._trying([f"{_DATA}/{COMPLETE}/{RUNS}"], lambda: self._runs(path))

    def _trying(self, places: Sequence[str], bring: Callable[[], None]) -> None:
        """Bring one thing; what of it cannot be brought is named, and the others come."""
        why = ""
        try:
            bring()
        except LockedError:
            why = "another command builds this job"
        except PopbuildError as error:
            why = error.as_line(without=())
        except OSError as error:
            if error.filename is None or self._is_of_root(Path(str(error.filename))):
                raise  # the disk is full, or the root cannot be written: nothing would come
            why = f"{error.filename}: {error.strerror}"
        if why:
            came = {*self._found.imported, *self._found.there}
            for place in places:
                if place not in came:
                    self._leave(place, why)

    def _is_of_root(self, path: Path) -> bool:
        return path.is_relative_to(self._root.path)

    def _leave(self, place: str, why: str) -> None:
        self._found.left_alone[redact(shown_name(place), self._environment)] = why

    def _names(self, top: str) -> list[str]:
        """What a folder of the source holds, hidden files aside."""
        folder = self._source.folder(top)
        try:
            names = [path.name for path in folder.iterdir()] if folder is not None else []
        except OSError as error:
            self._leave(top if top == _SEEDS else f"{_DATA}/{top}", str(error.strerror))
            return []
        return sorted(name for name in names if not name.startswith("."))

    # Seeds.

    def _seed(self, name: str) -> None:
        place = f"{_SEEDS}/{name}"
        came = self._source.place(place)
        if not name.endswith(".json"):
            raise InputError("not a seed: its name does not end in .json")
        job = name.removesuffix(".json")
        self._check_name(job)
        self._file(place, came, self._root.path / place)

    def _file(self, place: str, came: Path, stands: Path) -> None:
        data = disk.read(came)
        if disk.stands(stands):
            if not _says_the_same(stands, came):
                raise InputError("another seed stands there")
            self._found.there.append(place)
            return
        if self._shelf is not None:
            beside = self._shelf.path / place
            disk.make_folder(beside.parent)
            disk.make_folder(stands.parent)
            disk.write(beside, data)
            self._put(beside, stands)
        self._found.imported.append(place)

    def _put(self, beside: Path, stands: Path) -> None:
        if not disk.rename_new(beside, stands):
            raise InputError("something came to stand there meanwhile")

    def _check_name(self, job: str) -> None:
        problem = name_problem(job)
        if problem is not None:
            raise InputError("not a valid name for a job", {"allowed": problem})
        job_ids.refuse_keys(job, self._environment)
        other = self._known.setdefault(job.casefold(), job)
        if other != job:
            said = f"its ID differs from that of {shown_name(other)} only by upper and lower case"
            raise InputError(said)

    def _built(self) -> dict[str, str]:
        """The seeds that came and that a complete job was made from: here a file under seeds/ is a
        job of its name, there it was copied for a job of another."""
        places = [*self._found.imported, *self._found.there]
        made: dict[str | None, str] = {}
        for place in places:
            if place.startswith(f"{_DATA}/{COMPLETE}/"):
                job = JobFolder(self._source.place(place))
                made[_digest(job.seed)] = job.id
        made.pop(None, None)
        seeds = [place for place in self._found.imported if place.startswith(f"{_SEEDS}/")]
        found = {place: made.get(_digest(self._source.place(place))) for place in seeds}
        return {place: job for place, job in found.items() if job}

    # Jobs.

    def _jobs(self) -> dict[str, list[str]]:
        """The jobs of the source, each with its places: directories, and a seed that waits."""
        found: dict[str, list[str]] = {}
        for name in self._names(PENDING):
            job = name.removesuffix(_SEED_ENDINGS[PENDING])
            if job == name:
                self._leave(f"{_DATA}/{PENDING}/{name}", "not a seed that waits: <job>-seed.json")
            else:
                found.setdefault(job, []).append(pending_place(job))
        for state in _STATES:
            for name in self._names(state):
                if (state, name) != (COMPLETE, RUNS):
                    found.setdefault(name, []).append(job_place(state, name))
        return dict(sorted(found.items()))

    def _job(self, job: str, places: Sequence[str]) -> None:
        self._check_name(job)
        with job_lock(self._root, job) if self._shelf is not None else contextlib.nullcontext():
            missing = self._missing(job, places)
            self._found.there += [place for place in places if place not in missing]
            for place in missing:
                came, stands = self._source.place(place), self._root.path / place
                if place == pending_place(job):
                    self._file(place, came, stands)
                else:
                    self._directory(place, JobFolder(came), JobFolder(stands))

    def _missing(self, job: str, places: Sequence[str]) -> list[str]:
        """The places of a job that are to come. InputError where another job of this ID is here."""
        own = [pending_place(job), *(job_place(state, job) for state in _STATES)]
        standing = {place for place in own if disk.stands(self._root.path / place)}
        same = {place for place in standing.intersection(places) if self._is_same(job, place)}
        missing = [place for place in places if place not in same and not self._went(job, place)]
        others = sorted(standing - same)
        if missing and not others and self._has_another_seed(job, missing[0]):
            others = [seed_place(job)]
        if missing and others:
            raise InputError(f"another job of this ID stands here: {', '.join(others)}")
        return missing

    def _is_same(self, job: str, place: str) -> bool:
        came, stands = self._source.place(place), self._root.path / place
        if place == pending_place(job):
            return _says_the_same(stands, came)
        return originals.is_same(JobFolder(came), JobFolder(stands))

    def _went(self, job: str, place: str) -> bool:
        """Whether what was imported before is gone, since popbuild went on with it."""
        came = self._source.place(place)
        if place == pending_place(job):
            folders = [self._root.job(state, job) for state in _STATES]
            return any(_says_the_same(folder.seed, came) for folder in folders)
        return any(
            originals.is_same(JobFolder(came), each) for each in originals.kept(self._root, job)
        )

    def _has_another_seed(self, job: str, place: str) -> bool:
        """Whether the root has a source of this name that is not the seed of the job that comes."""
        stands, place_of_seed = self._root.seed(job), seed_place(job)
        if not disk.stands(stands) or place_of_seed in self._found.imported + self._found.there:
            return False
        came = self._source.place(place)
        seed = came if place == pending_place(job) else JobFolder(came).seed
        return not _says_the_same(stands, seed)

    def _directory(self, place: str, came: JobFolder, stands: JobFolder) -> None:
        _check_directory(came)
        if self._shelf is not None:
            beside = JobFolder(self._shelf.path / place)
            disk.take_folder(came.path, beside.path)
            if not originals.is_same(came, beside):
                raise InputError(
                    "it was written to while it was copied", hint="end its program, then import"
                )
            self._put(beside.path, stands.path)
        self._found.imported.append(place)

    # Runs.

    def _runs(self, path: Path) -> None:
        place = f"{_DATA}/{COMPLETE}/{RUNS}"
        lines = []
        alone = {Path(each).name for each in self._found.left_alone}
        for number, line in enumerate(disk.read(path).splitlines(), 1):
            body = run_lines.body_of(line)
            if body is None and line.strip():
                self._leave(f"{place}, line {number}", "not the line of a run")
            elif body is not None and body.get("id") not in alone:
                lines.append(body)
        added = run_log.take_over(self._root, lines, really=self._shelf is not None)
        self._found.lines, self._found.lines_there = added, len(lines) - added


def _check_directory(came: JobFolder) -> None:
    """InputError for what is no job's directory, or holds what no root may have."""
    link = disk.first_link(str(came.path))
    if link is not None:
        raise InputError("a symbolic link", {"link": shown_name(link)})
    if not disk.is_folder(came.path):
        raise InputError("not a job's directory")
    for name, path in disk.walk_all(came.path):
        if not name.isprintable():
            raise InputError("a file has a name that cannot be printed", {"file": ascii(name)})
        if not disk.is_regular(path):
            raise InputError("neither a file nor a folder", {"path": path})


def _says_the_same(one: Path, other: Path) -> bool:
    """Whether two files have the same bytes, or the same JSON."""
    if not disk.is_regular(one) or not disk.is_regular(other):
        return False
    if disk.read(one) == disk.read(other):
        return True
    return _digest(one) is not None and _digest(one) == _digest(other)


def _digest(path: Path) -> str | None:
    """The digest of a JSON file's value, None for what is none."""
    document = read_json(path)
    try:
        return None if document is None else jsonio.digest(document)
    except (ValueError, RecursionError):  # NaN, half a character
        return None
