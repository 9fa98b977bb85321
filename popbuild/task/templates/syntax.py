"""What a template's source shows without rendering it: which names it uses, and whether it prints
anything.

Only what is certain counts. A name that the template tests (`is defined`, `default`, `in`) may be
missing, and a computed name is unknown.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jinja2
import jinja2.meta
from jinja2 import nodes

from popbuild.base.texts import is_blank

# With the context, or the compiler would print each constant to look at it.
_PARSER = jinja2.Environment(  # noqa: S701 - parses, and renders nothing
    finalize=jinja2.pass_context(lambda _, value: value)
)


class _AnyName(dict[str, Any]):
    """Knows every name, those of filters.py too: an unknown one is found where a template is
    compiled."""

    def get(self, _name: str, _default: object = None) -> object:
        return _AnyName


_PARSER.filters = _PARSER.tests = _AnyName()
_OPTIONAL_TESTS = ("defined", "undefined")
_OPTIONAL_FILTERS = ("default", "d")
_METHODS = ("get", "items", "keys", "values")  # of an object, unless a task has the name


@dataclass(frozen=True)
class Named:
    """A name in a template, with its line."""

    name: str
    line: int


@dataclass(frozen=True)
class Reference:
    """Another template: any of `names` will do."""

    names: tuple[str, ...]
    line: int
    may_be_missing: bool = False


@dataclass(frozen=True)
class TemplateSource:
    """`artifacts` are the tasks whose artifact the template needs, `vars` the pipeline's vars that
    it needs, `undeclared` the names that it neither sets nor tests, `sets` those that it sets for
    included templates. `blank` says that it renders to nothing, whatever it reads. `filters` and
    `tests` are the names that it uses, none where it asks itself which there are."""

    templates: tuple[Reference, ...] = ()
    artifacts: tuple[Named, ...] = ()
    vars: tuple[Named, ...] = ()
    undeclared: tuple[Named, ...] = ()
    sets: frozenset[str] = frozenset()
    blank: bool = False
    filters: tuple[Named, ...] = ()
    tests: tuple[Named, ...] = ()


@functools.lru_cache(maxsize=256)
def template_source(text: str) -> TemplateSource:
    """What a template's text shows; nothing if it cannot be parsed, which is an error elsewhere."""
    try:
        tree, found = _PARSER.parse(text), _Names(_PARSER)
        found.visit(tree)
    except (jinja2.TemplateError, RecursionError, ValueError):
        return TemplateSource()
    undeclared, optional = found.undeclared_identifiers, _optional(tree)
    names = list(tree.find_all(nodes.Name))
    loaded = [each for each in names if each.ctx == "load" and id(each) not in optional]
    sets = frozenset(each.name for each in names if each.ctx != "load")
    given = undeclared - sets
    return TemplateSource(
        templates=tuple(_references(tree)),
        artifacts=tuple(_members(tree, "artifacts", optional)) if "artifacts" in given else (),
        vars=tuple(_members(tree, "vars", optional)) if "vars" in given else (),
        undeclared=tuple(
            Named(each.name, each.lineno)
            for each in loaded
            if each.name in given - _tested(tree) and each.name not in _PARSER.globals
        ),
        sets=sets,
        blank=not _says_something(tree),
        filters=tuple(_used(tree, nodes.Filter)),
        tests=tuple(_used(tree, nodes.Test)),
    )


def _used(tree: nodes.Template, kind: type[nodes.Filter | nodes.Test]) -> Iterator[Named]:
    if not any(each.name in ("filter", "test") for each in tree.find_all(nodes.Test)):
        yield from (Named(each.name, each.lineno) for each in tree.find_all(kind))


class _Names(jinja2.meta.TrackingCodeGenerator):
    """Finds names and computes nothing: jinja2's own class evaluates constants, `'a' * 10 ** 10`
    too, without the sandbox's bounds."""

    def __init__(self, environment: jinja2.Environment) -> None:
        super().__init__(environment)
        self.optimizer = None


def _references(tree: nodes.Template) -> Iterator[Reference]:
    for node in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
        given = node.template  # type: ignore[attr-defined]  # each of the four has one
        names = given.items if isinstance(given, nodes.List | nodes.Tuple) else [given]
        known = [each.value for each in names if isinstance(each, nodes.Const)]
        if len(known) == len(names) and all(isinstance(each, str) for each in known):
            yield Reference(tuple(known), node.lineno, getattr(node, "ignore_missing", False))


def _members(tree: nodes.Template, whole: str, optional: set[int]) -> Iterator[Named]:
    """`artifacts.x` and `artifacts["x"]`, where the template cannot do without it; `whole` is the
    name of the object."""
    asked = {
        node.expr.value
        for node in tree.find_all(nodes.Compare)
        if isinstance(node.expr, nodes.Const)
        and any(each.op in ("in", "notin") and _written(each.expr) == whole for each in node.ops)
    }
    for node in tree.find_all((nodes.Getattr, nodes.Getitem)):
        if id(node) in optional or _written(node.node) != whole:  # type: ignore[attr-defined]
            continue
        if isinstance(node, nodes.Getattr):
            if node.attr not in _METHODS and node.attr not in asked:
                yield Named(node.attr, node.lineno)
        elif isinstance(node.arg, nodes.Const):  # type: ignore[attr-defined]
            name = node.arg.value  # type: ignore[attr-defined]
            if isinstance(name, str) and name not in asked:
                yield Named(name, node.lineno)


def _optional(tree: nodes.Template) -> set[int]:
    """The nodes that may be undefined, since a test or a filter handles that."""
    found: set[int] = set()
    for test in tree.find_all(nodes.Test):
        if test.name in _OPTIONAL_TESTS:
            found.add(id(test.node))
    for filter_ in tree.find_all(nodes.Filter):
        if filter_.name in _OPTIONAL_FILTERS:
            found.add(id(filter_.node))
    # The same place elsewhere: `{% if artifacts.x is defined %}{{ artifacts.x }}`.
    tested = {_written(each) for each in tree.find_all(nodes.Expr) if id(each) in found} - {None}
    found.update(id(each) for each in tree.find_all(nodes.Expr) if _written(each) in tested)
    return found


def _written(node: nodes.Node) -> str | None:
    """A name, or a place below one, as written; None for anything else."""
    if isinstance(node, nodes.Name):
        return node.name
    if isinstance(node, nodes.Getattr):
        above, last = _written(node.node), node.attr
    elif isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
        above, last = _written(node.node), str(node.arg.value)
    else:
        return None
    return None if above is None else f"{above}.{last}"


def _tested(tree: nodes.Template) -> set[str]:
    return {
        test.node.name
        for test in tree.find_all(nodes.Test)
        if test.name in _OPTIONAL_TESTS and isinstance(test.node, nodes.Name)
    }


def _says_something(node: nodes.Node) -> bool:
    """Whether a part of a template may print anything but white space."""
    if isinstance(node, nodes.TemplateData):
        return not is_blank(node.data)
    if isinstance(node, nodes.Macro):
        return False  # a call of it would print
    if isinstance(node, nodes.Output):
        return any(
            _says_something(each)
            if isinstance(each, nodes.TemplateData)
            else not (isinstance(each, nodes.Const) and is_blank(str(each.value)))
            for each in node.nodes
        )
    if isinstance(node, nodes.Include | nodes.Extends | nodes.CallBlock | nodes.FilterBlock):
        return True
    if isinstance(node, nodes.Expr | nodes.AssignBlock):
        return False
    return any(map(_says_something, node.iter_child_nodes()))
