"""What is wrong with an answer before its text is read."""

from __future__ import annotations

from popbuild.base.errors import printable
from popbuild.base.texts import is_blank
from popbuild.llm import ends
from popbuild.llm.request import Answer
from popbuild.model.problem import Problem

MAX_ANSWER_CHARS = 4 * 1024 * 1024
_MAX_REFUSAL_CHARS = 500


def problems_of(text: str, answer: Answer | None) -> list[Problem]:
    """The problem of an answer that is refused, cut off, empty or too large. `answer` is the
    provider's; None where the text is not what a provider gave."""
    found = None
    if answer is not None:
        found = _refused(text, answer) or _no_end(text, answer)
    if found is None and is_blank(text):
        found = _empty(answer)
    if found is None and answer is not None and answer.end == ends.CUT:
        after = f" after {answer.used.output} tokens" if answer.used.output else ""
        found = f"the answer is cut off at the length limit{after}{_own_word(answer)}"
    if found is None and answer is not None and answer.has_half_a_pair:
        found = "the answer has half a surrogate pair, which is not a character"
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
    """The problem of an answer that is not finished, or is a tool call."""
    word = printable(answer.ended_by)
    if answer.end == ends.PAUSED:
        return f"the provider paused the answer ({word})"
    if answer.end == ends.ABORTED:
        return f"the answer was aborted on its way ({word})"
    if answer.end == ends.TOOL or (answer.tools and is_blank(text)):
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
    """The provider's word for the end, where it differs from the common one."""
    return "" if answer.ended_by == answer.finish_reason else f" ({printable(answer.ended_by)})"
