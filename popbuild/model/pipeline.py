"""A pipeline as data: its tasks in order, what each needs, its model settings."""

from __future__ import annotations

import functools
import graphlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from popbuild.base import jsonio

MAX_REFINEMENTS = 2  # storage format, "Job Failure": max 2 attempts


@dataclass(frozen=True)
class HumanGate:
    """What a person is asked before anything is built from a task's artifacts. `artifacts` are the
    names of those to look at."""

    message: str
    artifacts: tuple[str, ...]


@dataclass(frozen=True)
class Task:
    """One step. `folder` is relative to pipeline-config/, POSIX; `command` replaces the stages.

    `files` are the digests of every file in the folder, by path relative to pipeline-config/, and
    `modules` those of the files elsewhere that stages.py imports. `schema`, `prompt`, `system` and
    `stages` are such paths, or None. `timeout_s` is a stage's, `call_timeout_s` a call's: it
    changes no answer, so it is none of the settings. None leaves it to the command. `fallbacks` are
    the models to ask, in order, where the one of the settings cannot be had. `human_gate` changes
    no answer either: it holds builds back.
    """

    id: str
    label: str
    folder: str
    needs: tuple[str, ...]
    settings: Mapping[str, Any]
    artifact: str
    answer: str  # "json" or "text"
    refinements: int = MAX_REFINEMENTS
    timeout_s: float = 600.0
    call_timeout_s: float | None = None
    command: tuple[str, ...] | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    fallbacks: tuple[str, ...] = ()
    modules: Mapping[str, str] = field(default_factory=dict)
    human_gate: HumanGate | None = None

    def path(self, name: str) -> str | None:
        """The path of a file in the task's folder, or None if there is no such file."""
        path = f"{self.folder}/{name}"
        return path if path in self.files else None

    @property
    def schema(self) -> str | None:
        return self.path("output.schema.json")

    @property
    def stages(self) -> str | None:
        return self.path("stages.py")

    @property
    def model(self) -> str | None:
        return self.settings.get("model")

    @property
    def configuration(self) -> dict[str, Any]:
        """The settings as they are configured, with the fallbacks."""
        more = {"fallbacks": list(self.fallbacks)} if self.fallbacks else {}
        return {**self.settings, **more}

    @functools.cached_property
    def setting_digests(self) -> dict[str, str]:
        """The digest of each effective setting, computed once for all jobs."""
        return {key: jsonio.digest(value) for key, value in self.settings.items()}


@dataclass(frozen=True)
class Budget:
    """US dollars that calls may cost at most: of one job over all its runs, of all jobs of the
    pipeline, and of those on one day (UTC). None is no limit."""

    job: float | None = None
    pipeline: float | None = None
    day: float | None = None


@dataclass(frozen=True)
class Limit:
    """What a provider, or one of its models, may be asked at most. None is no limit."""

    in_flight: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


@dataclass(frozen=True)
class Pipeline:
    """`path` is the file it was read from and `folder` where it lies, both relative to the root.
    `limits` are by the name of a provider or a model."""

    name: str
    path: str
    tasks: tuple[Task, ...]
    version: str | None = None
    description: str | None = None
    budget: Budget = field(default_factory=Budget)
    limits: Mapping[str, Limit] = field(default_factory=dict)

    def task(self, name: str) -> Task:
        """A task by its ID; KeyError if there is none."""
        for task in self.tasks:
            if task.id == name:
                return task
        raise KeyError(name)

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(task.id for task in self.tasks)

    @functools.cached_property
    def in_order(self) -> tuple[Task, ...]:
        """The tasks so that each stands behind what it needs."""
        order = graphlib.TopologicalSorter({task.id: task.needs for task in self.tasks})
        return tuple(self.task(name) for name in order.static_order())

    @functools.cached_property
    def gated(self) -> tuple[Task, ...]:
        """The tasks that have a human gate."""
        return tuple(task for task in self.tasks if task.human_gate is not None)

    def upstream(self, name: str) -> set[str]:
        """Every task that this one needs, directly or not."""
        found: set[str] = set()
        waiting = list(self.task(name).needs)
        while waiting:
            each = waiting.pop()
            if each not in found:
                found.add(each)
                waiting.extend(self.task(each).needs)
        return found


def find_cycle(needs: Mapping[str, tuple[str, ...]]) -> list[str] | None:
    """A cycle as the names along it, first and last the same; None if there is none."""
    try:
        graphlib.TopologicalSorter(needs).prepare()
    except graphlib.CycleError as error:
        return list(reversed(error.args[1]))
    return None
