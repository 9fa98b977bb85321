"""What a task would ask, and whether its templates and code can be read; without any call."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from popbuild.config import Config
from popbuild.errors import ConfigError, PopbuildError, TaskError
from popbuild.jobs import Exam
from popbuild.model.pipeline import Task
from popbuild.prompt import Templates, Trace, view


def templates_of(settings: Config) -> Templates:
    """The templates of a configuration."""
    snapshot = settings.snapshot
    return Templates(
        lambda path: snapshot.text(path) if path in snapshot.files else None, snapshot.digests
    )


def render(settings: Config, exam: Exam, task: Task) -> list[dict[str, Any]]:
    """system.md and prompt.md as the first try would send them.

    A task whose stages.py makes its messages is refused: that is code, and might call a model.
    """
    path = task.path("prompt.md")
    if path is None:
        raise TaskError(
            "the task has no prompt to render",
            {"task": task.id, "missing": f"pipeline-config/{task.folder}/prompt.md"},
            hint="its messages come from code; popbuild show has those of the last run",
        )
    templates, trace = templates_of(settings), Trace()
    inputs = exam.inputs(task)
    variables = {
        "seed": view(exam.seed, "seed", "", trace),
        "artifacts": {
            name: view(value, f"artifact:{name}", "", trace)
            for name, value in inputs.artifacts.items()
        },
        "config": dict(task.settings),
        "variables": {},
        "problems": [],
        "previous": "",
        "cycle": 0,
    }
    found = []
    for role, name in (("system", task.path("system.md")), ("user", path)):
        if name is not None:
            found.append({"role": role, "content": templates.render(name, variables, trace)[0]})
    return found


def template_problems(settings: Config, task: Task) -> Iterator[PopbuildError]:
    """Every template of a task that has a syntax error, and a stages.py that Python cannot read."""
    templates = templates_of(settings)
    for path in task.files:
        if path.endswith(".md"):
            try:
                templates.check(path)
            except PopbuildError as error:
                yield error
        elif path.endswith(".py"):
            try:
                ast.parse(settings.snapshot.text(path))
            except SyntaxError as error:
                where = f"pipeline-config/{path}"
                yield ConfigError(
                    "Python cannot read this",
                    {"file": where, "line": error.lineno, "found": error.msg},
                )
            except PopbuildError as error:
                yield error
