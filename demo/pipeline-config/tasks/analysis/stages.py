"""Analysis: the gate of a short answer that may not invent anything."""

from typing import Any

from prose_gate import Problem, other_temperature, prose_problems

WORDS = (12, 110)


def validate_quality(context: Any) -> list[Problem]:
    return prose_problems(
        context.output["content"],
        words=WORDS,
        source=context.read("/content", task="research"),
    )


def refine(context: Any) -> dict[str, Any]:
    return other_temperature(context)
