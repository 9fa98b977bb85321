"""A comparison for a person, in 80 columns: the jobs that differ, then what follows from all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from popbuild.base.paths import shown_name
from popbuild.base.units import count, fit_line, money, seconds
from popbuild.query.compare.comparison import (
    PASSING,
    ColumnSummary,
    ComparedJob,
    Comparison,
    shown_value,
)
from popbuild.query.compare.job_result import CellResult
from popbuild.query.compare.statistics import Amounts, Measured

_WIDTH = 80
_HEAD = 17  # columns of the words before the cells
_SIDE_BY_SIDE = 3  # variants; more follow below, each time beside the first
_MOST_JOBS = 10
_UNKNOWN = "unknown"
_ABSENT = "-"

_Shown = Callable[[ColumnSummary], str]


def comparison_lines(found: Comparison, most_jobs: int = _MOST_JOBS) -> Iterator[str]:
    """The table; of the jobs, the first that differ."""
    differing = [job for job in found.jobs if job.differing]
    of_task = f", task {found.task}" if found.task else ""
    yield f"{count(len(found.jobs), 'job')}, {', '.join(found.variants)}{of_task}"
    for job in differing[:most_jobs]:
        yield ""
        yield from _job_lines(job, found)
    left = len(differing) - most_jobs
    if left > 0:
        yield ""
        yield f"{left:,} more that differ: --json, --csv and -o FILE.html have all"
    for group in _groups(found.columns):
        yield ""
        yield from _summary_lines(found, group)
    for column in found.columns:
        yield from _left_out(column)
    yield from (fit_line("", note) for note in found.notes)


def _groups(columns: Sequence[ColumnSummary]) -> Iterator[list[ColumnSummary]]:
    first, others = columns[0], columns[1:]
    step = _SIDE_BY_SIDE - 1
    for start in range(0, max(len(others), 1), step):
        yield [first, *others[start : start + step]]


def _line(head: str, cells: Sequence[str], mark: str = " ") -> str:
    """A line of the table; cells that are too long are cut."""
    width = (_WIDTH - _HEAD) // len(cells)
    shown = [cut_line(head, _HEAD - 2).ljust(_HEAD - 2) + mark + " "]
    shown += [cut_line(cell, width - 1).ljust(width) for cell in cells]
    return "".join(shown).rstrip()


def cut_line(text: str, width: int) -> str:
    """A text on one line, at most so long."""
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 1].rstrip() + "…"


# One job.


def _job_lines(job: ComparedJob, found: Comparison) -> Iterator[str]:
    fields = ", ".join(f"{at or '/'} {shown_value(value)}" for at, value in job.fields.items())
    yield fit_line(f"{shown_name(job.id)}  ", fields).rstrip()
    for group in _groups(found.columns):
        cells = [job.cells[each.variant] for each in group]
        if len(group) > 1 or len(found.columns) > 1:
            yield _line("", [each.variant for each in group])
        lines = {"gate": [gate_text(each) for each in cells]}
        lines |= {name: [score_text(each, name) for each in cells] for name in found.measures}
        lines["output"] = [_output(each) for each in cells]
        if any(draw.refinements for each in cells for draw in each.counted):
            lines["refinements"] = [refinements_text(each) for each in cells]
        lines["tokens"] = [_number(each.mean_of("tokens")) for each in cells]
        lines["cost"] = [money_text(each) for each in cells]
        lines["time"] = [_time(each.mean_of("time_ms")) for each in cells]
        for name, shown in lines.items():
            if any(each != _ABSENT for each in shown):
                yield _line(f"  {name}", shown, "*" if name in job.differing else " ")


def gate_text(cell: CellResult) -> str:
    """How a job went: `passed`, `rejected: <problem>`, `passed 3 of 5`, or why it is left out."""
    if cell.why_left_out is not None:
        return cell.why_left_out
    counted = cell.counted
    if len(counted) > 1:
        return f"passed {sum(bool(each.passed) for each in counted)} of {len(counted)}"
    return counted[0].gate + (f": {counted[0].why}" if counted[0].why else "")


def score_text(cell: CellResult, name: str) -> str:
    """A score of a job, or why it has none."""
    value = cell.score(name)
    if value is not None:
        return f"{value:.3g}"
    reasons = (each.scores[name].reason for each in cell.counted if name in each.scores)
    return next((f"not measured: {reason}" for reason in reasons), _ABSENT)


def _output(cell: CellResult) -> str:
    return next((each.text for each in cell.counted if each.text), _ABSENT)


def refinements_text(cell: CellResult) -> str:
    """How often a job was refined, all draws together."""
    counted = cell.counted
    return str(sum(each.refinements for each in counted)) if counted else _ABSENT


def money_text(cell: CellResult) -> str:
    """What a job's answers cost."""
    return money(cell.mean_of("cost")) if cell.counted else _ABSENT


