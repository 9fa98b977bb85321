"""The cells of a comparison as texts, for every form that it is shown in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from popbuild.base.units import count, money, seconds
from popbuild.query.compare.comparison import PASSING, ColumnSummary, ComparedJob, Comparison
from popbuild.query.compare.job_result import CellResult
from popbuild.query.compare.statistics import Amounts, Measured

NO_VALUE = "-"
_UNKNOWN = "unknown"


@dataclass(frozen=True)
class CellLine:
    """A line of the table: its name, a cell for each variant, and whether these differ."""

    name: str
    cells: tuple[str, ...]
    differs: bool = False


def title_of(found: Comparison) -> str:
    """What is compared."""
    of_task = f", task {found.task}" if found.task else ""
    return f"{count(len(found.jobs), 'job')}, {', '.join(found.variants)}{of_task}"


def left_out_lines(found: Comparison) -> Iterator[str]:
    """Which jobs were left out of which variant, and why; and which variants."""
    for column in found.columns:
        if column.left_out:
            told = ", ".join(f"{number:,} {why}" for why, number in column.left_out.items())
            yield f"left out of {column.variant}: {told}"
    yield from found.notes


# One job.


def job_cells(job: ComparedJob, found: Comparison, variants: Sequence[str]) -> Iterator[CellLine]:
    """The lines of a job that say something."""
    cells = [job.cells[each] for each in variants]
    lines = {"gate": [_gate(each) for each in cells]}
    lines |= {name: [_score(each, name) for each in cells] for name in found.measures}
    lines["output"] = [_output(each) for each in cells]
    if any(draw.refinements for each in cells for draw in each.counted):
        lines["refinements"] = [_refinements(each) for each in cells]
    lines["tokens"] = [_known_or(each, "tokens", _number) for each in cells]
    lines["cost"] = [_known_or(each, "cost", money) for each in cells]
    lines["time"] = [_known_or(each, "time_ms", seconds) for each in cells]
    for name, shown in lines.items():
        if any(each != NO_VALUE for each in shown):
            yield CellLine(found.shown_measure(name), tuple(shown), name in job.differing)


def _gate(cell: CellResult) -> str:
    """How a job went: `passed`, `rejected: <problem>`, `passed 3 of 5`, or why it is left out."""
    if cell.why_left_out is not None:
        return cell.why_left_out
    counted = cell.counted
    if len(counted) > 1:
        return f"passed {sum(bool(each.passed) for each in counted)} of {len(counted)}"
    return counted[0].gate + (f": {counted[0].why}" if counted[0].why else "")


def _score(cell: CellResult, name: str) -> str:
    value = cell.score(name)
    if value is not None:
        return f"{value:.3g}"
    reasons = (each.scores[name].reason for each in cell.counted if name in each.scores)
    return next((f"not measured: {reason}" for reason in reasons), NO_VALUE)


def _output(cell: CellResult) -> str:
    return next((each.text for each in cell.counted if each.text), NO_VALUE)


def _refinements(cell: CellResult) -> str:
    counted = cell.counted
    return str(sum(each.refinements for each in counted)) if counted else NO_VALUE


def _known_or(cell: CellResult, amount: str, shown: Callable[[float], str]) -> str:
    if not cell.counted:
        return NO_VALUE
    value = cell.mean_of(amount)
    return _UNKNOWN if value is None else shown(value)


def _number(value: float) -> str:
    return f"{value:,.0f}"


# All of them.


def summary_cells(found: Comparison, variants: Sequence[str]) -> Iterator[CellLine]:
    """What follows from all jobs."""
    columns = [each for each in found.columns if each.variant in variants]

    def line(name: str, shown: Callable[[ColumnSummary], str]) -> CellLine:
        return CellLine(name, tuple(map(shown, columns)))

    yield line("jobs", _jobs)
    for measure in (PASSING, *found.measures):
        yield _estimates(found, columns, measure)
        if len(columns) > 1:
            cells = (_difference(found, each, measure) for each in columns)
            yield CellLine("difference", tuple(cells))
    yield line("cost", lambda each: _total(each.amounts["cost"]))
    yield line("median, 90 %", lambda each: _spread(each.amounts["cost"], money))
    yield line("tokens", lambda each: _spread(each.amounts["tokens"], _number))
    yield line("time", lambda each: _spread(each.amounts["timeMs"], seconds))


def _jobs(column: ColumnSummary) -> str:
    draws = f", {column.draws:,} draws" if column.draws > column.jobs else ""
    stale = f", {column.stale:,} stale" if column.stale else ""
    return f"{column.jobs:,}{draws}{stale}"


def _estimates(found: Comparison, columns: Sequence[ColumnSummary], measure: str) -> CellLine:
    if measure == PASSING:
        return CellLine(measure, tuple(rate_text(each.pass_rate) for each in columns))
    cells = (mean_text(each.scores[measure], each.missing.get(measure, 0)) for each in columns)
    return CellLine(found.shown_measure(measure), tuple(cells))


def rate_text(found: Measured | None) -> str:
    """A rate with its interval: `86 % [74, 93]`."""
    return NO_VALUE if found is None else f"{100 * found.value:.0f} %{_interval(found, 100, '.0f')}"


def mean_text(found: Measured | None, missing: int = 0) -> str:
    """A mean with its interval, and how many are missing: `0.81 [0.7, 0.9], 2 missing`."""
    if found is None:
        return "not measured" if missing else NO_VALUE
    return f"{found.value:.3g}{_interval(found)}" + (f", {missing} missing" if missing else "")


def _difference(found: Comparison, column: ColumnSummary, measure: str) -> str:
    """A difference with its interval, `+0.06 [-0.02, 0.14]`; a star says that it excludes zero."""
    if column is found.columns[0]:
        return ""
    each = found.difference(column.variant, measure)
    if each is None:
        return "no job in common"
    return difference_cell(each, measure) + (" *" if each.excludes_zero else "")


def difference_cell(found: Measured, measure: str) -> str:
    """A difference with its interval: `+0.06 [-0.02, 0.14]`, `+6 % [-2, 14]`."""
    if measure == PASSING:
        return f"{100 * found.value:+.0f} %{_interval(found, 100, '.0f')}"
    return f"{found.value:+.2g}{_interval(found)}"


def _interval(found: Measured, factor: float = 1, form: str = ".2g") -> str:
    """An interval, or nothing where it is not known."""
    if found.low is None or found.high is None:
        return ""
    # Adding 0 makes 0 of -0.
    low, high = (round(factor * each, 9) + 0 for each in (found.low, found.high))
    return f" [{low:{form}}, {high:{form}}]"


def _total(found: Amounts) -> str:
    return _UNKNOWN if found.unknown else money(found.total or 0.0)


def _spread(found: Amounts, shown: Callable[[float], str]) -> str:
    if found.median is None or found.high is None:
        return _UNKNOWN if found.unknown else NO_VALUE
    of = f", {found.unknown} {_UNKNOWN}" if found.unknown else ""
    return f"{shown(found.median)}, {shown(found.high)}{of}"
