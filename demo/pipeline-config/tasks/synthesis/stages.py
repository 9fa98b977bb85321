"""Synthesis: the gate of a paragraph that may use only what it was given."""

from typing import Any

from prose_gate import Problem, prose_problems

WORDS = (20, 150)


def validate_quality(context: Any) -> list[Problem]:
    research = context.read("/content", task="research")
    analysis = context.read("/content", task="analysis")
    return prose_problems(context.output["content"], words=WORDS, source=f"{research} {analysis}")
