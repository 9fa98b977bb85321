"""What a task would ask, and whether its templates and code are usable; without any call."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from popbuild.base.errors import ConfigError, PopbuildError, TaskError, shown_error
from popbuild.base.texts import is_blank
from popbuild.jobs.examine import Exam
from popbuild.jobs.fingerprint import Seen
from popbuild.jobs.surroundings import Surroundings
from popbuild.llm.attachments import attached_in, attached_line
from popbuild.llm.request import Message, message_text
from popbuild.model.config.config import Config
from popbuild.model.config.rules import FILTERS_FILE
from popbuild.model.item import Item
from popbuild.model.pipeline import Task
from popbuild.query.aside import Aside
from popbuild.task.attaching import asked
from popbuild.task.conditions import check_condition
from popbuild.task.input_views import documents, item_seen
from popbuild.task.read_trace import ReadTrace
from popbuild.task.templates.render import Templates, nothing_to_send
from popbuild.task.templates.syntax import TemplateSource, template_source
from popbuild.task.user_code import wrong_stages
from popbuild.task.user_filters import UserFilters, declared


def templates_of(settings: Config, *, in_build: bool = False) -> Templates:
    """The templates of a configuration. In a build its code is importable, and runs within the
    timeouts of tasks."""
    snapshot = settings.snapshot
    own = None
    if FILTERS_FILE in snapshot.files:
        source = snapshot.files[FILTERS_FILE].decode(errors="replace")
        run = _directly if in_build else Aside(settings)
        own = UserFilters(source, settings.filters, run)
    return Templates(
        lambda path: snapshot.text(path) if path in snapshot.files else None,
        snapshot.digests,
        own,
        snapshot.where,
    )


def _directly(function: Callable[[], Any]) -> Any:
    return function()


def render_preview(
    exam: Exam, task: Task, templates: Templates, item: Item | None = None
) -> list[dict[str, Any]]:
    """system.md and prompt.md as the first try would send them; of a task with items, about one.

    TaskError for a task whose stages.py makes its messages: code might call a model.
    """
    path = task.path("prompt.md")
    code = _names_in_code(exam.around.config, task)
    for function in ("prompt_templating", "inference"):
        if function in code:
            raise _from_code(task, function)
    if path is None:
        raise TaskError(
            "the task has no prompt to render",
            {"task": task.id, "missing": f"pipeline-config/{task.folder}/prompt.md"},
            hint=_FROM_CODE,
        )
    trace = ReadTrace(templates.budget)
    seen = Seen.of(task, exam.inputs(task))
    variables = _first_try(seen, trace, item)
    if "pre_processing" in code:
        del variables["variables"]
    found = []
    for role, name in (("system", task.path("system.md")), ("user", path)):
        if name is not None:
            try:
                text, names = templates.render(name, variables, trace)
            except TaskError:
                if "pre_processing" in code:
                    raise _from_code(task, "pre_processing") from None
                raise
            if "variables" in names and "pre_processing" in code:
                raise _from_code(task, "pre_processing")
            if name == path and is_blank(text):
                raise nothing_to_send(name, trace, seen)
            is_asked = name == path
            message = {"role": role, "content": text}
            found.append(asked(task, seen, trace, text) if is_asked else message)
    return found


def _first_try(seen: Seen, trace: ReadTrace, item: Item | None) -> dict[str, Any]:
    """What templates see in a task's first cycle."""
    of_cycle = {"variables": {}, "problems": [], "previous": "", "cycle": 0}
    return {**documents(seen, trace), **item_seen(item, trace), **of_cycle}


def message_lines(message: Message) -> str:
    """A message as a person reads it: its text, then a line for each file."""
    if isinstance(message["content"], str):
        return message["content"]
    files = map(attached_line, attached_in([message]))
    return "\n".join([message_text(message), "", *files])


_FROM_CODE = "its messages come from code; popbuild show has those of the last run"


def _from_code(task: Task, function: str) -> TaskError:
    where = f"pipeline-config/{task.stages}"
    return TaskError(
        "what the task asks is decided by code",
        {"task": task.id, "file": where, "function": function},
        hint=_FROM_CODE,
    )


@dataclass(frozen=True)
class Code:
    """What a task's code and templates may do, found without running them.

    `functions` are those that stages.py defines or imports; `calls` says that it, or a module that
    it imports, may call a model itself; `tags` are the texts in the braces of system.md and
    prompt.md; `filters` are the names that filters.py declares.
    """

    functions: frozenset[str] = frozenset()
    calls: bool = False
    tags: tuple[str, ...] = ()
    filters: tuple[str, ...] = ()

    @property
    def checks(self) -> bool:
        """Whether code finds problems, whose texts may have any length."""
        return bool(self.functions & _CHECKING)

    @functools.cached_property
    def boundless(self) -> bool:
        """Whether the size of its prompts depends on code, or on loops in templates."""
        made = self.functions & {"prompt_templating", "critique", "refine"}
        given = "pre_processing" in self.functions and self.mentions("variables")
        return bool(made or given or any(map(self.mentions, (*_REPEATING, *self.filters))))

    def mentions(self, name: str) -> int:
        """How many tags of its templates have a name."""
        return sum(name in words for words in self._words)

    @functools.cached_property
    def _words(self) -> list[set[str]]:
        """The words of each tag."""
        return [set(_WORD.findall(tag)) for tag in self.tags]


