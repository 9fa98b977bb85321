"""The document in an answer's text: one pass, linear in time. The rule is in `docs/tasks.md`."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from popbuild.base import jsonio
from popbuild.base.errors import InputError
from popbuild.task.answer import slips
from popbuild.task.answer.fences import OPENING, Fences
from popbuild.task.answer.kinds import Kinds, type_of

_MAX_DECODED = 3  # how often a text may be encoded in another

_LEFT, _RIGHT = r"\u201c\u2018", r"\u201d\u2019"  # quotation marks that are none of JSON's

# What matters between documents. A bracket alone between quotes is talked about, one behind an
# escape character sets a colour, and words alone between braces are not an object.
_OUTSIDE = re.compile(
    rf"""
      (?P<passed>  [`'"{_LEFT}] [\[{{] [`'"{_RIGHT}] (?!\w) | \x1b\[
                   | \{{ \s* [\w$] [^\[\]{{}}"':/\#{_LEFT}]{{0,200}} \}} )
    | (?P<flat>    \[ [^\[\]{{}}"`\x1b]{{0,200}} \] )
    | (?P<open>    [\[{{] )
    | (?P<close>   [\]}}] )
    | {OPENING}
    """,
    re.VERBOSE | re.MULTILINE,
)
_BRACKETS = re.compile(r"[\[\]{}]")
_BRACKETS_AND_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*+(?P<end>"|\\?\Z)|[\[\]{}]', re.DOTALL)
_OPENING = {"]": "[", "}": "{"}

# How a broken bracket begins that was meant as a document, not as prose.
_LITERAL = r"(?:-?\d[\d.eE+-]*|true|false|null|True|False|None)"
_VALUE = rf"(?:[\[{{\"'{_LEFT}]|{_LITERAL}\b)"
_OBJECT = re.compile(rf"\{{\s*\{{?\s*(?:[\"'{_LEFT}}}]|//|/\*|\#|[\w$-]+\s*:\s*(?:{_VALUE}|\Z)|\Z)")
_ARRAY = re.compile(rf"\[\s*(?:[\[{{\"'{_LEFT}\]]|//|/\*|\Z)")
_ARRAY_OF_LITERALS = re.compile(rf"\[\s*{_LITERAL}\s*(?:[,\]]|\Z)")
_INTERVAL = re.compile(r"\[[^\[\](){}\"\n,]{1,40},[^\[\](){}\"\n,]{1,40}\)")  # [0, 1)
# What closes behind a document, and was opened by nothing: its own document's beginning is missing.
_SURPLUS = re.compile(r"[\s,]*[\]}]")
# What stands before a member or an item whose own document begins further up.
_MEMBER = re.compile(rf"(?:[\"'{_RIGHT}]\s*:|(?:[\"'{_RIGHT}}}\]\d]|true|false|null)\s*,)\s*\Z")

_FIRST = re.compile(rf"[\[{{\"]|{_LITERAL}\b")  # how a document begins
_NUMBERS = re.compile(r"\[[\s\d,-]*\]")
_LITERALS = {"number", "boolean", "null"}
_LOOK_BACK = 200  # characters around a bracket that tell what it is
_NONE = "no JSON document in the answer"

_ANY_TEXT = {"", "text", "txt", "plain", "plaintext", "output"}
_BLANK = " \t\r\n\ufeff\u200b\u2060\xa0"


@dataclass(frozen=True)
class Found:
    """A document; what its letter should say of how it was found, and what just its log."""

    value: Any
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class NoDocument(Exception):
    """An answer without a document. The text is for the model, and for a person."""


@dataclass(frozen=True)
class _Piece:
    """An outermost bracket. `end` is None where it never closes. `may_be` says that it looks like a
    document of a type that the schema takes: if it is not whole, it was meant to be."""

    start: int
    end: int | None
    may_be: bool


@dataclass(frozen=True)
class _Fenced(_Piece):
    """A fence that holds one document and nothing else."""

    value: Any
    slips: tuple[str, ...]


def find_document(text: str, kinds: Kinds, *, is_all: bool = True) -> Found:
    """The document of an answer that is free of reasoning. Raises NoDocument. What was taken to be
    reasoning may have been the beginning of a document if this `is_all` is false."""
    body = text.strip(_BLANK)
    if body.startswith(("{", "[")):
        with contextlib.suppress(InputError):
            return Found(jsonio.parse(body, "answer"))
    elif (scalar := _one_document(body, kinds)) is not None:
        return Found(scalar[0], _said(scalar[1]))
    scan = _Scan(text, kinds)
    for number in reversed(range(len(scan.pieces))):
        piece = scan.pieces[number]
        if piece.end is None and piece.may_be:
            raise NoDocument(scan.why_broken(piece))
        read = scan.read(piece)
        if read is None and piece.may_be:
            raise NoDocument(scan.why_broken(piece))
        if read is None or not kinds.take(read[0]):
            continue
        before = scan.pieces[:number]
        if scan.is_part(piece, before, is_all):
            raise NoDocument(scan.why_part(piece))
        several = any(kinds.take(other[0]) for other in map(scan.read, before) if other is not None)
        return Found(read[0], _said(read[1], several))
    return scan.last_resort(body)


def spans(text: str) -> list[tuple[int, int, bool]]:
    """Where documents of any type stand in a text, and whether each is whole: one that is broken
    or never closes has a span too."""
    kinds = Kinds()
    if _one_document(text.strip(_BLANK), kinds) is not None:
        return [(0, len(text), True)]
    scan = _Scan(text, kinds)
    return [
        (each.start, each.end or len(text), scan.read(each) is not None)
        for each in scan.pieces
        if each.may_be
    ]


def _said(mended: tuple[str, ...], several: bool = False) -> tuple[str, ...]:
    said = [f"a slip in the answer's JSON was mended: {each}" for each in mended]
    if several:
        said.append("the answer holds several whole documents; the last one counts")
    return tuple(said)


def _one_document(text: str, kinds: Kinds) -> tuple[Any, tuple[str, ...]] | None:
    """The value, and what was mended, of a text that is one document and nothing else."""
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
            inner, more = slips.parse_leniently(inner.strip(_BLANK))
        except InputError:
            break
        mended = (*mended, *more)
        if kinds.take(inner):
            return inner, tuple(dict.fromkeys((*mended, slips.ENCODED)))
    return value, mended


class _Scan:
    """One pass over an answer that is more than a document."""

    def __init__(self, text: str, kinds: Kinds) -> None:
        self._text = text
        self._kinds = kinds
        self._last_close = -1  # of the closing brackets that nothing opened
        self._last_citation: _Piece | None = None
        self.pieces: list[_Piece] = list(self._pieces())

    def read(self, piece: _Piece) -> tuple[Any, tuple[str, ...]] | None:
        """The value of a whole document, and what was mended in it."""
        if isinstance(piece, _Fenced):
            return piece.value, piece.slips
        if piece.end is None or not piece.may_be:
            return None
        try:
            return slips.parse_leniently(self._text[piece.start : piece.end])
        except InputError:
            return None

    def is_part(self, piece: _Piece, before: list[_Piece], is_all: bool) -> bool:
        """Whether a whole document looks like a member of one that began further up."""
        text = self._text
        if isinstance(piece, _Fenced) or piece.end is None:
            return False
        if _SURPLUS.match(text, piece.end):
            return True
        if not _MEMBER.search(text[max(0, piece.start - _LOOK_BACK) : piece.start]):
            return False
        if not is_all or self._last_close > piece.start:
            return True
        return any(each.may_be and self.read(each) is None for each in before)

    def last_resort(self, body: str) -> Found:
        """Numbers in brackets amid a line are citations, unless there is nothing else and the
        schema wants an array. What is one document of another type is left for the gate."""
        text, kinds = self._text, self._kinds
        if self._last_citation is not None and kinds.are_known:
            start, end = self._last_citation.start, self._last_citation.end
            return Found(jsonio.parse(text[start:end], "answer"))
        whole = _one_document(body, kinds)
        if whole is not None:
            return Found(whole[0], _said(whole[1]))
        raise NoDocument(self._why_none())

    def why_broken(self, piece: _Piece) -> str:
        never = "" if piece.end is not None else ", and never closes"
        error = _error(self._text, piece)
        return f"{_NONE}: {error}; it begins at {place(self._text, piece.start)}{never}"

    def why_part(self, piece: _Piece) -> str:
        return (
            f"{_NONE}: what begins at {place(self._text, piece.start)} is a part of a document "
            "whose own beginning is missing or broken"
        )

    def _why_none(self) -> str:
        last = self.pieces[-1] if self.pieces else None
        if last is not None and last.end is None:
            return (
                f"{_NONE}: the bracket at {place(self._text, last.start)} never closes, so that "
                "nothing behind it counts"
            )
        takes = f"; its schema takes {self._kinds}" if self._kinds.are_known else ""
        if isinstance(last, _Fenced):
            found, at = type_of(last.value), place(self._text, last.start)
            return f"{_NONE}: there is only {found} at {at}{takes}"
        return f"{_NONE}: there is only prose{takes}"

    def _pieces(self) -> Iterator[_Piece]:
        """Every outermost bracket that may be a document, or never closes, and every fence that is
        one, in order."""
        text = self._text
        fences = Fences(text)
        fence_end = at = 0  # where the fence that we are in closes
        while match := _OUTSIDE.search(text, at):
            at = match.end()
            kind = match.lastgroup
            if kind == "close":
                self._last_close = match.start()
            elif kind == "language" and match.start() >= fence_end:
                end = fences.end_of(match[0], at)
                if end is None:
                    continue
                fence_end = end[1]
                whole = _one_document(text[at : end[0]].strip(_BLANK), self._kinds)
                if whole is not None:
                    yield _Fenced(at, end[0], True, *whole)
                if whole is not None or not _may_hold_json(match["language"]):
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
        """Whether a bracket without text and without others inside may be a document."""
        kinds = self._kinds
        empty = not match[0][1:-1].strip()
        if "array" not in kinds.types or not (empty or kinds.item_types & _LITERALS):
            return False
        if _NUMBERS.fullmatch(match[0]) and self._is_amid_a_line(match):
            self._last_citation = _Piece(match.start(), match.end(), True)
            return False
        return True

    def _is_amid_a_line(self, match: re.Match[str]) -> bool:
        before = self._text[max(0, match.start() - _LOOK_BACK) : match.start()]
        after = self._text[match.end() : match.end() + _LOOK_BACK]
        around = before.rpartition("\n")[2] + after.partition("\n")[0]
        return bool(around.strip(_BLANK + "`.,;:*"))

    def _bracket(self, start: int) -> _Piece:
        text, kinds = self._text, self._kinds
        if text[start] == "{":
            looks = _OBJECT.match(text, start) is not None
            end = _end(text, start, looks)
            # What never closes is not prose, whatever the schema takes: it may have been anything.
            return _Piece(start, end, looks and (end is None or "object" in kinds.types))
        nested = _ARRAY.match(text, start) is not None
        looks = nested or _ARRAY_OF_LITERALS.match(text, start) is not None
        end = _end(text, start, looks)
        may_be = (looks and "array" in kinds.types) or (nested and end is None)
        return _Piece(start, end, may_be)


def _end(text: str, start: int, has_strings: bool) -> int | None:
    """Behind the bracket that closes the one at `start`; None where it never closes.

    One that closes further out closes what is open inside too; one that nothing opened says
    nothing. In prose a quotation mark may be an inch: brackets between two of them count.
    """
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


def _may_hold_json(language: str) -> bool:
    language = language.casefold()
    return language in _ANY_TEXT or "json" in language


def _error(text: str, piece: _Piece) -> str:
    """What is wrong in a broken document, and where in the whole answer."""
    # The parser counts lines from where it starts: so many stand before it in the answer.
    line_start = text.rfind("\n", 0, piece.start) + 1
    before = "\n" * text.count("\n", 0, piece.start) + " " * (piece.start - line_start)
    try:
        slips.parse_leniently(before + text[piece.start : piece.end])
    except InputError as error:
        parts = (error.message, error.values.get("found", ""))
        said = ": ".join(part for part in parts if part not in ("", "not valid JSON"))
        at = error.values.get("at")
        return f"{said.removesuffix(' at')} at {at}" if at else said
    return "it is not whole"


def place(text: str, offset: int) -> str:
    """A place in a text as a person looks it up."""
    line = text.count("\n", 0, offset) + 1
    return f"line {line}, column {offset - text.rfind(chr(10), 0, offset)}"
