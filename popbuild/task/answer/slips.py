"""Mends harmless slips in JSON: it invents nothing, and drops nothing but punctuation.

What would need a guess (a missing comma or quote, a comment, Python's `True`) stays broken.
Repair libraries guess: json_repair, even in its strict mode, closes what was cut off and keeps the
last of duplicate keys; json5 and demjson3 refuse control characters inside strings.
"""

from __future__ import annotations

import re
from typing import Any

from popbuild.base import jsonio
from popbuild.base.errors import InputError

CONTROLS = "control characters inside a string"
COMMA = "a comma before a closing bracket"
SPACES = "spaces between its parts that JSON does not know"
DOUBLED = "a doubled outer brace"
ENCODED = "a JSON text encoded twice"

_ODD = r"\u200b-\u200d\u2060\ufeff"  # of no width; Python counts the others as space
_SPACE = rf"[\s{_ODD}]*"
_PARTS = re.compile(
    rf"""
      (?P<string> "(?:[^"\\]|\\.)*+ (?:"|\\?\Z) )
    | (?P<empty>  [\[{{:,]{_SPACE}, )           # this comma has no value before it
    | (?P<comma>  ,(?={_SPACE}[\]}}]) )
    | (?P<spaces> (?:[^\S\ \t\r\n]|[{_ODD}])+ )
    """,
    re.DOTALL | re.VERBOSE,
)
_CONTROL = re.compile(r"[\x00-\x1f]")
_DOUBLED = re.compile(rf"({_SPACE}){{(?={_SPACE}{{)")


def parse_leniently(text: str) -> tuple[Any, tuple[str, ...]]:
    """The value of a JSON text, and the slips that were mended in it. Raises InputError, as
    `jsonio.parse` does, with the place in the given text."""
    try:
        return jsonio.parse(text, "answer"), ()
    except InputError:
        mended, slips = _mended(text)
    try:
        return jsonio.parse(mended, "answer", controls=True), slips
    except InputError as error:
        inner = _inside(mended)
        if inner is None:
            raise
        try:
            return jsonio.parse(inner, "answer", controls=True), (*slips, DOUBLED)
        except InputError:
            raise error from None


def _mended(text: str) -> tuple[str, tuple[str, ...]]:
    """The text with its length unchanged, so that places stay, and what was mended. The parser
    handles control characters."""
    slips: dict[str, None] = {}

    def mend(part: re.Match[str]) -> str:
        whole = part[0]
        if part.lastgroup == "string":
            if _CONTROL.search(whole):
                slips[CONTROLS] = None
            return whole
        if part.lastgroup == "empty":
            return whole
        slips[COMMA if part.lastgroup == "comma" else SPACES] = None
        return " " * len(whole)

    return _PARTS.sub(mend, text), tuple(slips)


def _inside(text: str) -> str | None:
    """The text without its outermost braces, if another pair stands directly inside."""
    opening = _DOUBLED.match(text)
    end = text.rstrip()
    if opening is None or not end.endswith("}") or not end[:-1].rstrip().endswith("}"):
        return None
    return opening[1] + " " + end[opening.end() : -1]
