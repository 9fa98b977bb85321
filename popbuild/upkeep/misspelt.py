"""Names in a pipeline's files that lead nowhere: stages, templates, artifacts, names, settings.

Found without running or rendering anything. If a run would work all the same, it is a warning.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping

from popbuild.base.errors import ConfigError, PopbuildError, TaskError, nearest, no_such
from popbuild.jobs.surroundings import Surroundings
from popbuild.llm import known
from popbuild.model.config.config import Config
from popbuild.model.config.rules import FILTERS_FILE, TASK_FILE
from popbuild.model.config.settings import STRICT
from popbuild.model.pipeline import Pipeline, Task
from popbuild.model.schema.dialects import DEFAULT_DIALECT
from popbuild.model.schema.references import parts
from popbuild.query.preview import (
    renders_prompt,
    template_errors,
    template_of,
    templates_of,
    tree_of,
)
from popbuild.task.conditions import IN_CONDITIONS
from popbuild.task.templates.sandbox import NAMES, OF_ITEMS
from popbuild.task.templates.syntax import Named, Reference, TemplateSource, template_source
from popbuild.task.user_code import near_stages
from popbuild.task.user_filters import declared, redefined
from popbuild.upkeep.findings import Finding, findings_of_error

_OF_LISTS = (*IN_CONDITIONS, "jobs", "config")  # what `foreach` may read
_OF_JINJA = frozenset({"caller", "kwargs", "loop", "self", "super", "varargs"})


def doubts(settings: Config, pipeline: Pipeline, task: Task) -> Iterator[Finding]:
    """Every name in a task's files that leads nowhere."""
    if task.command is None:
        yield from _stages(settings, task)
        yield from _templates(settings, pipeline, task)
        yield from _settings(settings, pipeline, task)
        yield from _strict(settings, task)
    yield from _condition(pipeline, task)
    yield from _asked_about(task)
    yield from _foreach(settings, pipeline, task)


def _foreach(settings: Config, pipeline: Pipeline, task: Task) -> Iterator[Finding]:
    """The expression that gives a task's items: its syntax, its names, the artifacts it reads."""
    if not task.foreach:
        return
    where = {"file": f"pipeline-config/{task.folder}/{TASK_FILE}", "foreach": task.foreach}
    try:
        names = templates_of(settings).expressions.compiled(task.foreach).names
    except TaskError:
        return  # reported already
    for name in sorted(names.difference(_OF_LISTS)):
        values = no_such("name", name, _OF_LISTS, where=where)
        yield from findings_of_error(
            ConfigError("an expression uses a name that nothing gives", values)
        )
    source = template_source("{{ " + task.foreach + " }}")
    yield from _absent(pipeline, task, source, lambda _: where, "an expression")


def wrong_filters(settings: Config) -> Iterator[Finding]:
    """What is wrong with filters.py itself. Unknown names are found where they are used."""
    source = settings.snapshot.files.get(FILTERS_FILE)
    if source is None:
        return
    own = declared(source.decode(errors="replace"))
    if own.problem:
        found = {"file": f"pipeline-config/{FILTERS_FILE}", "found": own.problem}
        yield from findings_of_error(ConfigError("Python cannot read this", found))
    for function, line in redefined(own):
        where = {**_place(FILTERS_FILE, line), "found": function}
        message = "a function has the name of a filter or a test of Jinja, and never runs"
        yield from findings_of_error(ConfigError(message, where, "choose another name"))


def _stages(settings: Config, task: Task) -> Iterator[Finding]:
    if task.stages is None:
        return
    others = [
        data.decode(errors="replace")
        for path, data in settings.snapshot.files.items()
        if path.endswith(".py") and path != task.stages
    ]

    def is_used(name: str) -> bool:
        return any(re.search(rf"\b{re.escape(name)}\b", text) for text in others)

    for error in near_stages(tree_of(settings, task.stages), task.stages, is_used):
        yield from findings_of_error(error)


