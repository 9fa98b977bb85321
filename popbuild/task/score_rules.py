"""The rules of `scores` in task.yaml, which need no code. Pure, but for a pattern's time limit.

`similar` compares words by difflib, of the standard library: rapidfuzz, the kept library for it, is
a compiled package for one rule, and faster only where texts are longer than answers are.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from popbuild.base import jsonio
from popbuild.model.problem import MISSING, value_at
from popbuild.model.schema.keywords import matches, pattern_problem
from popbuild.model.scores import Score

_SHOWN_CHARS = 80
_MAX_WORDS = 20_000  # of a text that is compared


@dataclass(frozen=True)
class ScoredDocuments:
    """The documents that a rule may point into. `lacking` says why nothing is expected."""

    output: Any
    seed: Any
    expected: Any
    lacking: str = ""


class _CannotSay(Exception):
    """Why a rule cannot measure this."""


def by_rule(rule: Mapping[str, Any], given: ScoredDocuments, *, is_text: bool) -> Score:
    """What a rule says of an output. One that is text is measured by its `content`, unless the rule
    says which part is meant."""
    pointer = rule.get("of", "/content" if is_text else "")
    word = next(each for each in rule if each != "of")
    part = value_at(given.output, pointer)
    if part is MISSING:
        if word == "json_pointer":
            return Score(False, f"the output has nothing at {pointer}")
        return Score(None, f"the output has nothing at {pointer}")
    try:
        return _RULES[word](part, _wanted(rule[word], given))
    except _CannotSay as error:
        return Score(None, str(error))


def _wanted(value: Any, given: ScoredDocuments) -> Any:
    """The value that a rule compares with: as it is, or read at a place of a document."""
    if not isinstance(value, dict) or len(value) != 1:
        return value
    [(document, pointer)] = value.items()
    if document not in ("output", "seed", "expected") or not isinstance(pointer, str):
        return value
    if pointer and not pointer.startswith("/"):
        return value
    if document == "expected" and given.lacking:
        raise _CannotSay(given.lacking)
    found = value_at(getattr(given, document), pointer)
    if found is MISSING:
        name = f"the {document}" if document != "expected" else "what is expected"
        raise _CannotSay(f"{name} has nothing at {pointer}")
    return found


def _equals(part: Any, wanted: Any) -> Score:
    same = jsonio.digest(part) == jsonio.digest(wanted)
    return Score(same, "" if same else f"{_shown(part)} is not {_shown(wanted)}")


def _contains(part: Any, wanted: Any) -> Score:
    if not isinstance(wanted, list):
        found = _has(part, wanted)
        return Score(found, "" if found else f"{_shown(wanted)} is not in it")
    if not wanted:
        raise _CannotSay("the list of what should be in it is empty")
    missing = [each for each in wanted if not _has(part, each)]
    reason = f"not in it: {', '.join(map(_shown, missing))}" if missing else ""
    return Score((len(wanted) - len(missing)) / len(wanted), reason)


def _has(part: Any, wanted: Any) -> bool:
    if isinstance(part, str):
        return str(wanted) in part
    if isinstance(part, list):
        digest = jsonio.digest(wanted)
        return any(jsonio.digest(each) == digest for each in part)
    if isinstance(part, dict):
        return isinstance(wanted, str) and wanted in part
    raise _CannotSay(f"{_shown(part)} is neither a text nor a list nor an object")


def _regex(part: Any, pattern: Any) -> Score:
    if problem := pattern_problem(str(pattern)):
        raise _CannotSay(f"{_shown(pattern)} is not a pattern: {problem}")
    try:
        found = matches(str(pattern), _text(part))
    except TimeoutError:
        raise _CannotSay(f"the pattern takes too long: {_shown(pattern)}") from None
    return Score(found, "" if found else f"{_shown(pattern)} does not match")


def _json_pointer(part: Any, pointer: Any) -> Score:
    found = value_at(part, pointer) is not MISSING
    return Score(found, "" if found else f"there is nothing at {pointer}")


def _length(part: Any, wanted: Any) -> Score:
    if not isinstance(part, str | list | dict):
        raise _CannotSay(f"{_shown(part)} has no length")
    is_in_words = wanted.get("unit") == "words"
    length = len(part.split() if isinstance(part, str) and is_in_words else part)
    if wanted.keys().isdisjoint(("min", "max")):
        return Score(float(length))
    fits = wanted.get("min", 0) <= length <= wanted.get("max", length)
    return Score(fits, f"the length is {length:,}")


def _similar(part: Any, wanted: Any) -> Score:
    one, other = _text(part).split()[:_MAX_WORDS], _text(wanted).split()[:_MAX_WORDS]
    # Its shortcut for frequent words would make long texts look unlike.
    ratio = difflib.SequenceMatcher(None, one, other, autojunk=False).ratio()
    return Score(round(ratio, 4))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else jsonio.compact(value)


def _shown(value: Any) -> str:
    text = jsonio.compact(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"


_RULES: Mapping[str, Callable[[Any, Any], Score]] = {
    "equals": _equals,
    "contains": _contains,
    "regex": _regex,
    "json_pointer": _json_pointer,
    "length": _length,
    "similar": _similar,
}
