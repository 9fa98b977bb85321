"""Runs what measures an output, a function of scores.py or a rule, each in a daemon thread and
within the task's timeout. What goes wrong is a score without a value, and why: a measurement that
cannot be made fails nothing by itself."""

from __future__ import annotations

import asyncio
import inspect
import math
import numbers
import reprlib
from collections.abc import Callable, Mapping
from typing import Any

from popbuild.base import jsonio
from popbuild.base.errors import TaskError, printable, shown_error
from popbuild.base.fair_turns import away
from popbuild.base.threads import abandon, start_daemon
from popbuild.model.pipeline import Task
from popbuild.model.scores import Score
from popbuild.task.score_rules import ScoredDocuments, by_rule
from popbuild.task.user_code import imported, place_in

_MAX_REASON = 1_000


async def measured(task: Task, name: str, given: ScoredDocuments) -> Score:
    """One score of an output, without digests. Never raises for what the code does."""
    scoring = task.scoring
    assert scoring is not None
    if name in scoring.functions:
        assert scoring.code is not None
        return await _in_time(task, _function(scoring.code, name, given))
    return await _in_time(task, _rule(scoring.rules[name], given, is_text=task.answer == "text"))


async def _in_time(task: Task, measure: Callable[[], Score]) -> Score:
    async with away():
        future = start_daemon(measure)
        try:
            done, _ = await asyncio.wait({future}, timeout=task.timeout_s)
        except asyncio.CancelledError:
            abandon()  # its result is not needed any more
            raise
    if done:
        return future.result()
    abandon()
    return Score(None, f"it took longer than {task.timeout_s:g} s, the timeout in task.yaml")


def _rule(rule: Mapping[str, Any], given: ScoredDocuments, *, is_text: bool) -> Callable[[], Score]:
    return lambda: by_rule(rule, given, is_text=is_text)


def _function(path: str, name: str, given: ScoredDocuments) -> Callable[[], Score]:
    """A call of a function of scores.py. It gets copies: it must not change what others see."""
    values = [jsonio.in_order(each) for each in (given.output, given.seed, given.expected)]

    def call() -> Score:
        try:
            function = getattr(imported(path, "scores.py cannot be imported"), name)
            found = function(*values)
            found = asyncio.run(found) if inspect.iscoroutine(found) else found
        except TaskError as error:
            return Score(None, error.as_line(without=()))
        except BaseException as error:  # also `sys.exit()`
            why = f"{shown_error(error)}, at {place_in(error, path)}"
            return Score(None, f"{why}; {given.lacking}" if given.lacking else why)
        return _checked(found)

    return call


def _checked(found: object) -> Score:
    """What a function returned, as a score."""
    value, reason = (found.value, found.reason) if isinstance(found, Score) else (found, "")
    reason = reason if isinstance(reason, str) else reprlib.repr(reason)
    text = printable(reason[:_MAX_REASON])
    if value is None and isinstance(found, Score):
        return Score(None, text or "it gave no reason")
    if isinstance(value, bool):
        return Score(value, text)
    if isinstance(value, numbers.Real):
        try:
            number = float(value)
        except (OverflowError, TypeError, ValueError) as error:
            return Score(None, shown_error(error))
        if math.isfinite(number):
            return Score(number, text)
        return Score(None, f"it returned {number}, which is no measurement")
    return Score(None, f"it returned {reprlib.repr(value)}: not a number, a bool or a Score")
