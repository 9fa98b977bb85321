"""Jinja's sandbox, with bounds on every way to make a large text out of a small one, and with
errors that say which names exist."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

import jinja2
import jinja2.environment
import jinja2.filters
import jinja2.meta
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox
import jinja2.utils
import jinja2.visitor

from popbuild.base.errors import nearest
from popbuild.task.chunks import batches
from popbuild.task.input_views import FileView
from popbuild.task.reads import ArrayView, ArtifactsView, ObjectView, plain
from popbuild.task.templates import bounds, operations
from popbuild.task.user_filters import UserFilters

_UNKNOWN = re.compile(r"No (filter|test) named '(.*?)'")
_ANY = "*"  # a name that is computed
_IN_BRACKETS = "a name with a dash is written in brackets: artifacts['market-analysis']"
NAMES = tuple("seed artifacts files jobs vars config variables problems previous cycle".split())
OF_ITEMS = ("item", "position")  # where a task has foreach


class Sandbox(jinja2.sandbox.SandboxedEnvironment):
    intercepted_binops = frozenset({"*", "+", "%", "**", "//", "/"})

    def __init__(self, own: UserFilters | None = None, **options: Any) -> None:
        super().__init__(undefined=Undefined, **options)
        self.own = own
        self.budget = bounds.RenderBudget()
        self.finalize = self._printed
        self.policies["json.dumps_function"] = self._dump
        filters, tests = {**self.filters, "sum": _sum}, self.tests
        if own is not None:  # what Jinja has keeps its meaning, which old letters go by
            filters, tests = {**own.filters(), **filters}, {**own.tests(), **tests}
        self.filters = operations.bounded(filters, self.budget)
        self.tests = operations.counting_tests(tests, self.budget)
        self.filters["bounded_concat"] = self._concat
        # With the context, or the compiler would run it once, for a constant.
        self.filters["bounded_look"] = jinja2.pass_context(lambda _, value: self.budget.look(value))
        self.filters["bounded_turn"] = jinja2.pass_context(lambda _, chars: self.budget.turn(chars))
        del self.globals["lipsum"]  # a prompt must not be a random text
        self.globals["batches"] = batches

    def _parse(self, source: str, name: str | None, filename: str | None) -> jinja2.nodes.Template:
        return self._checked(super()._parse(source, name, filename), name, filename)

    def expression(
        self, source: str
    ) -> tuple[jinja2.nodes.Template, jinja2.environment.TemplateExpression]:
        """An expression, parsed and compiled. Jinja's own `compile_expression` would leave out our
        checks and counts."""
        parser = jinja2.parser.Parser(self, source, state="variable")
        value = parser.parse_expression()
        if not parser.stream.eos:
            parser.fail("there is more than one expression")
        result = jinja2.nodes.Assign(jinja2.nodes.Name("result", "store"), value, lineno=1)
        tree = jinja2.nodes.Template([result], lineno=1)
        tree.set_environment(self)
        code = self.compile(self._checked(tree, None, None))
        template = self.template_class.from_code(self, code, self.make_globals(None))
        return tree, jinja2.environment.TemplateExpression(template, undefined_to_none=False)

    def own_files(self, tree: jinja2.nodes.Template) -> dict[str, str]:
        """The digests of the files of filters.py, if a template uses any of its names."""
        if self.own is None:
            return {}
        nodes = list(tree.find_all((jinja2.nodes.Filter, jinja2.nodes.Test)))
        names = {each.name for each in nodes}
        by_name = [each for each in nodes if each.name in operations.TAKE_NAMES]
        for given in (arg for each in by_name for arg in each.args):  # map("short")
            names.add(given.value if isinstance(given, jinja2.nodes.Const) else _ANY)
        return dict(self.own.files) if names & {*self.own.names, _ANY} else {}

    @property
    def known(self) -> tuple[set[str], set[str]]:
        """The names of filters and those of tests, without our own for the compiler."""
        return {each for each in self.filters if not each.startswith("bounded_")}, {*self.tests}

    def syntax_error(self, error: jinja2.TemplateError) -> str:
        """What is wrong, with the nearest name where it is an unknown filter or test."""
        said = str(error.message)
        unknown = _UNKNOWN.match(said)
        if unknown is None:
            return said
        kind, name = unknown.groups()
        close = nearest(name, self.known[kind == "test"])
        more = f"did you mean {close!r}?" if close else ""
        if self.own is not None:
            unfit = self.own.declared.unfit.get(name)
            more = f"{name!r} in pipeline-config/filters.py is none: {unfit}" if unfit else more
            wrong = self.own.declared.problem
            more = f"pipeline-config/filters.py cannot be read, {wrong}" if wrong else more
        return f"there is no {kind} {name!r}" + (f": {more}" if more else "")

    def _checked(
        self, tree: jinja2.nodes.Template, name: str | None, filename: str | None
    ) -> jinja2.nodes.Template:
        for node in tree.find_all(jinja2.nodes.Filter):
            if node.name in operations.LEFT_OUT:
                why = f"the filter {node.name!r} is left out: {operations.LEFT_OUT[node.name]}"
                raise jinja2.TemplateSyntaxError(why, node.lineno, name, filename)
        dashed = _dashed(tree)
        if dashed is not None:
            raise jinja2.TemplateSyntaxError(_IN_BRACKETS, dashed.lineno, name, filename)
        counted: jinja2.nodes.Template = _Counted().visit(tree)
        return counted

    def getattr(self, obj: Any, attribute: str) -> Any:
        # A key wins over a method: `seed.data.items` is the seed's field if it has one.
        if isinstance(obj, ObjectView | dict) and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)

    def wrap_str_format(self, value: Any) -> Any:
        # Instead of jinja's own wrapper, which fills fields of any width.
        if super().wrap_str_format(value) is None:
            return None
        owner, name = value.__self__, value.__name__

        def run(*args: Any, **kwargs: Any) -> Any:
            operations.before_method(owner, name, args, kwargs)
            if name == "format_map":
                (kwargs,), args = args, ()
            escape = getattr(owner, "escape", None)  # of a text from the filter `escape`
            formatter = _EscapingFormatter(self, escape=escape) if escape else _Formatter(self)
            return type(owner)(formatter.vformat(owner, args, kwargs))

        return run

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        left, right = plain(left), plain(right)
        self.budget.work(operations.before_operator(operator, left, right))
        result = super().call_binop(context, operator, left, right)
        self.budget.spend(result)
        return result

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        # Named as in jinja, so that a keyword in a template cannot clash.
        owner, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
        __self.budget.work(operations.before_method(owner, name, args, kwargs))
        __self.budget.walk([*args, *kwargs.values()])
        result = super().call(__context, __obj, *args, **kwargs)
        __self.budget.spend(result)
        return result

    def _printed(self, value: Any) -> Any:
        if isinstance(value, jinja2.Undefined):
            return value  # printing it raises the error that names the place
        text = bounds.printed_text(value)
        self.budget.spend(text)
        return text

    def _dump(self, value: Any, **options: Any) -> str:
        encoder = json.JSONEncoder(default=plain, ensure_ascii=False, **options)
        if not options.get("indent"):
            return encoder.encode(value)
        parts: list[str] = []
        size = 0
        for part in encoder.iterencode(value):  # an indent multiplies with the depth
            size += len(part)
            bounds.limit(size)
            parts.append(part)
        return "".join(parts)

    @staticmethod
    def _concat(parts: list[Any]) -> str:
        texts = list(map(bounds.printed_text, parts))
        bounds.limit(sum(map(len, texts)))
        return "".join(texts)


@jinja2.pass_environment
def _sum(
    environment: jinja2.Environment, iterable: Iterable[Any], attribute: Any = None, start: Any = 0
) -> Any:
    """Jinja's filter, but linear for lists."""
    if attribute is not None:
        iterable = map(jinja2.filters.make_attrgetter(environment, attribute), iterable)
    return operations.summed(iterable, start)


