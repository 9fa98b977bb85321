"""Reports on jobs: one HTML file that needs nothing else, and a summary in Markdown."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from popbuild import __version__
from popbuild.base.errors import printable
from popbuild.base.paths import COMPLETE, REJECTED, Root, shown_name
from popbuild.base.units import count, money
from popbuild.jobs.job_ids import bad_names
from popbuild.jobs.lookup import Job, find
from popbuild.model.config.config import environment_of
from popbuild.model.foreign_status import error_text
from popbuild.model.problem import Problem
from popbuild.query import describe, untrusted
from popbuild.web import svg
from popbuild.web.pages.html import render_page, shown_tokens
from popbuild.web.pages.panels import mark_of, newest, took
from popbuild.web.pages.text_budget import Room
from popbuild.web.pages.view import graph_of_job, view_of
from popbuild.web.pages.why import bad_of, rejection_of

MAX_JOBS = 50  # with all panels in a report
_MAX_ROWS = 200  # of a summary: the page of a CI run holds a megabyte
_MAX_TOLD = 20  # jobs whose problems a summary lists
_MAX_PROBLEMS = 10  # of each
_MAX_PROBLEM = 240  # characters, in the table
_MAX_GRAPHS = 5


@dataclass(frozen=True)
class ReportRow:
    """A job in the table. `built` says whether any task was; time, tokens and cost are of the last
    builds of its tasks. `head` introduces the `problems`; `times` are those in its files."""

    id: str
    mark: str
    description: str
    built: bool
    time_ms: float
    tokens: int | None
    cost: float | None
    head: str
    problems: tuple[Problem, ...]
    error: str | None
    times: tuple[str, ...]

    @property
    def has_problem(self) -> bool:
        return bool(self.problems or self.error)

    @property
    def problem(self) -> str:
        """The first problem, on one line."""
        if not self.problems:
            return (self.error or "").split("\n", maxsplit=1)[0]
        first, more = str(self.problems[0]), len(self.problems) - 1
        first = first if len(first) <= _MAX_PROBLEM else first[: _MAX_PROBLEM - 1] + "…"
        return first + (f" (and {more} more)" if more else "")


def report_page(root: Root, names: Iterable[str]) -> str:
    """An HTML report on jobs, by names and globs, or on all. It only contains times from the jobs'
    files, so it stays the same as long as they do."""
    ids = describe.names_to_ids(root, names)
    rows = dict(zip(ids, _rows(root, ids), strict=True))
    around = describe.around(root)
    first = _first(rows, MAX_JOBS)
    bad = bad_names(root, first)
    views = [view_of(root, replace(find(job, around), bad_name=bad.get(job))) for job in first]
    title = f"Report on {shown_name(ids[0]) if len(ids) == 1 else count(len(ids), 'job')}"
    return render_page(
        "report.html",
        title=title,
        version=__version__,
        as_of=newest([t for row in rows.values() for t in row.times] + [v.as_of for v in views]),
        rows=list(rows.values()),
        views=views,
        shown={view.id for view in views},
    )


def _first(rows: Mapping[str, ReportRow], most: int) -> list[str]:
    """The first jobs in order; if there are more, those with problems first, then those that are
    not complete."""
    jobs = list(rows)
    if len(jobs) > most:
        jobs.sort(key=lambda job: (not rows[job].has_problem, rows[job].mark == COMPLETE))
    return jobs[:most]


def _rows(root: Root, ids: Collection[str]) -> Iterator[ReportRow]:
    environment = environment_of(root, os.environ)
    for job in describe.jobs_of(root, ids):
        yield Room(environment).masked(_row(root, job))


def _row(root: Root, job: Job) -> ReportRow:
    body = describe.describe_job(job, root)
    tasks = body["tasks"].values()
    usage = untrusted.usage_of_all(task["usage"] for task in tasks)
    head, problems = "", tuple[Problem, ...]()
    times: list[str] = []
    bad = bad_of(root, job)
    if bad is not None:
        head, problems = bad.head, bad.problems
    elif job.state == REJECTED:
        rejection = rejection_of(job)
        head = "rejected" if rejection is None else rejection.head
        if rejection is not None:
            problems, times = rejection.problems, [rejection.at]
    errors = [text for task in tasks if (text := error_text(task["error"])) is not None]
    times += [body[name] for name in ("createdAt", "finishedAt") if isinstance(body.get(name), str)]
    return ReportRow(
        id=shown_name(job.id),
        mark=mark_of(job.state, job.up_to_date or job.is_not_ours, bad is not None),
        description=job.description if bad is None else bad.what,
        built=any(task["attempts"] or task["usage"] is not None for task in tasks),
        time_ms=sum(untrusted.number_in(task["executionTime"]) for task in tasks),
        tokens=usage.tokens,
        cost=usage.cost,
        head=head,
        problems=problems,
        error=errors[0] if errors and not problems else None,
        times=tuple(times),
    )


def summary(root: Root, names: Iterable[str]) -> str:
    """The state of jobs as Markdown for the page of a CI run: a table, problems, and graphs."""
    ids = describe.names_to_ids(root, names)
    rows = dict(zip(ids, _rows(root, ids), strict=True))
    wrong = {job: row for job, row in rows.items() if row.has_problem}
    shown = [rows[job] for job in _first(rows, _MAX_ROWS)]
    lines = [*_table(shown, len(rows), len(wrong)), *_wrong(list(wrong.values()))]
    around = describe.around(root)
    for job in list(wrong or rows)[: _MAX_GRAPHS if wrong else 1]:
        graph = graph_of_job(root, find(job, around))
        if graph is not None:
            lines += [
                "",
                f"{inline_code(rows[job].id)}:",
                "",
                _fenced(svg.mermaid(graph), "mermaid"),
            ]
    return "\n".join([*lines, ""])


def _table(rows: Sequence[ReportRow], count_all: int, wrong: int) -> Iterator[str]:
    said = f", {wrong} with problems" if wrong else ""
    yield f"## popbuild: {count(count_all, 'job')}{said}"
    yield ""
    yield "| job | state | cost | tokens | time |"
    yield "|---|---|---:|---:|---:|"
    for row in rows:
        numbers = [money(row.cost), shown_tokens(row.tokens), took(row.time_ms, row.tokens)]
        cells = [
            inline_code(row.id),
            inline_code(row.description),
            *(numbers if row.built else ["", "", ""]),
        ]
        yield f"| {' | '.join(each.replace('|', chr(92) + '|') for each in cells)} |"
    if count_all > len(rows):
        yield from ("", f"And {count_all - len(rows):,} more, none of them worse.")


def _wrong(rows: Sequence[ReportRow]) -> Iterator[str]:
    for row in rows[:_MAX_TOLD]:
        yield from ("", f"### {inline_code(row.id)}", "")
        if row.problems:
            yield from (f"{inline_code(row.head)}:", "")
        yield from (f"- {inline_code(str(each))}" for each in row.problems[:_MAX_PROBLEMS])
        if len(row.problems) > _MAX_PROBLEMS:
            yield f"- and {len(row.problems) - _MAX_PROBLEMS} more"
        if row.error:
            yield _fenced(row.error)
    if len(rows) > _MAX_TOLD:
        yield from ("", f"And {len(rows) - _MAX_TOLD} more.")


def inline_code(text: str) -> str:
    """A text as inline code, in which no character means anything to Markdown."""
    line = " ".join(printable(text).split())
    fence = _fence(line, 1)
    padding = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{padding}{line}{padding}{fence}" if line else ""


def _fenced(text: str, kind: str = "") -> str:
    text = printable(text).rstrip("\n")
    fence = _fence(text, 3)
    return f"{fence}{kind}\n{text}\n{fence}"


def _fence(text: str, least: int) -> str:
    return "`" * max(least, *(len(each) + 1 for each in re.findall("`+", text)), 0)
