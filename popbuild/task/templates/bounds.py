"""Bounds on what a template may make: every way to a large text out of a small one.

What goes into a filter, a call or an operator is weighed first, what comes out is counted, and
loops are counted by their turns. So is what is thrown away: a gigabyte that is never printed
takes the same memory. What is only looked at takes time: it is counted in steps, so that no
template takes the square of its input for ever. Nothing here knows jinja.
"""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sized
from types import BuiltinMethodType, FunctionType, MethodType
from typing import Any

from popbuild.base.errors import TaskError

MAX_PROMPT_CHARS = 4_000_000
MAX_TURNS = 1_000_000
MAX_STEPS = 50_000_000  # of one prompt: a value that is looked at, or some characters of a text
_MAX_CHARS_MADE = 4 * MAX_PROMPT_CHARS  # by all expressions of one prompt together
_MAX_BITS = 100_000  # of a whole number
_BIG_NUMBER = re.compile(r"\d{6,}")
_NUMBER = re.compile(r"\d+")
_PERCENT_WIDTHS = re.compile(r"%(?:\([^)]*\))?[-+ #0]*(\d*)(?:\.(\d*))?")
_STAR_WIDTH = re.compile(r"%[-+ #0]*(\*|\d*\.\*)")  # %*d
_CHARS_COPIED = 1_000  # take the time in which one is made
_CHARS_A_STEP = 64
_BITS_A_STEP = 100_000  # of two factors, multiplied
_STEPS_A_FIELD = 10  # to follow one part of `attribute="a.b.c"`
_CHARS_A_SLICE = 16  # take the memory of a list
_MAX_INDENT = 1_000  # of JSON: it is made once for each level, before anything is counted

_PLACE = re.compile(r" at 0x[0-9a-f]+>")
_MAX_SHOWN = 80  # characters of what has no text

_Check = Callable[..., None]


class RenderBudget(threading.local):
    """What one render has made so far. Tasks render at the same time, each in its thread."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        self._chars = 0
        self._turns = 0
        self._steps = 0

    def spend(self, value: Any) -> None:
        """Count a text, or a container by its length."""
        if isinstance(value, int):
            _limit_bits(value.bit_length())  # the next division would take hours
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

    def walk(self, value: Any, times: int = 1) -> None:
        """Count a look at all of a value, so many times."""
        self.work(steps_of(value, MAX_STEPS - self._steps) * times)

    def look(self, value: Any) -> None:
        """Count what is compared, and in one go: nothing larger than a prompt."""
        steps = steps_of(value, MAX_PROMPT_CHARS)
        limit(steps)
        self.work(steps)

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


def weigh(value: Any) -> int:
    """About how long a value is as a text. TaskError if that is too long.

    A list that holds the same list twice, which holds a third one twice, … is small in memory and
    without end as a text: hence the walk.
    """
    if isinstance(value, str):
        limit(len(value))
        return len(value)
    total = 0
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, str | bytes):
            total += len(each)
        elif isinstance(each, dict):
            total += 2 * len(each) + 1
            limit(total)
            waiting.extend(each)
            waiting.extend(each.values())
        elif isinstance(each, list | tuple | set | frozenset):
            total += len(each) + 1
            limit(total)
            waiting.extend(each)
        else:
            total += 1
        limit(total)
    return total


def steps_of(value: Any, most: int = MAX_STEPS) -> int:
    """In how many steps all of a value is looked at: one for each part of it, and some characters.
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
            if kinds == _TEXTS:  # at the speed of C: most lists are plain
                total += sum(map(len, each)) // _CHARS_A_STEP
            elif not kinds <= _SCALARS:
                waiting.extend(each)
        elif isinstance(each, str | bytes):
            total += 1 + len(each) // _CHARS_A_STEP
        else:
            total += 1
    return total


_TEXTS = frozenset({str})
_SCALARS = frozenset({int, float, bool, type(None)})


def printed_text(value: Any) -> str:
    """A value as the text that is printed for it. TaskError for one that has none but its place in
    memory, as a function has: that is another text in each process."""
    weigh(value)
    text = str(value)
    method = isinstance(value, MethodType | BuiltinMethodType | FunctionType)
    if method or (not isinstance(value, Collection) and _PLACE.search(text)):
        raise TaskError(
            "a template prints something that has no text of its own",
            {"found": _PLACE.sub(">", text)[:_MAX_SHOWN]},
            hint="a method is called with (), and a filter like `map` ends with `| list`",
        )
    return text


