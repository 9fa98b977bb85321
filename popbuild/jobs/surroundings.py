"""Shared by all tasks of a command: the configuration, where models answer, compiled schemas."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from popbuild.base import jsonio
from popbuild.base.errors import ConfigError, InputError
from popbuild.base.paths import Root
from popbuild.jobs.input_files import InputReader
from popbuild.jobs.matching import JobNames
from popbuild.llm.endpoint import ADDRESS_SETTINGS, provider_place, weights_digest
from popbuild.llm.request import is_local
from popbuild.model.config.config import Config
from popbuild.model.pipeline import Pipeline, Task
from popbuild.model.place import NOWHERE, Place
from popbuild.model.problem import Problem
from popbuild.model.schema import schemas
from popbuild.model.schema.references import bundle


@dataclass
class Surroundings:
    """What all tasks of a command share. Each part is computed once."""

    config: Config
    # The pipeline of a job that is known to be complete and up to date without a look at it.
    known: Callable[[str], Pipeline | None] = lambda _: None
    # The states of jobs that were looked at a moment ago, and are not up to date.
    others: dict[str, str] = field(default_factory=dict)
    _places: dict[str, Place] = field(default_factory=dict)
    _schemas: dict[str, tuple[schemas.Schema, dict[str, str]]] = field(default_factory=dict)
    _sent: dict[str, Any] = field(default_factory=dict)

    @property
    def root(self) -> Root:
        return self.config.root

    def model_place(self, task: Task) -> Place:
        """Where a task's model answers."""
        if task.model is None or task.command is not None:
            return NOWHERE
        return self.place_of(task.model, task.settings)

    def place_of(self, model: str, settings: Mapping[str, Any]) -> Place:
        """Where a model answers, asked with these settings."""
        key = jsonio.compact([model, *(settings.get(name) for name in ADDRESS_SETTINGS)])
        environment = self.config.environment
        if key not in self._places and is_local(model):
            weights = weights_digest(environment, self.root.private / "index" / "weights.json")
            self._places[key] = Place(weights=weights, is_provider=False)
        elif key not in self._places:
            self._places[key] = provider_place(model, settings, environment)
        return self._places[key]

    def schema(self, task: Task) -> tuple[schemas.Schema | None, dict[str, str]]:
        """A task's compiled schema, and the digests of the files that it refers to."""
        if task.schema is None:
            return None, {}
        if task.schema not in self._schemas:
            self._schemas[task.schema] = self._compile(task.schema)
        return self._schemas[task.schema]

    def schema_warnings(self, task: Task) -> Iterator[tuple[str, Problem]]:
        """Keywords without effect in a task's schema and in the files it refers to, by file."""
        from popbuild.model.schema import dialects, odd_words

        _, used = self.schema(task)
        if task.schema is None:
            return
        documents, default = self._json_files, dialects.DEFAULT_DIALECT
        for path in (task.schema, *sorted(used)):
            where = self.config.snapshot.where(path)
            draft = dialects.dialect_of(documents[path], default, where)
            default = draft if path == task.schema else default
            for problem in odd_words.warnings(documents[path], draft, where):
                yield path, problem

    def sent_schema(self, task: Task) -> Any:
        """A task's schema as its calls send it, in one document; None where they send none."""
        schema, used = self.schema(task)
        if task.schema is None or schema is None or task.answer != "json" or task.command:
            return None
        if not used:
            return schema.document
        if task.schema not in self._sent:
            self._sent[task.schema] = bundle(task.schema, used, self._json_files, schema.where)
        return self._sent[task.schema]

    @functools.cached_property
    def names(self) -> JobNames:
        """The IDs of the root's jobs."""
        return JobNames(self.root)

    @functools.cached_property
    def inputs(self) -> InputReader:
        """The files of seeds."""
        return InputReader(self.root)

    @functools.cached_property
    def _json_files(self) -> dict[str, Any]:
        """The configuration's JSON files that can be read, by path."""
        documents = {}
        for path, data in self.config.snapshot.files.items():
            if path.endswith(".json"):
                with contextlib.suppress(InputError):
                    documents[path] = jsonio.loads(data, path)
        return documents

    def _compile(self, schema: str) -> tuple[schemas.Schema, dict[str, str]]:
        snapshot, where = self.config.snapshot, self.config.snapshot.where(schema)
        if schema not in self._json_files:
            try:
                jsonio.loads(snapshot.files[schema], where)
            except InputError as error:
                raise ConfigError(error.message, error.values, error.hint) from None
        compiled, used = schemas.compile_task_schema(schema, self._json_files, where)
        return compiled, {path: snapshot.digests[path] for path in used}
