"""All jobs of a root as rows, kept in memory: filtered, sorted, and given page by page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from popbuild.base.errors import UsageError, no_such
from popbuild.query.table.row import STANDINGS, JobRow

PAGE = 50
MOST_ON_A_PAGE = 500
NOT_LOOKED_AT = "unknown"  # the job was not examined yet

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
    """Which jobs, in which order. `standing` is one of rows.STANDINGS or empty for all; `search` is
    a part of an ID or of what is wrong; `page` counts from 1."""

    standing: str = ""
    search: str = ""
    sort: str = "attention"
    descending: bool = False
    page: int = 1
    size: int = PAGE

    def but(self, **changes: Any) -> Query:
        """The same query with something else; from its first page, unless that is what changes."""
        return replace(self, **({"page": 1} | changes))

    def words(self) -> dict[str, str]:
        """What differs from the default, as a URL has it."""
        default = Query()
        return {
            name: ("1" if value is True else "0" if value is False else str(value))
            for name, value in asdict(self).items()
            if value != getattr(default, name)
        }


def query_of(words: Mapping[str, str]) -> Query:
    """A query from what a URL has. UsageError for what cannot be one."""
    known = Query().__dataclass_fields__
    for name in words:
        if name not in known:
            raise UsageError("no such parameter", no_such("parameter", name, known))
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
    """Some rows of those that match. `total` matches in all, on `pages` pages."""

    rows: tuple[JobRow, ...]
    query: Query
    total: int

    @property
    def pages(self) -> int:
        return max(1, -(-self.total // self.query.size))


@dataclass(frozen=True)
class Total:
    """A sum over jobs: of those of which it is known, and whether that is not all of them."""

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
    """The rows of all jobs that are known. `whole` says that each was looked at."""

    def __init__(self) -> None:
        self._rows: dict[str, JobRow] = {}
        self.whole = False

    def __len__(self) -> int:
        return len(self._rows)

    def expect(self, names: Iterable[str]) -> list[str]:
        """Take these as all jobs. Returns the others, which are dropped. A new job is unknown
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
        """Take a row; whether it says something new."""
        new = self._rows.get(row.id) != row
        self._rows[row.id] = row
        return new

    def drop(self, name: str) -> bool:
        """Forget a job; whether it was known."""
        return self._rows.pop(name, None) is not None

    def get(self, name: str) -> JobRow | None:
        return self._rows.get(name)

    def counts(self) -> dict[str, int]:
        """How many jobs stand how, in the order in which they want to be looked at."""
        found = Counter(row.standing for row in self._rows.values())
        return {standing: found[standing] for standing in _ORDER if found[standing]}

    def tokens(self) -> Total:
        """Tokens of the last builds of all tasks."""
        return _total(row.tokens for row in self._rows.values())

    def cost(self) -> Total:
        """US dollars of the last builds of all tasks."""
        return _total(row.cost for row in self._rows.values())

    def page(self, query: Query) -> Page:
        """The rows that a query asks for; its last page where it asks for one behind that."""
        found = list(self.matching(query))
        found.sort(key=SORTS[query.sort], reverse=query.descending)
        last = max(1, -(-len(found) // query.size))
        query = replace(query, page=min(query.page, last))
        start = (query.page - 1) * query.size
        return Page(tuple(found[start : start + query.size]), query, len(found))

    def matching(self, query: Query) -> Iterable[JobRow]:
        """All rows that a query asks for, in no order."""
        wanted = query.search.casefold()
        for row in self._rows.values():
            if query.standing and row.standing != query.standing:
                continue
            if not wanted or wanted in row.id.casefold() or wanted in row.why.casefold():
                yield row
