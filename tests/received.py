"""The answer that did not come whole: the connection cut, or the command killed, in the middle.

Of each call of a scenario, after each of some parts of its answer. What must come of it is exact:
all answers before are stored and settled, this one is neither, and the next run buys just this call
again.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace

import faults
from commands import Result
from faults import Call, Fault
from matrix import Bench, Cell
from provider import Reply, Request

CUT, KILLED = "connection cut in an answer", "kill in an answer"
KINDS = (CUT, KILLED)
# Nothing; a part of the head; half, which is in the body; all but the end; all.
PARTS = (0.0, 0.1, 0.5, 0.99, 1.0)


def every(bench: Bench, kind: str, parts: tuple[float, ...] = PARTS) -> Iterator[Cell]:
    """Each call of an undisturbed run, broken after each of these parts of its answer."""
    for number in range(1, bench.needed + 1):
        for part in parts:
            yield _broken_at(bench, kind, number, part)


def _broken_at(bench: Bench, kind: str, number: int, part: float) -> Cell:
    bench.reset()
    process: list[int] = []

    def kill() -> None:
        os.kill(process[0], signal.SIGKILL)

    def answer(request: Request) -> Reply:
        reply = bench.scenario.answer(request)
        if len(bench.sent()) != number:
            return reply
        return replace(reply, part=part, then=kill if kind == KILLED else None)

    bench.provider.answer = answer
    try:
        result = bench.run(Fault(str(bench.root), bench.log), process.append)
    finally:
        bench.provider.answer = bench.scenario.answer
    whole = part == 1
    kinds = faults.KILL if kind == KILLED else "EIO"
    wrong = [*bench.told(result, kinds), *bench.look(result)]
    wrong += _before(bench, result, kind, number, whole)
    wrong += bench.finish()
    wrong += _after(bench, kind, whole)
    call = Call(number, "answer", f"{part:.0%} of it")
    return Cell(bench.scenario.name, kind, call, tuple(wrong))


def _before(bench: Bench, result: Result, kind: str, number: int, whole: bool) -> Iterator[str]:
    """Just after: the command ended there, with this one call open in the ledger."""
    accounts = bench.accounts()
    if kind == CUT and whole:
        return  # nothing was missing: the connection was of no use any more
    if len(bench.sent()) != number:
        yield f"{len(bench.sent())} calls, broken at {number}; ended with {result.code}"
    if whole:
        return  # put down or not: it may have been in time
    if accounts.lost or accounts.unsettled != 1:
        yield f"lost {accounts.lost}, {accounts.unsettled} open in the ledger instead of 1"
    if result.code == bench.scenario.code:
        yield f"ended as if nothing had happened, with {result.code}"


def _after(bench: Bench, kind: str, whole: bool) -> Iterator[str]:
    """In the end: this call was bought again, no other one, and it stays unknown spend. One that
    came whole may be stored by then, or settled as well."""
    again = len(bench.sent()) - bench.needed
    open_still = bench.accounts().unsettled
    if not whole:
        good = again == open_still == 1
    elif kind == CUT:
        good = again == open_still == 0
    else:
        good = 0 <= again <= open_still <= 1
    if not good:
        yield f"{again} calls bought again, {open_still} open in the ledger"
