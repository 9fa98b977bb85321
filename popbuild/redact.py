"""Keys out of texts: no key may stand in a file, a log or an error."""

from __future__ import annotations

import re
from collections.abc import Mapping

_SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL)S?$", re.IGNORECASE)
_KEY_SHAPED = re.compile(r"\b(sk|pk|rk)-[A-Za-z0-9_-]{12,}")
_MIN_CHARS = 8  # a shorter value is no key, and might be a word of the text


def redact(text: str, environment: Mapping[str, str]) -> str:
    """The text with every value of a secret variable, and what looks like a key, replaced."""
    return _KEY_SHAPED.sub("[key]", without_secrets(text, environment))


def without_secrets(text: str, environment: Mapping[str, str]) -> str:
    """The text with every value of a secret variable replaced."""
    for name, value in environment.items():
        if len(value) >= _MIN_CHARS and value in text and _SECRET_NAME.search(name):
            text = text.replace(value, f"[{name}]")
    return text
