"""What pipeline-config/ would be with a variant's files and settings in the place of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from popbuild.base import jsonio
from popbuild.base.errors import UsageError
from popbuild.base.paths import Root
from popbuild.model.config.config import Config, read_config
from popbuild.model.config.documents import ConfigDocuments
from popbuild.model.config.reader import PIPELINE_FILES
from popbuild.model.config.snapshot import Snapshot, config_place, take_snapshot
from popbuild.model.config.variants import VariantSettings, merged, settings_of

_Document = dict[str, Any]
_ModelPlace = Callable[[_Document, str, set[str]], _Document]


def with_variant(main: Root, variant: Root) -> tuple[dict[str, bytes], Config]:
    """The files that change, by path, and the configuration that they make of the main one, in
    which each task is as the variant has it. UsageError where files cannot say what the variant
    says, ConfigError where the variant itself is wrong."""
    wanted = read_config(variant)
    if wanted.problems:
        raise wanted.problems[0]
    snapshot, before = wanted.config.snapshot, take_snapshot(main)[0].files
    documents = ConfigDocuments(variant, snapshot, wanted.config.environment)
    said, _ = settings_of(documents)
    for settled in _with_settings(documents, said, wanted.config):
        after = {**snapshot.files, **settled}
        reading = read_config(main, snapshot=Snapshot(after))
        if not reading.problems and _says_the_same(reading.config, wanted.config):
            changed = {path: data for path, data in after.items() if before.get(path) != data}
            return changed, reading.config
    raise UsageError(
        "the settings of the variant cannot be put into files of the main one",
        {"variant": variant.variant.label, "files": ", ".join(_pipeline_files(snapshot))},
        hint="write what they say into the main files yourself, and remove them from the variant",
    )


def _says_the_same(one: Config, other: Config) -> bool:
    """Whether two configurations have the same tasks, wherever these are written down."""
    return one.filters == other.filters and _said(one) == _said(other)


def _said(config: Config) -> list[object]:
    return [(name, each.tasks, each.budget, each.limits) for name, each in config.pipelines.items()]


def _pipeline_files(snapshot: Snapshot) -> list[str]:
    return [path for path in snapshot.files if path.rpartition("/")[2] in PIPELINE_FILES]


def _with_settings(
    documents: ConfigDocuments, said: VariantSettings, config: Config
) -> Iterator[dict[str, bytes]]:
    """The files of pipelines with the settings in them, in the ways in which they may be written,
    the shortest first. UsageError for one in YAML: its comments would be lost."""
    if not (said.model or said.vars or said.task_config):
        yield {}
        return
    paths = _pipeline_files(documents.snapshot)
    for path in paths:
        if not path.endswith(".json"):
            raise UsageError(
                "the settings of a variant cannot be written into a file in YAML",
                {"file": config_place(path), "settings": jsonio.compact(_shown(said))},
                hint="write them there yourself, and remove them from the variant",
            )
    for put_model in (_in_defaults, _in_each_task):
        found = {}
        for path in paths:
            document = documents.read(path, "pipeline")
            commands = {
                task.id
                for pipeline in config.pipelines.values()
                if pipeline.path == documents.snapshot.where(path)
                for task in pipeline.tasks
                if task.command is not None
            }
            if said.model:
                document = put_model(document, said.model, commands)
            if said.vars:
                document = merged(document, {"vars": dict(said.vars)})
            document = _in_tasks(document, said.task_config)
            found[path] = jsonio.dumps(document, sort=False)
        yield found


def _shown(said: VariantSettings) -> _Document:
    found = {"model": said.model, "vars": dict(said.vars), "taskConfig": dict(said.task_config)}
    return {key: value for key, value in found.items() if value}


def _in_defaults(document: _Document, model: str, _commands: set[str]) -> _Document:
    return merged(document, {"defaults": {"model": model}})


def _in_each_task(document: _Document, model: str, commands: set[str]) -> _Document:
    names = [each if isinstance(each, str) else each["id"] for each in document["tasks"]]
    asked = [name for name in names if name not in commands]
    return _in_tasks(document, {name: {"model": model} for name in asked})


def _in_tasks(document: _Document, settings: Mapping[str, Mapping[str, Any]]) -> _Document:
    """A pipeline with settings of its tasks, where it has their settings already."""
    tasks, by_name = [], {}
    for task in document["tasks"]:
        name = task if isinstance(task, str) else task["id"]
        own = dict(settings.get(name, {}))
        if own and isinstance(task, str):
            by_name[name] = own
        tasks.append(merged(task, {"config": own}) if own and task != name else task)
    found = {**document, "tasks": tasks}
    return merged(found, {"taskConfig": by_name}) if by_name else found
