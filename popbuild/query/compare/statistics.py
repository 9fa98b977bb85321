"""What a sample says of what it was drawn from: rates and means with 95 % intervals. Pure.

A job is what was sampled. Its draws are averaged first, since draws of one job are alike: they say
less than as many jobs would.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from statistics import NormalDist, fmean, median

CONFIDENCE = 0.95
_Z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
_RESAMPLES = 1_000
_FEWEST = 5  # jobs that are worth drawing anew: of fewer, the interval would be far too narrow
_MOST_KEPT = 2_000  # jobs of which 1,000 draws fit into 16 MB
_HIGH = 0.9


@dataclass(frozen=True)
class Measured:
    """A value found in so many jobs, and where the true one lies with 95 % confidence; `low` and
    `high` are None where the jobs are too few to tell."""

    value: float
    low: float | None
    high: float | None
    jobs: int

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval says that the true value is not zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    def as_json(self) -> dict[str, float | int | None]:
        return {"value": self.value, "low": self.low, "high": self.high, "jobs": self.jobs}


@dataclass(frozen=True)
class Amounts:
    """Costs, times or tokens of jobs: their sum, their median and 90th percentile, all None where
    no job's is known; `total` also where one is not known. `unknown` says how many are not."""

    total: float | None
    median: float | None
    high: float | None
    unknown: int

    def as_json(self) -> dict[str, float | int | None]:
        spread = {"median": self.median, "percentile90": self.high}
        return {"total": self.total, **spread, "unknown": self.unknown}


def rate(parts: Sequence[float]) -> Measured | None:
    """A rate with its Wilson interval (E. B. Wilson, 1927), from each job's share of draws that
    passed. None without a job."""
    count = len(parts)
    if not count:
        return None
    found = fmean(parts)
    whole = 1 + _Z**2 / count
    middle = (found + _Z**2 / (2 * count)) / whole
    half = _Z / whole * math.sqrt(found * (1 - found) / count + _Z**2 / (4 * count**2))
    return Measured(found, max(middle - half, 0.0), min(middle + half, 1.0), count)


def mean(values: Sequence[float]) -> Measured | None:
    """A mean with its bootstrap interval (B. Efron, 1979): the jobs are drawn again and again, and
    the interval holds the middle 95 % of the means. Of paired differences, it is the interval of
    the difference. The same values give the same interval. None without a job."""
    count = len(values)
    if not count:
        return None
    found = fmean(values)
    if count < _FEWEST:
        return Measured(found, None, None, count)
    if len(set(values)) == 1:
        return Measured(found, found, found, count)
    kept = count <= _MOST_KEPT
    means = sorted(sum(draw(values)) / count for draw in (_kept if kept else _draws)(count))
    tail = (1 - CONFIDENCE) / 2
    return Measured(found, percentile(means, tail), percentile(means, 1 - tail), count)


@functools.lru_cache(maxsize=4)
def _kept(count: int) -> list[itemgetter[Sequence[float]]]:
    """`_draws` of so few jobs that all scores of a command can share them."""
    return list(_draws(count))


def _draws(count: int) -> Iterator[itemgetter[Sequence[float]]]:
    """Which jobs are drawn, with replacement: the same each time."""
    draw, places = random.Random(0).choices, list(range(count))
    return (itemgetter(*draw(places, k=count)) for _ in range(_RESAMPLES))


def amounts(values: Sequence[float | None]) -> Amounts:
    """The spread of amounts of which some may be unknown."""
    known = sorted(each for each in values if each is not None)
    unknown = len(values) - len(known)
    if not known:
        return Amounts(None, None, None, unknown)
    total = None if unknown else sum(known)
    return Amounts(total, median(known), percentile(known, _HIGH), unknown)


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value below which a share of the sorted values lies, between two where it must be."""
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
