"""Which jobs the rows of tables make, and the seed of each: a row is a source as a file is.

Commands ask about each of ten thousand jobs, so what was read of a table is kept while its file and
its YAML file are as they were, and `.popbuild/index/tables.json` keeps the digests of its rows for
the next command, which parses no table unless it wants a row itself. A change within a tick of the
clock after another may not show, so that only what had rested before it was read is kept.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from popbuild.base import disk, file_clock, jsonio, tree
from popbuild.base.errors import PopbuildError
from popbuild.base.paths import Root
from popbuild.base.read_notes import look_of, noting_reads
from popbuild.jobs.own_code import own_code
from popbuild.jobs.table_seeds import KEPT_ROWS, TABLE_ENDING, RowSeed, read_table, twice

_KEPT = "index/tables.json"
_RESTED_NS = 100_000_000  # ten ticks of a file system's clock
_WRITTEN_NS = 1_000_000_000  # after which a table is whole, if nothing was written to it
_Look = list[list[int]]  # the stats of files


def of_rows(root: Root) -> dict[str, RowSeed]:
    """The jobs that rows make, by ID. Two rows of the same ID make one job, with that problem."""
    found: dict[str, RowSeed] = {}
    for source, table in _tables(root).items():
        for job, each in _rows(root, source, table).items():
            other = found.get(job)
            found[job] = each if other is None else twice(each, other)
    return found


def of_row(root: Root, job: str) -> RowSeed | None:
    """The source of a job that a row makes, if one does."""
    tables = [each for each in _tables(root).items() if job in each[1].digests]
    found = [rows[job] for each in tables if job in (rows := _rows(root, *each))]
    return None if not found else found[0] if len(found) == 1 else twice(found[0], found[1])


def digests_of_rows(root: Root) -> dict[str, bytes]:
    """The jobs that rows make, each with what differs once its row does."""
    found: dict[str, bytes] = {}
    tables = _tables(root)
    for table in tables.values():
        if found.keys().isdisjoint(table.digests):
            found |= table.digests
        else:
            found |= {job: own + found.get(job, b"") for job, own in table.digests.items()}
    if disk.stands(root.private / KEPT_ROWS):
        from popbuild.jobs.table_rows import drop_kept

        drop_kept(root.private / KEPT_ROWS, {name: each.place for name, each in tables.items()})
    return found


def digest_of_row(root: Root, job: str) -> bytes:
    """The same of one job; nothing for one that no row makes."""
    own = [table.digests[job] for table in _tables(root).values() if job in table.digests]
    return b"".join(reversed(own))


def source_of_row(root: Root, job: str) -> str | None:
    """The YAML file of the table of which a row makes this job, if one does."""
    tables = _tables(root).items()
    return next((source for source, table in tables if job in table.digests), None)


def table_files(root: Root) -> frozenset[str]:
    """The places of all tables below the root: none of them is a seed."""
    places = (table.place for table in _tables(root).values())
    return frozenset(place for place in places if place is not None)


def tells_of(root: Root, source: str) -> bool:
    """Whether a job that no row of this YAML file makes is gone: not while it cannot be read."""
    return not (disk.stands(root.seeds / source) and _table(root, source).broken)


def look_at_tables(root: Root) -> tuple[list[tuple[str, bool, _Look]], int]:
    """What tells whether tables or rows changed, held against an earlier look: each table by its
    YAML file, whether it is broken, and its stats. And for how many nanoseconds none changed."""
    found, rested_ns = [], time.time_ns()
    for source, table in _tables(root).items():
        look, age_ns = _look_at(*_files(root, source, table.place))
        found.append((source, table.broken, look))
        rested_ns = min(rested_ns, age_ns)
    return found, rested_ns


def has_rested(root: Root, row: RowSeed) -> bool:
    """Whether nothing was written to a row's table, or its YAML file, for a second."""
    place = _table(root, row.source).place
    return _look_at(*_files(root, row.source, place))[1] > _WRITTEN_NS


@dataclass(frozen=True)
class _Known:
    """A table as it was when its files had this look: its `rows` are None until one is asked for.
    What `may_be_kept` had rested by the clock of the file system."""

    look: _Look
    digests: Mapping[str, bytes]
    place: str | None
    broken: bool = False
    rows: Mapping[str, RowSeed] | None = None
    may_be_kept: bool = False

    @classmethod
    def of_json(cls, body: Mapping[str, Any]) -> Self:
        digests = {job: bytes.fromhex(each) for job, each in body["rows"].items()}
        return cls(body["look"], digests, body["place"], may_be_kept=True)

    def as_json(self) -> dict[str, Any]:
        rows = {job: digest.hex() for job, digest in self.digests.items()}
        return {"look": self.look, "place": self.place, "rows": rows}


