"""What is wrong with pipeline-config/: files, schemas, templates, code, and names that lead
nowhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from popbuild.base.errors import NotOursError, PopbuildError
from popbuild.base.paths import Root
from popbuild.jobs.examine import Surroundings
from popbuild.model.config.config import Config
from popbuild.model.config.rules import has_ours
from popbuild.model.pipeline import Task
from popbuild.model.problem import Problem
from popbuild.upkeep.archive import age
from popbuild.upkeep.findings import Finding, findings_of_error

Judged = tuple[Finding, bool]  # whether it is only a warning


def config_findings(
    root: Root, settings: Config, problems: Sequence[PopbuildError]
) -> Iterator[Judged]:
    """Every finding, and whether it is a warning; `problems` are those met while reading."""
    files = settings.snapshot.files
    # Another program's configuration is not wrong because we cannot build it; one that has tasks
    # of ours is meant to be built.
    ours = has_ours(files)
    for error in problems:
        is_warning = isinstance(error, NotOursError) and not ours
        yield from ((each, is_warning) for each in findings_of_error(error))
    yield from _in_tasks(settings)
    yield from _doubts(settings)
    for path, data in files.items():
        if age.holds_private_key(data):
            where = root.show(root.config / path)
            yield Finding(where, Problem("a private key lies in the root")), False


def _in_tasks(settings: Config) -> Iterator[Judged]:
    """Schemas that do not compile, templates and code that do not parse."""
    from popbuild.query.preview import template_problems, unusable

    around = Surroundings(settings)
    tasks: dict[str, Task] = {}
    for pipeline in settings.pipelines.values():
        for task in pipeline.tasks:
            tasks.setdefault(task.folder, task)  # pipelines may share it
    for task in tasks.values():
        errors: list[PopbuildError] = []
        try:
            around.sent_schema(task)
            for path, problem in around.schema_warnings(task):
                yield Finding(f"pipeline-config/{path}", problem), True
        except PopbuildError as error:
            errors.append(error)
        for each in (*errors, *template_problems(settings, task), *unusable(settings, task)):
            yield from ((finding, False) for finding in findings_of_error(each))


def _doubts(settings: Config) -> Iterator[Judged]:
    """What is misspelt, or names what is not there: each once, though pipelines share tasks."""
    from popbuild.upkeep.misspelt import doubts

    found: dict[tuple[Finding, bool], None] = {}
    for pipeline in settings.pipelines.values():
        for task in pipeline.tasks:
            for doubt in doubts(settings, pipeline, task):
                each = findings_of_error(doubt.error)
                found |= dict.fromkeys((finding, doubt.is_warning) for finding in each)
    yield from found
