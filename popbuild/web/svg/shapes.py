"""The elements of a drawing: SVG that is well-formed whatever its texts hold.

Colours are classes, so that the page's style sheet decides them, dark or light. A drawing that
stands alone includes that sheet.
"""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Iterable

from popbuild.base.errors import printable

NAMESPACE = "http://www.w3.org/2000/svg"
_NO_XML = {0xFFFE: "\ufffd", 0xFFFF: "\ufffd"}


def escaped(text: str) -> str:
    """A text between tags or in an attribute: shown, never interpreted."""
    return html.escape(printable(text).translate(_NO_XML))


def coordinate(value: float) -> str:
    """A coordinate: the same digits on every machine."""
    return f"{value:.1f}".removesuffix(".0")


def line(*steps: str | tuple[float, ...], class_: str = "") -> str:
    """A line along a path: `line("M", (1, 2), "V", (5,))` goes along `M1 2V5`."""
    parts = (each if isinstance(each, str) else " ".join(map(coordinate, each)) for each in steps)
    return element("path", d="".join(parts), class_=class_)


def element(name: str, *inside: str, **attributes: str | float) -> str:
    """`<name …>inside</name>`. `inside` is SVG already, attribute values are escaped. `text_anchor`
    stands for `text-anchor`, `class_` for `class`; an empty value leaves the attribute out."""
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


def centred(content: str, x: float, y: float, class_: str) -> str:
    return text_element(content, x, y, class_=class_, text_anchor="middle")


def title(content: str) -> str:
    """The tooltip of the element that it is in."""
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
    """A whole drawing. `style` is the sheet of one that stands alone. A screen reader takes an
    image as one thing, so a drawing with links is a group."""
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
    """About how wide a text is, without knowing the font: rather too wide than too narrow."""
    shown = printable(content)
    wide = len(shown) + sum(unicodedata.east_asian_width(each) in "WF" for each in shown)
    return wide * size_px * 0.58
