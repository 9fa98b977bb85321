"""Imports stages.py and its modules from the snapshot, not from disk, and finds mistakes in their
source without running it.

pipeline-config/ is on the import path while tasks run: `import helpers` finds
pipeline-config/helpers.py, and `from . import helpers` the one beside stages.py. In the source only
certain mistakes count: the result of a decorator, an import or a call is not known there.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import reprlib
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from popbuild.base.errors import ConfigError, PopbuildError, TaskError, nearest, shown_error
from popbuild.model.config.python_functions import DefinedFunction, takes_arguments
from popbuild.model.config.python_imports import file_of
from popbuild.model.config.snapshot import Snapshot
from popbuild.model.stage_names import FUNCTIONS

_STAGES = frozenset(FUNCTIONS.values())
_VALUES = (ast.Constant, ast.JoinedStr, ast.List, ast.Tuple, ast.Set, ast.Dict)
_NO_FUNCTIONS = (ast.ClassDef, ast.Import, *_VALUES)


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Python's import system, over a snapshot of the files in `folder`. It changes what all of the
    process imports: stages use plain import statements, and Python looks for those in one place
    only, `sys.meta_path`."""

    def __init__(self, snapshot: Snapshot, folder: Path) -> None:
        self._snapshot = snapshot
        self._folder = folder
        self._imported: list[str] = []
        self._folders = {
            "/".join(parts[:depth])
            for path in snapshot.files
            if path.endswith(".py")
            for parts in [path.split("/")]
            for depth in range(1, len(parts))
        }

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Inside, the process imports from the snapshot. Afterwards what it imported is forgotten:
        another snapshot may have modules of the same names."""
        sys.meta_path.insert(0, self)
        try:
            yield
        finally:
            sys.meta_path.remove(self)
            for name in self._imported:
                sys.modules.pop(name, None)

    def find_spec(
        self, fullname: str, path: object = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        file = file_of(fullname, self._snapshot.files)
        if file is not None:
            return importlib.util.spec_from_loader(
                fullname,
                self,
                origin=f"pipeline-config/{file}",
                is_package=file.endswith("/__init__.py"),
            )
        if fullname.replace(".", "/") in self._folders:
            spec = importlib.machinery.ModuleSpec(fullname, self, is_package=True)
            spec.submodule_search_locations = []
            return spec
        return None

    def exec_module(self, module: ModuleType) -> None:
        self._imported.append(module.__name__)
        file = file_of(module.__name__, self._snapshot.files)
        if file is None:
            return  # a folder without __init__.py
        module.__file__ = str(self._folder / file)  # code may open files beside itself
        code = compile(self._snapshot.text(file), f"pipeline-config/{file}", "exec")
        exec(code, module.__dict__)  # noqa: S102 - it is the user's own code


def module_name(path: str) -> str:
    """The dotted name of a Python file below pipeline-config/."""
    return path.removesuffix(".py").replace("/", ".")


def imported(path: str, message: str, where: str = "file") -> ModuleType:
    """The module of a Python file below pipeline-config/. Raises TaskError with this message, and
    the place in the code as the value of `where`."""
    try:
        return importlib.import_module(module_name(path))
    except PopbuildError:
        raise
    except BaseException as error:  # also `sys.exit()` at the top of a module
        raise TaskError(
            message,
            {where: place_in(error, path), "found": shown_error(error)},
            hint="--debug shows the traceback",
        ) from error


def load_user_code(path: str) -> dict[str, Callable[[Any], Any]]:
    """The functions of a stages.py by stage. Raises TaskError if it cannot be imported, or has a
    public function that is nearly, but not, a stage's name."""
    name = module_name(path)
    module = imported(path, "a task's code cannot be imported")
    found = {}
    for stage, function in FUNCTIONS.items():
        if not hasattr(module, function):
            continue
        candidate = getattr(module, function)
        if not callable(candidate) or isinstance(candidate, type):
            raise TaskError(
                "a stage must be a function",
                {
                    "file": f"pipeline-config/{path}",
                    "found": f"{function} = {reprlib.repr(candidate)}",
                },
                hint="begin the name of anything else with _",
            )
        found[stage] = candidate
    for key, value in vars(module).items():
        if getattr(value, "__module__", None) != name or not callable(value) or key[0] == "_":
            continue
        close = nearest(key, FUNCTIONS.values())
        if key not in _STAGES and close and _plain(key) == _plain(close):
            raise TaskError(
                "a function is nearly a stage",
                {"file": f"pipeline-config/{path}", "found": key, "did you mean": close},
                hint="stages are functions in snake_case; begin a helper's name with _",
            )
    return found


