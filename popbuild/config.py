"""pipeline-config/ as it is at the start of a command: the whole is read once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from popbuild import jsonio
from popbuild.errors import (
    ConfigError,
    InputError,
    PopbuildError,
    UsageError,
    unknown,
)
from popbuild.layout import Root
from popbuild.model.pipeline import Pipeline
from popbuild.reader import Reader
from popbuild.snapshot import Snapshot, take_snapshot

DEFAULT = ""  # the name of the pipeline that lies directly in pipeline-config/


@dataclass(frozen=True)
class Config:
    """What a command knows of a root: its snapshot, its pipelines, the environment.

    `environment` is the process's with the root's `.env` below it; keys are read from it and
    written nowhere.
    """

    root: Root
    snapshot: Snapshot
    pipelines: Mapping[str, Pipeline]
    environment: Mapping[str, str]

    def pipeline_for(self, seed: Mapping[str, Any]) -> Pipeline:
        """The pipeline that a seed names, else the default one."""
        name = seed.get("pipeline", DEFAULT)
        if name in self.pipelines:
            return self.pipelines[name]
        if name == DEFAULT:
            raise ConfigError(
                "there is no default pipeline",
                {"missing": "pipeline-config/pipeline.json (or pipeline.yaml)"},
                hint='a seed may name one of pipeline-config/pipelines/ with "pipeline"',
            )
        raise InputError(
            "no such pipeline", unknown("pipeline", name, filter(None, self.pipelines))
        )


def load(root: Root, environment: Mapping[str, str] | None = None) -> Config:
    """Read and check the whole configuration of a root. Raises ConfigError for the first error."""
    config, problems = load_leniently(root, environment)
    if problems:
        raise problems[0]
    return config


def load_leniently(
    root: Root, environment: Mapping[str, str] | None = None
) -> tuple[Config, list[ConfigError]]:
    """The configuration as far as it can be read, and every error in it. A pipeline lacks those
    of its tasks that cannot be read."""
    variables = environment_of(root, os.environ if environment is None else environment)
    snapshot, problems = take_snapshot(root)
    reader = Reader(root, snapshot, variables)
    pipelines: dict[str, Pipeline] = {}
    for name, folder in _pipeline_folders(snapshot):
        try:
            pipelines[name] = reader.pipeline(folder, problems)
        except ConfigError as error:
            problems.append(error)
    if not pipelines and not problems:
        problems.append(
            ConfigError(
                "there is no pipeline",
                {"missing": "pipeline-config/pipeline.json (or pipeline.yaml)"},
                hint="popbuild init makes a root with an example",
            )
        )
    reader.save_index()
    return Config(root, snapshot, pipelines, variables), problems


def environment_of(root: Root, process: Mapping[str, str]) -> dict[str, str]:
    """The process's environment, with the root's `.env` where the process says nothing."""
    variables = dict(process)
    if root.environment_file.is_file():
        import dotenv

        try:
            found = dotenv.dotenv_values(root.environment_file)
        except UnicodeDecodeError as error:
            raise ConfigError(
                "file is not UTF-8", {"file": ".env", "at": f"byte {error.start}"}
            ) from None
        for key, value in found.items():
            if "\0" in f"{key}{value}":
                raise ConfigError(
                    "a variable cannot hold a zero byte", {"file": ".env", "variable": ascii(key)}
                )
            if value is not None and not variables.get(key):
                variables[key] = value
    return variables


def configured(root: Root) -> str:
    """A digest of all that builds are configured by just now: whether it is another one says
    whether to read it anew. Raises nothing: what is wrong will be told by whoever reads it."""
    try:
        snapshot, problems = take_snapshot(root)
        environment = environment_of(root, os.environ)
    except (PopbuildError, OSError) as error:
        return str(error)
    return jsonio.digest([snapshot.digests, [str(each) for each in problems], environment])


def export_environment(environment: Mapping[str, str]) -> None:
    """Make it this process's own: providers' libraries look for keys there. The process's own
    variables win over .env."""
    for key, value in environment.items():
        if value:
            os.environ[key] = value
        else:
            # CI sets a secret that is not there to nothing: to a library that would be a key.
            os.environ.pop(key, None)


def _pipeline_folders(snapshot: Snapshot) -> list[tuple[str, str]]:
    """Every pipeline as (name, folder relative to pipeline-config/, ending in / unless empty)."""
    found = []
    for path in snapshot.files:
        parts = path.split("/")
        if parts[-1] not in ("pipeline.json", "pipeline.yaml", "pipeline.yml"):
            continue
        if len(parts) == 1:
            found.append((DEFAULT, ""))
        elif len(parts) == 3 and parts[0] == "pipelines":
            found.append((parts[1], f"pipelines/{parts[1]}/"))
    return sorted(set(found))


def check_pipeline_name(config: Config, name: str) -> Pipeline:
    """A pipeline by the name that a person gave; UsageError that names the known ones."""
    if name not in config.pipelines:
        raise UsageError(
            "no such pipeline", unknown("pipeline", name, filter(None, config.pipelines))
        )
    return config.pipelines[name]
