"""A comparison as CSV: a line for each draw of each job in each variant."""

from __future__ import annotations

import csv
import io

from popbuild.query.compare.comparison import Comparison
from popbuild.query.compare.job_result import DrawResult

_FORMULA_SIGNS = ("=", "+", "-", "@")
_HEAD = ("job", "variant", "draw", "gate", "problem", "stale", "refinements")
_TAIL = ("inputTokens", "outputTokens", "cost", "timeMs", "output")


def comparison_csv(found: Comparison) -> str:
    """The table, with a column for each score and each field of the seed; what is unknown is
    empty."""
    fields = list(dict.fromkeys(at for job in found.jobs for at in job.fields))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_HEAD, *found.measures, *_TAIL, *(f"seed{at}" for at in fields)])
    for job in found.jobs:
        own = [job.fields.get(at) for at in fields]
        for variant, cell in job.cells.items():
            for draw in cell.draws:
                line = [job.id, variant, draw.draw, *_of_draw(draw, found.measures), *own]
                writer.writerow([_cell(each) for each in line])
    return text.getvalue()


def _of_draw(draw: DrawResult, measures: list[str]) -> list[object]:
    """The cells between a line's head and the fields of the seed."""
    if draw.passed is None:
        return [draw.why, None, None, None, *(None for _ in (*measures, *_TAIL))]
    gate = "passed" if draw.passed else "rejected"
    scores = [draw.scores[name].number if name in draw.scores else None for name in measures]
    took = draw.took.as_json().values()
    return [gate, draw.why, draw.is_stale, draw.refinements, *scores, *took, draw.text]


def _cell(value: object) -> object:
    """A value; a text that a spreadsheet would take for a formula, with a quote before it."""
    is_formula = isinstance(value, str) and value.startswith(_FORMULA_SIGNS)
    return f"'{value}" if is_formula else value
