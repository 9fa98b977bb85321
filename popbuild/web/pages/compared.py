"""A comparison of variants as one HTML file that needs nothing else, and as Markdown for a pull
request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from popbuild import __version__
from popbuild.base.paths import shown_name
from popbuild.query.compare.comparison import Comparison
from popbuild.query.compare.comparison_cells import (
    CellLine,
    job_cells,
    left_out_lines,
    summary_cells,
    title_of,
)
from popbuild.web.pages.html import render_page
from popbuild.web.pages.report import inline_code

_MOST_ROWS = 1_000  # of a page
_MOST_IN_MARKDOWN = 20  # a comment holds 65,536 characters
_MOST_OF_A_CELL = 120


def comparison_page(found: Comparison) -> str:
    """The comparison as HTML. Where there are very many jobs, those that differ come first, and the
    rest is left out, which the page says."""
    jobs = list(found.jobs)
    if len(jobs) > _MOST_ROWS:
        jobs.sort(key=lambda job: (not job.differing & {"gate", *found.measures}, job.id))
    variants = found.variants
    return render_page(
        "compared.html",
        title=title_of(found),
        version=__version__,
        variants=variants,
        summary=list(summary_cells(found, variants)),
        notes=list(left_out_lines(found)),
        jobs=[
            (shown_name(job.id), job.fields, list(job_cells(job, found, variants)))
            for job in jobs[:_MOST_ROWS]
        ],
        left=len(jobs[_MOST_ROWS:]),
    )


def comparison_markdown(found: Comparison) -> str:
    """The comparison as Markdown: what follows from all jobs, then the jobs whose gate or scores
    differ."""
    lines = [f"## popbuild compare: {inline_code(title_of(found))}", ""]
    lines += _table("", found, summary_cells(found, found.variants))
    shown = {"gate", *found.measures}
    differing = [job for job in found.jobs if job.differing & shown]
    for job in differing[:_MOST_IN_MARKDOWN]:
        cells = job_cells(job, found, found.variants)
        lines += ["", *_table(inline_code(shown_name(job.id)), found, cells)]
    if len(differing) > _MOST_IN_MARKDOWN:
        lines += ["", f"And {len(differing) - _MOST_IN_MARKDOWN:,} more that differ."]
    notes = [f"- {inline_code(each)}" for each in left_out_lines(found)]
    return "\n".join([*lines, "", *notes, ""] if notes else [*lines, ""])


def _table(head: str, found: Comparison, lines: Iterable[CellLine]) -> Iterator[str]:
    yield f"| {' | '.join([head, *map(inline_code, found.variants)])} |"
    yield f"|---{'|---' * len(found.variants)}|"
    for line in lines:
        name = line.name + (" ≠" if line.differs else "")
        cells = [inline_code(each[:_MOST_OF_A_CELL]).replace("|", "\\|") for each in line.cells]
        yield f"| {' | '.join([name, *cells])} |"
