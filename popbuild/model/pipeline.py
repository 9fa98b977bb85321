"""A pipeline as data: its tasks in order, what each needs, its model settings."""

from __future__ import annotations

import functools
import graphlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from popbuild.base import jsonio
from popbuild.model.problem import MISSING, value_at
from popbuild.model.scoring import Scoring

_NAMES_ITEM = re.compile(r"\b(item|position)\b")
MAX_REFINEMENTS = 2  # storage format, "Job Failure": max 2 attempts


@dataclass(frozen=True)
class HumanGate:
    """What a person is asked before anything is built from a task's artifacts, and the names of
    the artifacts to look at."""

    message: str
    artifacts: tuple[str, ...]


def _said(pointer: str = "", dependency: str = "", **more: Any) -> Any:
    """A field of Task: `pointer` is its place in task.yaml. If it changes an answer, `dependency`
    is its name in fingerprints, which have it only if it differs from its default."""
    return field(metadata={"pointer": pointer, "dependency": dependency}, **more)


@dataclass(frozen=True)
class Task:
    """One step. `folder` is relative to pipeline-config/, POSIX; `command` replaces the stages.

    `files` are the digests of every file in the folder, by path relative to pipeline-config/, and
    `modules` those of the files elsewhere that stages.py imports. `schema` and `stages` are such
    paths, or None. `timeout_s` is a stage's, `call_timeout_s` a call's; None leaves it to the
    command. `fallbacks` are the models to ask, in order, if that of the settings is unavailable.
    `attach` are files of the seed that go with the prompt, `accepts` the kinds of them that its
    models take by its own word. `when` is a condition, an expression; where it is false the task
    is skipped. `foreach` is an expression that gives a list: the stages run once for each of its
    items, which `key` names; a share of them may fail. `vars` are the pipeline's: a task depends on
    what it reads of them. `scoring` measures its output, None for nothing.
    """

    id: str
    label: str
    folder: str
    settings: Mapping[str, Any]
    needs: tuple[str, ...] = _said("/needs")
    artifact: str = _said("/artifact", "output")
    answer: str = _said("/answer", "answer")  # "json" or "text"
    refinements: int = _said("/gate/refinements", default=MAX_REFINEMENTS)
    timeout_s: float = _said("/timeout", default=600.0)
    call_timeout_s: float | None = None
    command: tuple[str, ...] | None = _said(dependency="command", default=None)
    files: Mapping[str, str] = field(default_factory=dict)
    fallbacks: tuple[str, ...] = ()
    attach: tuple[str, ...] = _said("/attach", "attach", default=())
    when: str = _said("/when", "when", default="")
    foreach: str = _said("/foreach", "foreach", default="")
    key: str = _said("/key", "key", default="")
    max_items: int = _said("/max_items", default=1000)
    failed_share: float = _said("/gate/failed_share", "failed_share", default=0.0)
    accepts: tuple[str, ...] = ()
    modules: Mapping[str, str] = field(default_factory=dict)
    human_gate: HumanGate | None = None
    vars: Mapping[str, Any] = field(default_factory=dict)
    scoring: Scoring | None = None

    @functools.cached_property
    def as_one_item(self) -> Task:
        """What decides about each item of it, without what makes and keeps the list, and without a
        condition that is about all of them."""
        when = self.when if _NAMES_ITEM.search(self.when) else ""
        return replace(self, foreach="", key="", failed_share=0.0, when=when)

    @functools.cached_property
    def dependencies(self) -> dict[str, str]:
        """What its own settings say in a fingerprint: texts as they are, other values by digest."""
        found = {}
        for each in fields(self):
            name, value = each.metadata.get("dependency"), getattr(self, each.name)
            if name and value != each.default:
                found[name] = value if isinstance(value, str) else jsonio.digest(value)
        return found

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


def said_of_task(document: Mapping[str, Any]) -> dict[str, Any]:
    """The values in a valid task.yaml, by the fields of Task that they set."""
    said: dict[str, Any] = {}
    for each in fields(Task):
        pointer = each.metadata.get("pointer")
        value: Any = value_at(document, pointer) if pointer else MISSING
        if value is not MISSING:
            value = tuple(value) if isinstance(value, list) else value
            said[each.name] = float(value) if isinstance(each.default, float) else value
    return said


@dataclass(frozen=True)
class Budget:
    """US dollars that calls may cost at most: of one job over all its runs, of all jobs of the
    pipeline, and of these jobs on one day (UTC). None is unlimited."""

    job: float | None = None
    pipeline: float | None = None
    day: float | None = None


@dataclass(frozen=True)
class Limit:
    """At most so many calls of a provider or a model. None is unlimited."""

    in_flight: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


@dataclass(frozen=True)
class Pipeline:
    """`path` is its file, relative to the root; `limits` are by the name of a provider or a
    model."""

    name: str
    path: str
    tasks: tuple[Task, ...]
    version: str | None = None
    description: str | None = None
    budget: Budget = field(default_factory=Budget)
    limits: Mapping[str, Limit] = field(default_factory=dict)

    def task(self, name: str) -> Task:
        """A task by its ID. Raises KeyError."""
        return self._by_name[name]

    @functools.cached_property
    def _by_name(self) -> dict[str, Task]:
        return {task.id: task for task in self.tasks}

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(self._by_name)

    @functools.cached_property
    def artifacts(self) -> dict[str, str]:
        """The main artifact of each task."""
        return {task.id: task.artifact for task in self.tasks}

    @functools.cached_property
    def in_order(self) -> tuple[Task, ...]:
        """The tasks, each after those that it needs."""
        order = graphlib.TopologicalSorter({task.id: task.needs for task in self.tasks})
        return tuple(self.task(name) for name in order.static_order())

    @functools.cached_property
    def gated(self) -> tuple[Task, ...]:
        """The tasks that have a human gate."""
        return tuple(task for task in self.tasks if task.human_gate is not None)

    @functools.cached_property
    def scored(self) -> tuple[Task, ...]:
        """The tasks whose output is measured."""
        return tuple(task for task in self.tasks if task.scoring is not None)

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
