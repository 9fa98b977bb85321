"""pipeline-config/ as it is at the start of a command: the whole is read once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from popbuild.base import jsonio
from popbuild.base.errors import (
    ConfigError,
    InputError,
    NotOursError,
    PopbuildError,
    UsageError,
    no_such,
)
from popbuild.base.paths import Root
from popbuild.model.config.reader import Reader
from popbuild.model.config.snapshot import Snapshot, take_snapshot
from popbuild.model.pipeline import Pipeline

DEFAULT_PIPELINE = ""  # the name of the pipeline that lies directly in pipeline-config/


@dataclass(frozen=True)
class Config:
    """What a command knows of a root: its snapshot, its pipelines, the environment.

    `environment` is the process's with the root's `.env` below it; keys are read from it and
    written nowhere. `broken` are the pipelines that cannot be used, each with its first error.
    """

    root: Root
    snapshot: Snapshot
    pipelines: Mapping[str, Pipeline]
    environment: Mapping[str, str]
    broken: Mapping[str, ConfigError] = field(default_factory=dict)

    def pipeline_for(self, seed: Mapping[str, Any]) -> Pipeline:
        """The pipeline that a seed names, else the default one. Raises ConfigError for one that
        cannot be used, InputError for a name that there is none of."""
        name = seed.get("pipeline", DEFAULT_PIPELINE)
        if name in self.pipelines:
            return self.pipelines[name]
        if name in self.broken:
            raise self.broken[name]
        if name == DEFAULT_PIPELINE:
            raise ConfigError(
                "there is no default pipeline",
                {"missing": "pipeline-config/pipeline.json (or pipeline.yaml)"},
                hint='a seed may name one of pipeline-config/pipelines/ with "pipeline"',
            )
        raise InputError(
            "no such pipeline",
            no_such("pipeline", name, filter(None, {*self.pipelines, *self.broken})),
        )


@dataclass(frozen=True)
class ConfigReading:
    """Everything that can be read of a configuration, and everything that is wrong with it.

    `in_part` has each pipeline with those of its tasks that can be read. `for_all` are the problems
    that stop every pipeline, and `problems` all of them.
    """

    config: Config
    in_part: Mapping[str, Pipeline]
    for_all: list[ConfigError]
    problems: list[ConfigError]


def load(root: Root, environment: Mapping[str, str] | None = None) -> Config:
    """Read and check the whole configuration of a root. Raises ConfigError for the first error
    that leaves no pipeline whole; of others only those jobs are told that it concerns."""
    reading = read_config(root, environment)
    if reading.for_all:
        raise reading.for_all[0]
    if reading.problems and not reading.config.pipelines:
        raise reading.problems[0]
    return reading.config


def load_to_read(root: Root) -> Config:
    """As `load`, for a command that only looks: pipelines of another program stop no look at what
    it built."""
    reading = read_config(root)
    if reading.for_all:
        raise reading.for_all[0]
    found = reading.config
    if not found.pipelines and not any(map(_is_not_ours, found.broken.values())):
        raise reading.problems[0]
    return found


def _is_not_ours(error: ConfigError) -> bool:
    return isinstance(error, NotOursError)


def read_config(root: Root, environment: Mapping[str, str] | None = None) -> ConfigReading:
    """The configuration as far as it can be read, and every error in it."""
    variables = environment_of(root, os.environ if environment is None else environment)
    snapshot, unread = take_snapshot(root)
    reader = Reader(root, snapshot, variables)
    in_part: dict[str, Pipeline] = {}
    found: dict[str, list[ConfigError]] = {}
    for_all: list[ConfigError] = []
    for path, error in unread.items():
        owner = _owner(path)
        # What lies elsewhere may be a part of any pipeline: a template, a module, a schema.
        (for_all if owner is None else found.setdefault(owner, [])).append(error)
    for name, folder in _pipeline_folders(snapshot):
        problems = found.setdefault(name, [])
        try:
            in_part[name] = reader.pipeline(folder, problems)
        except ConfigError as error:
            problems.append(error)
        if f"{folder}tasks/index.yaml" not in snapshot.files:
            # No registry of ours: what is wrong there is why it cannot be built here.
            problems[:] = [NotOursError(each.message, each.values, each.hint) for each in problems]
    whole = {name: each for name, each in in_part.items() if not found[name]}
    broken = {name: each[0] for name, each in found.items() if each}
    if not (whole or broken or for_all):
        for_all.append(
            ConfigError(
                "there is no pipeline",
                {"missing": "pipeline-config/pipeline.json (or pipeline.yaml)"},
                hint="popbuild init makes a root with an example",
            )
        )
    reader.save_index()
    problems = [*for_all, *(error for each in found.values() for error in each)]
    return ConfigReading(
        Config(root, snapshot, whole, variables, broken), in_part, for_all, problems
    )


def _owner(path: str) -> str | None:
    """The pipeline under pipelines/ that a file belongs to, or None."""
    parts = path.split("/")
    return parts[1] if len(parts) > 2 and parts[0] == "pipelines" else None


def environment_of(root: Root, process: Mapping[str, str]) -> dict[str, str]:
    """The process's environment, with the root's `.env` where the process says nothing."""
    variables = dict(process)
    if root.environment_file.is_file():
        import dotenv

        size = root.environment_file.stat().st_size
        if size > jsonio.MAX_BYTES:
            values = {"found": f"{size:,} bytes", "allowed": f"{jsonio.MAX_BYTES:,} bytes"}
            raise ConfigError("file is too large", {"file": ".env", **values})
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
    """A digest of the configuration as it is now, to see whether to read it again. Raises nothing:
    the next reader reports what is wrong."""
    try:
        snapshot, unread = take_snapshot(root)
        environment = environment_of(root, os.environ)
    except (PopbuildError, OSError) as error:
        return str(error)
    return jsonio.digest([snapshot.digests, list(map(str, unread.values())), environment])


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
            found.append((DEFAULT_PIPELINE, ""))
        elif len(parts) == 3 and parts[0] == "pipelines":
            found.append((parts[1], f"pipelines/{parts[1]}/"))
    return sorted(set(found))


def check_pipeline_name(config: Config, name: str) -> Pipeline:
    """A pipeline by the name that a person gave; UsageError that names the known ones."""
    if name in config.broken:
        raise config.broken[name]
    if name not in config.pipelines:
        raise UsageError(
            "no such pipeline", no_such("pipeline", name, filter(None, config.pipelines))
        )
    return config.pipelines[name]
