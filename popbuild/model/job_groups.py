"""The other jobs that a seed is over: globs of their IDs, by name.

{"name": "All reviews", "jobs": {"reviews": "review-*"}, "missing": "skip", "data": {}}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MAX_GROUPS = 100  # of one seed
MAX_GLOB = 300  # characters
FAIL, SKIP = "fail", "skip"


def named_groups(seed: Any) -> dict[str, str]:
    """The groups of a seed: globs by name. None where it has none, or not in this shape."""
    groups = seed.get("jobs") if isinstance(seed, dict) else None
    if not isinstance(groups, dict) or not all(isinstance(each, str) for each in groups.values()):
        return {}
    return groups


def least_share(seed: Mapping[str, Any]) -> float:
    """The share of matching jobs that must be up to date, from 0 to 1, as `missing` says."""
    missing = seed.get("missing", FAIL)
    if isinstance(missing, str):
        return 0.0 if missing == SKIP else 1.0
    return float(missing)


def is_missing_rule(value: object) -> bool:
    """Whether this may be a seed's `missing`."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return False
    return value in (FAIL, SKIP) if isinstance(value, str) else 0 < value <= 1
