"""Amounts as a person reads and writes them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from popbuild.base.errors import UsageError

_MAX_DIGITS = 6  # of a whole number after an option
_LEAST = 0.000001  # dollars that are shown
_TIMES_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_SIZES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12} | {
    f"{letter}ib": 2 ** (10 * power) for power, letter in enumerate("kmgt", 1)
}


def money(cost: float | None) -> str:
    """US dollars: `$0`, `$0.0123`, `<$0.000001`, `unknown cost`."""
    if cost is None:
        return "unknown cost"
    if cost == 0:
        return "$0"
    if 0 < cost < _LEAST:
        return f"<${_LEAST:f}"
    return f"${cost:.2f}" if cost >= 1 else "$" + f"{cost:.6f}".rstrip("0")


def tokens(number: int | None) -> str:
    """`118 tokens`, `unknown tokens`."""
    return "unknown tokens" if number is None else f"{number:,} tokens"


def seconds(duration_ms: float) -> str:
    """`0.4 s`, `12 s`, `3 min 20 s`."""
    total = duration_ms / 1000
    if total < 10:
        return f"{total:.1f} s"
    return f"{total:.0f} s" if total < 100 else f"{total // 60:.0f} min {total % 60:.0f} s"


def fit_line(head: str, text: str) -> str:
    """A line of 80 columns; a longer text is cut, to 30 characters at least."""
    room = max(80 - len(head), 30)
    return head + (text if len(text) <= room else text[: room - 1].rstrip(" …") + "…")


def count(number: int, name: str) -> str:
    """`1 job`, `2,000 jobs`."""
    return f"{number:,} {name}{'s' * (number != 1)}"


def size(count: int) -> str:
    """`312 B`, `45.2 kB`, `1.3 GB`."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def seconds_of(text: str) -> float:
    """An age in seconds: `30d`, `12h`. UsageError for anything else."""
    return _amount(text, _TIMES_S, "not an age", "a number and s, m, h, d or w: 30d")


def parse_size(text: str) -> int:
    """A size in bytes: `500MB`, `2GiB`. UsageError for anything else."""
    return round(_amount(text, _SIZES, "not a size", "a number and B, kB, MB, GB or TB: 500MB"))


def _amount(text: str, units: Mapping[str, int], message: str, allowed: str) -> float:
    match = re.fullmatch(r"(\d{1,12}(?:\.\d{1,6})?) ?([A-Za-z]*)", text.strip(), re.ASCII)
    if match is None or match[2].lower() not in units:
        raise UsageError(message, {"found": text, "allowed": allowed})
    return float(match[1]) * units[match[2].lower()]


def whole_number(option: str, given: str | None, hint: str | None = None) -> int | None:
    """The number after an option, None where there is none. UsageError for anything else."""
    if given is None:
        return None
    if not given.isdecimal() or len(given) > _MAX_DIGITS or not int(given):
        found = {"found": given or "nothing"}
        raise UsageError(f"{option} must be a whole number, at least 1", found, hint)
    return int(given)
