"""Ages and sizes as a person writes them on the command line."""

from __future__ import annotations

import re
from collections.abc import Mapping

from popbuild.base.errors import UsageError

_TIMES_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_SIZES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12} | {
    f"{letter}ib": 2 ** (10 * power) for power, letter in enumerate("kmgt", 1)
}


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
