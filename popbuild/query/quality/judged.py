"""Whether results are as a test wants them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from popbuild.base.units import count, fit_line, money, seconds
from popbuild.query.compare.comparison import PASSING, ComparedJob, compared, measure_of
from popbuild.query.compare.comparison_cells import difference_cell, mean_text, rate_text
from popbuild.query.compare.job_result import CellResult
from popbuild.query.compare.statistics import Measured, mean
from popbuild.query.quality.quality_tests import QualityTest, score_named

_MOST_NAMED = 3

# The values of jobs at another time: by job, what each had of the pass rate and of scores.
Baseline = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class QualityCheck:
    """One thing that is wanted, and what was found: as a text, with its interval, and as data."""

    name: str
    passed: bool
    found: str
    measured: Measured | None = None

    def as_json(self) -> dict[str, Any]:
        body = {"check": self.name, "passed": self.passed, "found": self.found}
        return body | ({"measured": self.measured.as_json()} if self.measured else {})


@dataclass(frozen=True)
class JudgedTest:
    """A test with its checks."""

    title: str
    checks: tuple[QualityCheck, ...]

    @property
    def passed(self) -> bool:
        return all(each.passed for each in self.checks)

    def as_json(self) -> dict[str, Any]:
        checks = [each.as_json() for each in self.checks]
        return {"test": self.title, "passed": self.passed, "checks": checks}

    def lines(self) -> Iterator[str]:
        yield f"{self.title}: {'passed' if self.passed else 'FAILED'}"
        for each in self.checks:
            yield fit_line(f"  {'ok  ' if each.passed else 'FAIL'}  {each.name}: ", each.found)


def held_against(test: QualityTest, cells: Mapping[str, CellResult]) -> JudgedTest:
    """What a test wants beside what these jobs have."""
    table = compared({test.variant: cells})
    column, jobs = table.columns[0], table.jobs
    checks = [_samples(test, cells)]
    if test.pass_rate is not None:
        name = f"pass rate at least {100 * test.pass_rate:g} %"
        found = column.pass_rate
        passed = found is not None and found.value >= test.pass_rate
        checks.append(QualityCheck(name, passed, rate_text(found), found))
    for said, least in test.scores.items():
        score = score_named(said, table.measures)
        found = None if score is None else column.scores[score]
        missing = 0 if score is None else column.missing.get(score, 0)
        passed = found is not None and found.value >= least
        text = "not measured" if found is None else mean_text(found, missing)
        checks.append(QualityCheck(f"{said} at least {least:g}", passed, text, found))
    if test.cost is not None:
        checks.append(_most("cost", test.cost, jobs, "cost", money, 1))
    if test.latency_s is not None:
        checks.append(_most("latency", test.latency_s, jobs, "time_ms", seconds, 1000))
    return JudgedTest(test.title, tuple(checks))


def _samples(test: QualityTest, cells: Mapping[str, CellResult]) -> QualityCheck:
    """Whether each job has so many results, made of what is there today."""
    name = f"at least {count(test.samples, 'sample')} of each job, up to date"
    if not cells:
        return QualityCheck(name, passed=False, found="no job")
    few = {}
    for job, cell in cells.items():
        good = [each for each in cell.counted if not each.is_stale]
        if len(good) < test.samples:
            why = cell.why_left_out or ("stale" if len(good) < len(cell.counted) else "")
            few[job] = f"{job} has {len(good)}" + (f" ({why})" if why else "")
    told = list(few.values())[:_MOST_NAMED]
    told += [f"{len(few) - _MOST_NAMED} more"] if len(few) > _MOST_NAMED else []
    return QualityCheck(name, not few, ", ".join(told) if few else count(len(cells), "job"))


def _most(
    name: str, most: float, jobs: Sequence[ComparedJob], amount: str, shown: Any, factor: float
) -> QualityCheck:
    """Whether a job costs, or takes, no more than that on average. An unknown amount is not zero:
    then it cannot be said."""
    cells = [cell for job in jobs for cell in job.cells.values() if cell.counted]
    values = [cell.mean_of(amount) for cell in cells]
    wanted = f"{name} at most {shown(most * factor)} a job"
    known = [each for each in values if each is not None]
    if len(known) < len(values) or not known:
        unknown = f"unknown of {count(len(values) - len(known), 'job')}" if values else "no result"
        return QualityCheck(wanted, passed=False, found=unknown)
    found = mean(known)
    assert found is not None
    text = shown(found.value)
    if found.low is not None and found.high is not None:
        text += f" [{shown(found.low)}, {shown(found.high)}]"
    return QualityCheck(wanted, found.value <= most * factor, text, found)


def values_of(cells: Mapping[str, CellResult]) -> dict[str, dict[str, float]]:
    """What a later test compares with: each job's pass rate and scores."""
    found: dict[str, dict[str, float]] = {}
    for job, cell in sorted(cells.items()):
        for name in (PASSING, *sorted(cell.score_names)):
            value = measure_of(cell, name)
            if value is not None:
                found.setdefault(job, {})[name] = value
    return found


def against_baseline(
    variant: str, where: str, before: Baseline, cells: Mapping[str, CellResult]
) -> JudgedTest:
    """Whether anything dropped since then: only where the interval of the paired difference
    excludes that it did not."""
    now = values_of(cells)
    names = dict.fromkeys(name for values in before.values() for name in values)
    checks = []
    for name in sorted(names, key=lambda each: (each != PASSING, each)):
        pairs = [
            now[job][name] - values[name]
            for job, values in before.items()
            if name in values and name in now.get(job, {})
        ]
        found = mean(pairs)
        dropped = found is not None and found.high is not None and found.high < 0
        text = "no job in common" if found is None else difference_cell(found, name)
        if found is not None:
            was = fmean(values[name] for values in before.values() if name in values)
            text += f", {count(found.jobs, 'job')}; it was {was:.3g}"
        passed = found is not None and not dropped
        checks.append(QualityCheck(f"{name} no worse", passed, text, found))
    return JudgedTest(f"{variant}, since {where}", tuple(checks))
