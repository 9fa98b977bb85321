"""Bounds on what a template may make, and on the time that it takes.

The inputs of a filter, a call or an operator are weighed first, its results are counted, and so are
the turns of loops. Text that is thrown away counts too: a gigabyte that is never printed takes the
same memory. Values that are only looked at take time, counted in steps: no template may take the
square of its input. Nothing here knows jinja.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Collection
from types import BuiltinMethodType, FunctionType, MethodType
from typing import Any

from popbuild.base.errors import TaskError

MAX_PROMPT_CHARS = 4_000_000
MAX_TURNS = 1_000_000
MAX_STEPS = 50_000_000  # of one prompt: a step is a value, or some characters of a text
_MAX_CHARS_MADE = 4 * MAX_PROMPT_CHARS  # by all expressions of one prompt together
_MAX_BITS = 100_000  # of a whole number
CHARS_A_STEP = 64

_PLACE = re.compile(r" at 0x[0-9a-f]+>")
_MAX_SHOWN = 80  # characters of a value without a text


class RenderBudget(threading.local):
    """What the render of this thread has made so far: tasks render at the same time."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        self._chars = 0
        self._turns = 0
        self._steps = 0

    def spend(self, value: object) -> None:
        """Count a text, or a container by its length."""
        if isinstance(value, int):
            limit_bits(value.bit_length())  # the next division would take hours
        self.made(len(value) if isinstance(value, str | bytes | list | tuple | dict) else 1)

    def made(self, chars: int) -> None:
        self._chars += chars
        if self._chars > _MAX_CHARS_MADE:
            limit(self._chars)

    def work(self, steps: int) -> None:
        """Count steps that take time and make nothing."""
        self._steps += steps
        if self._steps > MAX_STEPS:
            raise TaskError("a template takes too many steps", {"allowed": f"{MAX_STEPS:,} steps"})

    def walk(self, value: object, times: int = 1) -> None:
        """Count looking at all of a value, `times` times."""
        self.work(steps_of(value, MAX_STEPS - self._steps) * times)

    def look(self, value: object) -> Any:
        """Count a value that is compared in one go, and give it: it may not be larger than a
        prompt."""
        steps = steps_of(value, MAX_PROMPT_CHARS)
        limit(steps)
        self.work(steps)
        return value

    def turn(self, chars: int) -> None:
        """Count a turn of a loop, and the template's own text in it."""
        self._turns += 1
        self.made(chars)
        if self._turns > MAX_TURNS:
            raise TaskError("a template loops too often", {"allowed": f"{MAX_TURNS:,} turns"})


def limit(size: int) -> None:
    """Raise TaskError for more than any prompt needs."""
    if size > MAX_PROMPT_CHARS:
        raise TaskError(
            "a template makes too large a prompt", {"allowed": f"{MAX_PROMPT_CHARS:,} characters"}
        )


def weigh(value: object) -> int:
    """About how long a value is as a text. TaskError if that is too long. A list that holds the
    same list twice, which holds a third one twice, … is small in memory and endless as a text:
    hence the walk."""
    if isinstance(value, str):
        limit(len(value))
        return len(value)
    total = 0
    waiting = [value]
    while waiting:
        each = waiting.pop()
        parts: Collection[Any] = ()
        if isinstance(each, str | bytes):
            total += len(each)
        elif isinstance(each, dict):
            parts = [*each, *each.values()]
            total += 1 + len(parts)
        elif isinstance(each, list | tuple | set | frozenset):
            parts = each
            total += 1 + len(parts)
        else:
            total += 1
        limit(total)
        waiting.extend(parts)
    return total


def steps_of(value: object, most: int = MAX_STEPS) -> int:
    """The steps to look at all of a value: one for each part, and for some characters of a text.
    Stops counting above `most`."""
    total = 0
    waiting = [value]
    while waiting and total <= most:
        each = waiting.pop()
        if isinstance(each, dict):
            waiting += [list(each), list(each.values())]
        elif isinstance(each, list | tuple | set | frozenset):
            kinds = {*map(type, each)}
            total += 1 + len(each)
            if kinds == _TEXTS:  # most lists are plain: this runs at the speed of C
                total += sum(map(len, each)) // CHARS_A_STEP
            elif not kinds <= _SCALARS:
                waiting.extend(each)
        elif isinstance(each, str | bytes):
            total += 1 + len(each) // CHARS_A_STEP
        else:
            total += 1
    return total


_TEXTS = frozenset({str})
_SCALARS = frozenset({int, float, bool, type(None)})


def printed_text(value: object) -> str:
    """A value as it is printed. TaskError for a value, such as a function, whose text is its place
    in memory: that differs in each process."""
    weigh(value)
    text = str(value)
    method = isinstance(value, MethodType | BuiltinMethodType | FunctionType)
    if method or (not isinstance(value, Collection) and _PLACE.search(text)):
        raise TaskError(
            "a template prints something that has no text of its own",
            {"found": shown(text)},
            hint="a method is called with (), and a filter like `map` ends with `| list`",
        )
    return text


def shown(value: object) -> str:
    """A value that has no text of its own, without its place in memory."""
    return _PLACE.sub(">", str(value))[:_MAX_SHOWN]


def limit_bits(bits: int) -> None:
    if bits > _MAX_BITS:
        refuse_size()


def refuse_size() -> None:
    limit(MAX_PROMPT_CHARS + 1)
