"""Prompts: sandboxed Jinja templates that note what they read, to the field.

Seed and artifacts reach a template as views. A view notes each place that is read, absent ones
too; looping over a view, printing it or passing it to a filter reads it whole, and gives plain
copies. Scalars are always plain values, so nothing leaks past a filter.
"""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

import jinja2
import jinja2.meta
import jinja2.nodes
import jinja2.sandbox
import jinja2.utils
import jinja2.visitor
from jinja2.exceptions import SecurityError

from popbuild import bounds
from popbuild.errors import TaskError, nearest
from popbuild.fingerprint import LISTED, digest_of, kind_of
from popbuild.jsonio import ABSENT
from popbuild.model.problem import MISSING, parts_of, pointer_of, value_at


class Trace:
    """The dependencies that a task read, by name; see fingerprint.py for the names."""

    def __init__(self) -> None:
        self._digests: dict[str, str] = {}

    def read(self, document: str, pointer: str, value: Any) -> None:
        """A value was read; `document` is "seed" or "artifact:<task>"."""
        self._digests[f"{document}:{pointer}"] = digest_of(value)

    def saw(self, document: str, pointer: str, value: Any) -> None:
        """Only the kind of value at a place was learned."""
        kind, _, rest = document.partition(":")
        key = f"{kind}-kind:{rest}:{pointer}" if rest else f"{kind}-kind:{pointer}"
        self._digests[key] = kind_of(value)

    def needs(self, tasks: Iterable[str]) -> None:
        """Which artifacts there are was asked: those of all needed tasks."""
        self._digests["needs"] = digest_of(list(tasks))

    def job(self, job: str) -> None:
        """The job's ID was told."""
        self._digests["job"] = job

    def file(self, path: str, digest: str) -> None:
        """A file under pipeline-config/ was used, or looked for."""
        self._digests[f"file:{path}"] = digest

    def fallback(self, model: str) -> None:
        """A model answered that is only asked because the task lists it."""
        self._digests[f"fallback:{model}"] = LISTED

    def dependencies(self) -> dict[str, str]:
        """Everything noted, without what follows from the rest: a value that was read says
        already that the objects around it exist."""
        reads = [key for key in self._digests if "-kind:" not in key]
        return {
            key: value
            for key, value in self._digests.items()
            if "-kind:" not in key
            or not any(
                _tells(each, key.replace("-kind:", ":", 1)) and self._digests[each] != ABSENT
                for each in reads
            )
        }


def _tells(read: str, place: str) -> bool:
    """Whether a value that was read says what kind stands at a place: it is the place's own, or
    lies below it. A number may be an index or a key, so it leaves open which of the two it is."""
    if read == place:
        return True
    part = read.removeprefix(place + "/").partition("/")[0]
    return read.startswith(place + "/") and not part.isdecimal()


class _View:
    """A container of a document that notes what is read of it."""

    __slots__ = ("_document", "_pointer", "_trace", "_value")

    @property
    def _place(self) -> str:
        """Where it stands, as a template says it: `seed.data`."""
        kind, _, task = self._document.partition(":")
        return ".".join([f"artifacts.{task}" if task else kind, *parts_of(self._pointer)])

    def __init__(self, value: Any, document: str, pointer: str, trace: Trace) -> None:
        self._value = value
        self._document = document
        self._pointer = pointer
        self._trace = trace

    # With an underscore, as all that a template must not find where a dict or a list has nothing.
    def _whole(self) -> Any:
        """A plain copy; the whole value counts as read."""
        self._trace.read(self._document, self._pointer, self._value)
        return copy.deepcopy(self._value)

    def _at(self, part: str | int) -> Any:
        pointer = self._pointer + pointer_of([part])
        value = value_at(self._value, pointer_of([part]))
        if isinstance(value, dict | list):
            self._trace.saw(self._document, pointer, value)
        else:
            self._trace.read(self._document, pointer, value)
        return view(value, self._document, pointer, self._trace)

    def __len__(self) -> int:
        return len(self._whole())

    def __iter__(self) -> Iterator[Any]:
        return iter(self._whole())

    def __bool__(self) -> bool:
        return bool(self._whole())

    def __str__(self) -> str:
        return str(self._whole())

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        return bool(self._whole() == plain(other))

    __hash__ = None  # type: ignore[assignment]  # like the dict or list that it stands for


