"""What makes tasks a pipeline: names, needs and artifacts that fit together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from popbuild.base.errors import ConfigError, nearest, no_such
from popbuild.base.paths import file_name_problem, name_problem
from popbuild.model.config.settings import formats_by_hand
from popbuild.model.pipeline import Task, find_cycle
from popbuild.model.problem import pointer_of

TASK_FILE = "task.yaml"
FILTERS_FILE = "filters.py"  # filters and tests for the templates of all pipelines
OWN_FILES = (TASK_FILE, "prompt.md", "stages.py", "system.md", "output.schema.json")


@dataclass(frozen=True)
class TaskEntry:
    """A task as a pipeline names it; `place` points to its settings in the pipeline's file, and
    `defaults` and `vars` are those of all its tasks."""

    id: str
    label: str
    settings: Mapping[str, Any]
    place: str
    defaults: Mapping[str, Any]
    vars: Mapping[str, Any]


def check_unique(kind: str, names: Iterable[str], where: str) -> None:
    seen: dict[str, str] = {}
    for name in names:
        problem = name_problem(name)
        if problem:
            raise ConfigError(
                f"not a valid name for a {kind}",
                {kind: ascii(name[:80]), "file": where, "allowed": problem},
            )
        if name.casefold() in seen:
            raise ConfigError(
                f"two {kind}s have the same name",
                {"file": where, kind: f"{seen[name.casefold()]}, {name}"},
                hint="names must differ by more than upper and lower case",
            )
        seen[name.casefold()] = name


def task_entries(document: Mapping[str, Any], where: str) -> list[TaskEntry]:
    """The tasks of a pipeline, given as names or as objects."""
    by_name = document.get("taskConfig", {})
    of_all = document.get("defaults", {}), document.get("vars", {})
    entries = []
    for number, task in enumerate(document["tasks"]):
        if isinstance(task, str):
            place = pointer_of(["taskConfig", task])
            entries.append(TaskEntry(task, task, by_name.get(task, {}), place, *of_all))
        else:
            place = f"/tasks/{number}/config"
            if task["id"] in by_name:
                raise ConfigError(
                    "a task has settings in two places",
                    {"file": where, "at": f"{place} and /taskConfig/{task['id']}"},
                    hint="taskConfig goes with tasks as names",
                )
            label = task.get("name", task["id"])
            entries.append(TaskEntry(task["id"], label, task.get("config", {}), place, *of_all))
    names = [entry.id for entry in entries]
    check_unique("task", names, where)
    for name in by_name:
        if name not in names:
            raise ConfigError(
                "taskConfig names a task that the pipeline does not have",
                no_such("task", name, names, where={"file": where, "at": f"/taskConfig/{name}"}),
            )
    return entries


def not_registered(name: str, registry: Mapping[str, Any], where: str, file: str) -> ConfigError:
    values = no_such("task", name, registry, where={"file": where, "registry": file})
    hint = "add it to the registry, or correct its name"
    return ConfigError("a task is not in the registry", values, hint)


def check_ours(task: str, folder: str, files: Iterable[str], registry: str) -> None:
    """ConfigError if a registry in JavaScript names a task that is not ours."""
    if {f"{folder}/{each}" for each in OWN_FILES}.isdisjoint(files):
        raise ConfigError(
            "no task of popbuild stands behind a module of the registry",
            {"task": task, "file": registry, "missing": f"pipeline-config/{folder}/prompt.md"},
            hint="what was built can be read; to build it here, write a prompt.md or stages.py",
        )


def has_ours(files: Iterable[str]) -> bool:
    """Whether any of these files makes a task that can be built here."""
    return any(path.rpartition("/")[2] in OWN_FILES for path in files)


def check_task(task: Task) -> None:
    where = {"task": task.id, "folder": f"pipeline-config/{task.folder}/"}
    problem = file_name_problem(task.artifact)
    if problem:
        raise ConfigError(
            "not a valid file name for an artifact",
            {**where, "artifact": ascii(task.artifact), "allowed": problem},
        )
    if task.failed_share and not task.foreach:
        raise ConfigError(
            "a share of items may fail, of a task without items",
            {**where, "at": "/gate/failed_share"},
            hint="`foreach` names the list of the items",
        )
    if task.command is not None:
        if task.attach:
            raise ConfigError(
                "a task that is a command attaches files",
                where,
                hint="it is given the paths of all files of the seed",
            )
        return
    if task.path("prompt.md") is None and task.stages is None:
        close = nearest("prompt.md", [path.split("/")[-1] for path in task.files])
        found = {"found": close} if close else {}
        values = {**where, "missing": "prompt.md", **found}
        raise ConfigError("a task has neither a prompt nor stages", values)
    if task.model is None and task.stages is None:
        raise ConfigError(
            "a task has no model",
            {**where, "missing": "model"},
            hint='set "model" under defaults in pipeline.json, or POPBUILD_MODEL',
        )
    if task.schema is not None and task.answer == "json":
        check_format(task.settings, {**where, "schema": f"pipeline-config/{task.schema}"})


def check_format(settings: Mapping[str, Any], where: Mapping[str, object]) -> None:
    """ConfigError for settings with a response format beside a schema, which is sent as one."""
    found = formats_by_hand(settings)
    if found:
        raise ConfigError(
            "a response format stands beside the schema that is sent as one",
            {**where, "found": ", ".join(f"config{each}" for each in found)},
            hint="remove it: the schema is sent by itself; `strict: true` asks to heed it strictly",
        )


def wrong_together(tasks: list[Task], where: str) -> Iterator[ConfigError]:
    """What is wrong with tasks that are each right: their needs, artifacts and human gates."""
    names = [task.id for task in tasks]
    for task in tasks:
        for need in task.needs:
            if need not in names:
                values = no_such("needs", need, names, where=_places(task, where))
                yield ConfigError("a task needs one that the pipeline does not have", values)
    cycle = find_cycle({task.id: task.needs for task in tasks})
    if cycle:
        values = {"pipeline": where, "needs": " -> ".join(cycle)}
        yield ConfigError("tasks need each other in a circle", values)
    owners: dict[str, str] = {}
    for task in tasks:
        name = task.artifact.casefold()
        if name in owners:
            both = f"{owners[name]}, {task.id}"
            values = {"pipeline": where, "artifact": task.artifact, "tasks": both}
            yield ConfigError("two tasks make the same artifact", values)
        owners[name] = task.id
    # A decision is about the task's own artifacts: those of others are rebuilt without it.
    for task in tasks:
        for name in task.human_gate.artifacts if task.human_gate else ():
            owner = owners.get(name.casefold(), task.id)
            if owner != task.id:
                values = {**_places(task, where), "artifact": name, "made by": owner}
                hint = f"give {owner} a gate of its own"
                yield ConfigError("a human gate names an artifact of another task", values, hint)


def _places(task: Task, pipeline: str) -> dict[str, object]:
    file = f"pipeline-config/{task.folder}/{TASK_FILE}"
    return {"task": task.id, "file": file, "pipeline": pipeline}
