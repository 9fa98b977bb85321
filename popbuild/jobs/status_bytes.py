"""tasks-status.json as bytes, of which only what changed is encoded anew.

A job of many tasks writes its status several times a task, and all of it each time. Functions never
change a status (`model/status.py`): what is the same object as last time has the same text.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from json.encoder import encode_basestring as _quoted
from typing import Any

from popbuild.model.status import Status

_encode = json.JSONEncoder(indent=2, ensure_ascii=False, allow_nan=False).encode


class StatusBytes:
    """One job's status as bytes, with the text of each part and what it was made from."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[Any, str]] = {}  # by place: a value and its text

    def encoded(self, status: Status) -> bytes:
        """The same bytes as `jsonio.dumps(status, sort=False)`."""
        parts = []
        for key, value in status.items():
            if key == "tasks":
                text = self._object(key, value, _entry)
            elif key == "files":
                text = self._object(key, value, _names)
            else:
                text = _indented(_encode(value), 1)
            parts.append(f"  {_quoted(key)}: {text}")
        return ("{\n" + ",\n".join(parts) + "\n}\n").encode()

    def _object(self, name: str, value: dict[str, Any], encode: Callable[[Any], str]) -> str:
        if not value:
            return "{}"
        members = [
            f"    {_quoted(key)}: {self._text((name, key), value[key], encode)}" for key in value
        ]
        return "{\n" + ",\n".join(members) + "\n  }"

    def _text(self, place: tuple[str, str], value: Any, encode: Callable[[Any], str]) -> str:
        known = self._known.get(place)
        if known is None or known[0] is not value:
            known = self._known[place] = value, encode(value)
        return known[1]


def _entry(value: Any) -> str:
    return _indented(_encode(value), 2)


def _names(names: list[str]) -> str:
    return "[\n      " + ",\n      ".join(map(_quoted, names)) + "\n    ]" if names else "[]"


def _indented(text: str, depth: int) -> str:
    # A line end inside of a text is escaped, so each one here is between values.
    return text.replace("\n", "\n" + "  " * depth)
