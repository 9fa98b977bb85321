"""What stages do by default. Pure functions over texts and documents."""

from __future__ import annotations

from collections.abc import Sequence

from popbuild.base.texts import is_blank
from popbuild.model.problem import Problem
from popbuild.task.answer import document, fences, reasoning
from popbuild.task.answer.document import Found, NoDocument, place
from popbuild.task.answer.kinds import Kinds

MAX_PREVIOUS_CHARS = 200_000  # of a failed answer in the next prompt, where it is paid for again


def parse_text(answer: str) -> Found:
    """An answer in prose as a document, without its reasoning. Raises NoDocument."""
    kept, notes = _without_reasoning(answer, fences.blocks)
    return Found({"content": kept.text.strip()}, notes=notes)


def parse_json(answer: str, kinds: Kinds) -> Found:
    """The JSON document in an answer. Raises NoDocument."""
    kept, notes = _without_reasoning(answer, document.spans)
    found = document.find_document(kept.in_place, kinds, is_all=kept.is_sure)
    return Found(found.value, found.warnings, notes)


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


def previous(answer: str) -> str:
    """A failed answer for the next prompt: cut where it is too long, with a mark."""
    cut = len(answer) - MAX_PREVIOUS_CHARS
    if cut <= 0:
        return answer
    return f"{answer[:MAX_PREVIOUS_CHARS]}\n[… {cut:,} characters cut off]"


def critique(problems: Sequence[Problem]) -> str:
    """A text that asks a model to mend these problems."""
    lines = "\n".join(f"- {problem}" for problem in problems)
    return (
        f"Your answer has these problems:\n{lines}\n\nAnswer again, whole, without these problems."
    )
