"""The pieces of an answer that may be its document: brackets and fences, found in one pass."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from popbuild.base.errors import InputError
from popbuild.task.answer import slips
from popbuild.task.answer.kinds import Kinds

# An opening fence may stand behind words on its line; a closing one has its own line.
_FENCE = r"(?:`{3,}|~{3,}) [ \t]* (?P<language> [\w.+#-]* ) [ \t]* \r? $"
_FENCES = re.compile(_FENCE, re.MULTILINE | re.VERBOSE)
_CLOSING = re.compile(r"^[ \t]*(`{3,}|~{3,})[ \t]*\r?$", re.MULTILINE)
_MAX_LENGTH = 8  # longer fences count as this long: few searches are then in vain
_MAX_DECODED = 3  # how often a text may be encoded in a text

LEFT, RIGHT = r"\u201c\u2018", r"\u201d\u2019"  # quotation marks that JSON does not have

# What matters between documents. A bracket alone between quotes is only mentioned, one behind an
# escape character sets a colour, and braces around bare words are not an object.
_OUTSIDE = re.compile(
    rf"""
      (?P<passed>  [`'"{LEFT}] [\[{{] [`'"{RIGHT}] (?!\w) | \x1b\[
                   | \{{ \s* [\w$] [^\[\]{{}}"':/\#{LEFT}]{{0,200}} \}} )
    | (?P<flat>    \[ [^\[\]{{}}"`\x1b]{{0,200}} \] )
    | (?P<open>    [\[{{] )
    | (?P<close>   [\]}}] )
    | {_FENCE}
    """,
    re.VERBOSE | re.MULTILINE,
)
_BRACKETS = re.compile(r"[\[\]{}]")
_BRACKETS_AND_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*+(?P<end>"|\\?\Z)|[\[\]{}]', re.DOTALL)
_OPENING = {"]": "[", "}": "{"}

# How a broken bracket begins if it was meant as a document, not as prose.
_LITERAL = r"(?:-?\d[\d.eE+-]*|true|false|null|True|False|None)"
_VALUE = rf"(?:[\[{{\"'{LEFT}]|{_LITERAL}\b)"
_OBJECT = re.compile(rf"\{{\s*\{{?\s*(?:[\"'{LEFT}}}]|//|/\*|\#|[\w$-]+\s*:\s*(?:{_VALUE}|\Z)|\Z)")
_ARRAY = re.compile(rf"\[\s*(?:[\[{{\"'{LEFT}\]]|//|/\*|\Z)")
_ARRAY_OF_LITERALS = re.compile(rf"\[\s*{_LITERAL}\s*(?:[,\]]|\Z)")
_INTERVAL = re.compile(r"\[[^\[\](){}\"\n,]{1,40},[^\[\](){}\"\n,]{1,40}\)")  # [0, 1)
_FIRST = re.compile(rf"[\[{{\"]|{_LITERAL}\b")  # how a document begins
_NUMBERS = re.compile(r"\[[\s\d,-]*\]")
_LITERALS = {"number", "boolean", "null"}
LOOK_BACK = 200  # characters around a bracket that tell what it is
_MAY_HOLD_JSON = re.compile(r"|text|txt|plain|plaintext|output|.*json.*", re.IGNORECASE)
BLANK = " \t\r\n\ufeff\u200b\u2060\xa0"


class Fences:
    """The lines of a text that may close a fence. Ask in the order of the text."""

    def __init__(self, text: str) -> None:
        self._lines = [(match.start(), match.end(), match[1]) for match in _CLOSING.finditer(text)]
        self._next = 0
        self._never: set[tuple[str, int]] = set()  # what no line closes from here on

    def end_of(self, opening: str, behind: int) -> tuple[int, int] | None:
        """Where the line that closes a fence starts and ends; None where no line does."""
        sign = opening[0]
        length = min(len(opening) - len(opening.lstrip(sign)), _MAX_LENGTH)
        while self._next < len(self._lines) and self._lines[self._next][0] < behind:
            self._next += 1
        if (sign, length) in self._never:
            return None
        for number in range(self._next, len(self._lines)):
            start, end, line = self._lines[number]
            if line[0] == sign and len(line) >= length:
                return start, end
        self._never.add((sign, length))
        return None


def blocks(text: str) -> Iterator[tuple[int, int, bool]]:
    """The spans of the fenced blocks in a text, fences included; all of them are whole."""
    fences = Fences(text)
    at = 0
    while match := _FENCES.search(text, at):
        at = match.end()
        end = fences.end_of(match[0], at)
        if end is not None:
            yield match.start(), end[1], True
            at = end[1]


@dataclass(frozen=True)
class Piece:
    """An outermost bracket. `end` is None where it never closes. `may_be` says that it looks like a
    document of a type that the schema takes, even if it is broken."""

    start: int
    end: int | None
    may_be: bool


@dataclass(frozen=True)
class FencedDocument(Piece):
    """A fence that holds one document and nothing else."""

    value: Any
    slips: tuple[str, ...]


def one_document(text: str, kinds: Kinds) -> tuple[Any, tuple[str, ...]] | None:
    """The value and the mended slips of a text that is one document and nothing else."""
    if not _FIRST.match(text):
        return None
    try:
        value, mended = slips.parse_leniently(text)
    except InputError:
        return None
    inner = value
    for _ in range(_MAX_DECODED):
        if not isinstance(inner, str) or kinds.take(inner):
            break
        try:
            inner, more = slips.parse_leniently(inner.strip(BLANK))
        except InputError:
            break
        mended = (*mended, *more)
        if kinds.take(inner):
            return inner, tuple(dict.fromkeys((*mended, slips.ENCODED)))
    return value, mended


class Pieces:
    """Every outermost bracket of a text that may be a document, or never closes, and every fence
    that is one, in order."""

    def __init__(self, text: str, kinds: Kinds) -> None:
        self.text = text
        self.kinds = kinds
        self.last_close = -1  # of the closing brackets that nothing opened
        self.last_citation: Piece | None = None
        self.pieces: list[Piece] = list(self._pieces())

    def _pieces(self) -> Iterator[Piece]:
        text = self.text
        fences = Fences(text)
        fence_end = at = 0  # where the fence that we are in closes
        while match := _OUTSIDE.search(text, at):
            at = match.end()
            kind = match.lastgroup
            if kind == "close":
                self.last_close = match.start()
            elif kind == "language" and match.start() >= fence_end:
                end = fences.end_of(match[0], at)
                if end is None:
                    continue
                fence_end = end[1]
                whole = one_document(text[at : end[0]].strip(BLANK), self.kinds)
                if whole is not None:
                    yield FencedDocument(at, end[0], True, *whole)
                if whole is not None or not _MAY_HOLD_JSON.fullmatch(match["language"]):
                    at = fence_end
            elif kind == "flat" and not self._may_count(match):
                continue
            elif kind in ("flat", "open"):
                piece = self._bracket(match.start())
                if piece.may_be or piece.end is None:
                    yield piece
                if piece.end is None:
                    return
                at = piece.end

    def _may_count(self, match: re.Match[str]) -> bool:
        kinds = self.kinds
        empty = not match[0][1:-1].strip()
        if "array" not in kinds.types or not (empty or kinds.item_types & _LITERALS):
            return False
        if _NUMBERS.fullmatch(match[0]) and self._is_amid_a_line(match):
            self.last_citation = Piece(match.start(), match.end(), True)
            return False
        return True

    def _is_amid_a_line(self, match: re.Match[str]) -> bool:
        before = self.text[max(0, match.start() - LOOK_BACK) : match.start()]
        after = self.text[match.end() : match.end() + LOOK_BACK]
        around = before.rpartition("\n")[2] + after.partition("\n")[0]
        return bool(around.strip(BLANK + "`.,;:*"))

    def _bracket(self, start: int) -> Piece:
        text, kinds = self.text, self.kinds
        if text[start] == "{":
            looks = _OBJECT.match(text, start) is not None
            end = _end(text, start, looks)
            # One that never closes is not prose, whatever the schema takes: it may be anything.
            return Piece(start, end, looks and (end is None or "object" in kinds.types))
        nested = _ARRAY.match(text, start) is not None
        looks = nested or _ARRAY_OF_LITERALS.match(text, start) is not None
        end = _end(text, start, looks)
        may_be = (looks and "array" in kinds.types) or (nested and end is None)
        return Piece(start, end, may_be)


def _end(text: str, start: int, has_strings: bool) -> int | None:
    """The offset behind the bracket that closes the one at `start`; None where none does. A bracket
    that closes an outer one closes what is open inside too; one that nothing opened is ignored. In
    prose a quotation mark may mean inches: brackets between two of them count."""
    interval = _INTERVAL.match(text, start)
    if interval is not None:
        return interval.end()
    stack: list[str] = []
    count = {"[": 0, "{": 0}
    for match in (_BRACKETS_AND_STRINGS if has_strings else _BRACKETS).finditer(text, start):
        found = match[0]
        if found in count:
            stack.append(found)
            count[found] += 1
        elif found in _OPENING:
            opening = _OPENING[found]
            if not count[opening]:
                continue
            while (last := stack.pop()) != opening:
                count[last] -= 1
            count[opening] -= 1
            if not stack:
                return match.end()
        elif match["end"] != '"':
            return None  # the text ends inside a string
    return None
