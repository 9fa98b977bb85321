"""executionTime is what a task's own work took: not what it waited for."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pytest
from provider import Provider, Reply
from workspace import Workspace

from popbuild.base.stopwatch import Stopwatch, waiting

HOUR_MS = 3_600_000.0

# Runs popbuild by a clock that stands still, but for an hour in each wait and in each call.
HOURS = """
import asyncio, collections, sys, types
from popbuild.cli.main import main
from popbuild.base import locks, stopwatch, fair_turns
from popbuild.llm import budget, calls, client, admission, sending

spent = collections.Counter()

def an_hour(what):
    spent[what] += 1

def replaced(owner, name, what, is_async=True):
    own = getattr(owner, name)
    async def later(*args, **options):
        an_hour(what)
        return await own(*args, **options)
    def at_once(*args, **options):
        an_hour(what)
        return own(*args, **options)
    setattr(owner, name, later if is_async else at_once)

class Slots(asyncio.Semaphore):
    async def acquire(self):
        an_hour('turn')
        return await super().acquire()

def pretending(what, **more):
    async def sleep(delay_s):
        an_hour(what)
    return types.SimpleNamespace(**{**vars(asyncio), 'sleep': sleep, **more})

held, acquire = set(), locks.Locks.acquire

def held_once(self, name):
    if self._path.name in ('calls', 'budget') and (self._path, name) not in held:
        held.add((self._path, name))
        return False
    return acquire(self, name)

stopwatch.Stopwatch.__init__.__defaults__ = (lambda: 3600.0 * spent.total(),)
replaced(calls, '_import_sender', 'import', is_async=False)
replaced(admission.Traffic, 'enter', 'limit')
replaced(client, 'send', 'call')
fair_turns.asyncio = pretending('turn', Semaphore=Slots)
calls.asyncio = pretending('another process')
sending.asyncio = pretending('a try that failed')
budget.asyncio = pretending('budget')
locks.Locks.acquire = held_once
code = main(['run', '--budget', '5', 'first'])
print(sorted(spent), file=sys.stderr)
sys.exit(code)
"""


def hours(entries: Iterable[dict[str, object]], stage: str) -> list[object]:
    return [each["durationMs"] for each in entries if each["stage"] == stage and "outcome" in each]


def test_what_a_task_waits_for_is_not_its_execution(
    workspace: Workspace, provider: Provider
) -> None:
    """Whatever a task waits for counts nowhere; each call counts, also one that failed."""
    provider.script([Reply(status=500), "found", "an analysis"])
    result = workspace.run("python", "-c", HOURS)
    assert result.code == 0, result.out + result.err
    waits = [
        "a try that failed",
        "another process",
        "budget",
        "call",
        "import",
        "limit",
        "turn",
    ]
    assert str(waits) in result.err
    took = {"research": 2 * HOUR_MS, "analysis": HOUR_MS}
    status, (run,) = workspace.status("first"), workspace.runs()
    for task, took_ms in took.items():
        assert status["tasks"][task]["executionTime"] == took_ms
        assert workspace.letter("first", task)["execution"]["executionTime"] == took_ms
        log = json.loads((workspace.job("first") / f"tasks/{task}/execution-logs.json").read_text())
        assert hours(log, "inference") == [took_ms]
        assert sum(each.get("durationMs", 0) for each in log) == took_ms
    assert run["totalExecutionTime"] == 3 * HOUR_MS
    assert len(provider.requests) == 3
    assert workspace.popbuild("run", "first").code == 0
    assert len(provider.requests) == 3


# Runs popbuild by a clock that is an hour ahead for each module of others that is loaded.
SLOW_IMPORTS = """
import sys, time
from popbuild.cli.main import main

ours = {'popbuild', *sys.stdlib_module_names}
real, loaded = time.monotonic, []

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] not in ours:
            loaded.append(name)

time.monotonic = lambda: real() + 3600.0 * len(loaded)
sys.meta_path.insert(0, Finder())
from popbuild.base import stopwatch

code = main(['run', 'first'])
print('litellm' in loaded, file=sys.stderr)
sys.exit(code)
"""


def test_no_import_counts(workspace: Workspace, provider: Provider) -> None:
    """Neither litellm's, nor what its first call loads, however long that takes."""
    result = workspace.run("python", "-c", SLOW_IMPORTS, real=True)
    assert result.code == 0, result.out + result.err
    assert result.err.endswith("True\n")
    for task in ("research", "analysis"):
        letter = workspace.letter("first", task)
        assert letter["execution"]["executionTime"] < HOUR_MS
        assert letter["calls"][0]["durationMs"] < HOUR_MS
    assert workspace.runs()[0]["totalExecutionTime"] < HOUR_MS
    assert len(provider.requests) == 2


# What happens, a second after the other, and how many of those seconds were work.
COURSES = [
    ("", 0),
    ("s", 1),
    ("ws", 0),
    ("wsWs", 1),
    ("csCs", 2),
    ("cswsWsC", 2),  # a call that waits in the middle
    ("ccwsCs", 1),  # then the other one has ended
    ("ccws", 1),  # one of two waits
    ("ccwsws", 1),  # then both
    ("ccwswsWs", 2),
    ("cwsWCs", 1),
]


@pytest.mark.parametrize(("course", "worked_s"), COURSES)
def test_the_clock_stands_still_while_all_wait(course: str, worked_s: int) -> None:
    """`c` begins a call, `w` a wait; the capital ends the last one; `s` is a second."""
    now = [0.0]
    watch = Stopwatch(lambda: now[0])
    begun = {"c": [], "w": []}
    for sign in course:
        if sign == "s":
            now[0] += 1
        elif sign in begun:
            context = watch.call() if sign == "c" else watch.waits()
            context.__enter__()
            begun[sign].append(context)
        else:
            begun[sign.lower()].pop().__exit__(None, None, None)
    assert watch.worked_ms == worked_s * 1000


def test_waiting_counts_for_whom_it_is_measured() -> None:
    """Without a stopwatch waiting is nothing; within one it is that one's."""
    now = [0.0]
    watch = Stopwatch(lambda: now[0])
    with waiting():
        now[0] += 1
    with watch.measures(), waiting():
        now[0] += 1
    assert watch.worked_ms == 1000
