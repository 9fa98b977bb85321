"""The error in a provider's body and how long it asks us to wait, in every form in use. Pure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

_MAX_SAID = 500  # characters of an error's text
_PARTS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SPAN = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


@dataclass(frozen=True)
class Fault:
    """An error as its provider words it. `codes` are all of its codes, types and statuses in lower
    case, those of nested errors included."""

    message: str
    codes: frozenset[str] = frozenset()
    status: int | None = None
    retry_after: str | None = None


def fault_in(body: object) -> Fault | None:
    """The error in a body, in any form; None without one. A body without a member `error` counts
    only if it calls itself an error: an answer may have a `message` too."""
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


def fault_of(body: object) -> Fault | None:
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


def as_object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def retry_after_s(
    headers: Mapping[str, str], now_s: float, in_body: str | None = None
) -> float | None:
    """Seconds until the next try, by `retry-after-ms`, else `retry-after`, else what the body says;
    None where nothing does. Header names are in lower case; `now_s` is the time since 1970."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    found = seconds_in(headers.get("retry-after"), now_s)
    return seconds_in(in_body, now_s) if found is None else found


def seconds_in(text: str | None, now_s: float) -> float | None:
    """Seconds, from a number, a span (`30s`, `1m30s`, `250ms`) or a date; None for anything else. A
    date without a zone is GMT, as in RFC 9110; one in the past means no wait."""
    text = (text or "").strip().strip('"')
    number = _number(text)
    if number is not None:
        return number
    if _SPAN.fullmatch(text.lower()):
        return sum(float(amount) * _PARTS_S[unit] for amount, unit in _PART.findall(text.lower()))
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, date.timestamp() - now_s)


def _number(text: str | None) -> float | None:
    try:
        found = float(text or "")
    except ValueError:
        return None
    return max(0.0, found) if math.isfinite(found) else None
