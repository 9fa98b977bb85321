"""Where a small change can be made to a module, and what it becomes.

Five kinds: a comparison turned around or moved by one, `and` for `or`, a condition denied, a
statement left out (so a sync that is skipped), an entry of a dict left out (so a digest).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

KINDS = ("comparison", "operator", "branch", "statement", "entry")
_COMPARED: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}


@dataclass(frozen=True)
class Site:
    """Bytes `start` to `end` of a module become `after`. `function` is the line of its `def`."""

    kind: str
    function: int
    line: int
    start: int
    end: int
    before: str
    after: str


class _Module:
    """A module's bytes, with the offsets of its nodes."""

    def __init__(self, source: bytes) -> None:
        self.source = source
        self._lines = [0]
        for line in source.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))

    def start(self, node: ast.expr | ast.stmt) -> int:
        return self._lines[node.lineno - 1] + node.col_offset

    def end(self, node: ast.expr | ast.stmt) -> int:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._lines[node.end_lineno - 1] + node.end_col_offset

    def site(self, kind: str, function: int, start: int, end: int, after: str) -> Site:
        line = self.source.count(b"\n", 0, start) + 1
        return Site(kind, function, line, start, end, self.source[start:end].decode(), after)

    def between(
        self, kind: str, function: int, pair: tuple[ast.expr, ast.expr], old: str, new: str
    ) -> Site | None:
        """The operator between two operands, if it stands there once."""
        start, end = self.end(pair[0]), self.start(pair[1])
        text = self.source[start:end].decode()
        at = text.find(old)
        if at < 0 or text.count(old) > 1:
            return None
        start += len(text[:at].encode())
        return self.site(kind, function, start, start + len(old), new)


def sites(source: bytes) -> Iterator[Site]:
    """Every site in the functions of a module, in the order of the file."""
    module = _Module(source)
    for node in ast.parse(source).body:
        yield from _within(module, node, None)


def _within(module: _Module, node: ast.AST, function: int | None) -> Iterator[Site]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and function is None:
        function = min([node.lineno, *(each.lineno for each in node.decorator_list)])
        # Defaults and annotations are evaluated when the module is imported.
        children: list[ast.AST] = list(node.body)
    else:
        children = list(ast.iter_child_nodes(node))
    if function is not None:
        yield from filter(None, _of(module, node, function))
    for child in children:
        yield from _within(module, child, function)


def _of(module: _Module, node: ast.AST, function: int) -> Iterator[Site | None]:
    match node:
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            yield module.between("comparison", function, (left, right), *_COMPARED[type(op)])
        case ast.BoolOp(op=ast.And(), values=[first, second, *_]):
            yield module.between("operator", function, (first, second), "and", "or")
        case ast.BoolOp(op=ast.Or(), values=[first, second, *_]):
            yield module.between("operator", function, (first, second), "or", "and")
        case ast.If(test=test) | ast.IfExp(test=test) if not isinstance(test, ast.Compare):
            start, end = module.start(test), module.end(test)
            denied = f"not ({module.source[start:end].decode()})"
            yield module.site("branch", function, start, end, denied)
        case ast.Expr(value=ast.Call() | ast.Await()):
            yield module.site("statement", function, module.start(node), module.end(node), "pass")
        case ast.Dict(values=[_, _, *_] as values, keys=keys):
            for number, (key, value) in enumerate(zip(keys, values, strict=True)):
                if key is not None and number + 1 < len(values):
                    end = module.start(keys[number + 1] or values[number + 1])
                    if keys[number + 1] is not None:
                        yield module.site("entry", function, module.start(key), end, "")
                elif key is not None and number and keys[number - 1] is not None:
                    start = module.end(values[number - 1])
                    yield module.site("entry", function, start, module.end(value), "")


def changed(source: bytes, site: Site) -> bytes:
    """The module with the change made."""
    return source[: site.start] + site.after.encode() + source[site.end :]
