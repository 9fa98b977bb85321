"""Jinja's filters and tests with bounds: their inputs are weighed, their results counted."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sized
from typing import Any

from popbuild.base.errors import TaskError
from popbuild.task.templates.bounds import RenderBudget, limit, limit_bits, weigh
from popbuild.task.templates.operations import (
    SizeCheck,
    before_percent,
    check_replaced,
    check_width,
)

_CHARS_COPIED = 1_000  # take the time in which one is made
_STEPS_A_FIELD = 10  # to follow one part of `attribute="a.b.c"`
_CHARS_A_SLICE = 16  # take the memory of a list
_MAX_INDENT = 1_000  # of JSON: it is made once for each level, before anything is counted


def _indented(value: Any, width: Any = 4, *_: Any, **__: Any) -> None:
    text = str(value)
    step = width if isinstance(width, int) else len(width)
    limit(len(text) + step * (text.count("\n") + 1))


def _joined_by(value: Any, d: Any = "", attribute: Any = None) -> None:
    if isinstance(value, Sized):
        limit(len(value) * len(str(d)))


def _wrapped(
    value: Any, width: Any = 79, _long: Any = True, wrapstring: Any = None, **__: Any
) -> None:
    text = str(value)
    limit(len(text) * (1 + len(wrapstring or "")))
    if isinstance(width, int) and width > 0:
        # The rest of a long word is copied for each of its lines.
        longest = max(map(len, text.split()), default=0)
        limit(longest * longest // width // _CHARS_COPIED)


def _sliced(_value: Any, slices: Any, *_: Any, **__: Any) -> None:
    limit(_CHARS_A_SLICE * slices if isinstance(slices, int) else 0)


def _rounded(_value: Any, precision: Any = 0, *_: Any, **__: Any) -> None:
    limit_bits(4 * abs(precision) if isinstance(precision, int) else 0)  # ten to its power


def _as_json(_value: Any, indent: Any = None) -> None:
    step = len(indent) if isinstance(indent, str) else indent
    if isinstance(step, int) and step > _MAX_INDENT:
        raise TaskError("a template indents JSON too far", {"allowed": f"{_MAX_INDENT:,}"})


def _percent(text: Any, *args: Any, **kwargs: Any) -> None:
    before_percent(str(text), kwargs or args)


_FILTERS: dict[str, SizeCheck] = {
    "batch": check_width,
    "center": check_width,
    "slice": _sliced,
    "format": _percent,
    "indent": _indented,
    "join": _joined_by,
    "replace": check_replaced,
    "round": _rounded,
    "tojson": _as_json,
    "wordwrap": _wrapped,
}
_FOR_WEB_PAGES = "it is for web pages, and has no bound"
# Filters of jinja that templates do not have, and why.
LEFT_OUT = {
    "random": "a prompt must be the same text each time it is rendered",
    "urlize": _FOR_WEB_PAGES,
    "xmlattr": _FOR_WEB_PAGES,
}


def bounded(filters: Mapping[str, Callable[..., Any]], budget: RenderBudget) -> dict[str, Any]:
    """Filters by name, each of which weighs its inputs and counts its result. A filter that gets
    the environment too says so by an attribute, which is kept."""
    return {
        name: _bounded(name, function, _FILTERS.get(name), budget)
        for name, function in filters.items()
        if name not in LEFT_OUT
    }


def counting_tests(tests: Mapping[str, Any], budget: RenderBudget) -> dict[str, Any]:
    """Tests by name; those that compare count their steps."""
    return {
        name: _counted(test, budget) if name in _COMPARING else test for name, test in tests.items()
    }


def _counted(test: Callable[..., Any], budget: RenderBudget) -> Callable[..., Any]:
    @functools.wraps(test)
    def run(*args: Any) -> Any:
        budget.walk(list(args))
        return test(*args)

    return run


# Tests that look at all of their values, and filters that compare items with each other.
_COMPARING = frozenset("in eq equalto == ne != gt greaterthan > ge >= lt lessthan < le <=".split())
_SORTING = frozenset({"sort", "dictsort", "groupby", "unique", "min", "max"})


def _times(name: str, value: Any) -> int:
    """How often a filter looks at each part of its value."""
    several = name in _SORTING and isinstance(value, Sized)
    return 1 + len(value).bit_length() // 4 if several else 1


def _bounded(
    name: str, function: Callable[..., Any], check: SizeCheck | None, budget: RenderBudget
) -> Callable[..., Any]:
    skipped = 1 if hasattr(function, "jinja_pass_arg") else 0

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        given = list(args[skipped:]) + list(kwargs.values())
        weigh(given)
        budget.walk(given, _times(name, given[0]) if given else 1)
        attribute = kwargs.get("attribute")
        if isinstance(attribute, str) and isinstance(given[0], Sized):
            budget.work(len(given[0]) * attribute.count(".") * _STEPS_A_FIELD)
        if check is not None:
            check(*args[skipped:], **kwargs)
        result = function(*args, **kwargs)
        budget.spend(result)
        return result

    return run
