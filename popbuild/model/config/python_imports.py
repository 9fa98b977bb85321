"""Which files under pipeline-config/ a module imports, found in its source without running it.

Imports in all branches count, so that dependencies do not depend on the branch that a run took. A
missing module is looked for each time, so that it counts once it appears.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterable, Iterator

# Findings are kept between commands: raised when this file finds something else.
VERSION = "1"

_ANYTHING = "*"  # a module that only a run could name
_BY_NAME = frozenset({"import_module", "__import__", "find_spec", "run_module"})
_BY_PATH = frozenset({"spec_from_file_location", "SourceFileLoader", "run_path"})
_FROM_TEXT = frozenset({"exec", "eval"})  # the built-in functions, not methods of these names


def file_of(module: str, files: Collection[str]) -> str | None:
    """The file of a module's dotted name under pipeline-config/, or None."""
    stem = module.replace(".", "/")
    for candidate in (f"{stem}.py", f"{stem}/__init__.py"):
        if candidate in files:
            return candidate
    return None


def imported_files(
    path: str, files: Collection[str], names_in: Callable[[str], Iterable[str]]
) -> set[str]:
    """Every file that importing the module at `path` may run, directly or not, its own included.

    `names_in` gives what `names_in_source` found in a file.
    """
    found: set[str] = set()
    waiting = [*_files_of(path.removesuffix(".py").replace("/", "."), files)]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            for name in names_in(file):
                waiting.extend(_files_of(name, files))
    return found


def _files_of(name: str, files: Collection[str]) -> Iterator[str]:
    """The files of a module and of its packages; for `*`, every Python file."""
    package, _, last = name.rpartition(".")
    if name == _ANYTHING:
        yield from (path for path in files if path.endswith(".py"))
    elif last == _ANYTHING:
        # __all__ of a package may name its modules, which are then imported too.
        folder = package.replace(".", "/") + "/"
        if f"{folder}__init__.py" in files:
            yield from (
                path
                for path in files
                if path.startswith(folder) and path.endswith(".py")
                if "/" not in path.removeprefix(folder).removesuffix("/__init__.py")
            )
    else:
        parts = name.split(".")
        for depth in range(1, len(parts) + 1):
            file = file_of(".".join(parts[:depth]), files)
            yield from () if file is None else (file,)


def names_in_source(source: bytes, path: str) -> list[str]:
    """The modules that a source may import, sorted: dotted names, `package.*`, and `*` if a
    module's name is computed. Empty for a source that Python cannot parse."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    package = path.rpartition("/")[0].split("/") if "/" in path else []
    found: set[str] = set()
    written: set[ast.expr] = set()  # functions that are called with a name as it is
    for node in ast.walk(tree):  # a call comes before the function that it calls
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.update(_names_from(node, package))
        elif isinstance(node, ast.Call) and (name := _written_name(node)):
            found.add(name)
            written.add(node.func)
        elif node not in written and _may_import_anything(node):
            found.add(_ANYTHING)
    return sorted(found)


def _names_from(node: ast.ImportFrom, package: list[str]) -> Iterator[str]:
    base = node.module.split(".") if node.module else []
    if node.level:
        base = package[: len(package) - node.level + 1] + base
    if base:
        yield ".".join(base)
    for alias in node.names:
        yield ".".join([*base, alias.name])


def _written_name(call: ast.Call) -> str | None:
    """The module that `import_module("lib.later")` and the like name as their only argument."""
    if _name_of(call.func) not in _BY_NAME or call.keywords or len(call.args) != 1:
        return None
    (given,) = call.args
    value = given.value if isinstance(given, ast.Constant) else None
    return value if isinstance(value, str) and not value.startswith(".") else None


def _may_import_anything(node: ast.AST) -> bool:
    """Whether this mentions a function that imports computed names."""
    functions = _BY_NAME | _BY_PATH
    if isinstance(node, ast.alias):  # under another name we would miss it
        return node.asname not in (None, node.name) and node.name in functions | _FROM_TEXT
    if isinstance(node, ast.Name) and node.id in _FROM_TEXT:
        return True
    return _name_of(node) in functions


def _name_of(node: ast.AST) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return node.attr
    # getattr(importlib, "import_module")
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None
