"""Drawings for pages: a pipeline's graph, and the cost and duration of runs over time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from popbuild.base.units import money
from popbuild.model.clock import seconds_at
from popbuild.model.pipeline import Pipeline
from popbuild.web import svg

_PLOT = 380.0  # pixels: three stand side by side, and one fills a narrow window


def pipeline_picture(pipeline: Pipeline) -> Markup:
    """A pipeline's tasks, each with a link to its section of the page."""
    graph = svg.graph_of(pipeline)
    # A drawing escapes its texts.
    return Markup(svg.svg(graph, link=lambda task: f"#task-{task}"))  # noqa: S704


def plots_of(runs: Sequence[Mapping[str, Any]]) -> Iterable[tuple[str, Markup]]:
    """Cost, duration and refinements of runs over time, the oldest first."""
    for name, value_of, said in (
        ("Cost", lambda run: run["cost"], money),
        ("Duration", lambda run: run["totalExecutionTime"] / 1000, _seconds),
        ("Refinements per task", _rate, lambda value: f"{value:.2g}"),
    ):
        points = [
            svg.Point(at_s, value_of(run), str(run["id"]))
            for run in runs
            if (at_s := seconds_at(run["finishedAt"])) is not None
        ]
        picture = svg.plot_svg(name, points, said=said, width=_PLOT)
        yield name, Markup(picture)  # noqa: S704 - as above


def _seconds(value: float) -> str:
    return f"{value:g} s"


def _rate(run: Mapping[str, Any]) -> float:
    return float(run["totalRefinementAttempts"]) / max(len(run["built"]), 1)
