"""Keywords of JSON Schema in bounded time, exactly: patterns, multiples, unique items.

jsonschema's own hang on a hostile text (26 characters take 5.5 s), compare each item with each
other one (3,000 objects take 6 s), or fail on an integer of 400 digits. Nothing here knows
jsonschema.
"""

from __future__ import annotations

import functools
import re
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from popbuild.base import jsonio

if TYPE_CHECKING:
    import regex

PATTERN_TIMEOUT_S = 1.0


def matches(pattern: str, text: str) -> bool:
    """Whether a pattern of JSON Schema is found in a text. Raises TimeoutError."""
    return _compiled(pattern).search(text, timeout=PATTERN_TIMEOUT_S) is not None


def pattern_problem(pattern: str) -> str | None:
    """Why a pattern cannot be matched, or None."""
    import regex

    try:
        _compiled(pattern)
    except (regex.error, ValueError, OverflowError, RecursionError) as error:
        return str(error) or type(error).__name__
    return None


@functools.lru_cache(maxsize=1_000)
def _compiled(pattern: str) -> regex.Pattern[str]:
    """A pattern as ECMA-262 means it; as Python does where ECMA-262 knows none, `(?i)` for one:
    `validate` names those, and they match what they matched before."""
    import regex

    from popbuild.model.schema import ecma

    try:
        return regex.compile(ecma.translate(pattern).python)
    except ecma.NotEcmaError:
        return regex.compile(_as_python(pattern))


def _as_python(pattern: str) -> str:
    """A pattern of Python's, where `$` is the end: there it also matches before a final newline."""
    parts: list[str] = []
    in_class = False
    for part in re.findall(r"\\.|.", pattern, re.DOTALL):
        in_class = part == "[" or (in_class and part != "]")
        parts.append(r"\Z" if part == "$" and not in_class else part)
    return "".join(parts)


def is_number(value: Any) -> bool:
    """Whether JSON calls a value a number; Python calls true one too."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_multiple(number: float, divisor: float) -> bool:
    """Whether a number is a multiple of another one, both as they are written in decimal: 0.3 is
    one of 0.1."""
    return Fraction(str(number)) % Fraction(str(divisor)) == 0


def first_again(items: list[Any]) -> tuple[int, int] | None:
    """The places of the first item that was there before, and of the one before; None if all
    differ. To JSON Schema 1 and 1.0 are the same, 1 and true are not."""
    seen: dict[str, int] = {}
    for number, item in enumerate(items):
        key = jsonio.compact(_plain(item))
        if key in seen:
            return seen[key], number
        seen[key] = number
    return None


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return value
