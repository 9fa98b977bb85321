"""Templates and Markdown to HTML. Every value is escaped. The one importer of markdown_it, and that
of jinja2 beside prompts, with an environment for pages."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import jinja2
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup, escape

from popbuild.base.errors import printable
from popbuild.base.units import count, money, seconds, size
from popbuild.jobs.staleness import brief
from popbuild.model.clock import seconds_at, timestamp
from popbuild.web import svg
from popbuild.web.pages.panels import JobView

_FOLDER = Path(__file__).parent
_DRAWINGS_END = "/* Pages. */"  # what is above it in the sheet, drawings need too
_FOLLOWED = re.compile(r"(https?://|mailto:)", re.IGNORECASE)
_MAX_HEADING = 6


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
    given = {"at": at, "level": level, "questions": questions, "files": files, "now_s": now_s}
    return Markup(render_page("panels.html", view=view, **given))  # noqa: S704 - it is escaped


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
        {each.__name__: each for each in (age, brief, count, money, seconds, size, time)},
        in_words=decision_markup,
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


def _shown(value: object) -> Any:
    """Direction marks and invalid text are shown by their codes."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return printable(value)
    return value


def _graph(view: JobView, at: str) -> Markup:
    assert view.graph is not None
    drawn = svg.svg(view.graph, link=lambda task: f"#{at}task-{task}")
    return Markup(drawn)  # noqa: S704 - a drawing escapes its texts


def _timeline(view: JobView) -> Markup:
    return Markup(svg.timeline_svg(view.id, view.lanes))  # noqa: S704 - as above


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
    for unit_s, unit in ((86_400, "day"), (3_600, "h"), (60, "min")):
        if past_s >= unit_s:
            number = int(past_s // unit_s)
            plural = "s" if unit == "day" and number != 1 else ""
            return f"{number:,} {unit}{plural} ago"
    return "just now"


def html_of(text: str, level: int) -> Markup:
    """Markdown as inert HTML, its highest headings at this level: no HTML from the text, no images,
    and links only to the web and to mail addresses. The only foreign text that is not escaped as a
    whole: its tags come from this parser."""
    parser = _parser()
    tokens = parser.parse(printable(text))
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(level + int(token.tag[1]) - 1, _MAX_HEADING)}"
        elif "style" in token.attrs:  # how a column is aligned
            style = str(token.attrs.pop("style"))
            if style.endswith("right"):
                token.attrs["class"] = "number"
    return Markup(parser.renderer.render(tokens, parser.options, {}))  # noqa: S704 - see above


@functools.cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    parser.validateLink = lambda url: _FOLLOWED.match(url) is not None  # type: ignore[method-assign]
    parser.add_render_rule("link_open", _link)
    parser.add_render_rule("image", _image)
    return parser


def _link(renderer: Any, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
    # The target learns neither the page that links to it, nor gets a handle on it.
    tokens[at].attrs["rel"] = "noreferrer noopener"
    return str(renderer.renderToken(tokens, at, options, env))


def _image(renderer: Any, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
    """An image is only named, never loaded."""
    token = tokens[at]
    said = renderer.renderInlineAsText(token.children or [], options, env)
    return str(escape(f"[image: {said or 'without a text'}] ({token.attrs.get('src', '')})"))