def _templates(settings: Config, pipeline: Pipeline, task: Task) -> Iterator[Finding]:
    """The templates that a task renders, and those that they include."""
    code = settings.snapshot.files.get(task.stages or "", b"").decode(errors="replace")
    by_default = ("prompt.md", "system.md") if renders_prompt(settings, task) else ()
    for path in task.files:
        name = path.removeprefix(f"{task.folder}/")
        if not path.endswith(".md") or not (name in by_default or name in code):
            continue
        around, missing = _with_included(settings, path)
        yield from missing
        for each in around:
            place = functools.partial(_place_named, settings.snapshot.where(each))
            source = template_of(settings, each)
            yield from _absent(pipeline, task, source, place, "a template")
        yield from _filters(settings, around)
        if name in by_default and name not in code:
            yield from _names(settings, task, around)
    system = task.path("system.md")
    if system and "system.md" in by_default and template_of(settings, system).blank:
        where = {"file": f"pipeline-config/{system}"}
        yield from findings_of_error(
            ConfigError("a system message that says nothing", where), is_warning=True
        )


def _with_included(settings: Config, path: str) -> tuple[list[str], list[Finding]]:
    """A template and all that it includes, and a finding for each that is missing."""
    files = settings.snapshot.files
    found, waiting = [path], [path]
    missing: list[Finding] = []
    while waiting:
        current = waiting.pop()
        folder = current.rpartition("/")[0]
        for reference in template_of(settings, current).templates:
            places = [[f"{folder}/{name}", name] for name in reference.names]
            there = next((place for pair in places for place in pair if place in files), None)
            if there is None and not reference.may_be_missing:
                missing += findings_of_error(_no_template(settings, current, reference))
            elif there is not None and there not in found:
                found.append(there)
                waiting.append(there)
    return found, missing


def _no_template(settings: Config, path: str, reference: Reference) -> ConfigError:
    folder = path.rpartition("/")[0] + "/"
    templates = [each for each in settings.snapshot.files if not each.endswith((".py", ".json"))]
    beside = [each.removeprefix(folder) for each in templates if each.startswith(folder)]
    values = {**_place(path, reference.line), "missing template": " or ".join(reference.names)}
    if close := nearest(reference.names[0], [*templates, *beside]):
        values["did you mean"] = close
    hint = "a name is looked up beside the template, then from pipeline-config/"
    return ConfigError("a template includes one that is not there", values, hint)


def _condition(pipeline: Pipeline, task: Task) -> Iterator[Finding]:
    """What a condition reads and the task does not get."""
    source = template_source(f"{{{{ ({task.when}) }}}}") if task.when else TemplateSource()
    where = {"file": f"pipeline-config/{task.folder}/{TASK_FILE}", "when": task.when}
    yield from _absent(pipeline, task, source, lambda _: where, "a condition")


def _absent(
    pipeline: Pipeline,
    task: Task,
    source: TemplateSource,
    place: Callable[[Named], Mapping[str, object]],
    what: str,
) -> Iterator[Finding]:
    """The artifacts and vars that a source cannot do without, and its task does not get."""
    # What a task needs that is not there is reported already; the rest may follow from it.
    for named in source.artifacts if set(task.needs) <= set(pipeline.names) else ():
        if named.name not in task.needs:
            where = {**place(named), "task": task.id}
            there = named.name in pipeline.names and named.name != task.id
            values = no_such("artifact", named.name, task.needs, where=where)
            hint = f"add {named.name} to `needs` in task.yaml" if there else None
            message = f"{what} reads an artifact that the task does not get"
            yield from findings_of_error(ConfigError(message, values, hint))
    for named in source.vars:
        if named.name not in task.vars:
            where = {**place(named), "task": task.id, "pipeline": pipeline.path}
            values = no_such("vars", named.name, task.vars, where=where)
            message = f"{what} reads a value that the pipeline's vars do not have"
            yield from findings_of_error(ConfigError(message, values))


def _filters(settings: Config, templates: list[str]) -> Iterator[Finding]:
    """Unknown filters and tests where Jinja would look for them only once it comes by: under an
    `if`. All others are errors of syntax."""
    given = templates_of(settings)
    for path in templates:
        source = template_of(settings, path)
        kinds = zip(("filter", "test"), (source.filters, source.tests), given.known, strict=True)
        wrong = [
            (k, each, known) for k, used, known in kinds for each in used if each.name not in known
        ]
        if wrong and not any(template_errors(settings, path, given)):
            for kind, named, known in wrong:
                values: dict[str, object] = {**_place(path, named.line), kind: named.name}
                if close := nearest(named.name, known):
                    values["did you mean"] = close
                yield from findings_of_error(ConfigError(f"there is no such {kind}", values))


