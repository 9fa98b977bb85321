"""The document in an answer's text: one pass, linear in time. The rule is in `docs/tasks.md`."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import Any

from popbuild.base import jsonio
from popbuild.base.errors import InputError
from popbuild.base.texts import is_blank
from popbuild.task.answer import pieces, reasoning, slips
from popbuild.task.answer.kinds import Kinds, type_of
from popbuild.task.answer.pieces import (
    BLANK,
    LOOK_BACK,
    RIGHT,
    FencedDocument,
    Piece,
    Pieces,
    one_document,
)

# A closing bracket behind a document that nothing opened: an enclosing document lost its beginning.
_SURPLUS = re.compile(r"[\s,]*[\]}]")
# What stands before a member or an item of an enclosing document.
_MEMBER = re.compile(rf"(?:[\"'{RIGHT}]\s*:|(?:[\"'{RIGHT}}}\]\d]|true|false|null)\s*,)\s*\Z")

_NONE = "no JSON document in the answer"


@dataclass(frozen=True)
class Found:
    """A document. `warnings` about how it was found go to the letter, `notes` only to the log."""

    value: Any
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class NoDocument(Exception):
    """An answer without a document. The text is for the model and for a person."""


def parse_text(answer: str) -> Found:
    """An answer in prose as a document, without its reasoning. Raises NoDocument."""
    kept, notes = _without_reasoning(answer, pieces.blocks)
    return Found({"content": kept.text.strip()}, notes=notes)


def parse_json(answer: str, kinds: Kinds) -> Found:
    """The JSON document in an answer. Raises NoDocument."""
    whole = whole_document(answer)
    if whole is not None:
        return whole
    kept, notes = _without_reasoning(answer, spans)
    found = find_document(kept.in_place, kinds, is_all=kept.is_sure)
    return Found(found.value, found.warnings, notes)


def whole_document(answer: str) -> Found | None:
    """The document of an answer that is nothing else; None for any other answer."""
    body = answer.strip(BLANK)
    if body.startswith(("{", "[")):
        with contextlib.suppress(InputError):
            return Found(jsonio.parse(body, "answer"))
    return None


def _without_reasoning(
    answer: str, content: reasoning.Spans
) -> tuple[reasoning.WithoutReasoning, tuple[str, ...]]:
    found = reasoning.without(answer, content)
    if found.unclosed is not None:
        tag, at = found.unclosed.text, place(answer, found.unclosed.start)
        raise NoDocument(f"the answer's reasoning never ends: nothing closes {tag} at {at}")
    if not found.reasoning:
        return found, ()
    if is_blank(found.text):
        raise NoDocument("the answer is empty: all of it is reasoning")
    return found, (f"left out {found.reasoning:,} characters of reasoning",)


def find_document(text: str, kinds: Kinds, *, is_all: bool = True) -> Found:
    """The document of an answer without reasoning. Raises NoDocument. If `is_all` is false, what
    was cut as reasoning may have been the beginning of a document."""
    whole = whole_document(text)
    if whole is not None:
        return whole
    body = text.strip(BLANK)
    if not body.startswith(("{", "[")) and (scalar := one_document(body, kinds)) is not None:
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
    """Where documents of any type stand in a text, and whether each is whole: a broken one, or one
    that never closes, has a span too."""
    kinds = Kinds()
    if one_document(text.strip(BLANK), kinds) is not None:
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


class _Scan(Pieces):
    """The pieces of an answer that is more than one document, read."""

    def read(self, piece: Piece) -> tuple[Any, tuple[str, ...]] | None:
        """The value of a whole document and its mended slips; None for any other piece."""
        if isinstance(piece, FencedDocument):
            return piece.value, piece.slips
        if piece.end is None or not piece.may_be:
            return None
        try:
            return slips.parse_leniently(self.text[piece.start : piece.end])
        except InputError:
            return None

    def is_part(self, piece: Piece, before: list[Piece], is_all: bool) -> bool:
        """Whether a whole document looks like a member of one that began earlier."""
        text = self.text
        if isinstance(piece, FencedDocument) or piece.end is None:
            return False
        if _SURPLUS.match(text, piece.end):
            return True
        if not _MEMBER.search(text[max(0, piece.start - LOOK_BACK) : piece.start]):
            return False
        if not is_all or self.last_close > piece.start:
            return True
        return any(each.may_be and self.read(each) is None for each in before)

    def last_resort(self, body: str) -> Found:
        """Numbers in brackets within a line are citations, unless there is nothing else and the
        schema wants an array. One document of another type is left to the gate."""
        text, kinds = self.text, self.kinds
        if self.last_citation is not None and kinds.are_known:
            start, end = self.last_citation.start, self.last_citation.end
            return Found(jsonio.parse(text[start:end], "answer"))
        whole = one_document(body, kinds)
        if whole is not None:
            return Found(whole[0], _said(whole[1]))
        raise NoDocument(self._why_none())

    def why_broken(self, piece: Piece) -> str:
        never = "" if piece.end is not None else ", and never closes"
        error = _error(self.text, piece)
        return f"{_NONE}: {error}; it begins at {place(self.text, piece.start)}{never}"

    def why_part(self, piece: Piece) -> str:
        return (
            f"{_NONE}: what begins at {place(self.text, piece.start)} is a part of a document "
            "whose own beginning is missing or broken"
        )

    def _why_none(self) -> str:
        last = self.pieces[-1] if self.pieces else None
        if last is not None and last.end is None:
            return (
                f"{_NONE}: the bracket at {place(self.text, last.start)} never closes, so that "
                "nothing behind it counts"
            )
        takes = f"; its schema takes {self.kinds}" if self.kinds.are_known else ""
        if isinstance(last, FencedDocument):
            found, at = type_of(last.value), place(self.text, last.start)
            return f"{_NONE}: there is only {found} at {at}{takes}"
        return f"{_NONE}: there is only prose{takes}"


def _error(text: str, piece: Piece) -> str:
    """What is wrong in a broken document, and where in the answer."""
    # The parser counts lines from its own start: put the answer's earlier lines before it.
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
    """A place in a text, for a person."""
    line = text.count("\n", 0, offset) + 1
    return f"line {line}, column {offset - text.rfind(chr(10), 0, offset)}"