def _number(value: float | None) -> str:
    return _ABSENT if value is None else f"{value:,.0f}"


def _time(value: float | None) -> str:
    return _ABSENT if value is None else seconds(value)


# All of them.


def _summary_lines(found: Comparison, group: Sequence[ColumnSummary]) -> Iterator[str]:
    def line(head: str, shown: _Shown) -> str:
        return _line(head, [shown(each) for each in group])

    yield line("", lambda each: each.variant)
    yield line("jobs", _jobs)
    yield line("pass rate", lambda each: percent(each.pass_rate))
    yield from _difference(found, group, PASSING)
    for name in found.measures:
        yield line(name, lambda each, name=name: mean_text(each, name))  # type: ignore[misc]
        yield from _difference(found, group, name)
    yield line("cost", lambda each: total_cost(each.amounts["cost"]))
    yield line("  median, 90 %", lambda each: _spread(each.amounts["cost"], money))
    yield line("tokens", lambda each: _spread(each.amounts["tokens"], _number))
    yield line("time", lambda each: _spread(each.amounts["timeMs"], seconds))


def _jobs(column: ColumnSummary) -> str:
    draws = f", {column.draws:,} draws" if column.draws > column.jobs else ""
    stale = f", {column.stale:,} stale" if column.stale else ""
    return f"{column.jobs:,}{draws}{stale}"


def _difference(found: Comparison, group: Sequence[ColumnSummary], measure: str) -> Iterator[str]:
    if len(group) > 1:
        cells = [difference_text(found, each.variant, measure) for each in group]
        yield _line("  difference", cells)


def percent(found: Measured | None) -> str:
    """A rate with its interval: `86 % [74, 93]`."""
    if found is None:
        return _ABSENT
    low, high = found.low or 0.0, 1.0 if found.high is None else found.high
    return f"{100 * found.value:.0f} % [{100 * low:.0f}, {100 * high:.0f}]"


def mean_text(column: ColumnSummary, name: str) -> str:
    """A mean with its interval, and how many are missing: `0.81 [0.7, 0.9], 2 missing`."""
    found, missing = column.scores[name], column.missing.get(name, 0)
    if found is None:
        return "not measured" if missing else _ABSENT
    return f"{found.value:.3g}{interval(found)}" + (f", {missing} missing" if missing else "")


def interval(found: Measured, form: str = ".2g") -> str:
    """` [0.7, 0.9]`, or nothing where it is not known."""
    if found.low is None or found.high is None:
        return ""
    return f" [{found.low:{form}}, {found.high:{form}}]"


def difference_text(found: Comparison, variant: str, measure: str) -> str:
    """A difference with its interval, `+0.06 [-0.02, +0.14]`; a star says that it excludes zero."""
    if variant == found.variants[0]:
        return ""
    each = found.difference(variant, measure)
    if each is None:
        return "no job in common"
    star = " *" if each.excludes_zero else ""
    return f"{each.value:+.2g}{interval(each, '+.2g')}{star}"


def total_cost(found: Amounts) -> str:
    """The sum, or how many are unknown."""
    return money(found.total) if found.total is not None or not found.unknown else _UNKNOWN


def _spread(found: Amounts, shown: Callable[[float], str]) -> str:
    if found.median is None or found.high is None:
        return _UNKNOWN if found.unknown else _ABSENT
    of = f", {found.unknown} {_UNKNOWN}" if found.unknown else ""
    return f"{shown(found.median)}, {shown(found.high)}{of}"


def _left_out(column: ColumnSummary) -> Iterator[str]:
    if column.left_out:
        told = ", ".join(f"{number:,} {why}" for why, number in column.left_out.items())
        yield fit_line(f"left out of {column.variant}: ", told)
