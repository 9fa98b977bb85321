"""Jobs of tables: `seeds/<name>.yaml` names a table, and makes a seed of each of its rows.

A row is a source as a file under seeds/ is. What is wrong with a row is wrong with its job alone;
where a row has no ID that a job can have, its job is known as `<name>-line-7`. What is wrong with
the whole table is a job of the table's name, so that each command says it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import posixpath
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from popbuild.base import disk, file_clock, jsonio, tree
from popbuild.base.errors import InputError, PopbuildError, no_such
from popbuild.base.paths import Root, name_problem
from popbuild.jobs.seed_files import BadSeed, refuse_bad_seed
from popbuild.model.problem import Problem

if TYPE_CHECKING:
    from popbuild.jobs.row_templates import Filled
    from popbuild.model.table import Row

TABLE_ENDING = ".yaml"
_OF_SEED = ("pipeline", "name", "data", "files")
_OF_FORM = ("encoding", "delimiter", "quote", "sheet")
_KEYS = ("rows", "id", *_OF_SEED, *_OF_FORM)
_RESTED_NS = 100_000_000  # ten ticks of a file system's clock
_WRITTEN_NS = 1_000_000_000  # after which a table is whole, if nothing was written to it
_KEPT, _KEPT_ROWS = "index/tables.json", "index/tables"
_Look = list[list[int]]  # the stats of files


@dataclass(frozen=True)
class RowSeed:
    """The source of a row's job: `place` is where the row stands, for a person, and `source` the
    YAML file's name. `digest` differs once the row, or what makes a seed of it, does."""

    place: str
    source: str
    digest: bytes
    row: Mapping[str, Any]
    fill: Filled | None
    problem: str = ""

    def seed(self, job: str) -> dict[str, Any]:
        """The row's seed. Raises BadSeed."""
        if self.fill is None:
            raise BadSeed(self.place, (Problem(self.problem),))
        try:
            seed: dict[str, Any] = {"name": job, "data": dict(self.row), **self.fill(self.row)}
        except InputError as error:
            raise BadSeed(self.place, (Problem(error.as_line()),)) from None
        refuse_bad_seed(seed, self.place)
        return seed


@dataclass(frozen=True)
class Table:
    """The jobs of a table's rows, and its file below the root; None where it names none. A
    `broken` one has a single job, which says why."""

    jobs: Mapping[str, RowSeed]
    place: str | None
    broken: bool = False


def of_rows(root: Root) -> dict[str, RowSeed]:
    """The jobs that rows make, by ID. Two rows of the same ID make one job, with that problem."""
    found: dict[str, RowSeed] = {}
    tables = {name: _read(root, name) for name in _names(root)}
    for table in tables.values():
        for job, each in table.jobs.items():
            other = found.get(job)
            found[job] = each if other is None else _twice(each, other)
    if disk.stands(root.private / _KEPT_ROWS):
        from popbuild.jobs.table_rows import drop_kept

        drop_kept(root.private / _KEPT_ROWS, {name: each.place for name, each in tables.items()})
    return found


def of_row(root: Root, job: str) -> RowSeed | None:
    """The source of a job that a row makes, if one does."""
    found = [table.jobs[job] for table in _tables(root) if job in table.jobs]
    return None if not found else found[0] if len(found) == 1 else _twice(found[0], found[1])


def table_files(root: Root) -> frozenset[str]:
    """The places of all tables below the root: none of them is a seed."""
    return frozenset(table.place for table in _tables(root) if table.place is not None)


def tells_of(root: Root, source: str) -> bool:
    """Whether a job that no row of this YAML file makes is gone: not while it cannot be read."""
    return not (disk.stands(root.seeds / source) and _read(root, source).broken)


def look_at_tables(root: Root) -> tuple[list[tuple[str, bool, _Look]], int]:
    """What tells whether tables or rows changed, held against an earlier look: each table by its
    YAML file, whether it is broken, and its stats. And for how many nanoseconds none changed."""
    found, rested_ns = [], time.time_ns()
    for source in _names(root):
        table = _read(root, source)
        look, age_ns = _look_at(root.seeds / source, *_place(root, table))
        found.append((source, table.broken, look))
        rested_ns = min(rested_ns, age_ns)
    return found, rested_ns


def has_rested(root: Root, row: RowSeed) -> bool:
    """Whether nothing was written to a row's table, or its YAML file, for a second."""
    path = root.seeds / row.source
    return _look_at(path, *_place(root, _read(root, row.source)))[1] > _WRITTEN_NS


def _twice(one: RowSeed, other: RowSeed) -> RowSeed:
    problem = f"{other.place} makes a job of the same ID"
    return RowSeed(one.place, one.source, one.digest + other.digest, {}, None, problem)


# What was read is kept until the files change: a command asks for each job. A change within a tick
# of the clock after another may not show, so only what has rested is kept.
_names_known: dict[str, tuple[_Look, list[str]]] = {}
_tables_known: dict[str, tuple[_Look, Table]] = {}


def _tables(root: Root) -> list[Table]:
    return [_read(root, name) for name in _names(root)]


def _look_at(*paths: Path) -> tuple[_Look, int]:
    """The stats of files, and for how many nanoseconds none of them was changed."""
    found: _Look = []
    newest = 0
    for path in paths:
        try:
            it = path.lstat()
        except OSError:
            found.append([])
            continue
        found.append([it.st_dev, it.st_ino, it.st_size, it.st_mtime_ns, it.st_ctime_ns])
        newest = max(newest, it.st_ctime_ns)
    return found, time.time_ns() - newest


