"""What the stages do where stages.py says nothing. Pure functions over texts and documents."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from popbuild import jsonio
from popbuild.errors import InputError, printable
from popbuild.llm import ends
from popbuild.llm.request import Answer
from popbuild.model.problem import Problem

MAX_ANSWER_CHARS = 4 * 1024 * 1024
MAX_PREVIOUS_CHARS = 200_000  # of a failed answer in the next prompt: sent, and paid for, again
_FENCE = re.compile(r"```[A-Za-z0-9_-]*[ \t]*\n(.*?)```", re.DOTALL)
_MAX_STARTS = 200
_MAX_REFUSAL_CHARS = 500


class NoJson(Exception):
    """An answer in which no JSON document was found."""


def find_json(text: str) -> Any:
    """The JSON document in an answer: bare, in a fence, behind a sentence, with text after it.

    Of several, the longest. Raises NoJson with what a model (and a person) can act on.
    """
    stripped = text.strip()
    try:
        return jsonio.parse(stripped, "answer")
    except InputError as error:
        whole = error
    candidates = [match.group(1).strip() for match in _FENCE.finditer(text)]
    for candidate in sorted(candidates, key=len, reverse=True):
        try:
            return jsonio.parse(candidate, "answer")
        except InputError:
            continue
    found = _embedded(stripped)
    if found is not None:
        try:
            return jsonio.parse(found, "answer")
        except InputError as error:
            whole = error
    at = whole.values.get("at")
    said = [whole.message, whole.values.get("found", "")]
    detail = ": ".join(each for each in said if each not in ("", "not valid JSON"))
    raise NoJson(f"no JSON document in the answer: {detail}" + (f" at {at}" if at else ""))


def _embedded(text: str) -> str | None:
    """The longest JSON object or array inside a text."""
    decoder = json.JSONDecoder()
    best: str | None = None
    position = 0
    for _ in range(_MAX_STARTS):
        match = re.compile(r"[{\[]").search(text, position)
        if match is None:
            break
        start = match.start()
        try:
            _, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            position = start + 1
            continue
        if best is None or end - start > len(best):
            best = text[start:end]
        position = end
    return best


def answer_problems(text: str, answer: Answer | None) -> list[Problem]:
    """What is wrong with an answer before anybody reads it: refused, cut off, empty, too large.
    `answer` is the provider's, None where the text is not as a provider gave it."""
    found = None
    if answer is not None:
        found = _refused(text, answer) or _no_end(text, answer)
    if found is None and not text.strip():
        found = _empty(answer)
    if found is None and answer is not None and answer.end == ends.CUT:
        after = f" after {answer.used.output} tokens" if answer.used.output else ""
        found = f"the answer is cut off at the length limit{after}{_own_word(answer)}"
    if found is None and answer is not None and answer.has_half_a_pair:
        found = "the answer has half a surrogate pair, which is no character"
    if found is None and len(text) > MAX_ANSWER_CHARS:
        found = f"the answer is too large: {len(text):,} characters, at most {MAX_ANSWER_CHARS:,}"
    return [] if found is None else [Problem(found)]


def _refused(text: str, answer: Answer) -> str | None:
    if not answer.is_declined:
        return None
    words = printable(answer.refusal or text).strip()[:_MAX_REFUSAL_CHARS]
    if answer.end != ends.DECLINED:
        return f"the model refuses: {words}"
    found = f"the provider's content filter cut the answer off{_own_word(answer)}"
    return f"{found}: {words}" if words else found


def _no_end(text: str, answer: Answer) -> str | None:
    """Where the answer ended on its way, and there is more to come or nothing to read."""
    word = printable(answer.ended_by)
    if answer.end == ends.PAUSED:
        return f"the provider paused the answer ({word})"
    if answer.end == ends.ABORTED:
        return f"the answer was aborted on its way ({word})"
    if answer.end == ends.TOOL or (answer.tools and not text.strip()):
        names = ", ".join(map(printable, answer.tools)) or word
        return f"the answer is a call of a tool ({names}), and no tool was offered"
    return None


def _empty(answer: Answer | None) -> str:
    reason = printable(answer.ended_by) if answer is not None else "unknown"
    if answer is not None and answer.used.reasoning:
        return (
            f"the answer is empty: {answer.used.reasoning} tokens went into reasoning "
            f"(finish reason: {reason}); raise maxTokens"
        )
    return f"the answer is empty (finish reason: {reason})"


def _own_word(answer: Answer) -> str:
    """The provider's word for the end, where it is another one than everybody's."""
    return "" if answer.ended_by == answer.finish_reason else f" ({printable(answer.ended_by)})"


def previous(answer: str) -> str:
    """A failed answer as the next prompt has it: cut where it is too long, with a mark."""
    cut = len(answer) - MAX_PREVIOUS_CHARS
    if cut <= 0:
        return answer
    return f"{answer[:MAX_PREVIOUS_CHARS]}\n[… {cut:,} characters cut off]"


def critique(problems: Sequence[Problem]) -> str:
    """The problems as a text that asks a model to mend them."""
    lines = "\n".join(f"- {problem}" for problem in problems)
    return (
        f"Your answer has these problems:\n{lines}\n\nAnswer again, whole, without these problems."
    )