def _names(settings: Config, task: Task, templates: list[str]) -> Iterator[Finding]:
    sources = {path: template_of(settings, path) for path in templates}
    known = (*NAMES, *(OF_ITEMS if task.foreach else ()))
    given = {*known, *_OF_JINJA}.union(*(each.sets for each in sources.values()))
    for path, source in sources.items():
        for named in source.undeclared:
            if named.name not in given:
                values = no_such("name", named.name, known, where=_place(path, named.line))
                yield from findings_of_error(
                    ConfigError("a template uses a name that nothing gives", values)
                )


def _settings(settings: Config, pipeline: Pipeline, task: Task) -> Iterator[Finding]:
    names = known.doubtful(task.settings)
    if not names or task.model is None:
        return
    # Imported here: it takes longer than all the rest.
    from popbuild.llm.client import known_settings, split_model

    provider = split_model(task.model)[1] or "the provider"
    own = known_settings(task.model)
    elsewhere = known_settings(None) | known.OF_SERVERS
    everywhere = own | elsewhere | known.OURS | known.COMMON | known.PASSED_ON
    for name in names:
        if name in own:
            continue
        where = {**_place_of(settings, pipeline, task, name), "task": task.id, "setting": name}
        if name in elsewhere:
            message = f"a setting that {provider} is not known to take"
            yield from findings_of_error(ConfigError(message, where), is_warning=True)
            continue
        close, certain = known.meant(name, everywhere)
        if close:
            where["did you mean"] = close
        message = f"neither litellm nor {provider} is known to have this setting"
        hint = "what a provider takes beyond its own goes under extra_body as it is"
        yield from findings_of_error(ConfigError(message, where, hint), is_warning=not certain)


def _place_of(settings: Config, pipeline: Pipeline, task: Task, name: str) -> dict[str, object]:
    """Where a setting is: in the pipeline's file, which wins, or in the task's own."""
    own = f"{task.folder}/{TASK_FILE}"
    for path in (pipeline.path.removeprefix("pipeline-config/"), own):
        text = settings.snapshot.files.get(path, b"").decode(errors="replace")
        for number, line in enumerate(text.splitlines(), 1):
            if re.search(rf"(?<![\w-]){re.escape(name)}[\"']?\s*:", line):
                return _place(path, number)
    return {"file": f"pipeline-config/{own}"}


def _strict(settings: Config, task: Task) -> Iterator[Finding]:
    """What strict mode requires of a schema, as OpenAI documents it: in each object all properties
    are required and no others allowed."""
    if not task.settings.get(STRICT):
        return
    try:
        schema = Surroundings(settings).sent_schema(task)
    except PopbuildError:
        return  # reported already
    for each in parts(str(task.schema), schema, DEFAULT_DIALECT):
        part, pointer = each.schema, each.pointer
        properties = part.get("properties")
        if part.get("type") != "object" or not isinstance(properties, dict):
            continue
        left = [name for name in properties if name not in part.get("required", ())]
        what = f"not required: {', '.join(left)}" if left else ""
        if part.get("additionalProperties") is not False:
            what = what or "additionalProperties is not false"
        if what:
            where = {"file": f"pipeline-config/{task.schema}", "at": f"#{pointer}", "found": what}
            yield from findings_of_error(
                ConfigError("strict mode may refuse the schema", where), is_warning=True
            )


def _asked_about(task: Task) -> Iterator[Finding]:
    """Artifacts that a human gate names, of a task that only makes its main one."""
    if task.human_gate is None or (task.stages is not None and task.command is None):
        return
    for name in task.human_gate.artifacts:
        if name != task.artifact:
            where = {"file": f"pipeline-config/{task.folder}/{TASK_FILE}", "task": task.id}
            message = "a human gate names an artifact that the task does not make"
            values = no_such("artifact", name, [task.artifact], where=where)
            yield from findings_of_error(ConfigError(message, values))


def _place_named(file: str, named: Named) -> dict[str, object]:
    return {"file": file, "at": f"line {named.line}"}


def _place(path: str, line: int) -> dict[str, object]:
    return {"file": f"pipeline-config/{path}", "at": f"line {line}"}
