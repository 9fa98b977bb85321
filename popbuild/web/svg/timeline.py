"""When the stages of a job's tasks ran: a lane for each task, refinements marked.

Tasks that a rebuild kept ran in an earlier run, maybe days ago: idle time is cut out and marked.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from popbuild.base.units import seconds
from popbuild.model.clock import timestamp
from popbuild.web.svg import shapes
from popbuild.web.svg.plot import steps

_WIDTH, _MARGIN, _CUT = 760.0, 4.0, 30.0
_LANE, _BAR, _HEAD, _FOOT = 46.0, 15.0, 26.0, 8.0
_IDLE_S = 2.0  # and a quarter of all that ran: idle time that is longer is cut out
_LEAST_WIDTH = 2.0
_UNITS = ((3_600.0, "h"), (60.0, "min"))
_TICK = 110.0  # from one to the next, about
_TICK_PX, _ROW, _MOST_ROWS, _APART = 13.0, 15.0, 4, 4.0  # of their labels


@dataclass(frozen=True)
class Bar:
    """A stage in one cycle, 0 for the first try, in seconds since the epoch. `outcome` is done,
    failed or error."""

    stage: str
    cycle: int
    start_s: float
    end_s: float
    outcome: str


@dataclass(frozen=True)
class TimelineRow:
    """A task with a note, and its stages in the order of time."""

    label: str
    note: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class _Stretch:
    """Time without a long pause, and where it is drawn."""

    start_s: float
    end_s: float
    x: float
    scale: float  # pixels a second

    def at(self, time_s: float) -> float:
        return self.x + (time_s - self.start_s) * self.scale


@dataclass(frozen=True)
class _Tick:
    x: float
    said: str

    @property
    def anchor(self) -> str:
        return "start" if self.x < _WIDTH * 0.93 else "end"

    @property
    def width(self) -> float:
        return shapes.width_of(self.said, _TICK_PX) + _APART

    @property
    def left(self) -> float:
        return self.x if self.anchor == "start" else self.x - self.width


def timeline_svg(name: str, lanes: Sequence[TimelineRow]) -> str:
    """The lanes, one below another, over one time axis."""
    stretches = _stretches([bar for lane in lanes for bar in lane.bars])
    ticks = [tick for each in stretches for tick in _ticks(each)]
    rows = _rows(ticks)
    head = _HEAD + _ROW * max(rows.values(), default=0)
    height = head + len(lanes) * _LANE + _FOOT
    inside = [part for tick in ticks for part in _axis(tick, rows.get(tick), head, height)]
    for one, other in itertools.pairwise(stretches):
        inside += _pause(one, other, head, height)
    for number, lane in enumerate(lanes):
        inside += _drawn(lane, head + number * _LANE, stretches)
    described = "; ".join(f"{lane.label}: {lane.note}" for lane in lanes)
    return shapes.svg_document(
        inside,
        (_WIDTH, height),
        name=f"Stages of {name} over time",
        description=described or "nothing ran yet",
    )


def _stretches(bars: Sequence[Bar]) -> list[_Stretch]:
    spans: list[tuple[float, float]] = []
    for bar in sorted(bars, key=lambda each: each.start_s):
        if spans and bar.start_s <= spans[-1][1]:
            spans[-1] = spans[-1][0], max(spans[-1][1], bar.end_s)
        else:
            spans.append((bar.start_s, bar.end_s))
    busy_s = sum(end - start for start, end in spans)
    joined: list[tuple[float, float]] = []
    for start, end in spans:
        if joined and start - joined[-1][1] <= max(_IDLE_S, busy_s / 4):
            joined[-1] = joined[-1][0], end
        else:
            joined.append((start, end))
    room = _WIDTH - 2 * _MARGIN - _CUT * (len(joined) - 1)
    total_s = sum(end - start for start, end in joined)
    scale = max(room, _WIDTH / 4) / total_s if total_s > 0 else 0.0
    found, x = [], _MARGIN
    for start, end in joined:
        found.append(_Stretch(start, end, x, scale))
        x += (end - start) * scale + _CUT
    return found


def _ticks(stretch: _Stretch) -> Iterator[_Tick]:
    """Round seconds since the stretch began, and when that was."""
    length_s = stretch.end_s - stretch.start_s
    about = int(length_s * stretch.scale / _TICK)
    unit_s, unit = next((each for each in _UNITS if length_s >= 2 * each[0]), (1.0, "s"))
    for step in steps(length_s / unit_s, about) if about > 1 else [0.0]:
        after_s = step * unit_s
        if after_s <= length_s:
            said = f"{step:g} {unit}" if step else timestamp(stretch.start_s)[11:19]
            yield _Tick(stretch.at(stretch.start_s + after_s), said)


def _rows(ticks: Sequence[_Tick]) -> dict[_Tick, int]:
    """The row of each label above the lanes, from the lowest, so that no label covers another. A
    label that would need a row above _MOST_ROWS is left out."""
    ends: list[float] = []
    rows: dict[_Tick, int] = {}
    for tick in ticks:
        free = [row for row, end in enumerate(ends) if end < tick.left]
        row = free[0] if free else len(ends)
        if row < _MOST_ROWS:
            rows[tick] = row
            ends[row : row + 1] = [tick.left + tick.width]
    return rows


def _axis(tick: _Tick, row: int | None, head: float, height: float) -> list[str]:
    parts = [shapes.line("M", (tick.x, head - 6), "V", (height,), class_="grid")]
    if row is not None:
        y = head - 12 - row * _ROW
        anchored = {"class_": "tick", "text_anchor": tick.anchor}
        parts.append(shapes.text_element(tick.said, tick.x, y, **anchored))
    return parts


def _pause(one: _Stretch, other: _Stretch, head: float, height: float) -> list[str]:
    x = one.at(one.end_s) + _CUT / 2
    line = shapes.line("M", (x, head - 6), "V", (height,))
    said = f"{_long(other.start_s - one.end_s)} without a stage"
    return [shapes.element("g", shapes.title(said), line, class_="pause")]


def _long(length_s: float) -> str:
    for unit_s, unit in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if length_s >= 2 * unit_s:
            return f"{length_s / unit_s:.0f} {unit}"
    return f"{length_s:.0f} seconds"


def _drawn(lane: TimelineRow, top: float, stretches: Sequence[_Stretch]) -> list[str]:
    label = shapes.element("tspan", shapes.escaped(lane.label), class_="label")
    note = shapes.element("tspan", shapes.escaped(lane.note), class_="note", dx=8.0)
    parts = [shapes.element("text", label, note, x=_MARGIN, y=top + 14)]
    y, cycle = top + 21, 0
    for bar in lane.bars:
        place = next(each for each in stretches if bar.start_s <= each.end_s)
        x = place.at(bar.start_s)
        if bar.cycle > cycle:
            cycle = bar.cycle
            parts.append(_refinement(cycle, x, y))
        parts.append(_stage(bar, x, max(place.at(bar.end_s) - x, _LEAST_WIDTH), y))
    return parts


def _stage(bar: Bar, x: float, width: float, y: float) -> str:
    took = seconds((bar.end_s - bar.start_s) * 1000)
    cycle = f", refinement {bar.cycle}" if bar.cycle else ""
    parts = [
        shapes.title(f"{bar.stage}{cycle}: {bar.outcome}, {took}"),
        shapes.element("rect", x=x, y=y, width=width, height=_BAR),
    ]
    if width > shapes.width_of(bar.stage, 12) + 8:
        parts.append(shapes.text_element(bar.stage, x + 5, y + 11.5, class_="inside"))
    if bar.outcome != "done":
        anchored = {"class_": "mark", "text_anchor": "end"}
        parts.append(shapes.text_element("\u2717", x + width, y - 2, **anchored))
    kind = "stage inference" if bar.stage == "inference" else "stage"
    return shapes.element("g", *parts, class_=f"{kind} {bar.outcome}")


def _refinement(cycle: int, x: float, y: float) -> str:
    return shapes.element(
        "g",
        shapes.title(f"refinement {cycle} begins"),
        shapes.line("M", (x, y - 4), "V", (y + _BAR + 4,)),
        shapes.text_element(f"\u21bb{cycle}", x + 3, y - 2, class_="mark"),
        class_="refinement",
    )
