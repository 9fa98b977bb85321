"""Cells of workbooks and columns as values of JSON: what two libraries read, in one form."""

from __future__ import annotations

import math
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any


def plain_cell(value: Any) -> Any:
    """A value as JSON has it: dates and times are texts of ISO 8601, bytes are text in UTF-8, and
    what is no number is null. ValueError says what JSON cannot have."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            if math.isinf(value):
                raise ValueError("a number without end")
            return None if math.isnan(value) else value
        case Decimal():
            return _of_decimal(value)
        case date() | datetime() | time():
            return value.isoformat()
        case timedelta():
            return f"PT{Decimal(value // timedelta(microseconds=1)).scaleb(-6).normalize():f}S"
        case bytes():
            return _text(value)
        case list():
            is_map = bool(value) and isinstance(value[0], tuple)
            return object_of_pairs(value) if is_map else [plain_cell(each) for each in value]
        case dict():
            return {name: plain_cell(each) for name, each in value.items()}
    raise ValueError(f"a value of the kind {type(value).__name__}")


def object_of_pairs(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
    """Pairs of keys and values as an object."""
    return {_key(key): plain_cell(each) for key, each in pairs}


def _key(value: Any) -> str:
    found = plain_cell(value)
    return found if isinstance(found, str) else str(found)


def _of_decimal(value: Decimal) -> int | float | str:
    """A number; one that has more digits than a float keeps is a text."""
    if value == value.to_integral_value():
        return int(value)
    number = float(value)
    return number if Decimal(repr(number)) == value else str(value)


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise ValueError("bytes that are not a text in UTF-8") from None
