"""Two texts, as the lines in which they differ."""

from __future__ import annotations

import contextlib
import difflib

from popbuild.base import jsonio
from popbuild.base.errors import InputError


def shown_text(path: str, data: bytes) -> str | None:
    """A file as it is shown: JSON in one form, since formatting does not count. None for one that
    is no text."""
    if path.endswith(".json"):
        with contextlib.suppress(InputError):
            return jsonio.dumps(jsonio.loads(data, path), sort=False).decode()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None


def text_difference(old: str | None, new: str | None) -> tuple[str, ...]:
    """A unified diff without its head of file names; empty where one of them is no text."""
    if old is None or new is None:
        return ()
    return tuple(difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=2))[2:]
