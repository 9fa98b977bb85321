"""Amounts as a person reads them."""

from __future__ import annotations

_LEAST = 0.000001  # dollars that are shown


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
    return head + (text if len(text) <= room else text[: room - 1] + "…")


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
