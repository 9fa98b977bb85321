"""The rows of one table as seeds of jobs: `seeds/<name>.yaml` names the table, and says how.

What is wrong with a row is wrong with its job alone; where a row has no ID that a job can have, its
job is known as `<name>-line-7`. What is wrong with the whole table is a job of the table's name, so
that each command says it.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from popbuild.base import disk, jsonio, tree
from popbuild.base.errors import InputError, PopbuildError, no_such
from popbuild.base.paths import Root, name_problem
from popbuild.jobs.seed_files import BadSeed, refuse_bad_seed
from popbuild.model.problem import Problem

if TYPE_CHECKING:
    from popbuild.jobs.row_templates import Filled
    from popbuild.model.table import Row

TABLE_ENDING = ".yaml"
KEPT_ROWS = "index/tables"  # below .popbuild/: of files that are no texts
_OF_SEED = ("pipeline", "name", "data", "files")
_OF_FORM = ("encoding", "delimiter", "quote", "sheet")
_EXPECTED = "expected"
_KEYS = ("rows", "id", _EXPECTED, *_OF_SEED, *_OF_FORM)


@dataclass(frozen=True)
class RowSeed:
    """The source of a row's job: `place` is where the row stands, for a person, and `source` the
    YAML file's name. `digest` differs once the row, or what makes a seed of it, does. `expect`
    gives what is expected of the job, for its scores, if the table says that."""

    place: str
    source: str
    digest: bytes
    row: Mapping[str, Any]
    fill: Filled | None
    problem: str = ""
    expect: Filled | None = None

    def expected(self) -> Any:
        """What the table expects of the row's job. Raises InputError."""
        return None if self.expect is None else self.expect(self.row)

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


def twice(one: RowSeed, other: RowSeed) -> RowSeed:
    """The job that two rows make, whose seed is bad."""
    problem = f"{other.place} makes a job of the same ID"
    return RowSeed(one.place, one.source, one.digest + other.digest, {}, None, problem)


def read_table(root: Root, source: str) -> Table:
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
        wrong, said = where, str(error.strerror) if isinstance(error, OSError) else error.as_line()
        values = {} if isinstance(error, OSError) else error.values
        if place is not None and values.get("file") in (place, root.at(place)):
            wrong = place  # the line that is named is one of the table
        broken = RowSeed(wrong, source, said.encode(), {}, None, said)
        return Table({source.removesuffix(TABLE_ENDING): broken}, place, broken=True)


def _table_place(root: Root, spec: Mapping[str, Any], where: str) -> str:
    """The table's file, below the root. Raises InputError for a bad description."""
    for key, value in spec.items():
        if key not in _KEYS:
            raise InputError("no such key", no_such("key", key, _KEYS))
        wanted = dict if key in ("data", "files", _EXPECTED) else str
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
    from popbuild.jobs.row_templates import compiled, compiled_id
    from popbuild.jobs.table_rows import kept_rows, read_rows
    from popbuild.model.table import TABLE_KINDS, Form, table_kind

    if table_kind(place) not in TABLE_KINDS:
        raise InputError("not a table", {"rows": place, "allowed": ", ".join(TABLE_KINDS)})
    form = Form(**{key: spec[key] for key in _OF_FORM if key in spec})
    kept = kept_rows(root.private / KEPT_ROWS, source)
    try:
        rows = read_rows(root.path / place, place, form, kept)
    except FileNotFoundError:
        raise InputError("there is no such table", {"rows": place}) from None
    fill = compiled({key: spec[key] for key in _OF_SEED if key in spec}, "")
    name_of = compiled_id(spec["id"], "id")
    expect = compiled(spec[_EXPECTED], _EXPECTED) if _EXPECTED in spec else None
    found: dict[str, RowSeed] = {}
    for row in rows:
        job, problem = _job_of(row, name_of)
        at = f"{place}, {row.at}"
        values = row.values or {}
        own = hashlib.blake2b(digest + jsonio.compact(values).encode(), digest_size=16).digest()
        if problem:
            job = f"{source.removesuffix(TABLE_ENDING)}-{row.at.replace(' ', '-')}"
        each = RowSeed(at, source, own, values, None if problem else fill, problem, expect)
        found[job] = each if job not in found else twice(found[job], each)
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
    return job, "" if problem is None else f"its ID is {job[:80]!a}, allowed: {problem}"
