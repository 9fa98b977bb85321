"""Operators, methods and formats in templates, weighed before they run: how large is the result,
and how many steps does it take?"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sized
from typing import Any

from popbuild.task.templates.bounds import (
    CHARS_A_STEP,
    MAX_PROMPT_CHARS,
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


def before_operator(operator: str, left: Any, right: Any) -> None:
    """Weigh what `left operator right` would make."""
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
        check_width(owner, *args, *kwargs.values())
    elif isinstance(owner, list) and method in ("extend", "insert") and args:
        limit(len(owner) + (len(args[-1]) if isinstance(args[-1], Sized) else 1))


def work_of_operator(operator: str, left: Any, right: Any) -> int:
    """The steps that `left operator right` takes."""
    if isinstance(left, int) and isinstance(right, int):
        return 1 + left.bit_length() * right.bit_length() // _BITS_A_STEP
    sizes = sum(len(each) for each in (left, right) if isinstance(each, list | tuple))
    return 1 + sizes // CHARS_A_STEP


_SLOW_METHODS = ("rfind", "rindex", "rsplit", "rpartition", "strip", "lstrip", "rstrip")


def work_of_method(owner: Any, method: str, args: tuple[Any, ...]) -> int:
    """The steps that a method of a text or a list takes."""
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


def before_percent(text: str, values: Any) -> None:
    """`text % values`: a width may stand in the text, or be a value where the text has a star."""
    weight = weigh(values)
    if _BIG_NUMBER.search(text):
        refuse_size()
    if _STAR_WIDTH.search(text):
        for each in values if isinstance(values, tuple) else (values,):
            limit(abs(each) if isinstance(each, int) else 0)
    widths = sum(int(each or 0) for pair in _PERCENT_WIDTHS.findall(text) for each in pair)
    limit(len(text) + widths + text.count("%") * weight)


class Fields:
    """The fields of one call of `format`. Each is weighed just before it is made, when its width
    and precision are known: they may come from other fields, and from documents."""

    def __init__(self) -> None:
        self._made = 0

    def before(self, value: Any, spec: str) -> None:
        """Weigh what `format(value, spec)` would make, with what was made before."""
        # More digits than any width has; Python refuses to read thousands of them.
        if any(len(each) > len(str(MAX_PROMPT_CHARS)) for each in _NUMBER.findall(spec)):
            refuse_size()
        widths = sum(int(each) for each in _NUMBER.findall(spec))
        self._made += widths + len(spec) + weigh(value)
        limit(self._made)


def check_width(_text: Any, width: Any = 0, *_: Any) -> None:
    limit(width if isinstance(width, int) else 0)


def _tabs(text: Any, tabsize: Any = 8) -> None:
    limit(len(text) * tabsize if isinstance(tabsize, int) else 0)


def check_replaced(text: Any, old: Any = "", new: Any = "", *_: Any, **__: Any) -> None:
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
    "center": check_width,
    "ljust": check_width,
    "rjust": check_width,
    "zfill": check_width,
    "expandtabs": _tabs,
    "replace": check_replaced,
    "join": _joined,
    "translate": _translated,
}


def summed(values: Iterable[Any], start: Any) -> Any:
    """Like `sum`, but linear for lists, which `sum` copies again and again."""
    if not isinstance(start, list | tuple):
        return sum(values, start)
    kind, found = (list, list(start)) if isinstance(start, list) else (tuple, list(start))
    for each in values:
        if not isinstance(each, kind):
            return start + each  # raises the right error
        found.extend(each)
        limit(len(found))
    return kind(found)
