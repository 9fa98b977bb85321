"""Intervals of pass rates and of differences, against what is known of them."""

from __future__ import annotations

import random
from statistics import fmean

import pytest

from popbuild.query.compare.statistics import Measured, amounts, mean, percentile, rate

EXPERIMENTS = 100


def holds(found: Measured | None, truth: float) -> bool:
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    return found.low <= truth <= found.high


def test_wilson() -> None:
    """The values of the literature: Newcombe (1998), table I, method 3."""
    found = rate([1.0] * 81 + [0.0] * 182)
    assert found is not None
    assert (found.low, found.high) == (
        pytest.approx(0.2553, abs=1e-4),
        pytest.approx(0.3662, abs=1e-4),
    )
    none, every = rate([0.0] * 20), rate([1.0])
    assert none is not None
    assert every is not None
    assert (none.low, none.high) == (0.0, pytest.approx(0.1611, abs=1e-4))
    assert (every.low, every.high) == (pytest.approx(0.2065, abs=1e-4), 1.0)
    assert rate([]) is None


@pytest.mark.parametrize("jobs", [50, 200])
def test_an_interval_holds_the_truth(jobs: int) -> None:
    """Of 100 experiments in which the second model passes 15 of 100 jobs more and scores 0.1 more,
    the 95 % interval holds what is true in 90 to 99."""
    held = {"rate": 0, "passes": 0, "score": 0}
    for seed in range(EXPERIMENTS):
        chance = random.Random(seed)
        hard = [chance.random() for _ in range(jobs)]  # a job that is hard is hard for both
        first = [float(each < 0.6) for each in hard]
        second = [float(each - 0.15 * (chance.random() < 1) < 0.6) for each in hard]
        noise = [chance.gauss(0.1, 0.2) for _ in range(jobs)]
        held["rate"] += holds(rate(first), 0.6)
        differences = [new - old for old, new in zip(first, second, strict=True)]
        held["passes"] += holds(mean(differences), 0.15)
        held["score"] += holds(mean(noise), 0.1)
    assert all(90 <= each <= 99 for each in held.values()), held


def test_draws_of_a_job_are_alike() -> None:
    """Ten draws of each of 20 jobs say as much of the mean as 20 jobs: taken for 200, they would
    promise far too much."""
    held = as_if_alone = 0
    for seed in range(EXPERIMENTS):
        chance = random.Random(seed)
        draws = [[chance.gauss(centre, 0.1) for _ in range(10)] for centre in _centres(chance)]
        held += holds(mean([fmean(each) for each in draws]), 0.5)
        as_if_alone += holds(mean([each for job in draws for each in job]), 0.5)
    assert held >= 88
    assert as_if_alone < 60


def _centres(chance: random.Random) -> list[float]:
    return [chance.gauss(0.5, 0.4) for _ in range(20)]


def test_too_few_and_unknown() -> None:
    """Fewer than five jobs have no interval; an unknown amount is counted, and is not zero."""
    few = mean([0.1, 0.2, 0.3, 0.4])
    assert few == Measured(pytest.approx(0.25), None, None, 4)
    assert mean([]) is None
    assert mean([0.5] * 9) == Measured(0.5, 0.5, 0.5, 9)
    assert mean([0.1, 0.9, 0.4, 0.2, 0.5]) == mean([0.1, 0.9, 0.4, 0.2, 0.5])
    found = amounts([3.0, None, 1.0])
    assert (found.total, found.median, found.unknown) == (None, 2.0, 1)
    assert amounts([None]).median is None
    assert percentile([0.0, 1.0, 2.0], 0.9) == pytest.approx(1.8)
