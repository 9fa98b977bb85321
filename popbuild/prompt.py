"""Prompts: sandboxed Jinja templates that note what they read, to the field.

Seed and artifacts reach a template as views. A view notes each place that is read, absent ones
too; looping over a view, printing it or passing it to a filter reads it whole, and gives plain
copies. Scalars are always plain values, so nothing leaks past a filter.
"""

from __future__ import annotations

import copy
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

import jinja2
import jinja2.meta
import jinja2.nodes
import jinja2.sandbox
import jinja2.visitor
from jinja2.exceptions import SecurityError

from popbuild.errors import TaskError
from popbuild.fingerprint import digest_of, kind_of
from popbuild.model.problem import MISSING, pointer_of, value_at

MAX_PROMPT_CHARS = 4_000_000


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

    def file(self, path: str, digest: str) -> None:
        """A file under pipeline-config/ was used."""
        self._digests[f"file:{path}"] = digest

    def dependencies(self) -> dict[str, str]:
        """Everything noted, without what follows from the rest: a value that was read says
        already that the objects around it exist."""
        reads = [key for key in self._digests if "-kind:" not in key]
        return {
            key: value
            for key, value in self._digests.items()
            if "-kind:" not in key
            or not any(
                _covers(each, key.replace("-kind:", ":", 1)) and self._digests[each] != "absent"
                for each in reads
            )
        }


def _covers(read: str, place: str) -> bool:
    """Whether a value that was read lies at a place or below it."""
    return read == place or read.startswith(place + "/")


class _View:
    """A container of a document that notes what is read of it."""

    __slots__ = ("_document", "_pointer", "_trace", "_value")

    def __init__(self, value: Any, document: str, pointer: str, trace: Trace) -> None:
        self._value = value
        self._document = document
        self._pointer = pointer
        self._trace = trace

    def whole(self) -> Any:
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
        return len(self.whole())

    def __iter__(self) -> Iterator[Any]:
        return iter(self.whole())

    def __bool__(self) -> bool:
        return bool(self.whole())

    def __str__(self) -> str:
        return str(self.whole())

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        return bool(self.whole() == plain(other))

    __hash__ = None  # type: ignore[assignment]  # like the dict or list that it stands for


class ObjectView(_View, Mapping[str, Any]):
    """An object of a document."""

    __slots__ = ()

    def __getitem__(self, key: str) -> Any:
        value = self._at(key)
        if value is MISSING:
            raise KeyError(key)
        return value

    def __contains__(self, key: object) -> bool:
        return self._at(str(key)) is not MISSING


class ArrayView(_View, Sequence[Any]):
    """An array of a document."""

    __slots__ = ()

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, int) and 0 <= index < len(self._value):
            return self._at(index)
        return self.whole()[index]


def view(value: Any, document: str, pointer: str, trace: Trace) -> Any:
    """A view of a container; a scalar or MISSING is itself."""
    if isinstance(value, dict):
        return ObjectView(value, document, pointer, trace)
    if isinstance(value, list):
        return ArrayView(value, document, pointer, trace)
    return value


def plain(value: Any) -> Any:
    """The plain value behind a view, read whole."""
    return value.whole() if isinstance(value, _View) else value


class Templates:
    """The templates of one snapshot. Compiled once, whoever renders them."""

    def __init__(self, source_of: Callable[[str], str | None], digests: Mapping[str, str]) -> None:
        self._digests = digests
        self._loader = _Loader(source_of)
        # No cache of jinja's: it would hide includes from the loader, which notes them.
        self._environment = _Sandbox(
            loader=self._loader, undefined=jinja2.StrictUndefined, cache_size=0
        )
        self._environment.policies["json.dumps_function"] = _dump
        self._environment.filters.update(_FILTERS)

    def check(self, path: str) -> None:
        """Raise TaskError if a template cannot be parsed."""
        self._loader.start()
        try:
            self._environment.get_template(path)
        except jinja2.TemplateSyntaxError as error:
            _fail("a template has a syntax error", error.name or path, error.lineno, error)

    def render(self, path: str, variables: Mapping[str, Any], trace: Trace) -> tuple[str, set[str]]:
        """The text of a template, and every name that it or an included one mentions.

        Raises TaskError with file and line for a syntax error, an undefined name, an attempt to
        leave the sandbox, or more text than any prompt needs.
        """
        loaded = self._loader.start()
        chunks: list[str] = []
        size = 0
        try:
            for chunk in self._environment.get_template(path).generate(**variables):
                size += len(chunk)
                _limit(size)
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
        except TaskError:
            raise
        except Exception as error:
            _fail("a template failed", path, _line(error, path), error)
        finally:
            for name in loaded:
                trace.file(name, self._digests[name])
        return "".join(chunks).strip(), set().union(*(self._loader.names(each) for each in loaded))


def _fail(
    message: str, path: str, line: int | None, error: Exception, hint: str | None = None
) -> NoReturn:
    where = f"pipeline-config/{path}" + (f", line {line}" if line else "")
    raise TaskError(message, {"file": where, "found": error}, hint) from None


def _line(error: BaseException, path: str) -> int | None:
    """The template's line from the traceback that jinja rewrote."""
    line = None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == path:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def _dump(value: Any, **options: Any) -> str:
    return json.dumps(value, default=plain, ensure_ascii=False, **options)


