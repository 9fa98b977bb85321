"""Budgets: a call is sent only if the most that it may cost fits into every limit.

The ledger says what was spent. A settled call counts at its cost; one that is under way, was lost
in a crash, or has unknown usage counts at its maximum. There are limits for this command, for a job
of one variant over all its runs, for a pipeline over all its jobs, and for a pipeline on one day
(UTC).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from popbuild.base import locks
from popbuild.base.errors import BudgetError
from popbuild.base.paths import Root
from popbuild.base.stopwatch import waiting
from popbuild.base.units import money
from popbuild.llm.ledger import Ledger, Origin
from popbuild.llm.request import Request
from popbuild.model.clock import timestamp
from popbuild.model.pipeline import Budget

_POLL_S = 0.02
_Key = tuple[str, ...]


@dataclass(frozen=True)
class Spending:
    """What calls may cost, in US dollars: `command` in this command, `pipelines` as configured, by
    name. `unknown_allowed` sends calls of unknown price even under a limit. Commands with the same
    `name` share a budget."""

    command: float | None = None
    pipelines: Mapping[str, Budget] = field(default_factory=dict)
    unknown_allowed: bool = False
    name: str | None = None


class Spent:
    """Dollars by command, job, pipeline and day, read from the ledger as it grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._open: dict[str, tuple[list[_Key], float]] = {}
        self._sums: defaultdict[_Key, float] = defaultdict(float)

    def refresh(self) -> None:
        """Read what any command has appended since."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return
        whole = data.rfind(b"\n") + 1  # a torn line is read when it is whole
        self._offset += whole
        for line in data[:whole].splitlines():
            try:
                self._take(json.loads(line))
            except (ValueError, KeyError, TypeError):
                continue

    def of(self, key: _Key) -> float:
        return self._sums[key]

    def _take(self, entry: Mapping[str, Any]) -> None:
        name = entry["entry"]
        if entry["event"] == "reserved":
            keys = _keys(entry)
            self._add(keys, entry["cost"] or 0.0)
            self._open[name] = keys, entry["cost"] or 0.0
        elif name in self._open:
            keys, reserved = self._open.pop(name)
            # Old entries have zeros where the provider said nothing: no request is empty.
            cost = None if entry.get("inputTokens") == 0 else entry.get("cost")
            if entry["event"] == "released":
                cost = 0.0
            if cost is not None:
                self._add(keys, cost - reserved)

    def _add(self, keys: list[_Key], cost: float) -> None:
        for key in keys:
            self._sums[key] += cost


def _keys(entry: Mapping[str, Any]) -> list[_Key]:
    pipeline = entry.get("pipeline", "")
    return [
        ("command", entry.get("command", "")),
        ("job", entry.get("variant", ""), entry["job"]),
        ("pipeline", pipeline),
        ("day", pipeline, entry["at"][:10]),
    ]


class Purse:
    """Reserves calls in the ledger, unless a limit forbids it."""

    def __init__(self, root: Root, ledger: Ledger, spending: Spending) -> None:
        self._ledger = ledger
        self._spending = spending
        self._spent = Spent(ledger.path)
        self._locks = locks.locks_of(root.private / "locks" / "budget")
        self._turn = asyncio.Lock()

    async def reserve(self, request: Request, origin: Origin, maximum: float | None) -> str:
        """Reserve a call; gives the ledger's entry. Raises BudgetError where it does not fit."""
        limits = list(self._limits(origin))
        if not limits:
            return await self._ledger.reserve(request, origin, maximum)
        if maximum is None and not self._spending.unknown_allowed:
            raise _error(
                limits[0][2][0],
                "the price of the model is not known, so no budget can be kept",
                {"model": request.model, "budget": f"{money(limits[0][1])} {limits[0][0]}"},
                hint="--unknown-cost lets such calls be sent all the same; of a model that has a "
                "price and no known limit of its answers, set maxTokens",
            )
        async with self._its_turn():
            self._spent.refresh()
            for name, limit, key in limits:
                _check(key[0], name, limit, self._spent.of(key), maximum or 0.0)
            return await self._ledger.reserve(request, origin, maximum)

    @contextlib.asynccontextmanager
    async def _its_turn(self) -> AsyncIterator[None]:
        """Hold the lock under which sums are read and calls reserved: all commands of a root spend
        from the same budgets."""
        async with contextlib.AsyncExitStack() as held:
            with waiting():
                await held.enter_async_context(self._turn)
                while not self._locks.acquire("ledger"):  # noqa: ASYNC110 - no event tells it
                    await asyncio.sleep(_POLL_S)
            held.callback(self._locks.release, "ledger")
            yield

    def _limits(self, origin: Origin) -> Iterator[tuple[str, float, _Key]]:
        configured = self._spending.pipelines.get(origin.pipeline, Budget())
        for name, limit, key in (
            ("for this command", self._spending.command, ("command", self._ledger.command)),
            ("for a job", configured.job, ("job", self._ledger.variant, origin.job)),
            ("for the pipeline", configured.pipeline, ("pipeline", origin.pipeline)),
            ("for a day", configured.day, ("day", origin.pipeline, timestamp()[:10])),
        ):
            if limit is not None:
                yield name, limit, key


def _check(scope: str, name: str, limit: float, spent: float, maximum: float) -> None:
    # A sum of many small amounts is not exact: a millionth of a cent decides nothing.
    if spent + maximum > limit + 1e-8:
        raise _error(
            scope,
            "the next call may go over the budget",
            {
                "budget": f"{money(limit)} {name}",
                "spent": money(round(spent, 8)),
                "next call": f"at most {money(round(maximum, 8))}",
            },
            hint="a call counts at the most that it may cost until its answer is there: raise "
            "the budget or lower maxTokens; the next run goes on from here",
        )


def _error(scope: str, message: str, values: dict[str, object], hint: str) -> BudgetError:
    error = BudgetError(message, values, hint)
    error.scope = scope
    return error
