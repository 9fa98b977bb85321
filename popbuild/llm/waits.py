"""How long a provider asks us to wait, in every form that providers use. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

_PARTS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SPAN = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


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
    """Seconds, from a number, a span (`30s`, `1m30s`, `250ms`) or a date; None for anything else.

    A date without a zone is GMT, as in RFC 9110; one in the past means no wait.
    """
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
