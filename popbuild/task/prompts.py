"""The messages that a task sends: its templates, rendered with its inputs and the stages' results,
or a conversation that a stage returned. And what a refinement says of the answer before."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from popbuild.base import jsonio
from popbuild.base.errors import InputError, TaskError
from popbuild.base.texts import is_blank
from popbuild.llm.request import Message
from popbuild.model.problem import Problem
from popbuild.task.attaching import asked
from popbuild.task.attempt import Work
from popbuild.task.input_views import documents, item_seen
from popbuild.task.reads import plain
from popbuild.task.templates.render import nothing_to_send

MAX_PREVIOUS_CHARS = 200_000  # of a failed answer in the next prompt, where it is paid for again
_INSTRUCTING = ("system", "developer")  # roles


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
    if beside in work.around.config.snapshot.files:
        path = beside
    else:
        work.trace.file(beside, jsonio.ABSENT)  # one that appears there comes first
    if path not in work.around.config.snapshot.files:
        raise TaskError(
            "the task has no such template",
            {"task": work.task.id, "missing": f"pipeline-config/{beside}"},
            hint="a name is looked up beside the task's own files, then from pipeline-config/",
        )
    variables = {
        **documents(work.seen, work.trace),
        **item_seen(work.item, work.trace),
        "variables": progress.variables,
        "problems": progress.problems,
        "previous": shown_previous(progress.previous),
        "cycle": progress.cycle,
        **{name: plain(value) for name, value in more.items()},
    }
    text, names = work.templates.render(path, variables, work.trace)
    if work.item is not None and "position" in names:
        work.trace.position(work.item.position)
    return text, names


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
        raise nothing_to_send(path, work.trace, work.seen)
    messages.append(asked(work.task, work.seen, work.trace, text))
    if progress.cycle and not (mentioned | names) & {"problems", "previous"}:
        failed = shown_previous(progress.previous)
        if failed.strip():
            messages.append({"role": "assistant", "content": failed})
        messages.append({"role": "user", "content": progress.critique})
    return messages


def shown_previous(answer: str) -> str:
    """A failed answer for the next prompt: cut where it is too long, with a mark."""
    cut = len(answer) - MAX_PREVIOUS_CHARS
    if cut <= 0:
        return answer
    return f"{answer[:MAX_PREVIOUS_CHARS]}\n[… {cut:,} characters cut off]"


def critique(problems: Sequence[Problem]) -> str:
    lines = "\n".join(f"- {problem}" for problem in problems)
    return (
        f"Your answer has these problems:\n{lines}\n\nAnswer again, whole, without these problems."
    )


def as_messages(value: object) -> list[Message]:
    """Messages from what a stage returned: a text, or a list of objects with role and content."""
    if isinstance(value, str):
        value = [{"role": "user", "content": value}]
    if not isinstance(value, list) or not value or not all(map(_is_message, value)):
        raise TaskError(
            "not a conversation",
            {
                "found": reprlib.repr(value),
                "allowed": 'a text, or a list of {"role": a text, "content": a text or a list}',
            },
        )
    try:
        jsonio.normal(value, "messages")
    except InputError as error:
        raise TaskError(
            "messages must be JSON", {"found": error.as_line(("where", "file"))}
        ) from None
    messages: list[Message] = value
    return messages


def as_sent(value: object) -> list[Message]:
    """The same, for messages that are sent: they must say something."""
    messages = as_messages(value)
    # A system message says how to answer, not what.
    asking = [each for each in messages if each["role"] not in _INSTRUCTING] or messages
    if all(map(_says_nothing, asking)):
        raise TaskError(
            "a conversation that says nothing",
            {"found": reprlib.repr(value)},
            hint="nothing was sent: a model is asked by a message that has a text",
        )
    return messages


def _says_nothing(message: Message) -> bool:
    """Whether a message has neither a text nor anything else, such as a picture or a tool call."""
    content = message["content"]
    parts = [{"type": "text", "text": content or ""}] if not isinstance(content, list) else content
    return message.keys() <= {"role", "content", "name"} and all(
        isinstance(part, dict)
        and part.get("type", "text") == "text"
        and is_blank(str(part.get("text") or ""))
        for part in parts
    )


def _is_message(value: object) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("role"), str)
        # Null: a message that calls tools. A list: text and pictures.
        and isinstance(value.get("content", ""), str | list | None)
        and "content" in value
    )
