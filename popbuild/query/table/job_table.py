"""All jobs of a root as rows in memory: filtered, sorted, page by page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from popbuild.base.errors import UsageError, no_such, unknown
from popbuild.query.table.row import STANDINGS, JobRow

PAGE = 50
MOST_ON_A_PAGE = 500
NOT_LOOKED_AT = "unknown"  # not examined yet

_ORDER = {standing: number for number, standing in enumerate((*STANDINGS, NOT_LOOKED_AT))}
SORTS: Mapping[str, Callable[[JobRow], Any]] = {
    "attention": lambda row: (_ORDER[row.standing], -row.changed, row.id),
    "id": lambda row: row.id,
    "progress": lambda row: (row.done / row.tasks if row.tasks else 0.0, row.id),
    "tokens": lambda row: (row.tokens is None, row.tokens or 0, row.id),
    "cost": lambda row: (row.cost is None, row.cost or 0.0, row.id),
    "changed": lambda row: (row.changed, row.id),
}


@dataclass(frozen=True)
class Query:
    """Which jobs, in which order. `standing` is one of STANDINGS, or empty for all; `search` is a
    part of an ID or of `why`; `page` counts from 1."""

    standing: str = ""
    search: str = ""
    sort: str = "attention"
    descending: bool = False
    page: int = 1
    size: int = PAGE

    def but(self, **changes: Any) -> Query:
        """The same query with changes; from its first page, unless that changes."""
        return replace(self, **({"page": 1} | changes))

    def words(self) -> dict[str, str]:
        """The words that differ from the default, for a URL."""
        default = Query()
        return {
            name: ("1" if value is True else "0" if value is False else str(value))
            for name, value in asdict(self).items()
            if value != getattr(default, name)
        }


def query_of(words: Mapping[str, str]) -> Query:
    """A query from the words of a URL. Raises UsageError."""
    known = Query().__dataclass_fields__
    for name in words:
        if name not in known:
            raise unknown("parameter", name, known)
    standing = words.get("standing", "")
    if standing and standing not in _ORDER:
        raise UsageError("no such state of a job", no_such("standing", standing, _ORDER))
    sort = words.get("sort", "attention")
    if sort not in SORTS:
        raise UsageError("jobs are not sorted by this", no_such("sort", sort, SORTS))
    descending = words.get("descending", "0")
    if descending not in ("0", "1"):
        raise UsageError("descending is 0 or 1", {"found": descending})
    return Query(
        standing,
        words.get("search", ""),
        sort,
        descending == "1",
        _number(words, "page", 1, 1_000_000),
        _number(words, "size", PAGE, MOST_ON_A_PAGE),
    )


def _number(words: Mapping[str, str], name: str, default: int, most: int) -> int:
    text = words.get(name)
    if text is None:
        return default
    good = text.isascii() and text.isdecimal() and len(text) <= 7
    if not good or not 1 <= int(text) <= most:
        raise UsageError(f"{name} is a whole number from 1 to {most:,}", {"found": text[:80]})
    return int(text)


@dataclass(frozen=True)
class Page:
    """Some of the matching rows; `total` rows match, on `pages` pages."""

    rows: tuple[JobRow, ...]
    query: Query
    total: int

    @property
    def pages(self) -> int:
        return max(1, -(-self.total // self.query.size))


@dataclass(frozen=True)
class Total:
    """A sum over the jobs with a known value; `is_partial` if others have none."""

    known: float
    is_partial: bool

    def told(self, show: Callable[[float], str]) -> str:
        """`$0.02`, `unknown`, or `$0.02 + unknown`."""
        if not self.is_partial:
            return show(self.known)
        return f"{show(self.known)} + unknown" if self.known else "unknown"


def _total(values: Iterable[float | None]) -> Total:
    found = list(values)
    known = [value for value in found if value is not None]
    return Total(sum(known), len(known) < len(found))


class JobTable:
    """The rows of all known jobs; `whole` once each was examined."""

    def __init__(self) -> None:
        self._rows: dict[str, JobRow] = {}
        self.whole = False

    def __len__(self) -> int:
        return len(self._rows)

    def expect(self, names: Iterable[str]) -> list[str]:
        """Make these all the jobs. Returns the others, which are dropped. A new job is unknown
        until it is examined."""
        names = set(names)
        gone = [name for name in self._rows if name not in names]
        for name in gone:
            del self._rows[name]
        for name in names:
            if name not in self._rows:
                self._rows[name] = JobRow(name, NOT_LOOKED_AT, "", 0, 0, 0, 0.0, 0.0)
        return gone

    def put(self, row: JobRow) -> bool:
        """Take a row. Returns whether it differs from the last one."""
        new = self._rows.get(row.id) != row
        self._rows[row.id] = row
        return new

    def drop(self, name: str) -> bool:
        """Forget a job. Returns whether it was known."""
        return self._rows.pop(name, None) is not None

    def get(self, name: str) -> JobRow | None:
        return self._rows.get(name)

    def counts(self) -> dict[str, int]:
        """The number of jobs by standing, the most urgent first."""
        found = Counter(row.standing for row in self._rows.values())
        return {standing: found[standing] for standing in _ORDER if found[standing]}

    def tokens(self) -> Total:
        return _total(row.tokens for row in self._rows.values())

    def cost(self) -> Total:
        """In US dollars."""
        return _total(row.cost for row in self._rows.values())

    def page(self, query: Query) -> Page:
        """A page of rows; the last one if the query asks for a later page."""
        found = sorted(self.matching(query), key=SORTS[query.sort], reverse=query.descending)
        last = max(1, -(-len(found) // query.size))
        query = replace(query, page=min(query.page, last))
        start = (query.page - 1) * query.size
        return Page(tuple(found[start : start + query.size]), query, len(found))

    def matching(self, query: Query) -> Iterable[JobRow]:
        """All rows that match a query, unordered."""
        wanted = query.search.casefold()
        for row in self._rows.values():
            if query.standing and row.standing != query.standing:
                continue
            if not wanted or wanted in row.id.casefold() or wanted in row.why.casefold():
                yield row