# Before an operator, a method or a filter: how large would the result be?


def before_operator(operator: str, left: Any, right: Any) -> None:
    """Weigh what `left operator right` would make."""
    if operator == "*":
        for one, count in ((left, right), (right, left)):
            if isinstance(one, str | bytes | list | tuple) and isinstance(count, int):
                limit(len(one) * max(count, 0))
        if isinstance(left, int) and isinstance(right, int):
            _limit_bits(left.bit_length() + right.bit_length())
    elif operator == "+" and isinstance(left, Sized) and isinstance(right, Sized):
        limit(len(left) + len(right))
    elif operator == "%" and isinstance(left, str | bytes):
        before_percent(str(left), right)
    elif operator == "**" and isinstance(left, int) and isinstance(right, int):
        _limit_bits(max(left.bit_length(), 1) * abs(right))


def before_method(
    owner: Any, method: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> None:
    """Weigh what a method of a text or a list would make."""
    weigh(list(args) + list(kwargs.values()))
    if isinstance(owner, str | bytes):
        check = _TEXT_METHODS.get(method)
        if check is not None:
            check(owner, *args, **kwargs)
    elif isinstance(owner, int) and method == "to_bytes":
        _width(owner, *args, *kwargs.values())
    elif isinstance(owner, list) and method in ("extend", "insert") and args:
        limit(len(owner) + (len(args[-1]) if isinstance(args[-1], Sized) else 1))


def work_of_operator(operator: str, left: Any, right: Any) -> int:
    """In how many steps `left operator right` is made."""
    if isinstance(left, int) and isinstance(right, int):
        return 1 + left.bit_length() * right.bit_length() // _BITS_A_STEP
    sizes = sum(len(each) for each in (left, right) if isinstance(each, list | tuple))
    return 1 + sizes // _CHARS_A_STEP


_SLOW_METHODS = ("rfind", "rindex", "rsplit", "rpartition", "strip", "lstrip", "rstrip")


def work_of_method(owner: Any, method: str, args: tuple[Any, ...]) -> int:
    """In how many steps a method of a text or a list is done."""
    first = args[0] if args else ""
    if isinstance(owner, str | bytes):
        steps = 1 + len(owner) // _CHARS_A_STEP
        # From behind, each place is compared by itself; so is each character that is stripped.
        if method in _SLOW_METHODS and isinstance(first, str | bytes):
            steps += len(owner) * len(first) // _CHARS_A_STEP
        return steps
    if isinstance(owner, list | tuple) and method in ("count", "index", "remove"):
        return steps_of(owner) + len(owner) * steps_of(first)
    if isinstance(owner, list | tuple | dict | set):
        return 1 + len(owner) // (1 if method in ("sort", "copy", "update") else _CHARS_A_STEP)
    return 1


def before_percent(text: str, values: Any) -> None:
    """`text % values`: a width may stand in the text, or be a value where the text has a star."""
    weight = weigh(values)
    if _BIG_NUMBER.search(text):
        _refuse()
    if _STAR_WIDTH.search(text):
        for each in values if isinstance(values, tuple) else (values,):
            limit(abs(each) if isinstance(each, int) else 0)
    widths = sum(int(each or 0) for pair in _PERCENT_WIDTHS.findall(text) for each in pair)
    limit(len(text) + widths + text.count("%") * weight)


class Fields:
    """The fields that one call of `format` fills. Each is weighed just before it is made, when
    its width and precision are known: they may come from other fields, and from documents."""

    def __init__(self) -> None:
        self._made = 0

    def before(self, value: Any, spec: str) -> None:
        """Weigh what `format(value, spec)` would make, with what was made before."""
        # More digits than any width has; Python itself refuses to read thousands of them.
        if any(len(each) > len(str(MAX_PROMPT_CHARS)) for each in _NUMBER.findall(spec)):
            _refuse()
        widths = sum(int(each) for each in _NUMBER.findall(spec))
        self._made += widths + len(spec) + weigh(value)
        limit(self._made)


def _width(_text: Any, width: Any = 0, *_: Any) -> None:
    limit(width if isinstance(width, int) else 0)


def _tabs(text: Any, tabsize: Any = 8) -> None:
    limit(len(text) * tabsize if isinstance(tabsize, int) else 0)


def _replaced(text: Any, old: Any = "", new: Any = "", *_: Any, **__: Any) -> None:
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


_TEXT_METHODS: dict[str, _Check] = {
    "center": _width,
    "ljust": _width,
    "rjust": _width,
    "zfill": _width,
    "expandtabs": _tabs,
    "replace": _replaced,
    "join": _joined,
    "translate": _translated,
}


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
        # What is left of a long word is copied for each of its lines.
        longest = max(map(len, text.split()), default=0)
        limit(longest * longest // width // _CHARS_COPIED)


def summed(values: Iterable[Any], start: Any) -> Any:
    """As `sum`, but linear for lists: `sum` copies all that it has for each of them."""
    if not isinstance(start, list | tuple):
        return sum(values, start)
    kind, found = (list, list(start)) if isinstance(start, list) else (tuple, list(start))
    for each in values:
        if not isinstance(each, kind):
            return start + each  # the error that it is
        found.extend(each)
        limit(len(found))
    return kind(found)


def _sliced(_value: Any, slices: Any, *_: Any, **__: Any) -> None:
    limit(_CHARS_A_SLICE * slices if isinstance(slices, int) else 0)


def _rounded(_value: Any, precision: Any = 0, *_: Any, **__: Any) -> None:
    _limit_bits(4 * abs(precision) if isinstance(precision, int) else 0)  # ten to its power


def _as_json(_value: Any, indent: Any = None) -> None:
    step = len(indent) if isinstance(indent, str) else indent
    if isinstance(step, int) and step > _MAX_INDENT:
        raise TaskError("a template indents JSON too far", {"allowed": f"{_MAX_INDENT:,}"})


def _percent(text: Any, *args: Any, **kwargs: Any) -> None:
    before_percent(str(text), kwargs or args)


_FILTERS: dict[str, _Check] = {
    "batch": _width,
    "center": _width,
    "slice": _sliced,
    "format": _percent,
    "indent": _indented,
    "join": _joined_by,
    "replace": _replaced,
    "round": _rounded,
    "tojson": _as_json,
    "wordwrap": _wrapped,
}
_FOR_WEB_PAGES = "it is for web pages, and has no bound"
# Filters of jinja that no template gets, and why.
LEFT_OUT = {
    "random": "a prompt must be the same text each time it is rendered",
    "urlize": _FOR_WEB_PAGES,
    "xmlattr": _FOR_WEB_PAGES,
}


def bounded(filters: Mapping[str, Callable[..., Any]], budget: RenderBudget) -> dict[str, Any]:
    """Filters by name, each weighing what it gets and counting what it makes. Those that get the
    environment as well say so by an attribute, which is kept."""
    return {
        name: _bounded(name, function, _FILTERS.get(name), budget)
        for name, function in filters.items()
        if name not in LEFT_OUT
    }


def counting_tests(tests: Mapping[str, Any], budget: RenderBudget) -> dict[str, Any]:
    """Tests by name, each counting the steps in which it looks at what it compares."""
    return {
        name: _counted(test, budget) if name in _COMPARING else test for name, test in tests.items()
    }


def _counted(test: Callable[..., Any], budget: RenderBudget) -> Callable[..., Any]:
    @functools.wraps(test)
    def run(*args: Any) -> Any:
        budget.walk(list(args))
        return test(*args)

    return run


# Tests that look at all of their values, and filters that compare each with some of the others.
_COMPARING = frozenset("in eq equalto == ne != gt greaterthan > ge >= lt lessthan < le <=".split())
_SORTING = frozenset({"sort", "dictsort", "groupby", "unique", "min", "max"})


def _times(name: str, value: Any) -> int:
    """How often a filter looks at a part of its value."""
    several = name in _SORTING and isinstance(value, Sized)
    return 1 + len(value).bit_length() // 4 if several else 1


def _bounded(
    name: str, function: Callable[..., Any], check: _Check | None, budget: RenderBudget
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


def _limit_bits(bits: int) -> None:
    if bits > _MAX_BITS:
        _refuse()


def _refuse() -> None:
    limit(MAX_PROMPT_CHARS + 1)
