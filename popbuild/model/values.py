"""What is compared of a value: its digest, or only its kind."""

from __future__ import annotations

from popbuild.base import jsonio
from popbuild.model.problem import MISSING


def value_digest(value: object) -> str:
    """The digest of a value, or ABSENT."""
    return jsonio.ABSENT if value is MISSING else jsonio.digest(value)


def kind_of(value: object) -> str:
    """What a template learns when it tests a value without reading it."""
    if value is MISSING:
        return jsonio.ABSENT
    if isinstance(value, dict):
        return "object"
    return "array" if isinstance(value, list) else "scalar"
