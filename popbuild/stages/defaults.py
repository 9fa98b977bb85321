"""What the stages do where stages.py says nothing. Pure functions over texts and documents."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from popbuild.model.problem import Problem
from popbuild.stages import document, fences, reasoning
from popbuild.stages.document import Found, NoDocument, place
from popbuild.stages.kinds import Kinds

MAX_ANSWER_CHARS = 4 * 1024 * 1024
MAX_PREVIOUS_CHARS = 200_000  # of a failed answer in the next prompt: sent, and paid for, again

# Seen as nothing, by Unicode's Default_Ignorable_Code_Point or, for U+2800, as it is drawn, and in
# none of the categories below: code points, or ranges of them.
_RANGES = "34F 115F-1160 17B4-17B5 180B-180F 2065 2800 3164 FE00-FE0F FFA0 FFF0-FFF8 E0000-E0FFF"
_INVISIBLE = frozenset(
    chr(each)
    for ends in (part.split("-") for part in _RANGES.split())
    for each in range(int(ends[0], 16), int(ends[-1], 16) + 1)
)
_INVISIBLE_CATEGORIES = ("Cc", "Cf", "Zs", "Zl", "Zp")


def is_blank(text: str) -> bool:
    """Whether nothing of a text can be seen."""
    return all(
        each in _INVISIBLE or unicodedata.category(each) in _INVISIBLE_CATEGORIES
        for each in set(text)
    )


def parse_text(answer: str) -> Found:
    """An answer in prose as a document, without its reasoning. Raises NoDocument."""
    kept, notes = _without_reasoning(answer, fences.blocks)
    return Found({"content": kept.text.strip()}, notes=notes)


def parse_json(answer: str, kinds: Kinds) -> Found:
    """The JSON document in an answer. Raises NoDocument."""
    kept, notes = _without_reasoning(answer, document.spans)
    found = document.find(kept.in_place, kinds, is_all=kept.is_sure)
    return Found(found.value, found.warnings, notes)


def _without_reasoning(
    answer: str, content: reasoning.Spans
) -> tuple[reasoning.Answer, tuple[str, ...]]:
    found = reasoning.without(answer, content)
    if found.unclosed is not None:
        tag, at = found.unclosed.text, place(answer, found.unclosed.start)
        raise NoDocument(f"the answer's reasoning never ends: nothing closes {tag} at {at}")
    if not found.reasoning:
        return found, ()
    if is_blank(found.text):
        raise NoDocument("the answer is empty: all of it is reasoning")
    return found, (f"left out {found.reasoning:,} characters of reasoning",)


def answer_problems(text: str, finish_reason: str | None, usage: dict[str, int]) -> list[Problem]:
    """What is wrong with an answer before anybody reads it: empty, cut off, refused, too large."""
    limit = f"after {usage['output_tokens']} tokens" if usage.get("output_tokens") else ""
    reasoned = usage.get("reasoning_tokens", 0)
    if is_blank(text):
        if reasoned:
            return [
                Problem(
                    f"the answer is empty: {reasoned} tokens went into reasoning "
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
