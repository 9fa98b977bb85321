"""Graphs, timelines and plots: what is drawn where, in well-formed SVG, whatever texts hold."""

from __future__ import annotations

import itertools
import re
from xml.etree.ElementTree import Element

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markup import svg_of

from popbuild.base.errors import printable
from popbuild.web import svg as drawing
from popbuild.web.svg import Bar, Graph, Node, Point, TimelineRow
from popbuild.web.svg.graph import MARKS
from popbuild.web.svg.layers import GAP, direct, lay_out
from popbuild.web.svg.plot import steps
from popbuild.web.svg.shapes import width_of

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = (
    "</text><script>alert(1)</script>",
    '"><svg onload=alert(1)>',
    "]]> --> %%{init: {'theme': 1}}%% ;end",
    "\u202edesrever \x00\x07\ufffe\ud800",
    '\\" ]; } \\N javascript:alert(1)',
)


def classed(svg: Element, name: str) -> list[Element]:
    return [each for each in svg.iter() if name in each.get("class", "").split()]


def texts(element: Element) -> list[str]:
    return ["".join(each.itertext()) for each in element.iter(f"{SVG}text")]


def box(element: Element) -> tuple[float, float, float]:
    """Left, right and top of a node's rectangle."""
    rect = element.find(f"{SVG}rect")
    assert rect is not None
    x = float(rect.get("x", "nan"))
    return x, x + float(rect.get("width", "nan")), float(rect.get("y", "nan"))


def diamond() -> Graph:
    nodes = (
        Node("a", "research", "done", "2.1 s"),
        Node("b", "analysis", "stale"),
        Node("c", "synthesis", "running"),
        Node("d", "formatting", "pending"),
    )
    edges = (("a", "b"), ("a", "c"), ("a", "d"), ("b", "d"), ("c", "d"))
    return Graph("grid", nodes, edges)


def test_tasks_stand_below_what_they_need() -> None:
    """Rows by depth, boxes of a row apart, each with its state as a word and a mark; the arrow that
    others imply is left out."""
    svg = svg_of(drawing.svg(diamond()))
    nodes = classed(svg, "node")
    tops = [box(each)[2] for each in nodes]
    assert tops[0] < tops[1] == tops[2] < tops[3]
    assert box(nodes[1])[1] + GAP <= box(nodes[2])[0]
    assert [texts(each) for each in nodes] == [
        ["research", "✓ done · 2.1 s"],
        ["analysis", "~ stale"],
        ["synthesis", "▸ running"],
        ["formatting", "○ pending"],
    ]
    assert [each.get("class") for each in nodes] == [
        f"node {state}" for state in ("done", "stale", "running", "pending")
    ]
    assert len(classed(svg, "arrow")) == 4


def test_a_graph_says_what_it_shows() -> None:
    """Title, description, and the role of an image; of a group where its tasks are links."""
    svg = svg_of(drawing.svg(diamond()))
    title, description = svg.find(f"{SVG}title"), svg.find(f"{SVG}desc")
    assert title is not None
    assert title.text == "Tasks of grid"
    assert description is not None
    assert description.text == (
        "research (done); analysis (stale) after research; synthesis (running) after research; "
        "formatting (pending) after analysis, synthesis"
    )
    assert svg.get("role") == "img"
    assert "analysis (stale)" in svg.get("aria-label", "")
    linked = svg_of(drawing.svg(diamond(), link=lambda task: f"#task-{task}"))
    assert linked.get("role") == "group"
    assert [each.get("href") for each in linked.iter(f"{SVG}a")] == [f"#task-{t}" for t in "abcd"]


