"""A comparison for a person, in 80 columns: the jobs that differ, then what follows from all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from popbuild.base.paths import shown_name
from popbuild.base.units import fit_line
from popbuild.query.compare.comparison import ComparedJob, Comparison
from popbuild.query.compare.comparison_cells import (
    CellLine,
    job_cells,
    left_out_lines,
    summary_cells,
    title_of,
)

_WIDTH = 80
_HEAD = 14  # columns of the words before the cells
_SIDE_BY_SIDE = 3  # variants; more follow below, each time beside the first
_MOST_JOBS = 10


def comparison_lines(found: Comparison) -> Iterator[str]:
    """The table; of the jobs, the first that differ."""
    differing = [job for job in found.jobs if job.differing]
    yield title_of(found)
    for job in differing[:_MOST_JOBS]:
        yield ""
        yield from _job_lines(job, found)
    if len(differing) > _MOST_JOBS:
        yield ""
        left = len(differing) - _MOST_JOBS
        yield f"{left:,} more that differ: --json, --csv and -o compare.html have all"
    for variants in _groups(found.variants):
        yield ""
        yield _line(CellLine("", tuple(variants)))
        yield from map(_line, summary_cells(found, variants))
    yield from (fit_line("", each) for each in left_out_lines(found))


def _job_lines(job: ComparedJob, found: Comparison) -> Iterator[str]:
    fields = ", ".join(f"{at or '/'} {value}" for at, value in job.fields.items())
    yield fit_line(f"{shown_name(job.id)}  ", fields).rstrip()
    for variants in _groups(found.variants):
        yield _line(CellLine("", tuple(variants)))
        yield from map(_line, job_cells(job, found, variants))


def _groups(variants: Sequence[str]) -> Iterator[list[str]]:
    first, others = variants[0], variants[1:]
    step = _SIDE_BY_SIDE - 1
    for start in range(0, max(len(others), 1), step):
        yield [first, *others[start : start + step]]


def _line(line: CellLine) -> str:
    """A line of the table; cells that are too long are cut."""
    width = (_WIDTH - _HEAD) // len(line.cells)
    mark = "*" if line.differs else " "
    shown = [f"{cut_line(line.name, _HEAD - 2):<{_HEAD - 2}}{mark} "]
    shown += [cut_line(cell, width - 1).ljust(width) for cell in line.cells]
    return "".join(shown).rstrip()


def cut_line(text: str, width: int) -> str:
    """A text on one line, at most so long."""
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 1].rstrip() + "…"
