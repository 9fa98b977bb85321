"""The rows of a Parquet file, in a process of its own, which prints them.

The one importer of arro3: `python -m popbuild.jobs.parquet_child PATH ""`.
"""

from __future__ import annotations

import io
import itertools
import sys
import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from popbuild.base.errors import InputError
from popbuild.jobs.plain_cells import object_of_pairs, plain_cell
from popbuild.jobs.row_printing import print_rows, said_by_rust
from popbuild.model.table import Row, refuse_header

if TYPE_CHECKING:
    from arro3.core import Array, DataType

PARQUET_LIBRARY = "arro3.io"


def rows_of_parquet(data: bytes, _sheet: str) -> Iterator[Row]:
    """The rows of a file. Raises InputError, and whatever the library raises."""
    import arro3.io

    reader = arro3.io.read_parquet(io.BytesIO(data))
    names: list[str] = reader.schema.names
    refuse_header(names, "", "its schema")
    as_json = [_reading(reader.schema.field(number).type) for number in range(len(names))]
    numbers = itertools.count(1)
    for batch in reader:
        columns = [_cells(*each) for each in zip(names, batch.columns, strict=True)]
        for cells, number in zip(zip(*columns, strict=True), numbers, strict=False):
            yield _row(f"row {number}", names, as_json, cells)


def _reading(kind: DataType) -> Callable[[Any], Any]:
    """How cells of a type become JSON, where their values alone do not say it."""
    from arro3.core import DataType

    if DataType.is_map(kind):  # an empty one is a list without pairs
        return object_of_pairs
    if DataType.is_fixed_size_binary(kind):
        return _uuid
    return plain_cell


def _uuid(cell: bytes) -> Any:
    """The library does not tell UUIDs from other cells of 16 bytes, most of which are UUIDs."""
    return str(uuid.UUID(bytes=cell)) if len(cell) == 16 else plain_cell(cell)


def _cells(name: str, column: Array) -> list[Any]:
    try:
        cells: list[Any] = column.to_pylist()
    except BaseException as error:  # a panic in Rust, where it knows no value of that type
        values = {"column": name, "found": said_by_rust(error)}
        raise InputError("a column of a table cannot be read", values) from None
    return cells


def _row(
    at: str, names: list[str], as_json: list[Callable[[Any], Any]], cells: tuple[Any, ...]
) -> Row:
    values = {}
    for name, read, cell in zip(names, as_json, cells, strict=True):
        try:
            values[name] = None if cell is None else read(cell)
        except ValueError as error:
            return Row(at, None, f"the column {name!r} holds {error}")
    return Row(at, values)


if __name__ == "__main__":
    print_rows(sys.argv[1], sys.argv[2], rows_of_parquet)
