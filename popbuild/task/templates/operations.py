"""Operators, methods, formats, filters and tests in templates, weighed before they run: how large
is the result, and how many steps does it take?"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sized
from typing import Any

from popbuild.base.errors import TaskError
from popbuild.task.reads import plain
from popbuild.task.templates.bounds import (
    CHARS_A_STEP,
    MAX_PROMPT_CHARS,
    RenderBudget,
    limit,
    limit_bits,
    refuse_size,
    steps_of,
    weigh,
)

_BIG_NUMBER = re.compile(r"\d{6,}")
_NUMBER = re.compile(r"\d+")
_PERCENT_WIDTHS = re.compile(r"%(?:\([^)]*\))?[-+ #0]*(\d*)(?:\.(\d*))?")
_STAR_WIDTH = re.compile(r"%[-+ #0]*(\*|\d*\.\*)")  # %*d
_BITS_A_STEP = 100_000  # of two factors, multiplied

SizeCheck = Callable[..., None]


def before_operator(operator: str, left: object, right: object) -> int:
    """Weigh what `left operator right` would make. Gives the steps that it takes."""
    if operator == "*":
        for one, count in ((left, right), (right, left)):
            if isinstance(one, str | bytes | list | tuple) and isinstance(count, int):
                limit(len(one) * max(count, 0))
        if isinstance(left, int) and isinstance(right, int):
            limit_bits(left.bit_length() + right.bit_length())
    elif operator == "+" and isinstance(left, Sized) and isinstance(right, Sized):
        limit(len(left) + len(right))
    elif operator == "%" and isinstance(left, str | bytes):
        before_percent(str(left), right)
    elif operator == "**" and isinstance(left, int) and isinstance(right, int):
        limit_bits(max(left.bit_length(), 1) * abs(right))
    if isinstance(left, int) and isinstance(right, int):
        return 1 + left.bit_length() * right.bit_length() // _BITS_A_STEP
    sizes = sum(len(each) for each in (left, right) if isinstance(each, list | tuple))
    return 1 + sizes // CHARS_A_STEP


_SLOW_METHODS = ("rfind", "rindex", "rsplit", "rpartition", "strip", "lstrip", "rstrip")


def before_method(
    owner: object, method: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> int:
    """Weigh what a method of a text or a list would make. Gives the steps that it takes."""
    weigh(list(args) + list(kwargs.values()))
    if isinstance(owner, str | bytes):
        check = _TEXT_METHODS.get(method)
        if check is not None:
            check(owner, *args, **kwargs)
    elif isinstance(owner, int) and method == "to_bytes":
        _width(owner, *args, *kwargs.values())
    elif isinstance(owner, list) and method in ("extend", "insert") and args:
        limit(len(owner) + (len(args[-1]) if isinstance(args[-1], Sized) else 1))
    first = args[0] if args else ""
    if isinstance(owner, str | bytes):
        steps = 1 + len(owner) // CHARS_A_STEP
        # From behind, each place is compared separately, and so is each stripped character.
        if method in _SLOW_METHODS and isinstance(first, str | bytes):
            steps += len(owner) * len(first) // CHARS_A_STEP
        return steps
    if isinstance(owner, list | tuple) and method in ("count", "index", "remove"):
        return steps_of(owner) + len(owner) * steps_of(first)
    if isinstance(owner, list | tuple | dict | set):
        return 1 + len(owner) // (1 if method in ("sort", "copy", "update") else CHARS_A_STEP)
    return 1


def before_percent(text: str, values: object) -> None:
    """`text % values`: a width may stand in the text, or be a value where the text has a star."""
    weight = weigh(values)
    if _BIG_NUMBER.search(text):
        refuse_size()
    if _STAR_WIDTH.search(text):
        for each in values if isinstance(values, tuple) else (values,):
            limit(abs(each) if isinstance(each, int) else 0)
    widths = sum(int(each or 0) for pair in _PERCENT_WIDTHS.findall(text) for each in pair)
    limit(len(text) + widths + text.count("%") * weight)


def field_size(value: object, spec: str) -> int:
    """The most that `format(value, spec)` makes. TaskError for too large a width."""
    numbers = _NUMBER.findall(spec)
    # More digits than any width has; Python refuses to read thousands of them.
    if any(len(each) > len(str(MAX_PROMPT_CHARS)) for each in numbers):
        refuse_size()
    return sum(map(int, numbers)) + len(spec) + weigh(value)


def _width(_text: object, *given: Any, times: int = 1, **named: Any) -> None:
    """Weigh a width or a count, under whatever name it is given."""
    numbers = [each for each in (*given, *named.values()) if isinstance(each, int)]
    limit(times * max(numbers, default=0))


def _replaced(text: Any, old: object = "", new: Any = "", *_: Any, **__: Any) -> None:
    if isinstance(text, bytes):
        limit(len(text) * max(len(new), 1))
    else:
        text = str(text)
        limit(len(text) + text.count(str(old)) * len(str(new)))


def _joined(text: Any, parts: Any = ()) -> None:
    limit(len(text) * len(parts) + weigh(parts) if isinstance(parts, Sized) else len(text))


def _translated(text: Any, table: Any = None) -> None:
    if isinstance(table, dict):
        limit(len(text) * max((weigh(each) for each in table.values()), default=1))


_TEXT_METHODS: dict[str, SizeCheck] = {
    "center": _width,
    "ljust": _width,
    "rjust": _width,
    "zfill": _width,
    "expandtabs": lambda text, tabsize=8: _width(text, tabsize, times=len(text)),
    "replace": _replaced,
    "join": _joined,
    "translate": _translated,
}


def summed(values: Iterable[Any], start: Any) -> Any:
    """Like `sum`, but linear for lists, which `sum` copies again and again."""
    if not isinstance(start, list | tuple):
        return sum(values, start)
    kind, found = (list, list(start)) if isinstance(start, list) else (tuple, list(start))
    for each in map(plain, values):
        if not isinstance(each, kind):
            return start + each  # raises the right error
        found.extend(each)
        limit(len(found))
    return kind(found)


# Jinja's filters and tests: their inputs are weighed, their results counted.

_CHARS_COPIED = 1_000  # take the time in which one is made
_STEPS_A_FIELD = 10  # to follow one part of `attribute="a.b.c"`
_CHARS_A_SLICE = 16  # take the memory of a list
_MAX_INDENT = 1_000  # of JSON: it is made once for each level, before anything is counted


def _indented(value: object, width: Any = 4, *_: Any, **__: Any) -> None:
    text = str(value)
    step = width if isinstance(width, int) else len(width)
    limit(len(text) + step * (text.count("\n") + 1))


def _joined_by(value: object, d: object = "", attribute: object = None) -> None:
    if isinstance(value, Sized):
        limit(len(value) * len(str(d)))


def _wrapped(
    value: object, width: object = 79, _long: object = True, wrapstring: Any = None, **__: Any
) -> None:
    text = str(value)
    limit(len(text) * (1 + len(wrapstring or "")))
    if isinstance(width, int) and width > 0:
        # The rest of a long word is copied for each of its lines.
        longest = max(map(len, text.split()), default=0)
        limit(longest * longest // width // _CHARS_COPIED)


def _rounded(_value: object, precision: object = 0, *_: Any, **__: Any) -> None:
    limit_bits(4 * abs(precision) if isinstance(precision, int) else 0)  # ten to its power


def _as_json(_value: object, indent: object = None) -> None:
    step = len(indent) if isinstance(indent, str) else indent
    if isinstance(step, int) and step > _MAX_INDENT:
        raise TaskError("a template indents JSON too far", {"allowed": f"{_MAX_INDENT:,}"})


_FILTERS: dict[str, SizeCheck] = {
    "batch": _width,
    "center": _width,
    "slice": functools.partial(_width, times=_CHARS_A_SLICE),
    "format": lambda text, *args, **kwargs: before_percent(str(text), kwargs or args),
    "indent": _indented,
    "join": _joined_by,
    "replace": _replaced,
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


# Filters that are given the name of a filter or a test.
TAKE_NAMES = frozenset("map select reject selectattr rejectattr".split())


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

    def counted(test: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(test)
        def run(*args: Any) -> Any:
            budget.walk(list(args))
            return test(*args)

        return run

    return {name: counted(test) if name in _COMPARING else test for name, test in tests.items()}


# Tests that look at all of their values, and filters that compare items with each other.
_COMPARING = frozenset("in eq equalto == ne != gt greaterthan > ge >= lt lessthan < le <=".split())
_SORTING = frozenset({"sort", "dictsort", "groupby", "unique", "min", "max"})


def _bounded(
    name: str, function: Callable[..., Any], check: SizeCheck | None, budget: RenderBudget
) -> Callable[..., Any]:
    skipped = 1 if hasattr(function, "jinja_pass_arg") else 0

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        given = list(args[skipped:]) + list(kwargs.values())
        weigh(given)
        several = name in _SORTING and given and isinstance(given[0], Sized)
        budget.walk(given, 1 + len(given[0]).bit_length() // 4 if several else 1)
        attribute = kwargs.get("attribute")
        if isinstance(attribute, str) and isinstance(given[0], Sized):
            budget.work(len(given[0]) * attribute.count(".") * _STEPS_A_FIELD)
        if check is not None:
            check(*args[skipped:], **kwargs)
        result = function(*args, **kwargs)
        budget.spend(result)
        return result

    return run
