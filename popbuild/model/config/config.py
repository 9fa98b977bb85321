"""What a command knows of a root: pipeline-config/, read once at its start, and the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from popbuild.base import jsonio
from popbuild.base.errors import ConfigError, InputError, NotOursError, PopbuildError, unknown
from popbuild.base.paths import Root
from popbuild.base.redact import Variables
from popbuild.model.config import variants
from popbuild.model.config.documents import ConfigDocuments
from popbuild.model.config.reader import PIPELINE_FILES, Reader
from popbuild.model.config.snapshot import Snapshot, take_snapshot
from popbuild.model.pipeline import Pipeline

DEFAULT_PIPELINE = ""  # the name of the pipeline that lies directly in pipeline-config/


@dataclass(frozen=True)
class Config:
    """`environment` is the process's with the root's `.env` below it; its keys are written nowhere.
    `broken` are the pipelines that cannot be used, each with its first error, `filters` the digests
    of filters.py and of what it imports."""

    root: Root
    snapshot: Snapshot
    pipelines: Mapping[str, Pipeline]
    environment: Mapping[str, str]
    broken: Mapping[str, ConfigError] = field(default_factory=dict)
    filters: Mapping[str, str] = field(default_factory=dict)

    def pipeline_for(self, seed: Mapping[str, Any]) -> Pipeline:
        """The pipeline that a seed names, else the default one. ConfigError for one that cannot be
        used, InputError for an unknown name."""
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
        raise InputError.of(
            unknown("pipeline", name, filter(None, {*self.pipelines, *self.broken}))
        )


@dataclass(frozen=True)
class ConfigReading:
    """Everything that can be read of a configuration, and everything that is wrong with it.

    `in_part` has each pipeline with its readable tasks. `problems` are all problems, `for_all`
    those that stop every pipeline.
    """

    config: Config
    in_part: Mapping[str, Pipeline]
    for_all: list[ConfigError]
    problems: list[ConfigError]


def load(root: Root, environment: Mapping[str, str] | None = None) -> Config:
    """Read and check the whole configuration of a root. ConfigError if no pipeline is usable;
    otherwise an error concerns only the jobs of its pipeline."""
    return _usable(read_config(root, environment))


def load_to_read(root: Root) -> Config:
    """As `load`, for a command that only reads: results of another program's pipelines can be
    read."""
    reading = read_config(root)
    if any(isinstance(each, NotOursError) for each in reading.config.broken.values()):
        reading.problems.clear()
    return _usable(reading)


def _usable(reading: ConfigReading) -> Config:
    if reading.for_all:
        raise reading.for_all[0]
    if reading.problems and not reading.config.pipelines:
        raise reading.problems[0]
    return reading.config


def read_config(
    root: Root,
    environment: Mapping[str, str] | None = None,
    *,
    snapshot: Snapshot | None = None,
) -> ConfigReading:
    """The configuration as far as it can be read, and every error in it; that of `snapshot`, where
    it is not the one that stands there."""
    variables = environment_of(root, os.environ if environment is None else environment)
    snapshot, unread = take_snapshot(root) if snapshot is None else (snapshot, {})
    documents = ConfigDocuments(root, snapshot, variables)
    variant, wrong = variants.settings_of(documents)
    reader = Reader(documents, variables.get("POPBUILD_MODEL") or None, variant)
    in_part: dict[str, Pipeline] = {}
    found: dict[str, list[ConfigError]] = {}
    for_all = [*variants.check_names(root), *wrong]
    for path, error in unread.items():
        parts = path.split("/")
        # Files elsewhere may be part of any pipeline: a template, a module, a schema.
        is_owned = len(parts) > 2 and parts[0] == "pipelines"
        (found.setdefault(parts[1], []) if is_owned else for_all).append(error)
    for name, folder in _pipeline_folders(snapshot):
        problems = found.setdefault(name, [])
        try:
            in_part[name] = reader.pipeline(folder, problems)
        except ConfigError as error:
            problems.append(error)
        if f"{folder}tasks/index.yaml" not in snapshot.files:
            # Without a registry of ours, its problems are why it cannot be built here.
            problems[:] = map(NotOursError.of, problems)
    for_all += variants.without_effect(snapshot, variant, in_part.values(), reader.known_vars)
    whole = {name: each for name, each in in_part.items() if not found[name]}
    broken = {name: each[0] for name, each in found.items() if each}
    if not (whole or broken or for_all):
        missing = {"missing": "pipeline-config/pipeline.json (or pipeline.yaml)"}
        hint = "popbuild init makes a root with an example"
        for_all.append(ConfigError("there is no pipeline", missing, hint))
    filters = reader.filters()
    documents.save_index()
    problems = [*for_all, *(error for each in found.values() for error in each)]
    return ConfigReading(
        Config(root, snapshot, whole, variables, broken, filters), in_part, for_all, problems
    )


def environment_of(root: Root, process: Mapping[str, str]) -> Variables:
    """The process's environment, and the variables of the root's `.env` that it lacks."""
    variables = Variables(process)
    if root.environment_file.is_file():
        import dotenv

        size = root.environment_file.stat().st_size
        if size > jsonio.MAX_BYTES:
            raise ConfigError.of(jsonio.too_large(".env", f"{size:,}", jsonio.MAX_BYTES))
        try:
            found = dotenv.dotenv_values(root.environment_file)
        except UnicodeDecodeError as error:
            values = {"file": ".env", "at": f"byte {error.start}"}
            raise ConfigError("file is not UTF-8", values) from None
        for key, value in found.items():
            if "\0" in f"{key}{value}":
                values = {"file": ".env", "variable": ascii(key)}
                raise ConfigError("a variable cannot hold a zero byte", values)
            if value is not None and not variables.get(key):
                variables[key] = value
    return variables


def configured(root: Root) -> str:
    """A digest of the configuration as it is now, which differs if it must be read again. Raises
    nothing: the next reader reports what is wrong."""
    try:
        snapshot, unread = take_snapshot(root)
        environment = environment_of(root, os.environ)
    except (PopbuildError, OSError) as error:
        return str(error)
    return jsonio.digest([snapshot.look, list(map(str, unread.values())), environment])


def export_environment(environment: Mapping[str, str]) -> None:
    """Make it this process's environment, where providers' libraries look for keys."""
    for key, value in environment.items():
        if value:
            os.environ[key] = value
        else:
            # CI sets missing secrets to an empty text, which a library would take for a key.
            os.environ.pop(key, None)


def _pipeline_folders(snapshot: Snapshot) -> list[tuple[str, str]]:
    """Every pipeline as (name, folder relative to pipeline-config/, ending in / unless empty)."""
    found = set()
    for path in snapshot.files:
        match path.split("/"):
            case [file] if file in PIPELINE_FILES:
                found.add((DEFAULT_PIPELINE, ""))
            case ["pipelines", name, file] if file in PIPELINE_FILES:
                found.add((name, f"pipelines/{name}/"))
    return sorted(found)


def check_pipeline_name(config: Config, name: str) -> Pipeline:
    """A pipeline by the name that a person gave. UsageError for an unknown one."""
    if name in config.broken:
        raise config.broken[name]
    if name not in config.pipelines:
        raise unknown("pipeline", name, filter(None, config.pipelines))
    return config.pipelines[name]