def test_a_drawing_that_stands_alone_brings_its_style() -> None:
    """The sheet is inside, readable as XML; without one there is no style at all."""
    svg = svg_of(drawing.svg(diamond(), style='.a > .b { font-family: "A & B" }'))
    (style,) = svg.iter(f"{SVG}style")
    assert style.text == '.a > .b { font-family: "A & B" }'
    plain = drawing.svg(diamond())
    assert "<style" not in plain
    assert "style=" not in plain


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_are_text(text: str) -> None:
    """In a label, an ID, a note and a graph's name: no other element, attribute or directive."""
    graph = Graph(text, (Node(text, text, "done", text), Node("b", "b", text)), ((text, "b"),))
    svg = svg_of(drawing.svg(graph, link=lambda task: f"#{task}"))
    assert {each.tag.removeprefix(SVG) for each in svg.iter()} <= set(
        "svg title desc g a rect text path".split()
    )
    names = {name for each in svg.iter() for name in each.attrib}
    assert not any(name.startswith("on") for name in names)
    first = classed(svg, "node")[0]
    title = first.find(f"{SVG}title")
    assert title is not None
    # What XML cannot hold is shown by its number, or as a replacement.
    assert (title.text or "").startswith(printable(text).replace("\ufffe", "\ufffd"))
    assert classed(svg, "node")[1].get("class") == "node"
    for line in drawing.mermaid(graph).splitlines()[1:]:
        assert re.fullmatch(
            r'  t\d\[("[\w #;.,·<br/>✓-]*")\]|  t\d --> t\d|  classDef \w+ \S+|  class [\w,]+ \w+',
            re.sub(r"(?<=\")[^\"]*(?=\")", lambda found: found[0].replace("\ufffe", ""), line),
        ), line
    quoted = r'"(?:[^"\\\n]|\\.)*"'
    for line in drawing.dot(graph).splitlines():
        assert re.fullmatch(
            rf"digraph {quoted} {{|  {quoted} \[label={quoted}\]|  {quoted} -> {quoted}"
            r"|  node \[shape=box style=rounded\]|}",
            line,
        ), line


def test_mermaid_and_dot() -> None:
    """The same graph for a CI run's page, and for Graphviz."""
    assert drawing.mermaid(diamond()).splitlines() == [
        "graph TD",
        '  t0["research<br/>#10003; done · 2.1 s"]',
        '  t1["analysis<br/>#126; stale"]',
        '  t2["synthesis<br/>#9656; running"]',
        '  t3(["formatting<br/>#9675; pending"])',
        "  t0 --> t1",
        "  t0 --> t2",
        "  t1 --> t3",
        "  t2 --> t3",
        "  classDef running stroke:#7a4f00,stroke-width:3px",
        "  class t2 running",
        "  classDef stale stroke:#7a4f00,stroke-dasharray:6 3",
        "  class t1 stale",
    ]
    assert drawing.dot(diamond()).splitlines()[:4] == [
        'digraph "grid" {',
        "  node [shape=box style=rounded]",
        '  "a" [label="research\\n✓ done · 2.1 s"]',
        '  "b" [label="analysis\\n~ stale" style=dashed]',
    ]


Edges = list[tuple[str, str]]


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[str], Edges]:
    names = [f"t{number}" for number in range(draw(st.integers(1, 9)))]
    pairs = [(one, other) for n, one in enumerate(names) for other in names[n + 1 :]]
    return draw(st.permutations(names)), draw(st.lists(st.sampled_from(pairs or [("", "")])))


def reachable(names: list[str], edges: tuple[tuple[str, str], ...]) -> set[tuple[str, str]]:
    found = set(edges)
    while True:
        more = {(a, d) for a, b in found for c, d in edges if b == c} - found
        if not more:
            return found
        found |= more


@given(graphs())
@settings(max_examples=60)
def test_every_layout_is_one(graph: tuple[list[str], Edges]) -> None:
    """Of any graph without cycles: all is below what it needs, nothing overlaps, everything is
    inside; and the arrows that are left lead to the same tasks, none of them needlessly."""
    names, pairs = graph
    edges = tuple(edge for edge in pairs if edge[0])
    arrows = direct(edges)
    assert reachable(names, arrows) == reachable(names, edges)
    for left_out in arrows:
        rest = tuple(edge for edge in arrows if edge != left_out)
        assert left_out not in reachable(names, rest)
    widths = {name: 60.0 + 15 * len(name) * number for number, name in enumerate(names)}
    layout = lay_out(widths, arrows)
    for upper, lower in arrows:
        assert layout.rows[upper] < layout.rows[lower]
        route = layout.routes[upper, lower]
        assert len(route) == layout.rows[lower] - layout.rows[upper] + 1
        assert (route[0], route[-1]) == (layout.centers[upper], layout.centers[lower])
    for row in set(layout.rows.values()):
        spans = sorted(
            (layout.centers[name] - widths[name] / 2, layout.centers[name] + widths[name] / 2)
            for name in names
            if layout.rows[name] == row
        )
        assert spans[0][0] >= -1e-6
        assert spans[-1][1] <= layout.width + 1e-6
        for (_, right), (left, _) in itertools.pairwise(spans):
            assert right + GAP <= left + 1e-6


