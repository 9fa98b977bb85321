"""Patterns as ECMA-262 means them (with its flag `u`, which JSON Schema asks for), translated for
the module `regex`, the only one that can match under a time limit.

Sets of characters are spelled out: `\\d` is ten digits in ECMA-262, and every digit of Unicode in
Python. Takes time linear in the pattern. Over 300 lines, since one class walks one grammar.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass

_MAX_NAMESAKES = 20  # groups of one name, each in an alternative of its own
_MAX_CHARS = 20_000  # of a text that may be a pattern: half a second
_CONTROLS = {"t": 9, "n": 10, "v": 11, "f": 12, "r": 13}
_SYNTAX = frozenset("^$\\.*+?()[]{}|/")

_QUANTIFIER = re.compile(r"[*+?]|\{([0-9]+)(,([0-9]*))?\}")
_NO_LEAST = re.compile(r",[0-9]+\}")
_DIGITS = re.compile("[0-9]+")
_LOOK = re.compile(r"\?<?[=!]")
_NAME = re.compile(r"<([^<>()]+)>")
_MODIFIERS = re.compile(r"\?([ims]*)(-[ims]*)?:")
_PROPERTY = re.compile(r"\{([A-Za-z0-9_]+(?:=[A-Za-z0-9_]+)?)\}")
_HEX = re.compile(r"x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|u\{([0-9A-Fa-f]+)\}")
_LOW_HALF = re.compile(r"\\u([Dd][C-Fc-f][0-9A-Fa-f]{2})")
_POSIX_CLASS = re.compile(r"\[:\^?[a-z]+:\]")
# What is escaped and what is in a class is passed over; a class that never closes, once.
_GROUP = re.compile(r"\\.|\[(?:\\.|[^\]\\])*+\]?|\((?!\?)|\(\?<(?![=!])([^<>()]*)>", re.DOTALL)


# Characters and sets of characters, spelled out for `regex`.

_Ranges = tuple[tuple[int, int], ...]
_LAST_CHARACTER = 0x10FFFF
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
_NOT_LINE_END = r"[^\n\r\u2028\u2029]"  # any character but those that end a line


def _written(code: int) -> str:
    """A character as `regex` takes it for itself, inside of a class or outside."""
    if chr(code).isascii() and chr(code).isalnum():
        return chr(code)
    if code > 0xFFFF:
        return f"\\U{code:08x}"
    return f"\\u{code:04x}"


def _spelled(ranges: Iterable[tuple[int, int]]) -> str:
    return "".join(
        _written(first) if first == last else f"{_written(first)}-{_written(last)}"
        for first, last in ranges
    )


def _others(ranges: _Ranges) -> _Ranges:
    """All characters that are not in the ranges, which are sorted."""
    starts = [0, *(last + 1 for _, last in ranges)]
    ends = [*(first - 1 for first, _ in ranges), _LAST_CHARACTER]
    return tuple((a, b) for a, b in zip(starts, ends, strict=True) if a <= b)


def _set_of(letter: str) -> str:
    """`\\d`, `\\W` and their like as the inside of a class."""
    ranges = _SETS[letter.lower()]
    return _spelled(_others(ranges) if letter.isupper() else ranges)


@functools.lru_cache(maxsize=1_000)
def _knows_property(name: str) -> bool:
    import regex

    try:
        regex.compile(f"\\p{{{name}}}")
    except regex.error:
        return False
    return True


_W = _spelled(_WORD)
_BOUNDARY = rf"(?:(?<=[{_W}])(?![{_W}])|(?<![{_W}])(?=[{_W}]))"
_NO_BOUNDARY = rf"(?:(?<=[{_W}])(?=[{_W}])|(?<![{_W}])(?![{_W}]))"


class NotEcmaError(ValueError):
    """A pattern that is not of ECMA-262: why, and at which character."""


@dataclass(frozen=True)
class Translation:
    """A pattern for `regex`. `slips` are errors to ECMA-262 with only one possible meaning, such as
    `\\-` for a hyphen."""

    python: str
    slips: tuple[str, ...]


@functools.lru_cache(maxsize=1_000)
def translate(pattern: str) -> Translation:
    """The pattern for `regex`. Raises NotEcmaError."""
    return _Translator(pattern).whole()


def problem(pattern: str) -> str | None:
    """Why a text is not a pattern of ECMA-262, or None. Compiles nothing."""
    if len(pattern) > _MAX_CHARS:
        return f"longer than {_MAX_CHARS:,} characters"
    try:
        slips = _Translator(pattern).whole().slips
    except NotEcmaError as error:
        return str(error)
    return slips[0] if slips else None


@dataclass
class _Open:
    """A group that is still open: its number if it captures, and the modes inside it."""

    number: int | None
    multiline: bool
    dot_all: bool
    repeats: str = "yes"  # whether the group as a whole may be repeated: yes, slip or no


class _Translator:
    """One pattern under way: `_at` is the next character, `_out` the translation so far."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0
        self._out: list[str] = []
        self._slips: list[str] = []
        self._open = [_Open(None, False, False)]
        self._opened = 0  # groups that capture
        self._closed: set[int] = set()
        self._repeats = "no"  # whether what stands last may be repeated: yes, slip or no
        names = [found[1] for found in _GROUP.finditer(pattern) if found[0].startswith("(")]
        self._groups = len(names)
        self._numbers: dict[str, list[int]] = {}
        for number, name in enumerate(names, 1):
            if name is not None:
                self._numbers.setdefault(name, []).append(number)
        if any(len(numbers) > _MAX_NAMESAKES for numbers in self._numbers.values()):
            raise NotEcmaError(f"a name of more than {_MAX_NAMESAKES} groups")

    def whole(self) -> Translation:
        while self._at < len(self._pattern):
            self._term()
        if len(self._open) > 1:
            raise self._error("a group that is not closed")
        return Translation("".join(self._out), tuple(self._slips))

    def _error(self, what: str, at: int | None = None) -> NotEcmaError:
        return NotEcmaError(f"{what}, at character {(self._at if at is None else at) + 1}")

    def _slip(self, what: str, at: int) -> None:
        self._slips.append(f"{what}, at character {at + 1}")

    def _emit(self, text: str, repeats: str = "yes") -> None:
        self._out.append(text)
        self._repeats = repeats

    # Terms.

    def _term(self) -> None:
        start, character = self._at, self._pattern[self._at]
        quantifier = _QUANTIFIER.match(self._pattern, start)
        if quantifier is not None:
            self._quantify(quantifier)
            return
        self._at += 1
        match character:
            case "\\":
                self._escape()
            case "[":
                self._class()
            case "(":
                self._group()
            case ")":
                self._close()
            case "|":
                self._emit("|", "no")
            case ".":
                self._emit("(?s:.)" if self._open[-1].dot_all else _NOT_LINE_END)
            case "^":
                self._emit(f"(?<!{_NOT_LINE_END})" if self._open[-1].multiline else r"\A", "no")
            case "$":
                self._emit(f"(?!{_NOT_LINE_END})" if self._open[-1].multiline else r"\Z", "no")
            case "{" if _NO_LEAST.match(self._pattern, self._at):
                raise self._error("a quantifier without its least number", start)
            case _:
                if character in "{}]":
                    self._slip(f"{character} without a backslash", start)
                self._emit(_written(ord(character)))

    def _quantify(self, found: re.Match[str]) -> None:
        if self._repeats == "no":
            raise self._error(f"{found[0]} has nothing to repeat")
        if self._repeats == "slip":
            self._slip(f"{found[0]} after a lookahead", self._at)
        if found[3] and int(found[1]) > int(found[3]):
            raise self._error(f"{found[0]} is out of order")
        self._at = found.end()
        lazy = self._pattern.startswith("?", self._at)
        self._at += lazy
        self._emit(found[0] + "?" * lazy, "no")

    def _group(self) -> None:
        start, around = self._at - 1, self._open[-1]
        opened = _Open(None, around.multiline, around.dot_all)
        modifiers = _MODIFIERS.match(self._pattern, self._at)
        look = _LOOK.match(self._pattern, self._at)
        named = _NAME.match(self._pattern, self._at + 1)
        if modifiers is not None:
            added, removed = modifiers[1], (modifiers[2] or "")[1:]
            if len({*added, *removed}) < len(added + removed) or modifiers[2] == "-" + added:
                raise self._error("modifiers that say the same twice", start)
            opened.multiline = "m" in added or (opened.multiline and "m" not in removed)
            opened.dot_all = "s" in added or (opened.dot_all and "s" not in removed)
            case = "i" if "i" in added else "-i" if "i" in removed else ""
            self._at = modifiers.end()
            self._emit(f"(?{case}:", "no")
        elif look is not None:
            opened.repeats = "no" if "<" in look[0] else "slip"
            self._at = look.end()
            self._emit(f"({look[0]}", "no")
        elif not self._pattern.startswith("?", self._at):
            self._opened += 1
            opened.number = self._opened
            self._emit("(", "no")
        elif named is not None:
            if not named[1].replace("$", "_").isidentifier():
                raise self._error(f"{named[1]!r} is not the name of a group", start)
            self._opened += 1
            opened.number = self._opened
            self._at = named.end()
            self._emit("(", "no")
        else:
            found = self._pattern[start : start + 4]
            raise self._error(f"{found} opens no group of ECMA-262", start)
        self._open.append(opened)

    def _close(self) -> None:
        if len(self._open) == 1:
            raise self._error(") without its (", self._at - 1)
        closed = self._open.pop()
        if closed.number is not None:
            self._closed.add(closed.number)
        self._emit(")", closed.repeats)

    # Escapes.

    def _escape(self) -> None:
        """An escape outside a class."""
        start = self._at - 1
        letter = self._pattern[self._at : self._at + 1]
        if letter in ("b", "B"):
            self._at += 1
            self._emit(_BOUNDARY if letter == "b" else _NO_BOUNDARY, "no")
        elif letter == "k":
            name = _NAME.match(self._pattern, self._at + 1)
            if name is None or name[1] not in self._numbers:
                raise self._error("\\k names no group", start)
            self._at = name.end()
            self._refer(self._numbers[name[1]])
        elif letter in "123456789" and letter:
            digits = _DIGITS.match(self._pattern, self._at)
            assert digits is not None
            if len(digits[0]) > 9 or int(digits[0]) > self._groups:
                raise self._error(f"\\{digits[0][:9]} names no group", start)
            self._at = digits.end()
            self._refer([int(digits[0])])
        else:
            code, inside = self._class_escape(start)
            self._emit(_written(code) if code is not None else f"[{inside}]")

    def _refer(self, numbers: list[int]) -> None:
        """A back reference, which is empty for a group that took no part or is still open."""
        there = [number for number in numbers if number in self._closed]
        self._emit("(?:" + "".join(f"(?({each})\\{each}|)" for each in there) + ")")

    def _class_escape(self, start: int) -> tuple[int | None, str]:
        """The character that an escape means, or else the inside of a class."""
        letter = self._pattern[self._at : self._at + 1]
        self._at += 1
        if letter and letter in "dDwWsS":
            return None, _set_of(letter)
        if letter and letter in "pP":
            name = _PROPERTY.match(self._pattern, self._at)
            if name is None or not _knows_property(name[1]):
                raise self._error(f"\\{letter} names no property of characters", start)
            self._at = name.end()
            return None, f"\\{letter}{{{name[1]}}}"
        if letter in _CONTROLS:
            return _CONTROLS[letter], ""
        after = self._pattern[self._at : self._at + 1]
        if letter == "0" and not (after and after in "0123456789"):
            return 0, ""
        if letter == "c" and after.isascii() and after.isalpha():
            self._at += 1
            return ord(after) % 32, ""
        if letter and letter in "xu":
            return self._hexadecimal(start), ""
        if not letter or (letter.isascii() and letter.isalnum()):
            raise self._error(f"\\{letter} means nothing", start)
        if letter not in _SYNTAX:
            self._slip(f"\\{letter} needs no backslash", start)
        return ord(letter), ""

    def _hexadecimal(self, start: int) -> int:
        found = _HEX.match(self._pattern, start + 1)
        digits = "" if found is None else found[1] or found[2] or found[3]
        if found is None or len(digits.lstrip("0")) > 6 or int(digits, 16) > _LAST_CHARACTER:
            raise self._error("no number of a character", start)
        self._at = found.end()
        code = int(digits, 16)
        low = _LOW_HALF.match(self._pattern, self._at)
        if found[2] and 0xD800 <= code < 0xDC00 and low is not None:
            self._at = low.end()
            return 0x10000 + ((code - 0xD800) << 10) + int(low[1], 16) - 0xDC00
        return code

    # Classes.

    def _class(self) -> None:
        start = self._at - 1
        negated = self._pattern.startswith("^", self._at)
        self._at += negated
        parts: list[str] = []
        while not self._pattern.startswith("]", self._at):
            if self._at >= len(self._pattern):
                raise self._error("a class that is not closed", start)
            parts.append(self._class_part())
        self._at += 1
        if parts:
            self._emit(f"[{'^' * negated}{''.join(parts)}]")
        else:
            self._emit("(?s:.)" if negated else "(?!)")

    def _class_part(self) -> str:
        """A character, a range or a set."""
        start = self._at
        first, inside = self._class_atom()
        following = self._pattern[self._at : self._at + 2]
        if not following.startswith("-") or len(following) < 2 or following[1] == "]":
            return inside if first is None else _written(first)
        self._at += 1
        last, second = self._class_atom()
        if first is None or last is None:
            self._slip("a range from or to a set, with - for itself", start)
            ends = [inside if first is None else _written(first)]
            ends.append(second if last is None else _written(last))
            return _written(ord("-")).join(ends)
        if first > last:
            raise self._error("a range out of order", start)
        return _spelled([(first, last)])

    def _class_atom(self) -> tuple[int | None, str]:
        start, character = self._at, self._pattern[self._at]
        if _POSIX_CLASS.match(self._pattern, start):
            raise self._error("[:…:] is not a class of ECMA-262", start)
        self._at += 1
        if character != "\\":
            return ord(character), ""
        following = self._pattern[self._at : self._at + 1]
        if following in ("b", "-"):
            self._at += 1
            return (8 if following == "b" else ord("-")), ""
        return self._class_escape(start)
