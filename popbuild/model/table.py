"""Tables: the rows of a CSV, TSV, JSON Lines or JSON file, each with the place where it stands.
Reads no files. Workbooks and Parquet files become rows in processes of their own.

A row that is odd, such as one with too many fields, is an error of its own: the others are whole.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from popbuild.base import jsonio
from popbuild.base.errors import InputError

MAX_TABLE_BYTES = 256 * 1024 * 1024
CONVERTED_KINDS = ("xlsx", "parquet")
TABLE_KINDS = ("csv", "tsv", "jsonl", "json", *CONVERTED_KINDS)
DELIMITERS = (",", ";", "\t", "|")
# With a mark of its own, a file says how it is encoded.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True)
class Row:
    """A row; `at` says where it stands, such as `line 7`. None as `values` with a `problem`."""

    at: str
    values: dict[str, Any] | None
    problem: str = ""


@dataclass(frozen=True)
class Form:
    """How a table is written, where its author says it: else it is found. An empty `sheet` is the
    first one."""

    encoding: str | None = None
    delimiter: str | None = None
    quote: str = '"'
    sheet: str = ""


def table_kind(name: str) -> str:
    """The ending of a file's name, of which TABLE_KINDS are tables."""
    return name.rpartition(".")[2].lower()


def rows_of(data: bytes, where: str, kind: str, form: Form) -> list[Row]:
    """All rows of a table of one of TABLE_KINDS that is a text. Raises InputError for what is no
    single row's fault."""
    text = _text(data, where, form.encoding)
    zero = text.find("\0")
    if zero >= 0:
        raise InputError(
            "a table holds a zero byte",
            {"file": where, "at": f"line {text.count(chr(10), 0, zero) + 1}"},
            hint="if it is UTF-16, say so: encoding: utf-16",
        )
    if kind in ("csv", "tsv"):
        return list(_separated(text, where, kind, form))
    return list(_lines(text) if kind == "jsonl" else _items(text, where))


def _text(data: bytes, where: str, encoding: str | None) -> str:
    marked = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding or marked)
    except LookupError:
        values = {"file": where, "encoding": encoding}
        raise InputError("there is no such encoding", values, "utf-8, utf-16, latin-1") from None
    except UnicodeError as error:
        start = getattr(error, "start", 0)
        values = {"file": where, "at": f"line {data.count(10, 0, start) + 1}"}
        raise InputError(
            f"a table is not in {encoding or marked}", values, "encoding: latin-1 says another one"
        ) from None


def _separated(text: str, where: str, kind: str, form: Form) -> Iterator[Row]:
    """The rows of text with a delimiter, under the names of its first line."""
    delimiter = form.delimiter or ("\t" if kind == "tsv" else _delimiter(text, form.quote))
    records = _records(text, where, delimiter, form.quote)
    line, names = next(records, (1, []))
    refuse_header(names, where, f"line {line}")
    for line, fields in records:
        at = f"line {line}"
        if len(fields) == len(names):
            yield Row(at, dict(zip(names, fields, strict=True)))
        else:
            yield Row(at, None, f"it has {len(fields)} fields, and the header {len(names)}")


def refuse_header(names: Sequence[str], where: str, at: str) -> None:
    """InputError where the names of a table's columns are none, or not each its own."""
    if not any(names):
        raise InputError("a table has no header", {"file": where})
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        values = {"file": where, "at": at, "columns": ", ".join(map(repr, twice))}
        raise InputError("a table names a column twice", values)


def _records(text: str, where: str, delimiter: str, quote: str) -> Iterator[tuple[int, list[str]]]:
    """Each record that is not blank, with the line where it begins."""
    csv.field_size_limit(jsonio.MAX_BYTES)
    try:
        reader = csv.reader(
            io.StringIO(text, newline=""), delimiter=delimiter, quotechar=quote, strict=True
        )
        before = 0
        for fields in reader:
            if fields:
                yield before + 1, fields
            before = reader.line_num
    except csv.Error as error:
        values = {"file": where, "at": f"line {reader.line_num}", "found": error}
        raise InputError("a table cannot be read", values) from None
    except TypeError:
        values = {"file": where, "delimiter": repr(delimiter), "quote": repr(quote)}
        raise InputError("a delimiter and a quote are one character each", values) from None


def _delimiter(text: str, quote: str) -> str:
    """The one of DELIMITERS that gives the header the most fields."""

    def fields(delimiter: str) -> int:
        try:
            first = next(iter(_records(text[:65_536], "", delimiter, quote)), (1, []))
        except InputError:
            return 0
        return len(first[1])

    return max(DELIMITERS, key=fields)


def _lines(text: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield _checked(f"line {number}", line)


def _items(text: str, where: str) -> Iterator[Row]:
    items = jsonio.parse(text, where)
    if not isinstance(items, list):
        raise InputError("a table in JSON is an array of objects", {"file": where})
    for number, item in enumerate(items, 1):
        yield _object(f"item {number}", item)


def _checked(at: str, line: str) -> Row:
    try:
        return _object(at, jsonio.parse(line, at))
    except InputError as error:
        values = dict(error.values)
        if "at" in values:  # a row is a line: within it there is but one
            values["at"] = str(values["at"]).removeprefix("line 1, ")
        said = InputError(error.message, values, error.hint)
        return Row(at, None, said.as_line(without=("file",)))


def _object(at: str, value: object) -> Row:
    if isinstance(value, dict):
        return Row(at, value)
    return Row(at, None, f"a row is an object, found {json.dumps(value)[:40]}")