def lanes() -> list[TimelineRow]:
    """Two tasks; the second was refined once, and the first was kept from a run of days ago."""
    days = 3 * 86_400.0
    return [
        TimelineRow("research", "2.0 s", (Bar("inference", 0, 100.0, 102.0, "done"),)),
        TimelineRow(
            "analysis",
            "5.0 s, 1 refinement",
            (
                Bar("inference", 0, days, days + 2, "done"),
                Bar("validateStructure", 0, days + 2, days + 2.01, "failed"),
                Bar("inference", 1, days + 2.01, days + 5, "done"),
            ),
        ),
    ]


def test_a_timeline_has_a_lane_a_task() -> None:
    """Stages in the order and the proportion of time; a gate that said no and the begin of a
    refinement are marked; three idle days take no room, and are said."""
    svg = svg_of(drawing.timeline_svg("grid", lanes()))
    stages = classed(svg, "stage")
    rects = [each.find(f"{SVG}rect") for each in stages]
    places = [(float(r.get("x", "")), float(r.get("width", ""))) for r in rects if r is not None]
    assert places[0][1] == pytest.approx(places[1][1], abs=0.3)
    assert places[3][1] / places[1][1] == pytest.approx(2.99 / 2, abs=0.02)
    assert places[1][0] > places[0][0] + places[0][1]
    assert places[3][0] + places[3][1] <= 760
    assert "✗" in texts(stages[2])
    (refinement,) = classed(svg, "refinement")
    assert texts(refinement) == ["↻1"]
    (pause,) = classed(svg, "pause")
    assert "".join(pause.itertext()) == "3 days without a stage"
    title = stages[3].find(f"{SVG}title")
    assert title is not None
    assert title.text == "inference, refinement 1: done, 3.0 s"
    assert "analysis5.0 s, 1 refinement" in texts(svg)


@pytest.mark.parametrize(
    ("length_s", "said"),
    [
        (0.5, ["0.1 s", "0.2 s", "0.3 s", "0.4 s", "0.5 s"]),
        (70, ["20 s", "40 s", "60 s"]),
        (600, ["2 min", "4 min", "6 min", "8 min", "10 min"]),
        (30_000, ["2 h", "4 h", "6 h", "8 h"]),
    ],
)
def test_the_axis_of_time(length_s: float, said: list[str]) -> None:
    """Round numbers of a unit that fits, behind the time of day at which it begins."""
    bar = Bar("inference", 0, 3_600.0, 3_600.0 + length_s, "done")
    svg = svg_of(drawing.timeline_svg("grid", [TimelineRow("a", "", (bar,))]))
    ticks = ["".join(each.itertext()) for each in classed(svg, "tick")]
    assert ticks == ["01:00:00", *said]


@pytest.mark.parametrize("stretches", [2, 3, 9])
def test_times_on_the_axis_stand_apart(stretches: int) -> None:
    """Where several short stretches follow each other, no label covers another or leaves the
    drawing, and the lanes begin below them."""
    bars = [
        Bar("inference", 0, hour * 3_600.0, hour * 3_600.0 + 0.2, "done")
        for hour in range(stretches)
    ]
    last = stretches * 3_600.0
    long = TimelineRow("b", "15 s", (Bar("inference", 0, last, last + 15.0, "done"),))
    svg = svg_of(drawing.timeline_svg("grid", [TimelineRow("a", "", tuple(bars)), long]))
    spans = []
    for tick in classed(svg, "tick"):
        said, x, y = "".join(tick.itertext()), float(tick.get("x", "")), float(tick.get("y", ""))
        wide = width_of(said, 13.0)
        left = x if tick.get("text-anchor") == "start" else x - wide
        spans.append((y, left, left + wide, said))
    assert "00:00:00" in [said for *_, said in spans]
    if stretches == 2:
        assert "02:00:00" in [said for *_, said in spans]
    for one, other in itertools.combinations(spans, 2):
        assert one[0] != other[0] or one[2] <= other[1] or other[2] <= one[1], (one, other)
    label = next(each for each in svg.iter(f"{SVG}text") if "".join(each.itertext()) == "a")
    assert all(0 < y < float(label.get("y", "")) - 14 for y, *_ in spans)


