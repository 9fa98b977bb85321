"""The rows of a Parquet file, in a process of its own, which prints them.

The one importer of arro3: `python -m popbuild.jobs.parquet_child PATH ""`.
"""

from __future__ import annotations

import io
import itertools
import sys
from collections.abc import Iterator
from typing import Any

from popbuild.jobs.plain_cells import object_of_pairs, plain_cell
from popbuild.jobs.row_printing import print_rows
from popbuild.model.table import Row, refuse_header

PARQUET_LIBRARY = "arro3.io"


def rows_of_parquet(data: bytes, _sheet: str) -> Iterator[Row]:
    """The rows of a file. Raises InputError, and whatever the library raises."""
    import arro3.core
    import arro3.io

    reader = arro3.io.read_parquet(io.BytesIO(data))
    names: list[str] = reader.schema.names
    refuse_header(names, "", "its schema")
    maps = [arro3.core.DataType.is_map(reader.schema.field(n).type) for n in range(len(names))]
    numbers = itertools.count(1)
    for batch in reader:
        columns = [column.to_pylist() for column in batch.columns]
        for cells, number in zip(zip(*columns, strict=True), numbers, strict=False):
            yield _row(f"row {number}", names, maps, cells)


def _row(at: str, names: list[str], maps: list[bool], cells: tuple[Any, ...]) -> Row:
    values = {}
    for name, is_map, cell in zip(names, maps, cells, strict=True):
        try:
            values[name] = (
                object_of_pairs(cell) if is_map and cell is not None else plain_cell(cell)
            )
        except ValueError as error:
            return Row(at, None, f"the column {name!r} holds {error}")
    return Row(at, values)


if __name__ == "__main__":
    print_rows(sys.argv[1], sys.argv[2], rows_of_parquet)
