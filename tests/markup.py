"""HTML as a tree, for tests that ask what stands where."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from xml.etree import ElementTree

_VOID = frozenset("area base br col embed hr img input link meta source track wbr".split())


@dataclass
class Element:
    """An element with what is inside, texts as they are."""

    tag: str
    attributes: dict[str, str]
    inside: list[Element | str] = field(default_factory=list)

    def all(self, tag: str = "", **attributes: str) -> Iterator[Element]:
        """Every element below with this tag and these attributes; `class_` is one of several."""
        for each in self.inside:
            if isinstance(each, Element):
                if (not tag or each.tag == tag) and each._has(attributes):
                    yield each
                yield from each.all(tag, **attributes)

    def one(self, tag: str = "", **attributes: str) -> Element:
        """The only such element."""
        (found,) = self.all(tag, **attributes)
        return found

    @property
    def text(self) -> str:
        """All text inside, white space as one space."""
        return " ".join(self.raw.split())

    @property
    def raw(self) -> str:
        return "".join(each if isinstance(each, str) else each.raw for each in self.inside)

    def _has(self, attributes: dict[str, str]) -> bool:
        for name, value in attributes.items():
            found = self.attributes.get(name.rstrip("_"))
            if found is None or (
                value not in found.split() if name == "class_" else value != found
            ):
                return False
        return True


class _Builder(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("", {})
        self._open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        assert len(element.attributes) == len(attrs), f"an attribute twice: {attrs}"
        self._open[-1].inside.append(element)
        if tag not in _VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open[-1].tag == tag, f"</{tag}> closes <{self._open[-1].tag}>"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        self._open[-1].inside.append(data)


def parse(text: str) -> Element:
    """A document; every element in it must be closed where it should be."""
    builder = _Builder()
    builder.feed(text)
    builder.close()
    assert builder._open == [builder.root], f"not closed: {builder._open[-1].tag}"
    return builder.root


def svg_of(text: str) -> ElementTree.Element:
    """A drawing, which must be well-formed XML."""
    return ElementTree.fromstring(text)  # noqa: S314 - what we have drawn ourselves


def acts(page: Element) -> list[str]:
    """Everything in a page that could run, load or restyle something, or lead elsewhere than into
    the page and to the web."""
    found = []
    for each in page.all():
        if each.tag in (
            "script",
            "iframe",
            "object",
            "embed",
            "img",
            "image",
            "use",
            "link",
            "base",
        ):
            found.append(f"<{each.tag}>")
        for name, value in each.attributes.items():
            if (
                name.startswith("on")
                or name in ("style", "src", "srcdoc", "action", "formaction")
                or (
                    name.endswith("href")
                    and not value.startswith(("#", "https://", "http://", "mailto:"))
                )
            ):
                found.append(f"{each.tag} {name}={value[:40]}")
    return found