class _Formatter(jinja2.sandbox.SandboxedFormatter):
    """Jinja's formatter, with every field weighed just before it is made, when its width and
    precision are known: they may come from other fields, and from documents."""

    _made = 0

    def format_field(self, value: Any, format_spec: str) -> Any:
        self._made += operations.field_size(value, format_spec)
        bounds.limit(self._made)
        return super().format_field(value, format_spec)


class _EscapingFormatter(_Formatter, jinja2.sandbox.SandboxedEscapeFormatter):
    """The same for a text from the filter `escape`."""


class _Counted(jinja2.visitor.NodeTransformer):
    """Makes a template count the turns of its loops and the results of `~`, which jinja's sandbox
    does not see."""

    def visit_Concat(self, node: jinja2.nodes.Concat) -> jinja2.nodes.Node:
        self.generic_visit(node)
        return _filter(jinja2.nodes.List(node.nodes), "bounded_concat", node.lineno)

    def visit_Compare(self, node: jinja2.nodes.Compare) -> jinja2.nodes.Node:
        self.generic_visit(node)
        node.expr = _filter(node.expr, "bounded_look", node.lineno)
        for operand in node.ops:
            operand.expr = _filter(operand.expr, "bounded_look", node.lineno)
        return node

    def visit_Getitem(self, node: jinja2.nodes.Getitem) -> jinja2.nodes.Node:
        self.generic_visit(node)
        if isinstance(node.arg, jinja2.nodes.Slice):
            node.node = _filter(node.node, "bounded_look", node.lineno)
        return node

    def _body(self, node: Any) -> jinja2.nodes.Node:
        self.generic_visit(node)
        chars = sum(len(each.data) for each in node.find_all(jinja2.nodes.TemplateData))
        turn = _filter(jinja2.nodes.Const(chars), "bounded_turn", node.lineno)
        node.body.insert(0, jinja2.nodes.ExprStmt(turn, lineno=node.lineno))
        found: jinja2.nodes.Node = node
        return found

    visit_Template = visit_Block = visit_For = visit_Macro = visit_CallBlock = _body


