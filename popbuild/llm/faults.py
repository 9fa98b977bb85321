"""The error in a provider's body, whatever form it has. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_MAX_SAID = 500  # characters of an error's text


@dataclass(frozen=True)
class Fault:
    """An error as its provider words it. `codes` are all of its codes, types and statuses in lower
    case, those of nested errors included."""

    message: str
    codes: frozenset[str] = frozenset()
    status: int | None = None
    retry_after: str | None = None


def fault_in(body: Any) -> Fault | None:
    """The error in a body, in any form; None without one.

    A body without a member `error` counts only if it calls itself an error: an answer may have a
    `message` too.
    """
    if isinstance(body, list):
        return next((found for each in body if (found := fault_in(each))), None)
    if not isinstance(body, Mapping):
        return None
    found = body.get("error")
    if isinstance(found, str) and found.strip():
        return Fault(found[:_MAX_SAID], frozenset({found.strip().lower()}))
    if isinstance(found, Mapping) and found:
        return _fault(found)
    if body.get("object") == "error" or body.get("type") == "error":
        return _fault(body)
    return None


def fault_of(body: Any) -> Fault | None:
    """The error in a body that came with an error status."""
    known = fault_in(body)
    if known is not None or not isinstance(body, Mapping) or not body:
        return known
    return _fault(body)


def _fault(error: Mapping[str, Any]) -> Fault:
    codes, waits = set(), []
    waiting: list[Any] = [error]
    while waiting:  # codes stand at many depths: `innererror`, `details`, `metadata`
        each = waiting.pop()
        if isinstance(each, list):
            waiting.extend(each)
        if not isinstance(each, Mapping):
            continue
        for key, value in each.items():
            if isinstance(value, Mapping | list):
                waiting.append(value)
            elif key in ("code", "type", "status", "reason", "quotaId", "error_code") and value:
                codes.add(str(value).lower())
            elif key in ("retryDelay", "retry_after"):
                waits.append(str(value))
    message = error.get("message") or error.get("detail") or error.get("error_message") or ""
    text = message if isinstance(message, str) else json.dumps(message, ensure_ascii=False)
    code = error.get("code")
    return Fault(
        _with_raw(text, error)[:_MAX_SAID],
        frozenset(codes),
        code if isinstance(code, int) and 100 <= code < 600 else None,
        waits[0] if waits else None,
    )


def _with_raw(text: str, error: Mapping[str, Any]) -> str:
    """An error's text, and the text that a router got from the provider behind it."""
    raw = as_object(error.get("metadata")).get("raw")
    return f"{text}: {raw}" if isinstance(raw, str) and raw and raw not in text else text


def as_object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
