"""Fenced blocks in Markdown, as models write them: found in one pass."""

from __future__ import annotations

import re
from collections.abc import Iterator

# An opening fence may stand behind words on its line; a closing one has its own line.
OPENING = r"(?:`{3,}|~{3,}) [ \t]* (?P<language> [\w.+#-]* ) [ \t]* \r? $"
_OPENING = re.compile(OPENING, re.MULTILINE | re.VERBOSE)
_CLOSING = re.compile(r"^[ \t]*(`{3,}|~{3,})[ \t]*\r?$", re.MULTILINE)
_MAX_LENGTH = 8  # longer fences count as this long: few searches are then in vain


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
    while match := _OPENING.search(text, at):
        at = match.end()
        end = fences.end_of(match[0], at)
        if end is not None:
            yield match.start(), end[1], True
            at = end[1]
