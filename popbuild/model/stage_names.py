"""The eleven stages in order: JSON carries these names, Python functions their snake_case.
And the names of the logs that keep a task's prompts and raw answers."""

from __future__ import annotations

import re

from popbuild.base import jsonio

STAGES = (
    "ingestion",
    "preProcessing",
    "promptTemplating",
    "inference",
    "parsing",
    "validateStructure",
    "validateQuality",
    "critique",
    "refine",
    "finalValidation",
    "integration",
)

FUNCTIONS = {
    "ingestion": "ingestion",
    "preProcessing": "pre_processing",
    "promptTemplating": "prompt_templating",
    "inference": "inference",
    "parsing": "parsing",
    "validateStructure": "validate_structure",
    "validateQuality": "validate_quality",
    "critique": "critique",
    "refine": "refine",
    "finalValidation": "final_validation",
    "integration": "integration",
}

_KEPT = re.compile(r"-(prompt|answer)-\d+(-\d+)?\.(json|txt)$", re.IGNORECASE)
_MAX_TASK_CHARS = 40  # of a task's ID in such a name


def kept_name(task: str, what: str, ending: str, cycle: int, number: int = 0) -> str:
    """The log that keeps a cycle's prompt or raw answer, or those of a further call: its number,
    from 1."""
    if len(task) > _MAX_TASK_CHARS:  # file names are bounded too, and must stay apart
        task = f"{task[: _MAX_TASK_CHARS - 9]}-{jsonio.digest(task)[-8:]}"
    return f"{task}-{what}-{cycle}{f'-{number}' if number else ''}.{ending}"


def is_kept_name(name: str) -> bool:
    """Whether a log's name ends as those of kept prompts and answers do, of whatever task."""
    return _KEPT.search(name) is not None
