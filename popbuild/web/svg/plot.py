"""One series over time as bars, with named axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from popbuild.model.clock import timestamp
from popbuild.web.svg import shapes

_HEIGHT = 200.0
_TOP, _BOTTOM, _RIGHT = 12.0, 30.0, 8.0
_TICKS = 4
_TICK_PX = 13.0


@dataclass(frozen=True)
class Point:
    """A value at a time, in seconds since the epoch; None where it is unknown. `label` says what it
    belongs to, such as a run."""

    at_s: float
    value: float | None
    label: str


def plot_svg(
    name: str,
    points: Sequence[Point],
    *,
    said: Callable[[float], str] = lambda value: f"{value:g}",
    width: float = 760.0,
) -> str:
    """The points in the order of time, a bar each, from zero up. `said` formats a value with its
    unit. A drawing shown smaller than its `width` has smaller letters, too."""
    points = sorted(points, key=lambda point: point.at_s)
    values = [point.value for point in points if point.value is not None]
    ticks = steps(max([*values, 0.0]), _TICKS)
    left = max(shapes.width_of(said(each), _TICK_PX) for each in ticks) + 10
    floor, room = _HEIGHT - _BOTTOM, width - left - _RIGHT
    scale = (floor - _TOP) / ticks[-1] if ticks[-1] else 0.0
    inside = []
    for tick in ticks:
        y = floor - tick * scale
        inside.append(shapes.line("M", (left, y), "H", (width - _RIGHT,), class_="grid"))
        inside.append(_tick(said(tick), left - 8, y + 4, "end"))
    places = [left + room * (number + 0.5) / len(points) for number in range(len(points))]
    inside += _bars(points, places, floor, scale, said)
    inside += _dates(points, places)
    if nothing := _nothing(points, values):
        inside.append(_tick(nothing, left + room / 2, (_TOP + floor) / 2, "middle"))
    described = _described(points, values, said)
    return shapes.svg_document(inside, (width, _HEIGHT), name=name, description=described)


def _tick(said: str, x: float, y: float, anchor: str) -> str:
    return shapes.text_element(said, x, y, class_="tick", text_anchor=anchor)


def steps(most: float, about: int) -> list[float]:
    """About so many round numbers, from 0 to the first that is not below `most`."""
    if not most > 0 or not math.isfinite(most):
        return [0.0]
    rough = most / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(each * power for each in (1, 2, 5, 10) if each * power >= rough * (1 - 1e-9))
    count = math.ceil(most / step - 1e-9)
    return [float(f"{step * number:.12g}") for number in range(count + 1)]


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
            parts.append(shapes.centred("?", x, floor - 3, "mark"))
        else:
            high = max(point.value * scale, 1.0)
            box = {"x": x - width / 2, "y": floor - high, "width": width, "height": high}
            parts.append(shapes.element("rect", **box))
        drawn.append(shapes.element("g", *parts, class_="bar"))
    return drawn


def _point(point: Point, said: Callable[[float], str]) -> str:
    value = "unknown" if point.value is None else said(point.value)
    return f"{point.label}: {value}"


def _nothing(points: Sequence[Point], values: Sequence[float]) -> str:
    """The text of a plot without visible bars."""
    if not points:
        return "nothing yet"
    return "none" if len(values) == len(points) and not any(values) else ""


def _dates(points: Sequence[Point], places: Sequence[float]) -> list[str]:
    days = [timestamp(point.at_s)[:10] for point in points]
    ends = [(0, "start")] if days else []
    ends += [(-1, "end")] if days[:1] != days[-1:] else []
    y = _HEIGHT - _BOTTOM + 20
    return [_tick(days[at], places[at], y, anchor) for at, anchor in ends]


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
