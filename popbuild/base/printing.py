"""How a command prints its result: as lines or as JSON, without any key."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from typing import Any

from popbuild.base.errors import OK
from popbuild.base.redact import redact


def print_result(
    as_json: bool,
    value: Callable[[], Any],
    lines: Callable[[], Iterable[str]],
    exit_code: int = OK,
) -> int:
    """Print a result as it was asked for. Gives the exit code."""
    if as_json:
        print_json(value())
    else:
        print_lines(lines())
    return exit_code


def print_json(value: Any, *, lines: bool = False) -> None:
    """Print a value, or with `lines` one of many, each a line at once."""
    text = json.dumps(value, indent=None if lines else 2, ensure_ascii=False)
    print(redact(text, os.environ), flush=lines)


def print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        print(redact(line, os.environ))