class ObjectView(_View, Mapping[str, Any]):
    """An object of a document."""

    __slots__ = ()

    def __getitem__(self, key: str) -> Any:
        # No key of an object is a number: `["0"]` may be there, `[0]` never is.
        value = self._at(key) if isinstance(key, str) else MISSING
        if value is MISSING:
            raise KeyError(key)
        return value

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._at(key) is not MISSING

    # Lists, which print as what they hold.

    def keys(self) -> Any:
        return list(self)

    def values(self) -> Any:
        return list(self._whole().values())

    def items(self) -> Any:
        return list(self._whole().items())


class ArtifactsView(ObjectView):
    """The artifacts of the needed tasks by task. Each is a document of its own."""

    __slots__ = ()

    def __init__(self, values: Mapping[str, Any], trace: Trace) -> None:
        super().__init__(values, "artifacts", "", trace)

    def _whole(self) -> Any:
        return {task: plain(each) for task, each in self.items()}

    def _at(self, part: str | int) -> Any:
        value, document = self._value.get(part, MISSING), f"artifact:{part}"
        if value is MISSING:
            self._trace.needs(self._value)
        elif isinstance(value, dict | list):
            self._trace.saw(document, "", value)
        else:
            self._trace.read(document, "", value)
        return view(value, document, "", self._trace)

    def __iter__(self) -> Iterator[Any]:
        self._trace.needs(self._value)
        return iter(self._value)

    def __len__(self) -> int:
        self._trace.needs(self._value)
        return len(self._value)

    def __bool__(self) -> bool:
        return len(self) > 0

    def values(self) -> Any:
        return [self[task] for task in self]

    def items(self) -> Any:
        return [(task, self[task]) for task in self]


class ArrayView(_View, Sequence[Any]):
    """An array of a document."""

    __slots__ = ()

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, int) and 0 <= index < len(self._value):
            return self._at(int(index))  # true is 1, as in any list
        return self._whole()[index]


def view(value: Any, document: str, pointer: str, trace: Trace) -> Any:
    """A view of a container; a scalar or MISSING is itself."""
    if isinstance(value, dict):
        return ObjectView(value, document, pointer, trace)
    if isinstance(value, list):
        return ArrayView(value, document, pointer, trace)
    return value


def plain(value: Any) -> Any:
    """The plain value behind a view, read whole."""
    return value._whole() if isinstance(value, _View) else value


class Templates:
    """The templates of one snapshot. Compiled once, whoever renders them."""

    def __init__(self, source_of: Callable[[str], str | None], digests: Mapping[str, str]) -> None:
        self._digests = digests
        self._loader = _Loader(source_of)
        # No cache of jinja's: it would hide includes from the loader, which notes them.
        self._environment = _Sandbox(loader=self._loader, undefined=_Undefined, cache_size=0)

    def check(self, path: str) -> None:
        """Raise TaskError if a template cannot be parsed."""
        self._loader.start()
        try:
            self._environment.get_template(path)
        except jinja2.TemplateSyntaxError as error:
            _fail("a template has a syntax error", error.name or path, error.lineno, error)
        except RecursionError as error:
            _fail("a template is nested too deeply", path, None, error)
        except Exception as error:  # Python has its own limits: of nested blocks, of digits
            _fail("a template cannot be compiled", path, None, error)

    def render(self, path: str, variables: Mapping[str, Any], trace: Trace) -> tuple[str, set[str]]:
        """The text of a template, and every name that it or an included one mentions.

        Raises TaskError with file and line for a syntax error, an undefined name, an attempt to
        leave the sandbox, or more text than any prompt needs.
        """
        loaded = self._loader.start()
        self._environment.budget.start()
        chunks: list[str] = []
        size = 0
        try:
            for chunk in self._environment.get_template(path).generate(**variables):
                size += len(chunk)
                bounds.limit(size)
                chunks.append(chunk)
        except jinja2.TemplateSyntaxError as error:
            _fail("a template has a syntax error", error.name or path, error.lineno, error)
        except jinja2.TemplateNotFound as error:
            _fail(
                "a template includes one that is not there",
                path,
                _line(error, path),
                error,
                hint="a name is looked up beside the template, then from pipeline-config/",
            )
        except SecurityError as error:
            _fail("a template tried to leave the sandbox", path, _line(error, path), error)
        except jinja2.UndefinedError as error:
            _fail(
                "a template uses an undefined name",
                path,
                _line(error, path),
                error,
                hint="test it with `is defined` or give it a `default`",
            )
        except TaskError as error:
            error.values.setdefault("file", _place(path, _line(error, path)))
            raise
        except RecursionError as error:
            _fail("a template calls itself without end", path, _line(error, path), error)
        except Exception as error:
            _fail("a template failed", path, _line(error, path), error)
        finally:
            for name in loaded:
                trace.file(name, self._digests.get(name, ABSENT))
        return "".join(chunks).strip(), set().union(*(self._loader.names(each) for each in loaded))