class _Loader(jinja2.BaseLoader):
    """Serves templates from the snapshot and notes each use, cached or not."""

    def __init__(self, source_of: Callable[[str], str | None]) -> None:
        self._source_of = source_of
        self._compiled: dict[str, tuple[Any, set[str]]] = {}
        self._thread = threading.local()  # tasks render at the same time, each in its thread

    def start(self) -> list[str]:
        """The list that the next render of this thread notes its templates in."""
        self._thread.loaded = []
        loaded: list[str] = self._thread.loaded
        return loaded

    def names(self, path: str) -> set[str]:
        return self._compiled[path][1] if path in self._compiled else set()

    def load(
        self, environment: jinja2.Environment, name: str, globals: Any = None
    ) -> jinja2.Template:
        source = self._source_of(name)
        if source is None:
            raise jinja2.TemplateNotFound(name)
        self._thread.loaded.append(name)
        if name not in self._compiled:
            tree = environment.parse(source, name, name)
            names = jinja2.meta.find_undeclared_variables(tree)
            self._compiled[name] = environment.compile(source, name, name), names
        code = self._compiled[name][0]
        return environment.template_class.from_code(environment, code, globals or {})


_SIZED_METHODS = frozenset(
    {"center", "ljust", "rjust", "zfill", "expandtabs", "replace", "join", "format", "format_map"}
)
_HUGE_WIDTH = re.compile(r"\d{6,}")


class _Sandbox(jinja2.sandbox.SandboxedEnvironment):
    """Jinja's sandbox, with bounds on every way to make a large text out of a small one."""

    intercepted_binops = frozenset({"*", "+", "%", "**"})

    def join_path(self, template: str, parent: str) -> str:
        """An include's name: beside the including template first, else from pipeline-config/."""
        beside = f"{parent.rpartition('/')[0]}/{template}"
        loader = self.loader
        if isinstance(loader, _Loader) and loader._source_of(beside) is not None:
            return beside
        return template

    def _parse(self, source: str, name: str | None, filename: str | None) -> jinja2.nodes.Template:
        tree = super()._parse(source, name, filename)
        bounded: jinja2.nodes.Template = _BoundConcat().visit(tree)
        return bounded

    def getattr(self, obj: Any, attribute: str) -> Any:
        # A key wins over a method: `seed.data.items` is the seed's field where it has one.
        if isinstance(obj, ObjectView) and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        left, right = plain(left), plain(right)
        if operator == "*":
            for text, count in ((left, right), (right, left)):
                if isinstance(text, str | list) and isinstance(count, int):
                    _limit(len(text) * max(count, 0))
        elif operator == "+" and isinstance(left, str | list) and isinstance(right, str | list):
            _limit(len(left) + len(right))
        elif (operator == "%" and isinstance(left, str) and _HUGE_WIDTH.search(left)) or (
            operator == "**" and max(abs(int(left)).bit_length(), 1) * abs(int(right)) > 10_000
        ):
            _limit(MAX_PROMPT_CHARS + 1)
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        # Named as in jinja, so that no keyword of a template's call can clash.
        owner = getattr(__obj, "__self__", None)
        if isinstance(owner, str) and getattr(__obj, "__name__", "") in _SIZED_METHODS:
            _limit_text(owner, __obj.__name__, args)
        return super().call(__context, __obj, *args, **kwargs)


class _BoundConcat(jinja2.visitor.NodeTransformer):
    """`a ~ b` is not an operator that a sandbox can intercept: make it a bounded filter."""

    def visit_Concat(self, node: jinja2.nodes.Concat) -> jinja2.nodes.Node:
        self.generic_visit(node)
        parts = jinja2.nodes.List(node.nodes)
        return jinja2.nodes.Filter(parts, "bounded_concat", [], [], None, None, lineno=node.lineno)


def _bounded_concat(parts: list[Any]) -> str:
    texts = [str(part) for part in parts]
    _limit(sum(map(len, texts)))
    return "".join(texts)


def _limit_text(text: str, method: str, args: Any) -> None:
    if method in ("format", "format_map"):
        if _HUGE_WIDTH.search(text):
            _limit(MAX_PROMPT_CHARS + 1)
    elif method == "replace" and len(args) > 1:
        _limit(len(text) + (text.count(str(args[0])) * len(str(args[1]))))
    elif method == "join":
        _limit(sum(len(text) + len(str(part)) for part in (args[0] if args else ())))
    elif args and isinstance(args[0], int):
        _limit(len(text) * args[0] if method == "expandtabs" else args[0])


def _bounded_center(value: Any, width: int = 80) -> str:
    _limit(width)
    return str(value).center(width)


def _bounded_indent(
    value: Any, width: int | str = 4, first: bool = False, blank: bool = False
) -> str:
    text = str(value)
    _limit(len(text) + (width if isinstance(width, int) else len(width)) * (text.count("\n") + 1))
    return jinja2.filters.do_indent(text, width, first, blank)


def _bounded_format(value: Any, *args: Any, **kwargs: Any) -> str:
    if _HUGE_WIDTH.search(str(value)):
        _limit(MAX_PROMPT_CHARS + 1)
    return jinja2.filters.do_format(str(value), *args, **kwargs)


def _bounded_replace(value: Any, old: Any, new: Any, count: int | None = None) -> str:
    text = str(value)
    _limit_text(text, "replace", (old, new))
    return text.replace(str(old), str(new), -1 if count is None else count)


# Filters of jinja's that make a large text out of a small one, with the same arguments.
_FILTERS: dict[str, Callable[..., Any]] = {
    "bounded_concat": _bounded_concat,
    "center": _bounded_center,
    "indent": _bounded_indent,
    "format": _bounded_format,
    "replace": _bounded_replace,
}


def _limit(size: int) -> None:
    if size > MAX_PROMPT_CHARS:
        raise TaskError(
            "a template makes too large a prompt", {"allowed": f"{MAX_PROMPT_CHARS:,} characters"}
        )
