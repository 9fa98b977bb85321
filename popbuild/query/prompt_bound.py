"""How long a prompt may become, whichever inputs it prints, before they are known."""

from __future__ import annotations

import json
import math

from popbuild.jobs.examine import Exam
from popbuild.llm.prices import Price, price_of
from popbuild.model.pipeline import Task
from popbuild.query.estimate import answer_limit, most_tokens, most_tokens_of_json
from popbuild.query.preview import Code


def longest_prompt(exam: Exam, task: Task, code: Code) -> float:
    """The most tokens that a task's prompt may have, whichever inputs it prints."""
    if code.boundless or task.attach:  # each provider counts files in its own way
        return math.inf
    given = most_tokens_of_json(exam.seed)
    given += sum(most_tokens(json.dumps(file.document)) for file in exam.files.values())
    for name in task.needs:
        upstream = exam.pipeline.task(name)
        if not exam.verdicts[name].stale and name in exam.artifacts:
            given += most_tokens_of_json(exam.artifacts[name])
        elif upstream.command or upstream.stages:
            return math.inf  # whatever its code makes
        else:
            given += 2 * answer_limit(upstream, listed_price(upstream))
    text, paths = exam.around.config.snapshot.text, map(task.path, ("system.md", "prompt.md"))
    own = sum(most_tokens(text(path)) for path in paths if path is not None)
    return own + len(code.tags) * given


def listed_price(task: Task) -> Price | None:
    """The listed price of a task's model."""
    return price_of(task.model) if task.model else None
