"""filters.py: filters and tests of templates that a person wrote.

Its public functions are filters by their own names, and a function `is_urgent` is the test
`urgent`. The names are found in its source: templates are compiled, and `validate` and
dependencies know who uses what, without running any of it. A module is imported at the first call.
"""

from __future__ import annotations

import ast
import functools
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jinja2
from jinja2.filters import FILTERS
from jinja2.tests import TESTS

from popbuild.base import jsonio
from popbuild.base.errors import InputError, PopbuildError, TaskError, shown_error
from popbuild.model.config.python_functions import public_functions
from popbuild.model.config.rules import FILTERS_FILE
from popbuild.task.reads import plain
from popbuild.task.user_code import imported, place_in

_TEST = "is_"  # begins the name of a test's function
_FILE = f"pipeline-config/{FILTERS_FILE}"

CodeRunner = Callable[
    [Callable[[], Any]], Any
]  # runs code that may do anything, and gives its result


@dataclass(frozen=True)
class Declared:
    """What filters.py declares: the functions of filters and of tests, by the names that templates
    have for them, and why other public functions are none. `problem` says why it cannot be read."""

    filters: Mapping[str, str]
    tests: Mapping[str, str]
    unfit: Mapping[str, str]
    lines: Mapping[str, int]
    problem: str = ""


@functools.lru_cache(maxsize=4)
def declared(source: str) -> Declared:
    """What a source declares; nothing if Python cannot parse it."""
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        return Declared({}, {}, {}, {}, f"line {error.lineno}: SyntaxError: {error.msg}")
    except (ValueError, RecursionError, MemoryError) as error:
        return Declared({}, {}, {}, {}, shown_error(error))
    filters: dict[str, str] = {}
    tests: dict[str, str] = {}
    unfit: dict[str, str] = {}
    lines: dict[str, int] = {}
    for function, line, defined in public_functions(tree.body):
        is_test = function.startswith(_TEST) and function != _TEST
        name = function.removeprefix(_TEST) if is_test else function
        lines[function] = line
        if isinstance(defined, ast.AsyncFunctionDef):
            unfit[name] = "it is async"
        elif not _takes_a_value(defined.args):
            unfit[name] = "it takes no value"
        else:
            (tests if is_test else filters)[name] = function
    return Declared(filters, tests, unfit, lines)


def redefined(own: Declared) -> Iterator[tuple[str, int]]:
    """The functions that would have the name of a filter or a test of Jinja, with their lines. They
    never run: a template means what it always meant."""
    for kind, known in ((own.filters, FILTERS), (own.tests, TESTS)):
        for name in sorted(kind.keys() & known.keys()):
            yield kind[name], own.lines[kind[name]]


class UserFilters:
    """The filters and tests of one snapshot. `files` are the digests of filters.py and of what it
    imports, `names` what is not Jinja's; `run` runs its code."""

    def __init__(self, source: str, files: Mapping[str, str], run: CodeRunner) -> None:
        self.declared = own = declared(source)
        self.files = files
        self.names = {*own.filters.keys() - FILTERS.keys(), *own.tests.keys() - TESTS.keys()}
        self._run = run
        self._functions: Mapping[str, Any] | None = None
        self._lock = threading.Lock()  # tasks render at the same time

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {name: self._filter(name, each) for name, each in self.declared.filters.items()}

    def tests(self) -> dict[str, Callable[..., Any]]:
        return {name: self._test(name, each) for name, each in self.declared.tests.items()}

    def _filter(self, name: str, function: str) -> Callable[..., Any]:
        # With the context, or the compiler would run it once, for a constant.
        @jinja2.pass_context
        def run(_context: object, *args: Any, **kwargs: Any) -> Any:
            result = self._result("filter", name, function, args, kwargs)
            try:
                return jsonio.normal(result, name)
            except InputError as error:
                raise TaskError(
                    "a filter returns something that is no value",
                    {"filter": name, "at": _FILE, "found": error.as_line()},
                    hint="texts, numbers, lists and objects, as in JSON",
                ) from None

        return run

    def _test(self, name: str, function: str) -> Callable[..., Any]:
        @jinja2.pass_context
        def run(_context: object, *args: Any, **kwargs: Any) -> bool:
            return bool(self._result("test", name, function, args, kwargs))

        return run

    def _result(
        self,
        kind: str,
        name: str,
        function: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Any:
        values = [_value(each) for each in args]
        named = {key: _value(each) for key, each in kwargs.items()}
        call = functools.partial(self._call, function, values, named)
        try:
            return self._run(call)
        except PopbuildError:
            raise
        except BaseException as error:  # also `sys.exit()`
            raise TaskError(
                f"a {kind} raised an exception",
                {kind: name, "at": place_in(error, FILTERS_FILE), "found": shown_error(error)},
                hint="--debug shows the traceback",
            ) from error

    def _call(self, function: str, values: list[Any], named: dict[str, Any]) -> Any:
        with self._lock:
            if self._functions is None:
                self._functions = vars(
                    imported(FILTERS_FILE, "filters.py cannot be imported", "at")
                )
        found = self._functions.get(function)
        if not callable(found) or hasattr(found, "jinja_pass_arg"):
            raise TaskError(
                "not a function of a value",
                {"at": _FILE, "found": function},
                hint="it gets what stands before the `|`, then its arguments",
            )
        return found(*values, **named)


def _value(given: Any) -> Any:
    """A plain copy of what a template hands over: code must not change what others see. An
    undefined name is an error, as it is to print it."""
    if isinstance(given, jinja2.Undefined):
        str(given)  # raises
    if isinstance(given, list | tuple):
        return [_value(each) for each in given]
    if isinstance(given, dict):
        return {key: _value(each) for key, each in given.items()}
    return plain(given)


def _takes_a_value(given: ast.arguments) -> bool:
    return bool(given.posonlyargs or given.args or given.vararg)