def _names(root: Root) -> list[str]:
    """The YAML files under seeds/. A command about one job does not list a hundred thousand: the
    last one that did wrote down what it found."""
    look, age_ns = _look_at(root.seeds)
    known = _names_known.get(str(root.seeds)) or _names_kept(root)
    if known is not None and known[0] == look:
        return known[1]
    names = sorted(f"{stem}{TABLE_ENDING}" for stem in tree.stems_in(root.seeds, TABLE_ENDING))
    if age_ns > _RESTED_NS:
        _names_known[str(root.seeds)] = look, names
        with contextlib.suppress(OSError):  # then the next command lists them once more
            _keep_names(root, look, names)
    return names


def _keep_names(root: Root, look: _Look, names: list[str]) -> None:
    path = root.private / _KEPT
    # Other commands trust it, so the file system's own clock must say that the folder rested.
    now = file_clock.now(path.parent) if root.private.is_dir() else None
    if now is not None and now.has_passed(root.seeds.lstat()):
        disk.write(path, jsonio.compact([look, names]).encode(), sync=False)


def _names_kept(root: Root) -> tuple[_Look, list[str]] | None:
    try:
        look, names = json.loads((root.private / _KEPT).read_bytes())
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    if not isinstance(names, list) or not all(isinstance(each, str) for each in names):
        return None
    _names_known[str(root.seeds)] = look, names
    return look, names


def _read(root: Root, source: str) -> Table:
    path = root.seeds / source
    known = _tables_known.get(str(path))
    if known is not None and known[0] == _look_at(path, *_place(root, known[1]))[0]:
        return known[1]
    table = _whole(root, source)
    look, age_ns = _look_at(path, *_place(root, table))
    if age_ns > _RESTED_NS:  # nor was it changed while it was read
        _tables_known[str(path)] = look, table
    return table


def _place(root: Root, table: Table) -> list[Path]:
    return [] if table.place is None else [root.path / table.place]


def _whole(root: Root, source: str) -> Table:
    """A table as it stands; one that cannot be used is a job of its name, with the problem."""
    # Only where a root has tables: a command with nothing to do loads no YAML.
    from popbuild.model.config.yamlio import yaml_value

    where, place = f"seeds/{source}", None
    try:
        data = disk.read(root.seeds / source, max_bytes=jsonio.MAX_BYTES)
        spec = yaml_value(data, where)
        if not isinstance(spec, dict) or "rows" not in spec:
            return Table({}, None)  # of another purpose
        place = _table_place(root, spec, where)
        return Table(_row_seeds(root, source, place, spec, hashlib.blake2b(data).digest()), place)
    except (PopbuildError, OSError) as error:
        said = error.as_line() if isinstance(error, PopbuildError) else str(error.strerror)
        broken = RowSeed(where, source, said.encode(), {}, None, said)
        return Table({source.removesuffix(TABLE_ENDING): broken}, place, broken=True)


def _table_place(root: Root, spec: Mapping[str, Any], where: str) -> str:
    """The table's file, below the root. Raises InputError for a bad description."""
    for key, value in spec.items():
        if key not in _KEYS:
            raise InputError("no such key", no_such("key", key, _KEYS))
        wanted = dict if key in ("data", "files") else str
        if not isinstance(value, wanted):
            kind = "an object" if wanted is dict else "a text"
            raise InputError(f"{key} must be {kind}", {"found": type(value).__name__})
    if "id" not in spec:
        raise InputError("no id", hint='id makes a job\'s ID of a row: id: "review-{{ row.id }}"')
    place = posixpath.normpath(f"seeds/{spec['rows']}")
    if place.startswith(("../", "/")) or spec["rows"].startswith("/"):
        raise InputError("a table must be inside the root", {"rows": spec["rows"]})
    link = tree.link_on_the_way(str(root.path), place)
    if link is not None:
        raise InputError("a table is below a symbolic link", {"found": link})
    return place


def _row_seeds(
    root: Root, source: str, place: str, spec: Mapping[str, Any], digest: bytes
) -> dict[str, RowSeed]:
    # Imported here: most roots have no table.
    from popbuild.jobs.row_templates import compiled
    from popbuild.jobs.table_rows import kept_rows, read_rows
    from popbuild.model.table import TABLE_KINDS, Form, table_kind

    if table_kind(place) not in TABLE_KINDS:
        raise InputError("not a table", {"rows": place, "allowed": ", ".join(TABLE_KINDS)})
    form = Form(**{key: spec[key] for key in _OF_FORM if key in spec})
    kept = kept_rows(root.private / _KEPT_ROWS, source)
    try:
        rows = read_rows(root.path / place, place, form, kept)
    except FileNotFoundError:
        raise InputError("there is no such table", {"rows": place}) from None
    fill = compiled({key: spec[key] for key in _OF_SEED if key in spec}, "")
    name_of = compiled(spec["id"], "id")
    found: dict[str, RowSeed] = {}
    for row in rows:
        job, problem = _job_of(row, name_of)
        at = f"{place}, {row.at}"
        values = row.values or {}
        own = hashlib.blake2b(digest + jsonio.compact(values).encode(), digest_size=16).digest()
        if problem:
            job = f"{source.removesuffix(TABLE_ENDING)}-{row.at.replace(' ', '-')}"
        each = RowSeed(at, source, own, values, None if problem else fill, problem)
        found[job] = each if job not in found else _twice(found[job], each)
    return found


def _job_of(row: Row, name_of: Filled) -> tuple[str, str]:
    """A row's ID, and why it has none that a job can have."""
    if row.values is None:
        return "", row.problem
    try:
        found = name_of(row.values)
    except InputError as error:
        return "", error.as_line()
    job = found if isinstance(found, str) else jsonio.compact(found)
    problem = name_problem(job)
    if not job:
        return "", "its ID is empty"
    return job, "" if problem is None else f"its ID is {job[:80]!a}, allowed: {problem}"
