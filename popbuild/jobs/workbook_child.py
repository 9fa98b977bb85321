"""The rows of a sheet of an Excel workbook, in a process of its own, which prints them.

The one importer of python-calamine: `python -m popbuild.jobs.workbook_child PATH SHEET`; an empty
name is the first sheet that is not hidden.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from popbuild.base.errors import InputError, no_such
from popbuild.jobs.plain_cells import plain_cell
from popbuild.jobs.row_printing import print_rows
from popbuild.model.table import Row, refuse_header

if TYPE_CHECKING:
    from python_calamine import CalamineSheet, CalamineWorkbook

WORKBOOK_LIBRARY = "python_calamine"
# An encrypted workbook is a part of this name in a container of an older format.
_OLE, _ENCRYPTED = b"\xd0\xcf\x11\xe0", "EncryptedPackage".encode("utf-16-le")
_Area = tuple[tuple[int, int], tuple[int, int]]  # row and column of its first and its last cell


def rows_of_workbook(data: bytes, name: str) -> Iterator[Row]:
    """The rows below a sheet's first row that is not empty, under its names. Raises InputError, and
    what the library raises."""
    import python_calamine

    if data.startswith(_OLE) and _ENCRYPTED in data:
        raise InputError("a workbook is encrypted", hint="save it without a password")
    sheet = _sheet(python_calamine.load_workbook(io.BytesIO(data)), name)
    merged = {
        number: area
        for area in sheet.merged_cell_ranges or ()
        for number in range(area[0][0], area[1][0] + 1)
    }
    names: list[str] | None = None
    for number, cells in enumerate(sheet.to_python(skip_empty_area=False)):
        if not any(cell != "" for cell in cells):
            continue
        at = f"row {number + 1}"
        if names is None:
            if number in merged:
                raise InputError("the header of a table is merged", {"at": _place(merged[number])})
            names = [_name(cell) for cell in cells]
            refuse_header([each for each in names if each], "", at)
        elif number in merged:
            yield Row(at, None, f"the cells {_place(merged[number])} are merged")
        else:
            yield _row(at, number, names, cells)
    refuse_header(names or [], "", "")


def _sheet(book: CalamineWorkbook, name: str) -> CalamineSheet:
    from python_calamine import SheetTypeEnum, SheetVisibleEnum

    sheets = [each for each in book.sheets_metadata if each.typ == SheetTypeEnum.WorkSheet]
    known = [each.name for each in sheets]
    if not known:
        raise InputError("a workbook has no sheet with cells")
    if name and name not in known:
        raise InputError("no such sheet", no_such("sheet", name, known))
    shown = [each.name for each in sheets if each.visible == SheetVisibleEnum.Visible]
    return book.get_sheet_by_name(name or [*shown, *known][0])


def _row(at: str, number: int, names: list[str], cells: list[Any]) -> Row:
    values = {}
    for column, (name, cell) in enumerate(zip(names, cells, strict=True)):
        if name:
            values[name] = _value(cell)
        elif cell != "":
            return Row(at, None, f"the cell {_cell(number, column)} is in a column without a name")
    return Row(at, values)


def _value(cell: Any) -> Any:
    """A cell as JSON has it. Excel has no integers: a number without a fraction becomes one."""
    if cell == "":
        return None
    if isinstance(cell, float) and cell.is_integer():
        return int(cell)
    return plain_cell(cell)


def _name(cell: Any) -> str:
    value = _value(cell)
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)


def _place(area: _Area) -> str:
    return f"{_cell(*area[0])}:{_cell(*area[1])}"


def _cell(row: int, column: int) -> str:
    """`B7`, as Excel says it."""
    letters = ""
    column += 1
    while column:
        column, rest = divmod(column - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return f"{letters}{row + 1}"


if __name__ == "__main__":
    print_rows(sys.argv[1], sys.argv[2], rows_of_workbook)
