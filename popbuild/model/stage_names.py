"""The eleven stages in order, and the names of the logs that keep prompts and raw answers."""

from __future__ import annotations

import re

from popbuild.base import jsonio

STAGES = tuple(
    "ingestion preProcessing promptTemplating inference parsing validateStructure "
    "validateQuality critique refine finalValidation integration".split()
)
# JSON has the names of stages, Python functions the same in snake_case.
FUNCTIONS = {stage: re.sub("([A-Z])", r"_\1", stage).lower() for stage in STAGES}

_KEPT = re.compile(r"-(prompt|answer)-\d+(-\d+)?\.(json|txt)$", re.IGNORECASE)
_MAX_TASK_CHARS = 40  # of a task's ID in such a name


def kept_name(task: str, what: str, ending: str, cycle: int, number: int = 0) -> str:
    """The log that keeps a cycle's prompt or raw answer; `number` counts further calls from 1."""
    if len(task) > _MAX_TASK_CHARS:  # file names are bounded too, and must stay apart
        task = f"{task[: _MAX_TASK_CHARS - 9]}-{jsonio.digest(task)[-8:]}"
    return f"{task}-{what}-{cycle}{f'-{number}' if number else ''}.{ending}"


def is_kept_name(name: str) -> bool:
    """Whether a log's name ends like those of kept prompts and answers."""
    return _KEPT.search(name) is not None
