"""The table as data: a row a job, a column a variant, and what follows from them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from popbuild.base import jsonio
from popbuild.query.compare.job_result import CellResult
from popbuild.query.compare.statistics import Amounts, Measured, amounts, mean, rate

PASSING = "pass rate"
AMOUNTS = {"cost": "cost", "tokens": "tokens", "timeMs": "time_ms"}  # in JSON, and of a cell


@dataclass(frozen=True)
class ComparedJob:
    """A row: what of its seed was read, and its cell in each variant."""

    id: str
    fields: Mapping[str, str]
    cells: Mapping[str, CellResult]

    @property
    def differing(self) -> frozenset[str]:
        """In what its results differ: gate, output, refinements, tokens, cost, and scores by their
        names. A cell without a result differs in the gate alone."""
        cells = list(self.cells.values())
        told = [each for each in cells if each.counted]
        gates = {(each.pass_share, each.why_left_out) for each in cells}
        found = {"gate"} if len(gates) > 1 else set()
        for name in dict.fromkeys(name for each in told for name in each.score_names):
            if len({each.score(name) for each in told}) > 1:
                found.add(name)
        for name in ("tokens", "cost"):
            if len({each.mean_of(name) for each in told}) > 1:
                found.add(name)
        if len({tuple(draw.output for draw in each.counted) for each in told}) > 1:
            found.add("output")
        if len({tuple(draw.refinements for draw in each.counted) for each in told}) > 1:
            found.add("refinements")
        return frozenset(found)

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "fields": dict(self.fields),
            "differs": sorted(self.differing),
            "results": {
                name: [draw.as_json() for draw in cell.draws] for name, cell in self.cells.items()
            },
        }


@dataclass(frozen=True)
class ColumnSummary:
    """A variant over all jobs that have a result in it. `missing` counts, by score, the results in
    which it could not be measured; `left_out` the jobs without a result, by why."""

    variant: str
    jobs: int
    draws: int
    stale: int
    pass_rate: Measured | None
    scores: Mapping[str, Measured | None]
    missing: Mapping[str, int]
    amounts: Mapping[str, Amounts]
    left_out: Mapping[str, int]

    def as_json(self) -> dict[str, Any]:
        return {
            "variant": self.variant,
            "jobs": self.jobs,
            "draws": self.draws,
            "stale": self.stale,
            "passRate": measured_as_json(self.pass_rate),
            "scores": {
                name: {
                    "mean": measured_as_json(each),
                    "missing": self.missing.get(name, 0),
                }
                for name, each in self.scores.items()
            },
            **{name: each.as_json() for name, each in self.amounts.items()},
            "leftOut": dict(self.left_out),
        }


@dataclass(frozen=True)
class PairedDifference:
    """By how much a variant has more than the first one, over the jobs that both have. `estimate`
    is None where they have no job in common."""

    variant: str
    against: str
    measure: str
    estimate: Measured | None

    def as_json(self) -> dict[str, Any]:
        names = {"variant": self.variant, "against": self.against, "measure": self.measure}
        return {**names, "difference": measured_as_json(self.estimate)}


def measured_as_json(found: Measured | None) -> dict[str, Any] | None:
    return None if found is None else found.as_json()


@dataclass(frozen=True)
class Comparison:
    """Jobs in several variants. `task` is the one that alone is compared, if any; `notes` say which
    variants were passed over."""

    task: str | None
    jobs: tuple[ComparedJob, ...]
    columns: tuple[ColumnSummary, ...]
    differences: tuple[PairedDifference, ...]
    notes: tuple[str, ...] = ()

    @property
    def variants(self) -> list[str]:
        return [each.variant for each in self.columns]

    @property
    def measures(self) -> list[str]:
        """The names of all scores, in the order in which they were met."""
        return list(dict.fromkeys(name for each in self.columns for name in each.scores))

    def shown_measure(self, name: str) -> str:
        """A score by its own name, where no other task has one of the same name."""
        short = name.partition(".")[2]
        alike = [each for each in self.measures if each.partition(".")[2] == short]
        return short if len(alike) == 1 else name

    def difference(self, variant: str, measure: str) -> Measured | None:
        for each in self.differences:
            if (each.variant, each.measure) == (variant, measure):
                return each.estimate
        return None

    def as_json(self) -> dict[str, Any]:
        return {
            "task": self.task,
            "variants": [each.as_json() for each in self.columns],
            "differences": [each.as_json() for each in self.differences],
            "jobs": [each.as_json() for each in self.jobs],
            "notes": list(self.notes),
        }


def compared(
    cells: Mapping[str, Mapping[str, CellResult]],
    task: str | None = None,
    notes: Sequence[str] = (),
) -> Comparison:
    """The table of what each variant has of each job; the first variant is what the others are
    compared with."""
    names = list(dict.fromkeys(job for by_job in cells.values() for job in by_job))
    jobs = [_row(job, cells) for job in sorted(names)]
    scores = dict.fromkeys(
        name for row in jobs for cell in row.cells.values() for name in cell.score_names
    )
    columns = tuple(_column(variant, jobs, list(scores)) for variant in cells)
    first, *others = cells
    differences = [
        PairedDifference(variant, first, measure, _paired(jobs, first, variant, measure))
        for variant in others
        for measure in (PASSING, *scores)
    ]
    return Comparison(task, tuple(jobs), columns, tuple(differences), tuple(notes))


def _row(job: str, cells: Mapping[str, Mapping[str, CellResult]]) -> ComparedJob:
    found = {variant: by_job.get(job, CellResult()) for variant, by_job in cells.items()}
    fields: dict[str, str] = {}
    for cell in found.values():
        for draw in cell.counted:
            fields |= {name: value for name, value in draw.fields.items() if name not in fields}
    return ComparedJob(job, fields, found)


def _column(variant: str, jobs: Sequence[ComparedJob], scores: Sequence[str]) -> ColumnSummary:
    cells = [row.cells[variant] for row in jobs]
    counted = [cell for cell in cells if cell.counted]
    draws = [draw for cell in counted for draw in cell.counted]
    measured = {name: _known(cell.score(name) for cell in counted) for name in scores}
    unmeasured = {
        name: sum(1 for draw in draws if name in draw.scores and draw.scores[name].number is None)
        for name in scores
    }
    return ColumnSummary(
        variant,
        len(counted),
        len(draws),
        sum(any(draw.is_stale for draw in cell.counted) for cell in counted),
        rate(_known(cell.pass_share for cell in counted)),
        {name: mean(values) for name, values in measured.items()},
        {name: number for name, number in unmeasured.items() if number},
        {name: amounts([cell.mean_of(key) for cell in counted]) for name, key in AMOUNTS.items()},
        dict(Counter(cell.why_left_out for cell in cells if cell.why_left_out)),
    )


def _paired(jobs: Sequence[ComparedJob], first: str, variant: str, measure: str) -> Measured | None:
    pairs = ([measure_of(row.cells[each], measure) for each in (first, variant)] for row in jobs)
    return mean([new - old for old, new in pairs if old is not None and new is not None])


def measure_of(cell: CellResult, measure: str) -> float | None:
    """A job's pass rate, or one of its scores."""
    return cell.pass_share if measure == PASSING else cell.score(measure)


def _known(values: Iterator[float | None]) -> list[float]:
    return [each for each in values if each is not None]


def shown_value(value: object, most: int) -> str:
    """The beginning of a value on one line: a text, also that of an answer, as it is, all else as
    JSON."""
    if isinstance(value, dict) and value.keys() == {"content"}:
        value = value["content"]
    text = value if isinstance(value, str) else jsonio.compact(value)
    return " ".join(text[:most].split())
