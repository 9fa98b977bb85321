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
_OURS = (TASK_FILE, "prompt.md", "stages.py", "system.md", "output.schema.json")


@dataclass(frozen=True)
class TaskEntry:
    """A task as a pipeline names it: `place` is where its settings stand in the pipeline's file."""

    id: str
    label: str
    settings: Mapping[str, Any]
    place: str


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
    """The tasks of both forms."""
    by_name = document.get("taskConfig", {})
    entries = []
    for number, task in enumerate(document["tasks"]):
        if isinstance(task, str):
            place = pointer_of(["taskConfig", task])
            entries.append(TaskEntry(task, task, by_name.get(task, {}), place))
        else:
            place = f"/tasks/{number}/config"
            if task["id"] in by_name:
                raise ConfigError(
                    "a task has settings in two places",
                    {"file": where, "at": f"{place} and /taskConfig/{task['id']}"},
                    hint="taskConfig goes with tasks as names",
                )
            label = task.get("name", task["id"])
            entries.append(TaskEntry(task["id"], label, task.get("config", {}), place))
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
    places = {"file": where, "registry": file}
    return ConfigError(
        "a task is not in the registry",
        no_such("task", name, registry, where=places),
        hint="add it to the registry, or correct its name",
    )


def check_ours(task: str, folder: str, files: Iterable[str], registry: str) -> None:
    """ConfigError where a registry in JavaScript names what is no task of ours."""
    if {f"{folder}/{each}" for each in _OURS}.isdisjoint(files):
        raise ConfigError(
            "no task of popbuild stands behind a module of the registry",
            {"task": task, "file": registry, "missing": f"pipeline-config/{folder}/prompt.md"},
            hint="what was built can be read; to build it here, write a prompt.md or stages.py",
        )


def has_ours(files: Iterable[str]) -> bool:
    """Whether there is a file among these by which a task can be built here."""
    return any(path.rpartition("/")[2] in _OURS for path in files)


def check_task(task: Task) -> None:
    where = {"task": task.id, "folder": f"pipeline-config/{task.folder}/"}
    problem = file_name_problem(task.artifact)
    if problem:
        raise ConfigError(
            "not a valid file name for an artifact",
            {**where, "artifact": ascii(task.artifact), "allowed": problem},
        )
    if task.command is not None:
        return
    if task.path("prompt.md") is None and task.stages is None:
        close = nearest("prompt.md", [path.split("/")[-1] for path in task.files])
        values: dict[str, object] = {**where, "missing": "prompt.md"}
        if close:
            values["found"] = close
        raise ConfigError("a task has neither a prompt nor stages", values)
    if task.model is None and task.stages is None:
        raise ConfigError(
            "a task has no model",
            {**where, "missing": "model"},
            hint='set "model" in taskConfig, in task.yaml under config, or POPBUILD_MODEL',
        )
    if task.schema is not None and task.answer == "json":
        check_format(task.settings, {**where, "schema": f"pipeline-config/{task.schema}"})


def check_format(settings: Mapping[str, Any], where: Mapping[str, object]) -> None:
    """ConfigError for a response format by hand where a schema is what is sent."""
    found = formats_by_hand(settings)
    if found:
        raise ConfigError(
            "a response format stands beside the schema that is sent as one",
            {**where, "found": ", ".join(f"config{each}" for each in found)},
            hint="remove it: the schema is sent by itself; `strict: true` asks to heed it strictly",
        )


def wrong_needs(tasks: list[Task], where: str) -> Iterator[ConfigError]:
    names = [task.id for task in tasks]
    for task in tasks:
        for need in task.needs:
            if need not in names:
                yield ConfigError(
                    "a task needs one that the pipeline does not have",
                    no_such(
                        "needs",
                        need,
                        names,
                        where={
                            "task": task.id,
                            "file": f"pipeline-config/{task.folder}/{TASK_FILE}",
                            "pipeline": where,
                        },
                    ),
                )
    cycle = find_cycle({task.id: task.needs for task in tasks})
    if cycle:
        yield ConfigError(
            "tasks need each other in a circle", {"pipeline": where, "needs": " -> ".join(cycle)}
        )


def same_artifacts(tasks: list[Task], where: str) -> Iterator[ConfigError]:
    owners: dict[str, str] = {}
    for task in tasks:
        name = task.artifact.casefold()
        if name in owners:
            yield ConfigError(
                "two tasks make the same artifact",
                {
                    "pipeline": where,
                    "artifact": task.artifact,
                    "tasks": f"{owners[name]}, {task.id}",
                },
            )
        owners[name] = task.id


def gates_of_others(tasks: list[Task], where: str) -> Iterator[ConfigError]:
    """A decision is about the task's own artifacts: those of another are built anew without it."""
    owners = {task.artifact.casefold(): task for task in tasks}
    for task in tasks:
        for name in task.human_gate.artifacts if task.human_gate else ():
            owner = owners.get(name.casefold())
            if owner is not None and owner.id != task.id:
                yield ConfigError(
                    "a human gate names an artifact of another task",
                    {
                        "task": task.id,
                        "file": f"pipeline-config/{task.folder}/{TASK_FILE}",
                        "pipeline": where,
                        "artifact": name,
                        "made by": owner.id,
                    },
                    hint=f"give {owner.id} a gate of its own",
                )
