"""What is sent to a model: a list of messages that says something."""

from __future__ import annotations

import reprlib
from typing import Any

from popbuild.base import jsonio
from popbuild.base.errors import InputError, TaskError
from popbuild.base.texts import is_blank
from popbuild.llm.request import Message

_INSTRUCTING = ("system", "developer")  # roles


def as_messages(value: Any) -> list[Message]:
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


def as_sent(value: Any) -> list[Message]:
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


def _is_message(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("role"), str)
        # Null: a message that calls tools. A list: text and pictures.
        and isinstance(value.get("content", ""), str | list | None)
        and "content" in value
    )