def _dashed(tree: jinja2.nodes.Template) -> jinja2.nodes.Sub | None:
    """A name with a dash that reads as a subtraction: `artifacts.market-analysis`. The subtracted
    name is unknown, but the template would fail only after the tasks above it were paid for."""
    found = [
        (node, node.right.name)
        for node in tree.find_all(jinja2.nodes.Sub)
        if isinstance(node.left, jinja2.nodes.Getattr) and isinstance(node.right, jinja2.nodes.Name)
    ]
    nowhere = jinja2.meta.find_undeclared_variables(tree).difference(NAMES) if found else ()
    return next((node for node, name in found if name in nowhere), None)


def _filter(node: jinja2.nodes.Expr, name: str, line: int) -> jinja2.nodes.Filter:
    return jinja2.nodes.Filter(node, name, [], [], None, None, lineno=line)


class Undefined(jinja2.StrictUndefined):
    """A missing name in a template: an error that says which names exist."""

    @property
    def _undefined_message(self) -> str:
        name, owner = str(self._undefined_name), self._undefined_obj
        if self._undefined_hint:
            return self._undefined_hint
        if owner is jinja2.utils.missing:
            return _not_there("there is no", name, NAMES)
        if isinstance(owner, dict | ArtifactsView):
            absent = isinstance(owner, ArtifactsView) and name in owner.absent
            skipped = f"artifacts.{name} is undefined: its task was skipped"
            return skipped if absent else _not_there("there is no", name, map(str, owner))
        if isinstance(owner, FileView):
            return owner.lack(name)
        if isinstance(owner, ObjectView) and not isinstance(self._undefined_name, str):
            return f"{owner._place} has no key {name}: keys are texts, {name!r}"
        if isinstance(owner, ObjectView):
            return _not_there(f"{owner._place} has no", name, owner.keys())
        if isinstance(owner, ArrayView):
            return f"{owner._place} is a list of {len(owner)} and has no {name!r}"
        return f"{type(owner).__name__} {str(owner)[:40]!r} has no {name!r}"


def _not_there(what: str, name: str, known: Iterable[str]) -> str:
    known = list(known)
    close = nearest(name, known)
    hint = f", did you mean {close!r}?" if close else f"; known: {', '.join(known) or 'nothing'}"
    return f"{what} {name!r}{hint}"
