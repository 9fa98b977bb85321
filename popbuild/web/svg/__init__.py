"""Graphs, timelines and plots as text. Pure: data in, SVG, Mermaid or DOT out."""

from popbuild.web.svg.graph import Graph, Node, dot, graph_of, mermaid, svg, with_others
from popbuild.web.svg.plot import Point, plot_svg
from popbuild.web.svg.timeline import Bar, TimelineRow, timeline_svg

__all__ = [
    "Bar",
    "Graph",
    "Node",
    "Point",
    "TimelineRow",
    "dot",
    "graph_of",
    "mermaid",
    "plot_svg",
    "svg",
    "timeline_svg",
    "with_others",
]