def _fail(
    message: str, path: str, line: int | None, error: Exception, hint: str | None = None
) -> NoReturn:
    found = str(error) or type(error).__name__
    raise TaskError(message, {"file": _place(path, line), "found": found}, hint) from None


def _place(path: str, line: int | None) -> str:
    return f"pipeline-config/{path}" + (f", line {line}" if line else "")


def _line(error: BaseException, path: str) -> int | None:
    """The template's line from the traceback that jinja rewrote."""
    line = None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == path:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


class _Undefined(jinja2.StrictUndefined):
    """What a template gets for a name that is not there: an error that says what is."""

    @property
    def _undefined_message(self) -> str:
        name, owner = str(self._undefined_name), self._undefined_obj
        if self._undefined_hint:
            return self._undefined_hint
        if owner is jinja2.utils.missing:
            return _not_there("there is no", name, _NAMES)
        if isinstance(owner, dict | ArtifactsView):
            return _not_there("there is no", name, map(str, owner))
        if isinstance(owner, ObjectView) and not isinstance(self._undefined_name, str):
            return f"{owner._place} has no key {name}: keys are texts, {name!r}"
        if isinstance(owner, ObjectView):
            return _not_there(f"{owner._place} has no", name, owner.keys())
        if isinstance(owner, ArrayView):
            return f"{owner._place} is a list of {len(owner)} and has no {name!r}"
        return f"{type(owner).__name__} {str(owner)[:40]!r} has no {name!r}"


_IN_BRACKETS = "a name with a dash is written in brackets: artifacts['market-analysis']"
_NAMES = ("seed", "artifacts", "config", "variables", "problems", "previous", "cycle")


def _not_there(what: str, name: str, known: Iterable[str]) -> str:
    known = list(known)
    close = nearest(name, known)
    hint = f", did you mean {close!r}?" if close else f"; known: {', '.join(known) or 'nothing'}"
    return f"{what} {name!r}{hint}"


class _Loader(jinja2.BaseLoader):
    """Serves templates from the snapshot and notes each use, cached or not, and each that it was
    asked for in vain."""

    def __init__(self, source_of: Callable[[str], str | None]) -> None:
        self._source_of = source_of
        self._compiled: dict[str, tuple[Any, set[str]]] = {}
        self._thread = threading.local()  # tasks render at the same time, each in its thread

    def start(self) -> list[str]:
        """The list that the next render of this thread notes its templates in."""
        self._thread.loaded = []
        loaded: list[str] = self._thread.loaded
        return loaded

    def has(self, name: str) -> bool:
        """Whether there is such a template. One that is not there may be one day."""
        found = name in self._compiled or self._source_of(name) is not None
        if not found:
            self._thread.loaded.append(name)
        return found

    def names(self, path: str) -> set[str]:
        return self._compiled[path][1] if path in self._compiled else set()

    def load(
        self, environment: jinja2.Environment, name: str, globals: Any = None
    ) -> jinja2.Template:
        if not self.has(name):
            raise jinja2.TemplateNotFound(name)
        source = None if name in self._compiled else self._source_of(name)
        self._thread.loaded.append(name)
        if source is not None:
            tree = environment.parse(source, name, name)
            code = environment.compile(source, name, name)
            self._compiled[name] = code, jinja2.meta.find_undeclared_variables(tree)
        code = self._compiled[name][0]
        return environment.template_class.from_code(environment, code, globals or {})


