"""Templates of a table's YAML: from a row to a seed's values. They read `row` and nothing else.

A value that is one expression keeps its type: `{{ row.stars | int }}` is a number. What a row holds
is never parsed as a template.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

import jinja2
import jinja2.sandbox

from popbuild.base import jsonio
from popbuild.base.errors import InputError, nearest

Filled = Callable[[Mapping[str, Any]], Any]

_ONE_EXPRESSION = re.compile(r"\s*\{\{-?((?:(?!\{\{|\}\}).)*?)-?\}\}\s*", re.DOTALL)
# Each takes time and room in proportion to its input.
_FILTERS = tuple(
    "abs capitalize default d first float int join last length lower replace round string title "
    "trim truncate upper".split()
)
_MAX_CHARS = 60  # of a slug: an ID has at most 64


def slug(value: object) -> str:
    """A text as part of an ID: letters and digits of ASCII, with a dash for all else."""
    plain = unicodedata.normalize("NFKD", str(value)).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:_MAX_CHARS].rstrip("-")


class _Environment(jinja2.sandbox.ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"*", "**", "%"})

    def __init__(self, finalize: Callable[[Any], Any] | None = None) -> None:
        super().__init__(undefined=jinja2.StrictUndefined, finalize=finalize)
        self.filters = {name: self.filters[name] for name in _FILTERS} | {"slug": slug}
        self.globals.clear()

    def getattr(self, obj: Any, attribute: str) -> Any:
        # A key wins over a method: a column may be called `items`.
        if isinstance(obj, dict):
            return obj[attribute] if attribute in obj else self.undefined(obj=obj, name=attribute)
        return super().getattr(obj, attribute)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        numbers = isinstance(left, int | float) and isinstance(right, int | float)
        if operator == "**" or not numbers:
            raise jinja2.exceptions.SecurityError(f"{operator} works on numbers here")
        return super().call_binop(context, operator, left, right)


def _something(value: Any) -> Any:
    """What an expression of an ID gave. An empty cell would give many rows one ID, or one that a
    person never meant, `review-None`: jobs that are bought by mistake."""
    if value is None or value == "":
        given = "null" if value is None else "an empty text"
        raise jinja2.TemplateRuntimeError(f"an expression of it gives {given}")
    return value


_environment = _Environment()
_of_ids = _Environment(_something)


def compiled_id(text: str, where: str) -> Filled:
    """A function from a row to its job's ID, as `compiled`, for a row of which each expression
    gives something."""
    fill = _fill_of(text, where, _of_ids)
    return lambda row: _something_of(fill(row), where)


def _something_of(found: Any, where: str) -> Any:
    try:
        return _something(found)
    except jinja2.TemplateRuntimeError as error:
        raise InputError(f"{where}: {error}") from None


def compiled(value: Any, where: str) -> Filled:
    """A function from a row to the value: every text in it is a template. Raises InputError for
    one that cannot be parsed; the function, for a row that it does not fit."""
    if isinstance(value, Mapping):
        places = {name: f"{where}.{name}" if where else name for name in value}
        below = {name: compiled(each, places[name]) for name, each in value.items()}
        return lambda row: {name: fill(row) for name, fill in below.items()}
    if isinstance(value, list):
        items = [compiled(each, f"{where}[{number}]") for number, each in enumerate(value)]
        return lambda row: [fill(row) for fill in items]
    if not isinstance(value, str) or "{" not in value:
        return lambda _: value
    return _fill_of(value, where, _environment)


def _fill_of(text: str, where: str, environment: _Environment) -> Filled:
    fill = _of_text(text, where, environment)

    def filled(row: Mapping[str, Any]) -> Any:
        try:
            found = fill(row)
            if isinstance(found, jinja2.Undefined):
                str(found)  # raises
        except jinja2.UndefinedError as error:
            raise InputError(f"{where}: {_missing(str(error), row)}") from None
        except Exception as error:
            raise InputError(f"{where}: {error or type(error).__name__}") from None
        return found

    return filled


def _of_text(text: str, where: str, environment: _Environment) -> Filled:
    one = _ONE_EXPRESSION.fullmatch(text)
    try:
        if one is not None:
            expression = environment.compile_expression(one[1], undefined_to_none=False)
            return lambda row: jsonio.normal(expression(row=row), where)
        template = environment.from_string(text)
    except jinja2.TemplateSyntaxError as error:
        raise InputError("a template has a syntax error", {"at": where, "found": error}) from None
    return lambda row: template.render(row=row)


def _missing(said: str, row: Mapping[str, Any]) -> str:
    name = next(iter(re.findall(r"no attribute '(.*?)'", said)), None)
    if name is None:
        return said
    like = nearest(name, list(row))
    return f"the row has no column {name!r}" + (f": did you mean {like!r}?" if like else "")
