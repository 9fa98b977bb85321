"""Templates to HTML. Every value is escaped. The one importer of jinja2 beside prompts, with an
environment of its own."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import jinja2
from markupsafe import Markup, escape

from popbuild.base.errors import printable
from popbuild.base.units import count, money, seconds, size
from popbuild.jobs.staleness import brief
from popbuild.model.clock import seconds_at, timestamp
from popbuild.web import svg
from popbuild.web.pages.markdown import html_of
from popbuild.web.pages.panels import JobView

_FOLDER = Path(__file__).parent
_DRAWINGS_END = "/* Pages. */"  # what is above it in the sheet, drawings need too


def render_page(name: str, **values: Any) -> str:
    """A page from its template; jinja2.UndefinedError where a value is missing."""
    return _environment().get_template(name).render(**values)


def compile_templates() -> None:
    """Compile every template, so that the first page does not wait for it."""
    environment = _environment()
    for name in environment.list_templates():
        environment.get_template(name)


def panels(
    view: JobView,
    at: str = "",
    level: int = 2,
    *,
    questions: bool = True,
    files: str = "",
    now_s: float | None = None,
) -> Markup:
    """All panels about a job, a section each. `at` is a prefix of their IDs, for pages with several
    jobs; `level` is that of their headings. `questions` leaves out the panel of questions if false;
    `files` is the address of the job's files, where there is one. With `now_s`, running tasks show
    for how long they run, else since when."""
    # The template has escaped its values.
    return Markup(  # noqa: S704
        render_page(
            "panels.html",
            view=view,
            at=at,
            level=level,
            questions=questions,
            files=files,
            now_s=now_s,
        )
    )


@functools.cache
def style() -> str:
    """The style sheet of all pages."""
    return (_FOLDER / "static/popbuild.css").read_text(encoding="utf-8")


def drawing_style() -> str:
    """The part of it that a drawing includes when it stands alone."""
    return style().split(_DRAWINGS_END)[0]


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        cache_size=-1,
    )
    environment.filters.update(
        age=age,
        brief=brief,
        count=count,
        in_words=decision_markup,
        money=money,
        seconds=seconds,
        size=size,
        time=time,
        tokens=shown_tokens,
        urlencode=_in_url,
    )
    environment.globals.update(
        graph=_graph,
        markdown=html_of,
        panels=panels,
        since=since,
        style=lambda: Markup(style()),  # noqa: S704 - a file of ours
        timeline=_timeline,
    )
    return environment


def _in_url(value: Any) -> str:
    """A part of an address, or its query; also a file name that is not valid text."""
    if isinstance(value, str):
        return quote(value, safe="", errors="surrogateescape")
    return urlencode(value, errors="surrogateescape")


def _shown(value: Any) -> Any:
    """Direction marks and invalid text are shown by their codes."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return printable(value)
    return value


# A drawing escapes its texts.


def _graph(view: JobView, at: str) -> Markup:
    assert view.graph is not None
    return Markup(  # noqa: S704
        svg.svg(view.graph, link=lambda task: f"#{at}task-{task}")
    )


def _timeline(view: JobView) -> Markup:
    return Markup(svg.timeline_svg(view.id, view.lanes))  # noqa: S704


def time(at: str | None) -> Markup:
    """A time from our files in UTC, to the second: `2026-11-28 17:50:05`, with the full time as an
    attribute and a tooltip; other text as it is."""
    text, at_s = printable(at or ""), seconds_at(at)
    if at_s is None:
        return escape(text)
    shown = timestamp(at_s)[:19].replace("T", " ")
    return Markup('<time datetime="{0}" title="{0}">{1}</time>').format(text, shown)


def since(at: str, now_s: float | None) -> Markup:
    """How long something has been running, `12 s so far`, which a script keeps counting; without
    `now_s`, since when."""
    at_s = seconds_at(at)
    if at_s is None or now_s is None:
        return Markup("since {}").format(time(at))
    took = seconds(max(now_s - at_s, 0.0) * 1000)
    return Markup('<span data-since="{}">{}</span> so far').format(timestamp(at_s), took)


def decision_markup(decision: Mapping[str, Any]) -> Markup:
    """A decision as JSON has it, in a line: `approved by Ada, 2026-11-28 14:02:11: fine`."""
    note = f": {decision['note']}" if decision["note"] else ""
    by, note = (" ".join(printable(text).split()) for text in (str(decision["by"]), note))
    return Markup("{} by {}, {}{}").format(decision["decision"], by, time(decision["at"]), note)


def shown_tokens(value: int | None) -> str:
    """`1,338`, `unknown`."""
    return "unknown" if value is None else f"{value:,}"


def age(time: str | None, now_s: float) -> str:
    """How long ago a time is: `just now`, `3 min ago`, `5 h ago`, `12 days ago`; empty for other
    text."""
    then_s = seconds_at(time)
    return "" if then_s is None else ago(now_s - then_s)


def ago(past_s: float) -> str:
    """How long ago something was, as `age` says it."""
    steps: Iterable[tuple[float, str]] = ((86_400, "day"), (3_600, "h"), (60, "min"))
    for unit_s, unit in steps:
        if past_s >= unit_s:
            number = int(past_s // unit_s)
            plural = "s" if unit == "day" and number != 1 else ""
            return f"{number:,} {unit}{plural} ago"
    return "just now"
