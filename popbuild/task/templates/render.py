"""Renders prompts: sandboxed templates that note what they read, and which files they use."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import jinja2
import jinja2.meta
from jinja2.exceptions import SecurityError

from popbuild.base.errors import TaskError
from popbuild.base.jsonio import ABSENT
from popbuild.jobs.fingerprint import DOCUMENTS, Seen
from popbuild.jobs.input_files import InputFile
from popbuild.jobs.staleness import brief
from popbuild.model.config.snapshot import config_place
from popbuild.model.item import Item
from popbuild.model.problem import MISSING, value_at
from popbuild.task.read_trace import ReadTrace
from popbuild.task.templates import bounds
from popbuild.task.templates.expressions import Expressions
from popbuild.task.templates.sandbox import Sandbox
from popbuild.task.user_filters import UserFilters

_MAX_READ = 20  # values in an error


def nothing_to_send(path: str, trace: ReadTrace, seen: Seen) -> TaskError:
    """The error of a prompt that renders to nothing, with the values that were read."""
    return TaskError(
        "a prompt renders to nothing",
        {"file": f"pipeline-config/{path}", **shown_reads(trace, seen)},
        hint="nothing was sent: say in the prompt what to do where these values are empty",
    )


def shown_reads(trace: ReadTrace, seen: Seen, item: Item | None = None) -> dict[str, str]:
    """The values that were read, by their dependencies: the first of many, each in brief."""
    found: dict[str, str] = {}
    for name in sorted(trace.dependencies()):
        kind, _, pointer = name.partition(":")
        of_item = MISSING if item is None else item.value
        whole = {"seed": seen.seed, "vars": seen.vars, "item": of_item}
        document = whole.get(kind)
        if kind not in whole:
            of, _, pointer = pointer.partition(":")
            documents = {"artifact": seen.artifacts, "input": seen.files}.get(kind, {})
            document = documents.get(of, MISSING)
            document = document.document if isinstance(document, InputFile) else document
        if kind in (*DOCUMENTS, "item") and len(found) < _MAX_READ:
            value = value_at(document, pointer)
            found[name] = "absent" if value is MISSING else brief(value)
    return found


class Templates:
    """The templates of one snapshot, each compiled once."""

    def __init__(
        self,
        source_of: Callable[[str], str | None],
        digests: Mapping[str, str],
        own: UserFilters | None = None,
        where: Callable[[str], str] = config_place,
    ) -> None:
        self._digests = digests
        self._where = where
        self._loader = _Loader(source_of)
        # Without jinja's cache: it would hide includes from the loader, which notes them.
        self._environment = _Environment(own, loader=self._loader, cache_size=0)
        self.budget = self._environment.budget
        self.expressions = Expressions(self._environment)

    @property
    def known(self) -> tuple[set[str], set[str]]:
        """The names of filters and those of tests."""
        return self._environment.known

    def check(self, path: str) -> None:
        """Raise TaskError if a template cannot be parsed."""
        self._loader.start()
        try:
            self._environment.get_template(path)
        except jinja2.TemplateSyntaxError as error:
            self._fail_to_parse(path, error)
        except RecursionError as error:
            self._fail("a template is nested too deeply", path, None, error)
        except Exception as error:  # Python has limits too: nested blocks, digits
            self._fail("a template cannot be compiled", path, None, error)

    def _place(self, path: str, line: int | None) -> str:
        return self._where(path) + (f", line {line}" if line else "")

    def _fail(
        self, message: str, path: str, line: int | None, error: Exception, hint: str | None = None
    ) -> NoReturn:
        found = str(error) or type(error).__name__
        place = self._place(path, line)
        raise TaskError(message, {"file": place, "found": found}, hint) from None

    def _fail_to_parse(self, path: str, error: jinja2.TemplateSyntaxError) -> NoReturn:
        found = {
            "file": self._place(error.name or path, error.lineno),
            "found": self._environment.syntax_error(error),
        }
        raise TaskError("a template has a syntax error", found) from None

    def render(
        self, path: str, variables: Mapping[str, Any], trace: ReadTrace
    ) -> tuple[str, set[str]]:
        """The text of a template, and every name in it or in included ones. Raises TaskError with
        file and line for a syntax error, an undefined name, an attempt to leave the sandbox, or
        more text than any prompt needs."""
        loaded = self._loader.start()
        self.budget.start()
        chunks: list[str] = []
        size = 0
        try:
            for chunk in self._environment.get_template(path).generate(**variables):
                size += len(chunk)
                bounds.limit(size)
                chunks.append(chunk)
        except TaskError as error:
            error.values.setdefault("file", self._place(path, _line(error, path)))
            raise
        except jinja2.TemplateSyntaxError as error:
            self._fail_to_parse(path, error)
        except Exception as error:
            message, hint = next(each[1:] for each in _RENDER_ERRORS if isinstance(error, each[0]))
            self._fail(message, path, _line(error, path), error, hint)
        finally:
            for name in loaded:
                trace.file(name, self._digests.get(name, ABSENT))
                for own, digest in self._loader.own_files(name).items():
                    trace.file(own, digest)
        return "".join(chunks).strip(), set().union(*(self._loader.names(each) for each in loaded))


# What the exceptions of a template mean; the first kind that fits counts.
_RENDER_ERRORS: tuple[tuple[type[Exception], str, str | None], ...] = (
    (
        jinja2.TemplateNotFound,
        "a template includes one that is not there",
        "a name is looked up beside the template, then from pipeline-config/",
    ),
    (SecurityError, "a template tried to leave the sandbox", None),
    (
        jinja2.UndefinedError,
        "a template uses an undefined name",
        "test it with `is defined` or give it a `default`",
    ),
    (RecursionError, "a template calls itself without end", None),
    (Exception, "a template failed", None),
)


def _line(error: BaseException, path: str) -> int | None:
    """The template's line from the traceback that jinja rewrote."""
    line = None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == path:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


class _Environment(Sandbox):
    """The sandbox, in which a template may include others."""

    def join_path(self, template: str, parent: str) -> str:
        """An include's name: beside the including template first, else from pipeline-config/."""
        beside = f"{parent.rpartition('/')[0]}/{template}"
        loader = self.loader
        if isinstance(loader, _Loader) and loader.has(beside):
            return beside
        return template


class _Loader(jinja2.BaseLoader):
    """Serves templates from the snapshot. Notes each use, cached or not, and each missing one."""

    def __init__(self, source_of: Callable[[str], str | None]) -> None:
        self._source_of = source_of
        self._compiled: dict[str, tuple[Any, set[str], dict[str, str]]] = {}
        self._thread = threading.local()  # tasks render at the same time

    def start(self) -> list[str]:
        """The list of templates that the next render of this thread will use."""
        self._thread.loaded = []
        loaded: list[str] = self._thread.loaded
        return loaded

    def has(self, name: str) -> bool:
        """Whether a template exists. A missing one is noted: it may be added later."""
        found = name in self._compiled or self._source_of(name) is not None
        if not found:
            self._thread.loaded.append(name)
        return found

    def names(self, path: str) -> set[str]:
        return self._compiled[path][1] if path in self._compiled else set()

    def own_files(self, path: str) -> dict[str, str]:
        """The digests of the files of filters.py, if this template uses them."""
        return self._compiled[path][2] if path in self._compiled else {}

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
            own = environment.own_files(tree) if isinstance(environment, Sandbox) else {}
            self._compiled[name] = code, jinja2.meta.find_undeclared_variables(tree), own
        code = self._compiled[name][0]
        return environment.template_class.from_code(environment, code, globals or {})
