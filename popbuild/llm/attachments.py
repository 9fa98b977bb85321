"""Files as parts of messages.

A part names its file by digest: so it stands in prompts, logs and the store, and so it counts in a
request's digest. The bytes are put in its place when the request is sent.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from popbuild.base import disk, jsonio
from popbuild.base.errors import InputError, ProviderError
from popbuild.llm.request import Message
from popbuild.model.pipeline import Task

PART = "attached"  # the type of such a part
_AUDIO = {"audio/mpeg": "mp3", "audio/wav": "wav"}


def attached_part(name: str, media_type: str, digest: str) -> dict[str, Any]:
    """The part of a message that stands for a file."""
    return {"type": PART, PART: {"name": name, "mediaType": media_type, "digest": digest}}


def attached_in(messages: Iterable[Message]) -> Iterator[dict[str, Any]]:
    """What each part says of its file."""
    for message in messages:
        content = message.get("content")
        for part in content if isinstance(content, list) else ():
            if _is_attached(part):
                yield part.get(PART) or {}


def _is_attached(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == PART


def ability_for(media_type: str) -> str | None:
    """What a model must take for files of this kind: image, pdf or audio; None if none does."""
    if media_type.startswith("image/"):
        return "image"
    return "audio" if media_type in _AUDIO else "pdf" if media_type == "application/pdf" else None


def lacking(task: Task, abilities: Mapping[str, frozenset[str]], media_type: str) -> str | None:
    """A model of a task, by what each takes, that does not take files of this kind; None if all
    do. What its settings say under `accepts` is taken for granted."""
    wanted = ability_for(media_type)
    if wanted is None or wanted in task.accepts:
        return None
    return next((model for model, takes in abilities.items() if wanted not in takes), None)


def size_bytes(files: Iterable[Path]) -> int:
    """About what these files add to a request: three bytes are sent as four characters."""
    return sum(path.stat().st_size * 4 // 3 for path in files)


def with_bytes(messages: Iterable[Message], files: Mapping[str, Path]) -> list[Message]:
    """The messages as litellm wants them; files are by digest. Raises ProviderError for one that is
    not what it was: the request is named by it."""
    return [_sent(message, files) for message in messages]


def _sent(message: Message, files: Mapping[str, Path]) -> Message:
    content = message.get("content")
    if not isinstance(content, list):
        return dict(message)
    parts = [
        _as_litellm(part[PART], _bytes(part[PART], files)) if _is_attached(part) else part
        for part in content
    ]
    return {**message, "content": parts}


def _bytes(said: Mapping[str, Any], files: Mapping[str, Path]) -> bytes:
    path = files[said["digest"]]
    try:
        data = disk.read(path)
    except (OSError, InputError) as error:
        found = error.strerror if isinstance(error, OSError) else error.as_line()
        raise ProviderError("a file cannot be attached", {"file": path, "found": found}) from None
    if jsonio.digest_bytes(data) != said["digest"]:
        raise ProviderError(
            "a file was changed while its job was built",
            {"file": path},
            hint="nothing was sent; run the job again",
        )
    return data


def _as_litellm(said: Mapping[str, Any], data: bytes) -> dict[str, Any]:
    kind, packed = said["mediaType"], base64.b64encode(data).decode()
    if kind in _AUDIO:
        return {"type": "input_audio", "input_audio": {"data": packed, "format": _AUDIO[kind]}}
    address = f"data:{kind};base64,{packed}"
    if kind.startswith("image/"):
        return {"type": "image_url", "image_url": {"url": address}}
    return {"type": "file", "file": {"file_data": address, "filename": f"{said['name']}.pdf"}}
