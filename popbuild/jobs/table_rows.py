"""The rows of a table's file, whatever its kind. Workbooks and Parquet files are read in processes
of their own. What came of it is kept in `.popbuild/index/tables/`, by the file's digest: a command
with nothing to do starts no process, and needs no library."""

from __future__ import annotations

import contextlib
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from popbuild.base import disk, jsonio, tree
from popbuild.base.errors import InputError
from popbuild.base.limited_process import run_limited
from popbuild.jobs import parquet_child, workbook_child
from popbuild.jobs.row_printing import MAX_TABLE_MEMORY_BYTES, ROWS_VERSION, digest_of_table
from popbuild.model.table import (
    CONVERTED_KINDS,
    MAX_TABLE_BYTES,
    Form,
    Row,
    rows_of,
    table_kind,
)

_TIMEOUT_S = 120.0
_LIBRARIES = {
    "xlsx": (workbook_child, workbook_child.WORKBOOK_LIBRARY),
    "parquet": (parquet_child, parquet_child.PARQUET_LIBRARY),
}


def read_rows(path: Path, where: str, form: Form, kept: Path | None = None) -> list[Row]:
    """All rows of a table. Of a file that is no text, `kept` is where they stand afterwards. Blocks
    for as long as that takes, at most two minutes. Raises InputError for what is no single row's
    fault, and FileNotFoundError."""
    data = disk.read(path, max_bytes=MAX_TABLE_BYTES)
    kind = table_kind(where)
    if form.sheet and kind != "xlsx":
        raise InputError("only a workbook has sheets", {"file": where, "sheet": form.sheet})
    if kind not in CONVERTED_KINDS:
        return rows_of(data, where, kind, form)
    end = {"version": ROWS_VERSION, "of": digest_of_table(data), "sheet": form.sheet}
    lines = None if kept is None else _kept_lines(kept)
    if lines is None or json.loads(lines[-1]) != end:
        printed = _printed(path, where, kind, form.sheet)
        lines = printed.splitlines()
        if json.loads(lines[-1]) != end:
            hint = "run the command again"
            raise InputError("a table was changed while it was read", {"file": where}, hint)
        if kept is not None:
            _keep(kept, printed)
    return [Row(*json.loads(line)) for line in lines[:-1]]


def kept_rows(folder: Path, source: str) -> Path:
    """Where the rows of the table of a YAML file are kept."""
    return folder / f"{source}.jsonl"


def drop_kept(folder: Path, places: Mapping[str, str | None]) -> None:
    """Drop the rows that are kept of no table: `places` has all tables' files, by their sources."""
    wanted = {
        kept_rows(folder, source)
        for source, place in places.items()
        if place is not None and table_kind(place) in CONVERTED_KINDS
    }
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if path not in wanted and not tree.is_temporary(path.name):
                tree.remove(path)
        tree.sweep(folder)


def _kept_lines(path: Path) -> list[bytes] | None:
    """What was printed once; None where it is missing or damaged."""
    try:
        digest, _, printed = disk.read(path).partition(b"\n")
    except (OSError, InputError):
        return None
    return printed.splitlines() if digest == jsonio.digest_bytes(printed).encode() else None


def _keep(path: Path, printed: bytes) -> None:
    with contextlib.suppress(OSError):  # then the next command reads the file once more
        disk.make_folder(path.parent)
        disk.write(path, jsonio.digest_bytes(printed).encode() + b"\n" + printed, sync=False)


def _printed(path: Path, where: str, kind: str, sheet: str) -> bytes:
    """What the process prints, which ends with the file's digest. Raises InputError."""
    module, library = _LIBRARIES[kind]
    if not _is_there(library):
        raise InputError(
            f"a table in .{kind} needs the extra `tables`",
            {"file": where, "missing": library},
            hint="pip install 'popbuild[tables]'",
        )
    ended = run_limited(
        module, (str(path), sheet), timeout_s=_TIMEOUT_S, max_output_bytes=MAX_TABLE_BYTES
    )
    if ended.code or ended.why:
        most = f"{MAX_TABLE_MEMORY_BYTES >> 30} GiB of memory and {_TIMEOUT_S:g} s"
        values = {"file": where, "found": ended.trouble, "allowed": most}
        raise InputError("a table cannot be read", values)
    end: dict[str, Any] = json.loads(ended.output.splitlines()[-1])
    if "error" in end:
        raise InputError(end["error"], {**end["values"], "file": where}, end["hint"])
    return ended.output


def _is_there(library: str) -> bool:
    try:
        return importlib.util.find_spec(library) is not None
    except ModuleNotFoundError:  # of the package that it is in
        return False