class _Sandbox(jinja2.sandbox.SandboxedEnvironment):
    """Jinja's sandbox, with bounds on every way to make a large text out of a small one."""

    intercepted_binops = frozenset({"*", "+", "%", "**"})

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.budget = bounds.Budget()
        self.finalize = self._printed
        self.policies["json.dumps_function"] = self._dump
        self.filters = bounds.bounded(self.filters, self.budget)
        self.filters["bounded_concat"] = self._concat
        # With the context, or the compiler would run it once, for a constant.
        self.filters["bounded_turn"] = jinja2.pass_context(lambda _, chars: self._turn(chars))
        del self.globals["lipsum"]  # a text that is another one each time is no prompt

    def join_path(self, template: str, parent: str) -> str:
        """An include's name: beside the including template first, else from pipeline-config/."""
        beside = f"{parent.rpartition('/')[0]}/{template}"
        loader = self.loader
        if isinstance(loader, _Loader) and loader.has(beside):
            return beside
        return template

    def _parse(self, source: str, name: str | None, filename: str | None) -> jinja2.nodes.Template:
        tree = super()._parse(source, name, filename)
        for node in tree.find_all(jinja2.nodes.Filter):
            if node.name in bounds.LEFT_OUT:
                why = f"the filter {node.name!r} is left out: {bounds.LEFT_OUT[node.name]}"
                raise jinja2.TemplateSyntaxError(why, node.lineno, name, filename)
        dashed = _dashed(tree)
        if dashed is not None:
            raise jinja2.TemplateSyntaxError(_IN_BRACKETS, dashed.lineno, name, filename)
        counted: jinja2.nodes.Template = _Counted().visit(tree)
        return counted

    def getattr(self, obj: Any, attribute: str) -> Any:
        # A key wins over a method: `seed.data.items` is the seed's field where it has one.
        if isinstance(obj, ObjectView) and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)

    def wrap_str_format(self, value: Any) -> Any:
        # Instead of jinja's own wrapper, which fills fields of any width.
        if super().wrap_str_format(value) is None:
            return None
        owner, name = value.__self__, value.__name__

        def run(*args: Any, **kwargs: Any) -> Any:
            bounds.before_method(owner, name, args, kwargs)
            if name == "format_map":
                (kwargs,), args = args, ()
            escape = getattr(owner, "escape", None)  # a text that the filter `escape` made
            formatter = _EscapingFormatter(self, escape=escape) if escape else _Formatter(self)
            return type(owner)(formatter.vformat(owner, args, kwargs))

        return run

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        left, right = plain(left), plain(right)
        bounds.before_operator(operator, left, right)
        result = super().call_binop(context, operator, left, right)
        self.budget.spend(result)
        return result

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        # Named as in jinja, so that no keyword of a template's call can clash.
        owner, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
        bounds.before_method(owner, name, args, kwargs)
        result = super().call(__context, __obj, *args, **kwargs)
        __self.budget.spend(result)
        return result

    def _printed(self, value: Any) -> Any:
        if isinstance(value, jinja2.Undefined):
            return value  # printing it raises the error that names the place
        text = bounds.text_of(value)
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

    def _turn(self, chars: int) -> str:
        self.budget.turn(chars)
        return ""

    def _concat(self, parts: list[Any]) -> str:
        texts = [bounds.text_of(part) for part in parts]
        bounds.limit(sum(map(len, texts)))
        return "".join(texts)


class _Formatter(jinja2.sandbox.SandboxedFormatter):
    """Jinja's formatter, in which every field is weighed before it is made."""

    def __init__(self, environment: jinja2.Environment, **options: Any) -> None:
        super().__init__(environment, **options)
        self._fields = bounds.Fields()

    def format_field(self, value: Any, format_spec: str) -> Any:
        self._fields.before(value, format_spec)
        return super().format_field(value, format_spec)


class _EscapingFormatter(_Formatter, jinja2.sandbox.SandboxedEscapeFormatter):
    """The same for a text that the filter `escape` made."""


class _Counted(jinja2.visitor.NodeTransformer):
    """Makes a template count its loops' turns, and what `~` makes: a sandbox sees neither."""

    def visit_Concat(self, node: jinja2.nodes.Concat) -> jinja2.nodes.Node:
        self.generic_visit(node)
        return _filter(jinja2.nodes.List(node.nodes), "bounded_concat", node.lineno)

    def _body(self, node: Any) -> jinja2.nodes.Node:
        self.generic_visit(node)
        chars = sum(len(each.data) for each in node.find_all(jinja2.nodes.TemplateData))
        turn = _filter(jinja2.nodes.Const(chars), "bounded_turn", node.lineno)
        node.body.insert(0, jinja2.nodes.ExprStmt(turn, lineno=node.lineno))
        found: jinja2.nodes.Node = node
        return found

    visit_Template = visit_Block = visit_For = visit_Macro = visit_CallBlock = _body


def _dashed(tree: jinja2.nodes.Template) -> jinja2.nodes.Sub | None:
    """A subtraction that is none: `artifacts.market-analysis`. Of what is in no scope nothing can
    be taken away, but the template would fail only when those above it are paid for."""
    found = [
        (node, node.right.name)
        for node in tree.find_all(jinja2.nodes.Sub)
        if isinstance(node.left, jinja2.nodes.Getattr) and isinstance(node.right, jinja2.nodes.Name)
    ]
    nowhere = jinja2.meta.find_undeclared_variables(tree).difference(_NAMES) if found else ()
    return next((node for node, name in found if name in nowhere), None)


def _filter(node: jinja2.nodes.Expr, name: str, line: int) -> jinja2.nodes.Filter:
    return jinja2.nodes.Filter(node, name, [], [], None, None, lineno=line)
