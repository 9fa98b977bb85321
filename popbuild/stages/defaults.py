"""What the stages do where stages.py says nothing. Pure functions over texts and documents."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from popbuild import jsonio
from popbuild.errors import InputError
from popbuild.model.problem import Problem

MAX_ANSWER_CHARS = 4 * 1024 * 1024
MAX_PREVIOUS_CHARS = 200_000  # of a failed answer in the next prompt: sent, and paid for, again
_FENCE = re.compile(r"```[A-Za-z0-9_-]*[ \t]*\n(.*?)```", re.DOTALL)
_MAX_STARTS = 200


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


def answer_problems(
    text: str, finish_reason: str | None, usage: Mapping[str, int | None]
) -> list[Problem]:
    """What is wrong with an answer before anybody reads it: empty, cut off, refused, too large."""
    limit = f"after {usage['output_tokens']} tokens" if usage.get("output_tokens") else ""
    reasoning = usage.get("reasoning_tokens")
    if not text.strip():
        if reasoning:
            return [
                Problem(
                    f"the answer is empty: {reasoning} tokens went into reasoning "
                    f"(finish reason: {finish_reason}); raise maxTokens"
                )
            ]
        return [Problem(f"the answer is empty (finish reason: {finish_reason or 'unknown'})")]
    if finish_reason == "length":
        return [Problem(f"the answer is cut off at the length limit {limit}".strip())]
    if finish_reason == "content_filter":
        return [Problem("the provider's content filter cut the answer off")]
    if len(text) > MAX_ANSWER_CHARS:
        return [
            Problem(
                f"the answer is too large: {len(text):,} characters, at most {MAX_ANSWER_CHARS:,}"
            )
        ]
    return []


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
