"""Cache hits: how often the store spared a call, and what that call had cost when it was bought.

`.popbuild/hits.jsonl` has a line for each command and model, appended when the command ends: a line
for every answer would cost more than to serve it. A command that was killed is not counted, so the
numbers are never too high.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from popbuild.base import disk, jsonio
from popbuild.model.clock import timestamp


@dataclass(frozen=True)
class Saved:
    """`cost` is in US dollars, of the hits whose price is known; `unpriced` counts the others."""

    hits: int = 0
    cost: float = 0.0
    unpriced: int = 0

    def __add__(self, other: Saved) -> Saved:
        return Saved(self.hits + other.hits, self.cost + other.cost, self.unpriced + other.unpriced)


class Hits:
    """The hits of one command."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._by_model: dict[str, Saved] = {}

    def add(self, model: str, cost: float | None) -> None:
        """Count an answer that was served; `cost` is what it had cost."""
        one = Saved(1, cost or 0.0, int(cost is None))
        self._by_model[model] = self._by_model.get(model, Saved()) + one

    def write(self) -> None:
        """Append what was counted, if anything. Raises OSError."""
        found, self._by_model = self._by_model, {}
        if found:
            at = timestamp()
            lines = [
                {
                    "at": at,
                    "model": model,
                    "hits": saved.hits,
                    "saved": saved.cost,
                    "unpriced": saved.unpriced,
                }
                for model, saved in sorted(found.items())
            ]
            data = "".join(f"{jsonio.compact(line)}\n" for line in lines).encode()
            disk.append(self._path, data, sync=False)


def by_model(entries: Iterable[Mapping[str, Any]]) -> dict[str, Saved]:
    """The hits of all commands, by model. Other lines are ignored."""
    found: dict[str, Saved] = {}
    for entry in entries:
        try:
            model = str(entry["model"])
            one = Saved(int(entry["hits"]), float(entry["saved"]), int(entry["unpriced"]))
        except (KeyError, TypeError, ValueError):
            continue
        found[model] = found.get(model, Saved()) + one
    return found
