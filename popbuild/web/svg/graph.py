"""A pipeline's graph, with the state of each task where it is known: as SVG, Mermaid and DOT.

Arrows go from a task to those that need it. An arrow that others imply is left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from popbuild.base.errors import printable
from popbuild.model.pipeline import Pipeline
from popbuild.web.svg import shapes
from popbuild.web.svg.layers import Edge, Layout, direct, lay_out

# The mark of each task state: colour is never the only sign.
MARKS = {
    "done": "\u2713",
    "running": "\u25b8",
    "pending": "\u25cb",
    "error": "!",
    "rejected": "\u2717",
    "stale": "~",
    "waiting": "?",
    "frozen": "=",
    "skipped": "-",
}
_LABEL_PX, _NOTE_PX = 15.0, 13.0
_HIGH, _BETWEEN, _MARGIN, _PADDING = 52.0, 34.0, 6.0, 14.0
_LEAST_WIDTH = 96.0
_MOST_CHARS = 34
_ARROW = 5.0


@dataclass(frozen=True)
class Node:
    """A task. `state` is one of MARKS, or None where it is unknown; `note` follows it, such as how
    long the task took."""

    id: str
    label: str
    state: str | None = None
    note: str = ""

    @property
    def line(self) -> str:
        """State and note in one line, the state with its mark."""
        known = f"{MARKS[self.state]} {self.state}" if self.state in MARKS else ""
        return " · ".join(filter(None, (known, self.note)))


@dataclass(frozen=True)
class Graph:
    """Tasks, and edges from each to those that need it."""

    name: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]

    @property
    def arrows(self) -> tuple[Edge, ...]:
        return direct(self.edges)

    @property
    def description(self) -> str:
        """The graph in words, task by task."""
        labels = {node.id: node.label for node in self.nodes}
        needs: dict[str, list[str]] = {node.id: [] for node in self.nodes}
        for upper, lower in self.arrows:
            needs[lower].append(labels[upper])
        return "; ".join(
            node.label
            + (f" ({node.state})" if node.state else "")
            + (f" after {', '.join(needs[node.id])}" if needs[node.id] else "")
            for node in self.nodes
        )


def graph_of(
    pipeline: Pipeline,
    name: str | None = None,
    states: Mapping[str, str] | None = None,
    notes: Mapping[str, str] | None = None,
) -> Graph:
    """The graph of a pipeline, or of a job with the states of its tasks and notes on them."""
    states, notes = states or {}, notes or {}
    nodes = tuple(
        Node(task.id, task.label, states.get(task.id), notes.get(task.id, ""))
        for task in pipeline.tasks
    )
    edges = tuple((upper, task.id) for task in pipeline.tasks for upper in task.needs)
    return Graph(name or pipeline.name, nodes, edges)


def svg(graph: Graph, *, link: Callable[[str], str] | None = None, style: str = "") -> str:
    """The graph as SVG. `link` gives the address of a task; `style` is the sheet of a drawing that
    stands alone."""
    lines = {node.id: _lines(node) for node in graph.nodes}
    widths = {name: _width(each) for name, each in lines.items()}
    layout = lay_out(widths, graph.arrows)
    inside = [_arrow(layout, edge) for edge in graph.arrows]
    for node in graph.nodes:
        drawn = _box(node, lines[node.id], layout, widths[node.id])
        inside.append(shapes.element("a", drawn, href=link(node.id)) if link is not None else drawn)
    rows = max(layout.rows.values(), default=0) + 1
    size = layout.width + 2 * _MARGIN, rows * (_HIGH + _BETWEEN) - _BETWEEN + 2 * _MARGIN
    return shapes.svg_document(
        inside,
        size,
        name=f"Tasks of {graph.name}",
        description=graph.description,
        style=style,
        linked=link is not None,
    )


def _lines(node: Node) -> tuple[str, ...]:
    lines = filter(None, (node.label, node.line))
    return tuple(shapes.shortened(printable(each), _MOST_CHARS) for each in lines)


def _width(lines: tuple[str, ...]) -> float:
    sizes = (_LABEL_PX, _NOTE_PX)
    widest = max(shapes.width_of(each, px) for each, px in zip(lines, sizes, strict=False))
    return max(widest + 2 * _PADDING, _LEAST_WIDTH)


def _top(row: int) -> float:
    return _MARGIN + row * (_HIGH + _BETWEEN)


def _box(node: Node, lines: tuple[str, ...], layout: Layout, width: float) -> str:
    center, top = layout.centers[node.id] + _MARGIN, _top(layout.rows[node.id])
    middle = top + _HIGH / 2
    label_y = middle - 5 if len(lines) > 1 else middle + 5
    parts = [
        shapes.title(" · ".join(filter(None, (node.label, node.line)))),
        shapes.element("rect", x=center - width / 2, y=top, width=width, height=_HIGH, rx=4.0),
        shapes.centred(lines[0], center, label_y, "label"),
    ]
    for note in lines[1:]:
        parts.append(shapes.centred(note, center, middle + 15, "note"))
    return shapes.element("g", *parts, class_=f"node {_known(node)}".rstrip())


def _known(node: Node) -> str:
    return node.state if node.state is not None and node.state in MARKS else ""


def _arrow(layout: Layout, edge: Edge) -> str:
    """From the lower edge of a box to the upper edge of another, past the rows between them."""
    row = layout.rows[edge[0]]
    x, *others = (each + _MARGIN for each in layout.routes[edge])
    y = _top(row) + _HIGH
    path: list[str | tuple[float, ...]] = ["M", (x, y)]
    for count, other in enumerate(others, 1):
        end = _top(row + count) - (_ARROW if count == len(others) else 0)
        bend = (end - y) / 2
        path += ["C", (x, y + bend, other, end - bend, other, end)]
        x, y = other, end
        if count < len(others):
            y = _top(row + count) + _HIGH
            path += ["V", (y,)]
    tip = ("M", (x - _ARROW * 0.8, y), "H", (x + _ARROW * 0.8,), "L", (x, y + _ARROW), "Z")
    lines = shapes.line(*path, class_="line"), shapes.line(*tip, class_="tip")
    return shapes.element("g", *lines, class_="arrow")


def mermaid(graph: Graph) -> str:
    """The graph for Mermaid. Names are in labels only, with every special character quoted: Mermaid
    takes directives from anywhere in its text."""
    ids = {node.id: f"t{number}" for number, node in enumerate(graph.nodes)}
    lines = ["graph TD"]
    for node in graph.nodes:
        said = "<br/>".join(_mermaid_text(each) for each in (node.label, node.line) if each)
        opened, closed = ("([", "])") if node.state == "pending" else ("[", "]")
        lines.append(f'  {ids[node.id]}{opened}"{said}"{closed}')
    lines += [f"  {ids[upper]} --> {ids[lower]}" for upper, lower in graph.arrows]
    by_state: dict[str, list[str]] = {}
    for node in graph.nodes:
        if _known(node):
            by_state.setdefault(_known(node), []).append(ids[node.id])
    for state in sorted(by_state.keys() & _MERMAID_STYLES.keys()):
        lines.append(f"  classDef {state} {_MERMAID_STYLES[state]}")
        lines.append(f"  class {','.join(by_state[state])} {state}")
    return "\n".join(lines) + "\n"


_MERMAID_STYLES = {
    "error": "stroke:#b3121f,stroke-width:3px",
    "rejected": "stroke:#b3121f,stroke-width:3px",
    "running": "stroke:#7a4f00,stroke-width:3px",
    "stale": "stroke:#7a4f00,stroke-dasharray:6 3",
    "waiting": "stroke:#6d3597,stroke-width:3px",
}


def _mermaid_text(text: str) -> str:
    line = shapes.shortened(printable(text), 2 * _MOST_CHARS)
    return "".join(
        each if each.isalnum() or each in " -_.,·" else f"#{ord(each)};" for each in line
    )


def dot(graph: Graph) -> str:
    """The graph for Graphviz."""
    lines = [f"digraph {_dot_text(graph.name)} {{", "  node [shape=box style=rounded]"]
    for node in graph.nodes:
        said = "\n".join(each for each in (node.label, node.line) if each)
        style = " style=dashed" if node.state in ("pending", "stale") else ""
        lines.append(f"  {_dot_text(node.id)} [label={_dot_text(said)}{style}]")
    lines += [f"  {_dot_text(upper)} -> {_dot_text(lower)}" for upper, lower in graph.arrows]
    return "\n".join([*lines, "}", ""])


def _dot_text(text: str) -> str:
    lines = [json.dumps(printable(line), ensure_ascii=False)[1:-1] for line in text.splitlines()]
    return '"' + "\\n".join(lines) + '"'
