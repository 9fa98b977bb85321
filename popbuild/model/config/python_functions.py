"""The public functions of a person's module, found in its source without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterator

# Findings are kept between commands: raised when this file finds something else.
FUNCTIONS_VERSION = "1"

DefinedFunction = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


def public_functions(body: list[ast.stmt]) -> Iterator[tuple[str, int, DefinedFunction]]:
    """The public functions at the top of a module, under `if` and `try` too, with their lines.
    Imported names are none: a filter or a score would be one by accident."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found: list[tuple[str, DefinedFunction]] = [(node.name, node)]
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
            value = node.value
            found = [(each.id, value) for each in node.targets if isinstance(each, ast.Name)]
        else:
            found = []
            handlers = [each.body for each in getattr(node, "handlers", ())]
            blocks = (getattr(node, name, []) for name in ("body", "orelse", "finalbody"))
            if isinstance(node, ast.If | ast.Try | ast.With):
                for block in (*blocks, *handlers):
                    yield from public_functions(block)
        yield from (
            (name, node.lineno, defined) for name, defined in found if not name.startswith("_")
        )


def takes_arguments(given: ast.arguments, count: int) -> bool:
    """Whether a function can be called with so many values and nothing else."""
    places = [*given.posonlyargs, *given.args]
    needed = len(places) - len(given.defaults)
    by_name = [
        each
        for each, default in zip(given.kwonlyargs, given.kw_defaults, strict=True)
        if default is None
    ]
    enough = len(places) >= count or given.vararg is not None
    return needed <= count and enough and not by_name


def scores_in_source(source: bytes) -> dict[str, list[str]]:
    """The functions of a scores.py, by what they are: `fit` to be called, or why not with the line
    of each. `problem` has one line if Python cannot parse it."""
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        return {"problem": [f"line {error.lineno}: SyntaxError: {error.msg}"]}
    except (ValueError, RecursionError, MemoryError) as error:
        return {"problem": [f"{type(error).__name__}: {error}"]}
    found: dict[str, list[str]] = {"fit": [], "unfit": []}
    for name, line, defined in public_functions(tree.body):
        if takes_arguments(defined.args, 3):
            found["fit"] += [] if name in found["fit"] else [name]
        else:
            found["unfit"].append(f"line {line}: {name}({ast.unparse(defined.args)})")
    return found
