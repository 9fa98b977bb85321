"""Analysis: the gate of a short answer that may not invent anything."""

from typing import Any

from prose_gate import Problem, prose_problems

WORDS = (15, 110)


def validate_quality(context: Any) -> list[Problem]:
    return prose_problems(
        context.output["content"],
        words=WORDS,
        source=context.read("/content", task="research"),
    )
