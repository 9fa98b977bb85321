"""The layout of a graph: rows by depth, and an order in each row that keeps arrows short and with
few crossings."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter

GAP = 26.0  # between two boxes of a row
_SWEEPS = 6
_PASSING_WIDTH = 8.0

Edge = tuple[str, str]  # a task, and one that needs it
Slot = tuple[str, ...]  # a task, or the place where an arrow passes a row: (from, to, row)


@dataclass(frozen=True)
class Layout:
    """The centre and the row of each box, the width of the whole, and for each arrow the centres
    that it passes, one a row."""

    centers: Mapping[str, float]
    rows: Mapping[str, int]
    width: float
    routes: Mapping[Edge, tuple[float, ...]]


def direct(edges: Iterable[Edge]) -> tuple[Edge, ...]:
    """The edges without those that others imply: a -> c where there are a -> b and b -> c."""
    given = list(dict.fromkeys(edges))
    below: dict[str, set[str]] = {}
    for upper, lower in given:
        below.setdefault(upper, set()).add(lower)
    reached: dict[str, set[str]] = {}
    for name in TopologicalSorter(below).static_order():  # from below
        next_ones = below.get(name, set())
        reached[name] = next_ones.union(*(reached[each] for each in next_ones))
    return tuple(
        (upper, lower)
        for upper, lower in given
        if not any(lower in reached[other] for other in below[upper] if other != lower)
    )


def lay_out(widths: Mapping[str, float], edges: Sequence[Edge]) -> Layout:
    """Places for boxes of these widths, in a graph without cycles."""
    rows = _rows(list(widths), edges)
    layers, near = _layers(rows, edges)
    size = {item: widths[item[0]] if len(item) == 1 else _PASSING_WIDTH for item in near}
    _untangle(layers, near)
    centers: dict[Slot, float] = {}

    def place(layer: Sequence[Slot], wanted: Sequence[float]) -> None:
        centers.update(zip(layer, _spread(wanted, [size[i] for i in layer]), strict=True))

    for layer in layers:
        place(layer, [0.0] * len(layer))
    for sweep in range(_SWEEPS):
        for layer in layers if sweep % 2 == 0 else reversed(layers):
            place(layer, [_mean([centers[each] for each in near[i]], centers[i]) for i in layer])
    left = min((centers[i] - size[i] / 2 for i in centers), default=0.0)
    right = max((centers[i] + size[i] / 2 for i in centers), default=0.0)
    return Layout(
        {name: centers[(name,)] - left for name in widths},
        rows,
        right - left,
        {edge: tuple(centers[each] - left for each in _route(rows, edge)) for edge in edges},
    )


def _rows(names: Sequence[str], edges: Sequence[Edge]) -> dict[str, int]:
    """The length of the longest path to each task."""
    above: dict[str, list[str]] = {name: [] for name in names}
    for upper, lower in edges:
        above[lower].append(upper)
    rows = dict.fromkeys(names, 0)
    for name in TopologicalSorter(above).static_order():
        rows[name] = max((rows[each] + 1 for each in above[name]), default=0)
    return rows


def _route(rows: Mapping[str, int], edge: Edge) -> list[Slot]:
    upper, lower = edge
    passed = [(upper, lower, str(row)) for row in range(rows[upper] + 1, rows[lower])]
    return [(upper,), *passed, (lower,)]


def _layers(
    rows: Mapping[str, int], edges: Sequence[Edge]
) -> tuple[list[list[Slot]], dict[Slot, list[Slot]]]:
    """The items of each row, and the neighbours of each item in the rows beside it."""
    layers: list[list[Slot]] = [[] for _ in range(max(rows.values(), default=-1) + 1)]
    near: dict[Slot, list[Slot]] = {}
    for name, row in rows.items():
        layers[row].append((name,))
        near[(name,)] = []
    for edge in edges:
        route = _route(rows, edge)
        for row, item in enumerate(route[1:-1], rows[edge[0]] + 1):
            layers[row].append(item)
            near[item] = []
        for upper, lower in itertools.pairwise(route):
            near[upper].append(lower)
            near[lower].append(upper)
    return layers, near


def _untangle(layers: list[list[Slot]], near: Mapping[Slot, Sequence[Slot]]) -> None:
    """Order the rows so that few arrows cross: each item goes to the middle of its neighbours in
    the row before, sweeping down and up."""
    for sweep in range(_SWEEPS):
        order = range(1, len(layers)) if sweep % 2 == 0 else range(len(layers) - 2, -1, -1)
        for row in order:
            before = layers[row - 1 if sweep % 2 == 0 else row + 1]
            places = {item: float(place) for place, item in enumerate(before)}
            wanted = {
                item: _mean([places[each] for each in near[item] if each in places], own)
                for own, item in enumerate(layers[row])
            }
            layers[row].sort(key=wanted.__getitem__)


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default


def _spread(wanted: Sequence[float], widths: Sequence[float]) -> list[float]:
    """The centres nearest to the wanted ones, in this order, that leave a gap between boxes. Less
    what the boxes take up, this is a regression to a series that never falls (isotonic): neighbours
    that would overlap share the mean of what they want."""
    taken = [0.0]
    for left, right in itertools.pairwise(widths):
        taken.append(taken[-1] + (left + right) / 2 + GAP)
    blocks: list[tuple[float, int]] = []
    for want, offset in zip(wanted, taken, strict=False):
        total, count = want - offset, 1
        while blocks and blocks[-1][0] / blocks[-1][1] > total / count:
            more, further = blocks.pop()
            total, count = total + more, count + further
        blocks.append((total, count))
    bases = [total / count for total, count in blocks for _ in range(count)]
    return [base + offset for base, offset in zip(bases, taken, strict=False)]