def test_a_timeline_of_nothing() -> None:
    """No lane, or stages that took no time at all: still a drawing."""
    svg_of(drawing.timeline_svg("grid", []))
    svg_of(
        drawing.timeline_svg("grid", [TimelineRow("a", "", (Bar("parsing", 0, 5.0, 5.0, "done"),))])
    )


def test_a_plot() -> None:
    """A mark for each value in the order of time, an unknown one as a question mark, axes with
    units and days, and the numbers as a description."""
    points = [Point(200_000.0, 4.0, "run b"), Point(0.0, 2.0, "run a"), Point(3e5, None, "run c")]
    svg = svg_of(drawing.plot_svg("Cost of grid", points, said=lambda value: f"${value:g}"))
    bars = classed(svg, "bar")
    assert [each.findtext(f"{SVG}title") for each in bars] == [
        "run a: $2",
        "run b: $4",
        "run c: unknown",
    ]
    assert texts(bars[2]) == ["?"]
    ticks = ["".join(each.itertext()) for each in classed(svg, "tick")]
    assert ticks == ["$0", "$1", "$2", "$3", "$4", "1970-01-01", "1970-01-04"]
    heights = [float(each.get("height", "")) for each in svg.iter(f"{SVG}rect")]
    assert heights[1] == pytest.approx(2 * heights[0], abs=0.2)
    description = svg.findtext(f"{SVG}desc")
    assert description == "3 values, from $2 to $4, the last run c: unknown; 1 unknown"


@pytest.mark.parametrize("width", [380.0, 760.0])
def test_all_of_a_plot_is_in_it(width: float) -> None:
    """However many values there are, every bar stands within what is drawn."""
    for many in (1, 2, 28, 500):
        points = [Point(86_400.0 * number, 1.0 + number, "run") for number in range(many)]
        svg = svg_of(drawing.plot_svg("Cost", points, width=width))
        assert svg.get("viewBox", "").split()[2] == f"{width:g}"
        bars = list(svg.iter(f"{SVG}rect"))
        assert len(bars) == many
        for bar in bars:
            x, wide = float(bar.get("x", "")), float(bar.get("width", ""))
            assert 0 < x < x + wide <= width


def test_a_plot_of_nothing() -> None:
    """No value yet, only zeros, or only unknown ones."""
    assert "nothing yet" in texts(svg_of(drawing.plot_svg("Cost", [])))
    assert "none" in texts(svg_of(drawing.plot_svg("Cost", [Point(0.0, 0.0, "a")])))
    some = [Point(0.0, 0.0, "a"), Point(1.0, None, "b")]
    assert "none" not in texts(svg_of(drawing.plot_svg("Cost", some)))
    svg_of(drawing.plot_svg("Cost", [Point(0.0, None, "a"), Point(1.0, None, "b")]))


@pytest.mark.parametrize(
    ("most", "found"),
    [
        (4, [0, 1, 2, 3, 4]),
        (0.00031, [0, 0.0001, 0.0002, 0.0003, 0.0004]),
        (17, [0, 5, 10, 15, 20]),
        (0, [0]),
        (float("nan"), [0]),
        (float("inf"), [0]),
    ],
)
def test_ticks_are_round(most: float, found: list[float]) -> None:
    """From zero to just above the largest value."""
    assert steps(most, 4) == found


def test_every_state_of_a_task_has_a_mark() -> None:
    """So that colour is never the only sign."""
    from popbuild.model.status import TASK_STATES

    assert set(TASK_STATES) <= MARKS.keys()
    assert len(set(MARKS.values())) == len(MARKS)
