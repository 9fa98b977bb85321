"""The layout of a graph: rows by depth, and an order in each row that keeps arrows short and with
few crossings."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

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

    def reach(name: str) -> set[str]:
        if name not in reached:
            found = set(below.get(name, ()))
            reached[name] = found.union(*(reach(each) for each in sorted(found)))
        return reached[name]

    for name in reversed(_in_order(below)):  # from below, so that no recursion is deep
        reach(name)
    return tuple(
        (upper, lower)
        for upper, lower in given
        if not any(lower in reached[other] for other in below[upper] if other != lower)
    )


def _in_order(below: Mapping[str, Iterable[str]]) -> list[str]:
    """Every name after those above it."""
    names = dict.fromkeys([*below, *itertools.chain.from_iterable(map(sorted, below.values()))])
    above = dict.fromkeys(names, 0)
    for lower in itertools.chain.from_iterable(below.values()):
        above[lower] += 1
    free = [name for name in names if not above[name]]
    for name in free:
        for lower in sorted(below.get(name, ())):
            above[lower] -= 1
            if not above[lower]:
                free.append(lower)
    return free


def lay_out(widths: Mapping[str, float], edges: Sequence[Edge]) -> Layout:
    """Places for boxes of these widths, in a graph without cycles."""
    rows = _rows(list(widths), edges)
    layers, hops = _layers(rows, edges)
    near = _neighbours(hops)
    size = {item: widths[item[0]] if len(item) == 1 else _PASSING_WIDTH for item in near}
    size |= {(name,): width for name, width in widths.items()}
    layers = _untangled(layers, near)
    centers: dict[Slot, float] = {}
    for layer in layers:
        centers.update(
            zip(layer, _spread([0.0] * len(layer), [size[i] for i in layer]), strict=True)
        )
    for sweep in range(_SWEEPS):
        for layer in layers if sweep % 2 == 0 else reversed(layers):
            wanted = [_mean([centers[each] for each in near.get(i, ())], centers[i]) for i in layer]
            centers.update(zip(layer, _spread(wanted, [size[i] for i in layer]), strict=True))
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
    below: dict[str, list[str]] = {name: [] for name in names}
    for upper, lower in edges:
        below[upper].append(lower)
    rows = dict.fromkeys(names, 0)
    for name in _in_order(below):
        for lower in below[name]:
            rows[lower] = max(rows[lower], rows[name] + 1)
    return rows


def _route(rows: Mapping[str, int], edge: Edge) -> list[Slot]:
    upper, lower = edge
    passed = [(upper, lower, str(row)) for row in range(rows[upper] + 1, rows[lower])]
    return [(upper,), *passed, (lower,)]


def _layers(
    rows: Mapping[str, int], edges: Sequence[Edge]
) -> tuple[list[list[Slot]], list[tuple[Slot, Slot]]]:
    """The items of each row, and the hops of all arrows from a row to the next."""
    layers: list[list[Slot]] = [[] for _ in range(max(rows.values(), default=-1) + 1)]
    for name, row in rows.items():
        layers[row].append((name,))
    hops: list[tuple[Slot, Slot]] = []
    for edge in edges:
        route = _route(rows, edge)
        for row, item in enumerate(route[1:-1], rows[edge[0]] + 1):
            layers[row].append(item)
        hops += itertools.pairwise(route)
    return layers, hops


def _neighbours(hops: Iterable[tuple[Slot, Slot]]) -> dict[Slot, list[Slot]]:
    near: dict[Slot, list[Slot]] = {}
    for upper, lower in hops:
        near.setdefault(upper, []).append(lower)
        near.setdefault(lower, []).append(upper)
    return near


def _untangled(layers: list[list[Slot]], near: Mapping[Slot, Sequence[Slot]]) -> list[list[Slot]]:
    """The rows in an order with few crossings: each item goes to the middle of its neighbours in
    the row before, sweeping down and up."""
    layers = [list(layer) for layer in layers]
    for sweep in range(_SWEEPS):
        order = range(1, len(layers)) if sweep % 2 == 0 else range(len(layers) - 2, -1, -1)
        for row in order:
            before = layers[row - 1 if sweep % 2 == 0 else row + 1]
            places = {item: float(place) for place, item in enumerate(before)}
            wanted = {
                item: _mean([places[each] for each in near.get(item, ()) if each in places], own)
                for own, item in enumerate(layers[row])
            }
            layers[row].sort(key=wanted.__getitem__)
    return layers


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default


def _spread(wanted: Sequence[float], widths: Sequence[float]) -> list[float]:
    """The centres nearest to the wanted ones, in this order, that leave a gap between boxes.

    Without what the boxes take up this is a regression to a series that never falls: neighbours
    that would overlap share the mean of what they want.
    """
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