_CHECKING = {"parsing", "validate_structure", "validate_quality", "final_validation", "integration"}
_REPEATING = ("for", "include", "import", "extends", "macro", "block")
_CALLING = re.compile(r"\bllm(_async)?\b")  # context.llm, by whatever name the context goes
_WORD = re.compile(r"\w+")
_TAG = re.compile(r"\{[{%](.*?)[%}]\}", re.DOTALL)


def code_of(settings: Config, task: Task) -> Code:
    """What a task's code and templates may do, from their text."""
    snapshot = settings.snapshot
    paths = (task.path("system.md"), task.path("prompt.md"))
    tags = tuple(tag for path in paths if path for tag in _TAG.findall(snapshot.text(path)))
    source = snapshot.files.get(FILTERS_FILE, b"").decode(errors="replace")
    filters = tuple(declared(source).filters)
    if task.stages is None:
        return Code(tags=tags, filters=filters)
    functions = frozenset(_names_in_code(settings, task))
    files = {task.stages, *task.modules, *(path for path in task.files if path.endswith(".py"))}
    calls = "inference" in functions or any(
        _CALLING.search(snapshot.files[path].decode(errors="replace")) for path in files
    )
    return Code(functions, calls, tags, filters)


def _names_in_code(settings: Config, task: Task) -> set[str]:
    """What a task's stages.py defines or imports, without running it."""
    if task.stages is None:
        return set()
    found: set[str] = set()
    for node in tree_of(settings, task.stages).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found.update(alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Assign):
            found.update(each.id for each in node.targets if isinstance(each, ast.Name))
    return found


def broken(around: Surroundings, templates: Templates) -> dict[str, ConfigError]:
    """The first unusable schema, prompt or stages.py of each pipeline, so that no earlier task is
    paid for. Other templates may never be used, and are checked when rendered."""
    found: dict[str, ConfigError] = {}
    for name, pipeline in around.config.pipelines.items():
        problems = (_first_problem(around, task, templates) for task in pipeline.tasks)
        problem = next(filter(None, problems), None)
        if problem is not None:
            found[name] = problem
    return found


def _first_problem(around: Surroundings, task: Task, templates: Templates) -> ConfigError | None:
    try:
        around.sent_schema(task)
        for path in filter(None, (task.path("prompt.md"), task.path("system.md"), task.stages)):
            for problem in template_errors(around.config, path, templates):
                return problem
        return next(unusable(around.config, task, templates), None)
    except ConfigError as error:
        return error


def unusable(settings: Config, task: Task, templates: Templates) -> Iterator[ConfigError]:
    """An expression that cannot be parsed, a prompt that always renders to nothing, and stages that
    cannot be called."""
    if task.foreach:
        try:
            templates.expressions.compiled(task.foreach)
        except TaskError as error:
            where = {"file": f"pipeline-config/{task.folder}/task.yaml", "foreach": task.foreach}
            yield ConfigError(error.message, {**where, **error.values}, error.hint)
    if task.when:
        try:
            check_condition(task, templates.expressions, of_items=bool(task.foreach))
        except TaskError as error:
            yield ConfigError(error.message, error.values, error.hint)
    prompt = task.path("prompt.md")
    if prompt and renders_prompt(settings, task) and template_of(settings, prompt).blank:
        yield ConfigError(
            "a prompt renders to nothing",
            {"file": f"pipeline-config/{prompt}"},
            hint="say in it what the model is to do",
        )
    if task.stages is not None and task.command is None:
        yield from wrong_stages(tree_of(settings, task.stages), task.stages)


def tree_of(settings: Config, path: str) -> ast.Module:
    """A Python file's source; empty if it cannot be parsed, which running it reports."""
    try:
        return ast.parse(settings.snapshot.text(path))
    except (ConfigError, SyntaxError, ValueError, RecursionError, MemoryError):
        return ast.Module([], [])


def template_of(settings: Config, path: str) -> TemplateSource:
    """A template's source; empty if it is not text, which rendering it reports."""
    try:
        return template_source(settings.snapshot.text(path))
    except ConfigError:
        return TemplateSource()


def renders_prompt(settings: Config, task: Task) -> bool:
    """Whether the task asks what prompt.md says, and no code makes its messages."""
    made = {"prompt_templating", "inference", "*"}.isdisjoint(_names_in_code(settings, task))
    return task.command is None and made


def template_problems(settings: Config, task: Task) -> Iterator[ConfigError]:
    """Syntax errors in the templates and Python files of a task."""
    templates = templates_of(settings)
    for path in task.files:
        yield from template_errors(settings, path, templates)


def template_errors(settings: Config, path: str, templates: Templates) -> Iterator[ConfigError]:
    """What is wrong with the syntax of a template or a Python file."""
    try:
        if path.endswith(".md"):
            templates.check(path)
        elif path.endswith(".py"):
            ast.parse(settings.snapshot.text(path))
    except ConfigError as error:
        yield error
    except PopbuildError as error:
        yield ConfigError(error.message, error.values, error.hint)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        values: dict[str, object] = {"file": f"pipeline-config/{path}"}
        if isinstance(error, SyntaxError):
            values.update({"at": f"line {error.lineno}", "found": f"SyntaxError: {error.msg}"})
        else:
            values["found"] = shown_error(error)
        yield ConfigError("Python cannot read this", values)
