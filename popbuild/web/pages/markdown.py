"""Markdown of artifacts as inert HTML: no HTML from the text, no images, and links only to the web
and to mail addresses. The one importer of markdown_it."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup, escape

from popbuild.base.errors import printable

_MAX_HEADING = 6
_FOLLOWED = re.compile(r"(https?://|mailto:)", re.IGNORECASE)


def html_of(text: str, level: int) -> Markup:
    """The text as HTML, with its highest headings at this level and lower ones as much deeper.

    The only foreign text that is not escaped as a whole: its tags come from this parser, none from
    the text.
    """
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
    parser.validateLink = _may_be_followed  # type: ignore[method-assign]
    parser.add_render_rule("link_open", _link)
    parser.add_render_rule("image", _image)
    return parser


def _may_be_followed(url: str) -> bool:
    return _FOLLOWED.match(url) is not None


def _link(renderer: Any, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
    # The target learns neither the page that links to it, nor gets a handle on it.
    tokens[at].attrs["rel"] = "noreferrer noopener"
    return str(renderer.renderToken(tokens, at, options, env))


def _image(renderer: Any, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
    """An image is only named, never loaded."""
    token = tokens[at]
    said = renderer.renderInlineAsText(token.children or [], options, env)
    return str(escape(f"[image: {said or 'without a text'}] ({token.attrs.get('src', '')})"))
