"""The elements of a drawing: SVG that is well-formed whatever its texts hold.

Colours are classes, so that a page's style sheet decides, in the dark and in the light. A drawing
that stands alone brings that sheet along.
"""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Iterable

from popbuild.base.errors import printable

NAMESPACE = "http://www.w3.org/2000/svg"
_NO_XML = {0xFFFE: "\ufffd", 0xFFFF: "\ufffd"}


def escaped(text: str) -> str:
    """A text between tags or in an attribute: shown, never obeyed."""
    return html.escape(printable(text).translate(_NO_XML))


def coordinate(value: float) -> str:
    """A coordinate: the same digits on every machine."""
    return f"{value:.1f}".removesuffix(".0")


def element(name: str, *inside: str, **attributes: str | float) -> str:
    """`<name …>inside</name>`. What is inside is SVG already, the attributes' values are not:
    `text_anchor` is `text-anchor`, `class_` is `class`. An empty value leaves the attribute out."""
    given = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()}
    shown = "".join(
        f' {key}="{coordinate(value) if isinstance(value, int | float) else escaped(value)}"'
        for key, value in given.items()
        if value != ""
    )
    return f"<{name}{shown}>{''.join(inside)}</{name}>" if inside else f"<{name}{shown}/>"


def text_element(content: str, x: float, y: float, **attributes: str | float) -> str:
    """A line of text that begins at a place, or is centred on it with `text_anchor`."""
    return element("text", escaped(content), x=x, y=y, **attributes)


def title(content: str) -> str:
    """What a reader is told of the element that it stands in."""
    return element("title", escaped(content))


def svg_document(
    inside: Iterable[str],
    size: tuple[float, float],
    *,
    name: str,
    description: str,
    style: str = "",
    linked: bool = False,
) -> str:
    """A whole drawing. `style` is the sheet of one that stands alone. To a screen reader an image
    is one thing, without parts: with links in it, it is a group."""
    width, height = size
    sheet = [element("style", html.escape(style, quote=False))] if style else []
    return element(
        "svg",
        title(name),
        element("desc", escaped(description)),
        *sheet,
        *inside,
        xmlns=NAMESPACE,
        class_="drawing",
        viewBox=f"0 0 {coordinate(width)} {coordinate(height)}",
        width=width,
        height=height,
        role="group" if linked else "img",
        aria_label=f"{name}. {description}" if not linked else name,
    )


def shortened(content: str, most: int) -> str:
    """One line of at most so many characters."""
    line = " ".join(content.split())
    return line if len(line) <= most else line[: most - 1] + "…"


def width_of(content: str, size_px: float) -> float:
    """About how wide a text is, rather too wide than too narrow: no font is asked."""
    wide = sum(
        2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in printable(content)
    )
    return wide * size_px * 0.58
