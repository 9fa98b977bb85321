"""One series over time, as bars or as a line, with named axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from popbuild.model.clock import timestamp
from popbuild.web.svg import shapes

_HEIGHT = 200.0
_TOP, _BOTTOM, _RIGHT = 12.0, 30.0, 8.0
_TICKS = 4
_TICK_PX = 13.0


@dataclass(frozen=True)
class Point:
    """A value at a time, in seconds since the epoch; None where it is not known. `label` is what a
    reader is told of it: the run that it comes from, for one."""

    at_s: float
    value: float | None
    label: str


def plot_svg(
    name: str,
    points: Sequence[Point],
    *,
    said: Callable[[float], str] = lambda value: f"{value:g}",
    kind: Literal["bars", "line"] = "bars",
    width: float = 760.0,
    style: str = "",
) -> str:
    """The points in the order of time, from zero up. Bars stand side by side, a bar a point; a line
    keeps the distances of time. `said` is a value as a person reads it, with its unit. Shown
    smaller than its `width`, it has smaller letters, too."""
    points = sorted(points, key=lambda point: point.at_s)
    values = [point.value for point in points if point.value is not None]
    ticks = steps(max([*values, 0.0]), _TICKS)
    left = max(shapes.width_of(said(each), _TICK_PX) for each in ticks) + 10
    floor, room = _HEIGHT - _BOTTOM, width - left - _RIGHT
    scale = (floor - _TOP) / ticks[-1] if ticks[-1] else 0.0
    inside = []
    for tick in ticks:
        y = floor - tick * scale
        line = (
            f"M{shapes.coordinate(left)} {shapes.coordinate(y)}H{shapes.coordinate(width - _RIGHT)}"
        )
        inside.append(shapes.element("path", d=line, class_="grid"))
        inside.append(
            shapes.text_element(said(tick), left - 8, y + 4, class_="tick", text_anchor="end")
        )
    places = _places(points, left, room, kind)
    draw = _bars if kind == "bars" else _line
    inside += draw(points, places, floor, scale, said)
    inside += _dates(points, places)
    if nothing := _nothing(points, values):
        middle = left + room / 2, (_TOP + floor) / 2
        inside.append(shapes.text_element(nothing, *middle, class_="tick", text_anchor="middle"))
    return shapes.svg_document(
        inside,
        (width, _HEIGHT),
        name=name,
        description=_described(points, values, said),
        style=style,
    )


def steps(most: float, about: int) -> list[float]:
    """Round numbers from 0 up to the first that is not below `most`, about so many."""
    if not most > 0 or not math.isfinite(most):
        return [0.0]
    rough = most / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(each * power for each in (1, 2, 5, 10) if each * power >= rough * (1 - 1e-9))
    count = math.ceil(most / step - 1e-9)
    return [float(f"{step * number:.12g}") for number in range(count + 1)]


def _places(points: Sequence[Point], left: float, room: float, kind: str) -> list[float]:
    if not points:
        return []
    first, last = points[0].at_s, points[-1].at_s
    if kind == "bars" or first == last:
        return [left + room * (number + 0.5) / len(points) for number in range(len(points))]
    return [left + 6 + (room - 12) * (each.at_s - first) / (last - first) for each in points]


def _bars(
    points: Sequence[Point],
    places: Sequence[float],
    floor: float,
    scale: float,
    said: Callable[[float], str],
) -> list[str]:
    apart = places[1] - places[0] if len(places) > 1 else 48.0
    width = max(min(apart * 0.72, 36.0), 1.0)
    drawn = []
    for point, x in zip(points, places, strict=True):
        parts = [shapes.title(_point(point, said))]
        if point.value is None:
            parts.append(
                shapes.text_element("?", x, floor - 3, class_="mark", text_anchor="middle")
            )
        else:
            high = max(point.value * scale, 1.0)
            parts.append(
                shapes.element("rect", x=x - width / 2, y=floor - high, width=width, height=high)
            )
        drawn.append(shapes.element("g", *parts, class_="bar"))
    return drawn


def _line(
    points: Sequence[Point],
    places: Sequence[float],
    floor: float,
    scale: float,
    said: Callable[[float], str],
) -> list[str]:
    path, dots, pen_up = [], [], True
    for point, x in zip(points, places, strict=True):
        y = floor - (point.value or 0.0) * scale
        if point.value is not None:
            path.append(f"{'M' if pen_up else 'L'}{shapes.coordinate(x)} {shapes.coordinate(y)}")
        pen_up = point.value is None
        sign = (
            shapes.text_element("?", x, floor - 3, class_="mark", text_anchor="middle")
            if point.value is None
            else shapes.element("circle", cx=x, cy=y, r=2.5)
        )
        dots.append(shapes.element("g", shapes.title(_point(point, said)), sign, class_="bar"))
    return [*([shapes.element("path", d="".join(path), class_="series")] if path else []), *dots]


def _point(point: Point, said: Callable[[float], str]) -> str:
    value = "unknown" if point.value is None else said(point.value)
    return f"{point.label}: {value}"


def _nothing(points: Sequence[Point], values: Sequence[float]) -> str:
    """What is said where no mark would be seen."""
    if not points:
        return "nothing yet"
    return "none" if len(values) == len(points) and not any(values) else ""


def _dates(points: Sequence[Point], places: Sequence[float]) -> list[str]:
    """The days of the first and of the last point."""
    if not points:
        return []
    y = _HEIGHT - _BOTTOM + 20
    days = [timestamp(point.at_s)[:10] for point in (points[0], points[-1])]
    if days[0] == days[1]:
        return [shapes.text_element(days[0], places[0], y, class_="tick", text_anchor="start")]
    return [
        shapes.text_element(days[0], places[0], y, class_="tick", text_anchor="start"),
        shapes.text_element(days[1], places[-1], y, class_="tick", text_anchor="end"),
    ]


def _described(
    points: Sequence[Point], values: Sequence[float], said: Callable[[float], str]
) -> str:
    if not values:
        return "no value is known"
    unknown = len(points) - len(values)
    return (
        f"{len(points)} values, from {said(min(values))} to {said(max(values))}, "
        f"the last {_point(points[-1], said)}" + (f"; {unknown} unknown" if unknown else "")
    )
