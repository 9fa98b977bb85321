"""Characters and sets of characters as ECMA-262 means them, spelled out for the module `regex`."""

from __future__ import annotations

import functools
from collections.abc import Iterable

_Ranges = tuple[tuple[int, int], ...]
LAST_CHARACTER = 0x10FFFF
_WORD: _Ranges = ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A))
_SETS: dict[str, _Ranges] = {
    "d": ((0x30, 0x39),),
    "w": _WORD,
    # WhiteSpace and LineTerminator of ECMA-262, section 12.
    "s": (
        *((9, 13), (0x20, 0x20), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A)),
        *((0x2028, 0x2029), (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000)),
        (0xFEFF, 0xFEFF),
    ),
}
NOT_LINE_END = r"[^\n\r\u2028\u2029]"  # any character but those that end a line


def written(code: int) -> str:
    """A character as `regex` takes it for itself, inside of a class or outside."""
    if chr(code).isascii() and chr(code).isalnum():
        return chr(code)
    if code > 0xFFFF:
        return f"\\U{code:08x}"
    return f"\\u{code:04x}"


def spelled(ranges: Iterable[tuple[int, int]]) -> str:
    return "".join(
        written(first) if first == last else f"{written(first)}-{written(last)}"
        for first, last in ranges
    )


def _others(ranges: _Ranges) -> _Ranges:
    """All characters that are not in the ranges, which are sorted."""
    starts = [0, *(last + 1 for _, last in ranges)]
    ends = [*(first - 1 for first, _ in ranges), LAST_CHARACTER]
    return tuple((a, b) for a, b in zip(starts, ends, strict=True) if a <= b)


def set_of(letter: str) -> str:
    """`\\d`, `\\W` and their like as the inside of a class."""
    ranges = _SETS[letter.lower()]
    return spelled(_others(ranges) if letter.isupper() else ranges)


@functools.lru_cache(maxsize=1_000)
def knows_property(name: str) -> bool:
    import regex

    try:
        regex.compile(f"\\p{{{name}}}")
    except regex.error:
        return False
    return True


_W = spelled(_WORD)
BOUNDARY = rf"(?:(?<=[{_W}])(?![{_W}])|(?<![{_W}])(?=[{_W}]))"
NO_BOUNDARY = rf"(?:(?<=[{_W}])(?=[{_W}])|(?<![{_W}])(?![{_W}]))"
