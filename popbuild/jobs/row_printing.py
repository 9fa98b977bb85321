"""What a process that reads a workbook or a Parquet file prints: its rows as JSON lines. The last
line says of which bytes they are, or why these cannot be read."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from popbuild.base.errors import InputError
from popbuild.base.limited_process import limit_memory
from popbuild.model.table import Row

MAX_TABLE_MEMORY_BYTES = 2 << 30  # of address space
ROWS_VERSION = 1  # of what a file's bytes become
_MAX_CPU_S = 60
_ON_ONE_LINE = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), allow_nan=False, check_circular=False
).encode
_OF_RUST = re.compile(r"called `Result::unwrap\(\)` on an `Err` value: ")


def digest_of_table(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=32).hexdigest()


def said_by_rust(error: BaseException) -> str:
    """What a library says, without the words of Rust around it."""
    return _OF_RUST.sub("", str(error))[:300] or type(error).__name__


def print_rows(path: str, sheet: str, rows: Callable[[bytes, str], Iterable[Row]]) -> None:
    """Print what `rows` makes of a file's bytes; this process is limited from here on."""
    limit_memory(MAX_TABLE_MEMORY_BYTES, _MAX_CPU_S)
    data = Path(path).read_bytes()
    end: dict[str, object] = {"version": ROWS_VERSION, "of": digest_of_table(data), "sheet": sheet}
    try:
        for row in rows(data, sheet):
            _print([row.at, row.values, row.problem])
    except InputError as error:
        end |= error.as_json()
    except BaseException as error:  # a panic in Rust is no Exception
        end |= InputError("a table cannot be read", {"found": said_by_rust(error)}).as_json()
    _print(end)


def _print(value: object) -> None:
    sys.stdout.buffer.write(_ON_ONE_LINE(value).encode() + b"\n")
