"""Long texts in pieces whose boundaries are chosen by content.

A cut that fills one piece after the other moves all boundaries behind a change. Here a text that is
too long is cut at one boundary, and each half again, until all fit: at a heading before the end of
a paragraph, at that before the end of a sentence, and among equals at the one before the text with
the lowest digest. Whether a boundary is used depends on few of its neighbours, so that a paragraph
that is added changes the pieces around it alone.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from popbuild.base import jsonio
from popbuild.base.errors import TaskError
from popbuild.llm.tokens import count_text
from popbuild.task.reads import plain

_LEAST = 4  # no piece is smaller than this part of the largest, if there is another boundary
_MAX_CHARS = 400  # of a segment: a sentence that never ends is cut between words
_BLOCK, _SENTENCE, _WORD = 7, 8, 9  # levels of boundaries behind those of headings, 1 to 6
_HEADING = re.compile(r" {0,3}(#{1,6})(?:[ \t]|$)")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
# Behind a sign that ends a sentence and what closes it; a line ends no sentence by itself.
_ENDS = re.compile(r"(?<=[.!?\u2026])[\"'\u201d\u2019)\]]*\s+|(?<=[\u3002\uff01\uff1f])")
_GAP = re.compile(r"\s+")


@dataclass(frozen=True)
class Segment:
    """What is not cut: a sentence or a part of one, or an item of a list. Its tokens, and the rank
    of the boundary before it, the lowest of which is cut at first."""

    text: str
    tokens: int
    rank: tuple[int, bytes]


@functools.lru_cache(maxsize=8)  # a template may ask in a loop
def chunks_of(text: str, tokens: int, overlap: int) -> tuple[str, ...]:
    """A text in pieces of at most so many tokens, of which at most `overlap` are the end of the
    piece before. Raises TaskError for sizes that cannot be."""
    if not 0 <= overlap <= tokens // 2 or tokens < 1:
        raise TaskError(
            "not a size of chunks",
            {"tokens": tokens, "overlap": overlap, "allowed": "overlap at most half of tokens"},
        )
    segments = list(_segments(text))
    pieces = cut(segments, tokens - overlap)
    found = []
    for first, end in pieces:
        start = first
        room = overlap
        while start > 0 and segments[start - 1].tokens <= room:
            start -= 1
            room -= segments[start].tokens
        found.append("".join(each.text for each in segments[start:end]).strip())
    return tuple(filter(None, found))


def cut(segments: Sequence[Segment], most: int) -> list[tuple[int, int]]:
    """The pieces in order, each of at most so many tokens unless it is one segment: the number of
    its first segment and of that behind its last."""
    return sorted(_pieces(segments, most))


def _pieces(segments: Sequence[Segment], most: int) -> Iterator[tuple[int, int]]:
    before = [0]
    for each in segments:
        before.append(before[-1] + each.tokens)
    waiting = [(0, len(segments))]
    while waiting:
        first, end = waiting.pop()
        if before[end] - before[first] <= most or end - first == 1:
            if end > first:
                yield first, end
            continue
        inner = range(first + 1, end)
        least = most // _LEAST
        good = [n for n in inner if before[first] + least <= before[n] <= before[end] - least]
        place = min(good or inner, key=lambda n: segments[n].rank)
        waiting += [(first, place), (place, end)]


def _segments(text: str) -> Iterator[Segment]:
    for level, block in _blocks(text):
        for number, sentence in enumerate(_parts(block, _ENDS)):
            for part, piece in enumerate(_short(sentence)):
                rank = level if not number + part else _WORD if part else _SENTENCE
                digest = hashlib.blake2b(piece.strip().encode(), digest_size=8).digest()
                yield Segment(piece, count_text(piece), (rank, digest))


def _blocks(text: str) -> Iterator[tuple[int, str]]:
    """Headings and paragraphs with what follows them up to the next, and the level of each; a block
    of code is one."""
    lines: list[str] = []
    level, fence, blank = 1, "", False
    for line in text.splitlines(keepends=True):
        found = _HEADING.match(line) if not fence else None
        if lines and (found or (blank and line.strip() and not fence)):
            yield level, "".join(lines)
            lines = []
        if not lines:
            level = len(found[1]) if found else _BLOCK
        mark = _FENCE.match(line)
        if mark and not fence:
            fence = mark[1]
        elif mark and mark[1].startswith(fence) and line.strip() == mark[1]:
            fence = ""
        blank = not line.strip()
        lines.append(line)
    if lines:
        yield level, "".join(lines)


def _parts(text: str, ends: re.Pattern[str]) -> Iterator[str]:
    """A text cut behind each match."""
    start = 0
    for match in ends.finditer(text):
        if match.end() < len(text) and match.end() > start:
            yield text[start : match.end()]
            start = match.end()
    yield text[start:]


def _short(sentence: str) -> Iterator[str]:
    """A sentence; one that is too long between words, and a word that is too long anywhere. Words
    by which it is cut are chosen by content as well."""
    if len(sentence) <= _MAX_CHARS:
        yield sentence
        return
    for word in _parts(sentence, _GAP):
        yield from (word[at : at + _MAX_CHARS] for at in range(0, len(word), _MAX_CHARS))


def batches(items: object, tokens: int = 6000) -> list[list[Any]]:
    """A list in pieces of at most so many tokens of JSON, with boundaries before items whose keys
    have low digests: one item more or less changes its own batch and at most its neighbours. An
    item is known by its `key`, else by all of it. Raises TaskError for what is no list."""
    items = plain(items)
    if not isinstance(items, list) or not isinstance(tokens, int) or tokens < 1:
        raise TaskError(
            "not a list to be put into batches",
            {"found": f"{type(items).__name__}, tokens={tokens!r}"},
            hint="batches(artifacts.classify.items, tokens=6000)",
        )
    segments = []
    for item in items:
        text = jsonio.compact(item)
        key = item["key"] if isinstance(item, dict) and "key" in item else item
        digest = hashlib.blake2b(jsonio.compact(key).encode(), digest_size=8).digest()
        segments.append(Segment(text, count_text(text), (0, digest)))
    return [items[first:end] for first, end in cut(segments, tokens)]
