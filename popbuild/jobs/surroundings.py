"""Shared by all tasks of a command: where models answer, and compiled schemas."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from popbuild.base import jsonio
from popbuild.base.errors import ConfigError, InputError
from popbuild.base.paths import Root
from popbuild.jobs.fingerprint import Inputs
from popbuild.llm.addresses import ADDRESS_SETTINGS
from popbuild.llm.endpoint import provider_place, weights_digest
from popbuild.llm.request import is_local
from popbuild.model.config.config import Config
from popbuild.model.pipeline import Task
from popbuild.model.place import NOWHERE, Place
from popbuild.model.problem import Problem
from popbuild.model.schema import schemas
from popbuild.model.schema.references import bundle


@dataclass
class Surroundings:
    """Shared by all tasks of a command: configuration, where models answer, compiled schemas. Each
    is computed once."""

    config: Config
    _places: dict[str, Place] = field(default_factory=dict)
    _schemas: dict[str, tuple[schemas.Schema, dict[str, str]]] = field(default_factory=dict)
    _sent: dict[str, Any] = field(default_factory=dict)

    @property
    def root(self) -> Root:
        return self.config.root

    def inputs(
        self,
        task: Task,
        seed: Any,
        artifacts: Mapping[str, Any],
        job: str,
        sample: int,
        resolved: dict[str, tuple[Any, str]],
    ) -> Inputs:
        """The inputs of a task, against which its dependencies are resolved."""
        return Inputs(
            seed,
            {name: artifacts[name] for name in task.needs if name in artifacts},
            self.config.snapshot.digests,
            self.model_place(task),
            sample,
            job,
            resolved,
        )

    def model_place(self, task: Task) -> Place:
        """Where a task's model answers."""
        if task.model is None or task.command is not None:
            return NOWHERE
        return self.place_of(task.model, task.settings)

    def place_of(self, model: str, settings: Mapping[str, Any]) -> Place:
        """Where a model answers, asked with these settings."""
        key = jsonio.compact([model, *(settings.get(name) for name in ADDRESS_SETTINGS)])
        if key not in self._places:
            self._places[key] = self._place_of(model, settings)
        return self._places[key]

    def _place_of(self, model: str, settings: Mapping[str, Any]) -> Place:
        environment = self.config.environment
        if is_local(model):
            index = self.root.private / "index" / "weights.json"
            return Place(weights=weights_digest(environment, index), is_provider=False)
        return provider_place(model, settings, environment)

    def schema(self, task: Task) -> tuple[schemas.Schema | None, dict[str, str]]:
        """A task's compiled schema, and the digests of the files that it refers to."""
        if task.schema is None:
            return None, {}
        if task.schema not in self._schemas:
            self._schemas[task.schema] = self._compile(task.schema)
        return self._schemas[task.schema]

    def schema_warnings(self, task: Task) -> Iterator[tuple[str, Problem]]:
        """Keywords that have no effect in a task's schema, or in a file that it refers to: path and
        place."""
        from popbuild.model.schema import dialects, odd_words

        _, used = self.schema(task)
        if task.schema is None:
            return
        documents = self._json_files()
        default = dialects.DEFAULT_DIALECT
        for path in (task.schema, *sorted(used)):
            where = f"pipeline-config/{path}"
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
            documents = self._json_files()
            self._sent[task.schema] = bundle(task.schema, used, documents, schema.where)
        return self._sent[task.schema]

    def _json_files(self) -> dict[str, Any]:
        """The configuration's JSON files that can be read, by path."""
        documents = {}
        for path, data in self.config.snapshot.files.items():
            if path.endswith(".json"):
                with contextlib.suppress(InputError):
                    documents[path] = jsonio.loads(data, path)
        return documents

    def _compile(self, schema: str) -> tuple[schemas.Schema, dict[str, str]]:
        snapshot = self.config.snapshot
        documents = self._json_files()
        where = f"pipeline-config/{schema}"
        if schema not in documents:
            try:
                jsonio.loads(snapshot.files[schema], where)
            except InputError as error:
                raise ConfigError(error.message, error.values, error.hint) from None
        compiled, used = schemas.compile_task_schema(schema, documents, where)
        return compiled, {path: snapshot.digests[path] for path in used}
