"""The messages of a task: its templates, rendered with its inputs and the stages' results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from popbuild.base.errors import TaskError
from popbuild.base.jsonio import ABSENT
from popbuild.base.texts import is_blank
from popbuild.llm.request import Message
from popbuild.task import default_stages
from popbuild.task.attempt import Work
from popbuild.task.reads import ArtifactsView, plain, view
from popbuild.task.templates.render import nothing_to_send


@dataclass
class Progress:
    """What the stages of an attempt have so far. `problems` and `previous`, the answer that had
    them, are those of the cycle before; `critique` asks a model to mend them."""

    variables: Mapping[str, Any]
    problems: list[dict[str, Any]]
    previous: str
    critique: str
    cycle: int


def render(
    work: Work, template: str, progress: Progress, more: Mapping[str, Any]
) -> tuple[str, set[str]]:
    """A template of the task's folder, else of pipeline-config/, and the names that it mentions.
    `more` are further variables. Raises TaskError."""
    path, beside = template, f"{work.task.folder}/{template}"
    if beside in work.config.snapshot.files:
        path = beside
    else:
        work.trace.file(beside, ABSENT)  # one that appears there comes first
    if path not in work.config.snapshot.files:
        raise TaskError(
            "the task has no such template",
            {"task": work.task.id, "missing": f"pipeline-config/{beside}"},
            hint="a name is looked up beside the task's own files, then from pipeline-config/",
        )
    variables = {
        "seed": view(work.seen.seed, "seed", "", work.trace),
        "artifacts": ArtifactsView(work.seen.artifacts, work.trace),
        "config": dict(work.seen.config),
        "variables": progress.variables,
        "problems": progress.problems,
        "previous": default_stages.previous(progress.previous),
        "cycle": progress.cycle,
        **{name: plain(value) for name, value in more.items()},
    }
    return work.templates.render(path, variables, work.trace)


def default_messages(work: Work, progress: Progress, *, are_sent: bool) -> list[Message]:
    """system.md and prompt.md. In a refinement whose templates do not look at the problems, the
    conversation goes on: the failed answer, then the critique."""
    messages: list[Message] = []
    mentioned: set[str] = set()
    if work.task.path("system.md"):
        text, mentioned = render(work, "system.md", progress, {})
        messages.append({"role": "system", "content": text})
    text, names = render(work, "prompt.md", progress, {})
    if are_sent and is_blank(text):
        path = f"{work.task.folder}/prompt.md"
        raise nothing_to_send(path, work.trace, work.seen.seed, work.seen.artifacts)
    messages.append({"role": "user", "content": text})
    if progress.cycle and not (mentioned | names) & {"problems", "previous"}:
        failed = default_stages.previous(progress.previous)
        if failed.strip():
            messages.append({"role": "assistant", "content": failed})
        messages.append({"role": "user", "content": progress.critique})
    return messages
