"""What is wrong with the stages in a stages.py, from its source and without running it.

Only certain mistakes count: the result of a decorator, an import or a call is not known here.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator

from popbuild.base.errors import ConfigError, nearest
from popbuild.model.stage_names import FUNCTIONS

_STAGES = frozenset(FUNCTIONS.values())
_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_VALUES = (ast.Constant, ast.JoinedStr, ast.List, ast.Tuple, ast.Set, ast.Dict)
_NO_FUNCTIONS = (ast.ClassDef, ast.Import, *_VALUES)


def wrong_stages(tree: ast.Module, path: str) -> Iterator[ConfigError]:
    """Stages that a run could not call: not a function, or not one of a single argument."""
    for name, line, value in _defined(tree):
        if name not in _STAGES or value is None:
            continue
        where: dict[str, object] = {"file": f"pipeline-config/{path}", "at": f"line {line}"}
        if isinstance(value, _Function):
            if not _takes_one(value.args):
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
        if not isinstance(value, _Function) or name in _STAGES or name.startswith("_"):
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


def _takes_one(given: ast.arguments) -> bool:
    """Whether a function can be called with one positional argument."""
    places = [*given.posonlyargs, *given.args]
    needed = len(places) - len(given.defaults)
    by_name = [
        each
        for each, default in zip(given.kwonlyargs, given.kw_defaults, strict=True)
        if default is None
    ]
    return needed <= 1 and bool(places or given.vararg) and not by_name


def _plain(name: str) -> str:
    return name.replace("_", "").casefold()
