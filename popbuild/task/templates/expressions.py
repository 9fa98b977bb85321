"""Expressions in settings: evaluated in the sandbox of templates, with the same bounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jinja2
import jinja2.meta
from jinja2.exceptions import SecurityError

from popbuild.base.errors import TaskError
from popbuild.task.templates.bounds import shown
from popbuild.task.templates.sandbox import Sandbox

_ERRORS: dict[type[Exception], tuple[str, str | None]] = {
    jinja2.UndefinedError: (
        "an expression uses an undefined name",
        "test it with `is defined` or give it a `default`",
    ),
    SecurityError: ("an expression tried to leave the sandbox", None),
}


@dataclass(frozen=True)
class Expression:
    """A compiled expression, the names that it takes from outside, and the digests of the files of
    filters.py, if it uses them."""

    evaluate: Callable[..., Any]
    names: frozenset[str]
    files: Mapping[str, str]


class Expressions:
    """The expressions of one environment, each compiled once."""

    def __init__(self, environment: Sandbox) -> None:
        self._environment = environment
        self._compiled: dict[str, Expression] = {}

    def compiled(self, source: str) -> Expression:
        """Raises TaskError, without its place, for one that cannot be parsed."""
        if source not in self._compiled:
            try:
                tree, evaluate = self._environment.expression(source)
            except jinja2.TemplateSyntaxError as error:
                found = self._environment.syntax_error(error)
                found = found.replace("end of template", "end of the expression")
                raise TaskError("an expression has a syntax error", {"found": found}) from None
            except Exception as error:  # Python has limits too: nesting, digits
                found = str(error) or type(error).__name__
                raise TaskError("an expression cannot be compiled", {"found": found}) from None
            names = jinja2.meta.find_undeclared_variables(tree) - self._environment.globals.keys()
            own = self._environment.own_files(tree)
            self._compiled[source] = Expression(evaluate, frozenset(names), own)
        return self._compiled[source]

    def value_of(self, source: str, variables: Mapping[str, Any]) -> Any:
        """The value of an expression. Raises TaskError, without its place, for one that fails."""
        evaluate = self.compiled(source).evaluate
        self._environment.budget.start()
        try:
            value = evaluate(**variables)
            if isinstance(value, jinja2.Undefined):
                str(value)  # raises
        except TaskError:
            raise
        except Exception as error:
            message, hint = _ERRORS.get(type(error), ("an expression failed", None))
            raise TaskError(message, {"found": str(error) or type(error).__name__}, hint) from None
        if callable(value):
            raise TaskError(
                "an expression gives a function",
                {"found": shown(value)},
                hint="a method is called with (): seed.data.get('urgent')",
            )
        return value