@dataclass
class _OfRoot:
    """What is known of a root's tables: their names with the look of seeds/, and each."""

    names: tuple[_Look, list[str]] | None = None
    tables: dict[str, _Known] = field(default_factory=dict)
    learned: bool = False  # that which the next command should know


_known: dict[str, _OfRoot] = {}


def _of(root: Root) -> _OfRoot:
    key = str(root.path)
    if key not in _known:
        _known[key] = _kept(root)
    return _known[key]


def _tables(root: Root) -> dict[str, _Known]:
    """All tables by their YAML files, of which some are YAML of another purpose."""
    known = _of(root)
    found = {source: _table(root, source) for source in _names(root)}
    if known.learned:
        known.learned = False
        with contextlib.suppress(OSError):  # then the next command looks once more
            _keep(root, known)
    return found


def _names(root: Root) -> list[str]:
    """The YAML files under seeds/. A command about one job does not list a hundred thousand."""
    known = _of(root)
    look, age_ns = _look_at(str(root.seeds))
    if known.names is not None and known.names[0] == look:
        return known.names[1]
    names = sorted(f"{stem}{TABLE_ENDING}" for stem in tree.stems_in(root.seeds, TABLE_ENDING))
    if age_ns > _RESTED_NS:
        known.names, known.learned = (look, names), True
    return names


def _table(root: Root, source: str) -> _Known:
    known = _of(root).tables.get(source)
    if known is not None and known.look == _look_at(*_files(root, source, known.place))[0]:
        return known
    return _read(root, source)


def _rows(root: Root, source: str, table: _Known) -> Mapping[str, RowSeed]:
    rows = _read(root, source).rows if table.rows is None else table.rows
    assert rows is not None
    return rows


def _read(root: Root, source: str) -> _Known:
    """A table, parsed. It is known from now on if its files rested before they were read, and are
    as they were then."""
    index, began_ns = (root.private / _KEPT).parent, time.time_ns()
    now = file_clock.now(index) if root.private.is_dir() else None
    with noting_reads() as seen:
        table = read_table(root, source)
    files = _files(root, source, table.place)
    look, age_ns = _look_at(*files)
    is_as_read = all(
        file not in seen or ((it := seen[file]) is not None and [*look_of(it)] == at)
        for file, at in zip(files, look, strict=True)
    )
    rested = now is not None and all((it := seen.get(e)) and now.has_passed(it) for e in files)
    digests = {job: each.digest for job, each in table.jobs.items()}
    may_be_kept = is_as_read and rested and not table.broken
    found = _Known(look, digests, table.place, table.broken, table.jobs, may_be_kept)
    known = _of(root)
    before = known.tables.pop(source, None)
    if is_as_read and age_ns - (time.time_ns() - began_ns) > _RESTED_NS:
        known.tables[source] = found
        known.learned |= may_be_kept and (before is None or before.as_json() != found.as_json())
    return found


def _files(root: Root, source: str, place: str | None) -> list[str]:
    """A table's YAML file, and the table, if it is known."""
    own = f"{root.seeds}/{source}"
    return [own] if place is None else [own, root.at(place)]


def _look_at(*paths: str) -> tuple[_Look, int]:
    """The stats of files, and for how many nanoseconds none of them was changed."""
    found: _Look = []
    newest = 0
    for path in paths:
        it = disk.look(path)
        found.append([] if it is None else [*look_of(it)])
        newest = max(newest, 0 if it is None else it.st_ctime_ns)
    return found, time.time_ns() - newest


def _keep(root: Root, known: _OfRoot) -> None:
    path = root.private / _KEPT
    # Other commands trust it, so the file system's own clock must say that the folder rested.
    now = file_clock.now(path.parent) if root.private.is_dir() else None
    if now is None or known.names is None or not now.has_passed(root.seeds.lstat()):
        return
    wanted = [each for each in known.names[1] if each in known.tables]
    tables = {e: known.tables[e].as_json() for e in wanted if known.tables[e].may_be_kept}
    body = {"code": own_code(), "names": known.names, "tables": tables}
    data = json.dumps(body, separators=(",", ":")).encode()
    disk.write(path, jsonio.digest_bytes(data).encode() + b"\n" + data, sync=False)


def _kept(root: Root) -> _OfRoot:
    """What an earlier command kept; nothing where it is damaged, or of other code."""
    try:
        digest, _, data = disk.read(root.private / _KEPT).partition(b"\n")
        if digest.decode() != jsonio.digest_bytes(data):
            return _OfRoot()
        body = json.loads(data)
        if body["code"] != own_code():
            return _OfRoot()
        look, names = body["names"]
        tables = {source: _Known.of_json(each) for source, each in body["tables"].items()}
        return _OfRoot((look, names), tables)
    except (PopbuildError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return _OfRoot()