def place_in(error: BaseException, path: str) -> str:
    """The last line of the user's code in a traceback; only the file if it has none."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [(each.filename, each.lineno) for each in frames]
    if isinstance(error, SyntaxError):
        own.append((error.filename or "", error.lineno))
    own = [each for each in own if each[0].startswith("pipeline-config/")]
    return f"{own[-1][0]}, line {own[-1][1]}" if own else f"pipeline-config/{path}"


def wrong_stages(tree: ast.Module, path: str) -> Iterator[ConfigError]:
    """Stages that a run could not call: not a function, or not one of a single argument."""
    for name, line, value in _defined(tree):
        if name not in _STAGES or value is None:
            continue
        where: dict[str, object] = {"file": f"pipeline-config/{path}", "at": f"line {line}"}
        if isinstance(value, DefinedFunction):
            if not takes_arguments(value.args, 1):
                yield ConfigError(
                    "a stage takes the wrong parameters",
                    {**where, "found": f"{name}({ast.unparse(value.args)})"},
                    hint=f"a stage takes the context and nothing else: def {name}(context)",
                )
        elif isinstance(value, _NO_FUNCTIONS):
            found = ast.unparse(value) if isinstance(value, ast.expr) else ""
            yield ConfigError(
                "a stage must be a function",
                {**where, "found": f"{name} = {found}" if found else f"a class or module {name}"},
                hint="begin the name of anything else with _",
            )


def near_stages(
    tree: ast.Module, path: str, is_used_elsewhere: Callable[[str], bool]
) -> Iterator[ConfigError]:
    """Public functions that are not used and nearly named like a stage: they never run."""
    names = (each for each in ast.walk(tree) if isinstance(each, ast.Name))
    used: set[object] = {each.id for each in names if isinstance(each.ctx, ast.Load)}
    used |= {each.attr for each in ast.walk(tree) if isinstance(each, ast.Attribute)}
    used |= {each.value for each in ast.walk(tree) if isinstance(each, ast.Constant)}
    for name, line, value in _defined(tree):
        if not isinstance(value, DefinedFunction) or name in _STAGES or name.startswith("_"):
            continue
        close = nearest(name, _STAGES)
        if close is None:
            continue
        written_apart = _plain(name) == _plain(close)  # refused when it is imported, too
        if written_apart or not (name in used or is_used_elsewhere(name)):
            yield ConfigError(
                "a function is nearly a stage",
                {
                    "file": f"pipeline-config/{path}",
                    "at": f"line {line}",
                    "found": name,
                    "did you mean": close,
                },
                hint="it never runs; begin a helper's name with _",
            )


def _defined(tree: ast.Module) -> Iterator[tuple[str, int, ast.AST | None]]:
    """The names defined at the top of a module, under `if` and `try` too, with line and value. The
    value of a decorated function is None: it may be anything."""
    waiting: list[ast.stmt] = list(reversed(tree.body))
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno, None if node.decorator_list else node
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield (alias.asname or alias.name.partition(".")[0]), node.lineno, node
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    yield target.id, node.lineno, node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            yield node.target.id, node.lineno, node.value
        elif isinstance(node, ast.If | ast.Try | ast.With):
            handlers = node.handlers if isinstance(node, ast.Try) else []
            below = [*node.body, *(each for one in handlers for each in one.body)]
            below += [] if isinstance(node, ast.With) else node.orelse
            waiting.extend(reversed(below))


def _plain(name: str) -> str:
    return name.replace("_", "").casefold()
