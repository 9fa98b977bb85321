"""Variants as they stand on disk: `pipeline-config/variants/<name>/` has files that stand in the
place of those at the same paths in pipeline-config/, and a variant.yaml with settings.

One that `--set` made has no files of its own: what that said stands with its jobs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from popbuild.base import disk, jsonio, tree
from popbuild.base.errors import ConfigError, UsageError, nearest, no_such
from popbuild.base.paths import VARIANTS, Root, Variant, name_problem
from popbuild.model.config import settings
from popbuild.model.config.documents import ConfigDocuments, not_valid
from popbuild.model.config.rules import OWN_FILES
from popbuild.model.config.snapshot import VARIANT_FILE, Snapshot, config_place
from popbuild.model.pipeline import Pipeline
from popbuild.model.problem import pointer_of

MAIN_NAME = "base"  # what the main one is called beside others
SAID_FILE = "variant.json"  # beside the jobs of one that --set made
MADE = "set-"  # the beginning of its name
_CHARS = 8  # of a digest, in that name


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """An object with what another one says in its place, down to the single values."""
    found = dict(base)
    for key, value in over.items():
        below = found.get(key)
        is_both = isinstance(value, dict) and isinstance(below, dict)
        found[key] = merged(below, value) if is_both and below is not None else value
    return found


def written(root: Root) -> list[str]:
    """The names of the variants that have files, by their folders."""
    return sorted(tree.stems_in(root.config / VARIANTS, ""))


def with_jobs(root: Root) -> list[str]:
    """The names of the variants that have jobs, or had some."""
    return sorted(tree.stems_in(root.path / "pipeline-data" / VARIANTS, ""))


def choose(root: Root, name: str) -> Root:
    """The root as a variant sees it; the root itself for `base`. UsageError for an unknown one."""
    if name == MAIN_NAME:
        return replace(root, variant=Variant())
    there = written(root)
    if name in there and name_problem(name) is None:
        return replace(root, variant=Variant(name))
    made = replace(root, variant=Variant(name))
    if name.startswith(MADE) and name in with_jobs(root):
        said = jsonio.loads(disk.read(made.data / SAID_FILE), root.show(made.data / SAID_FILE))
        return replace(root, variant=Variant(name, said["of"], jsonio.compact(said["set"])))
    if name in with_jobs(root):
        raise UsageError(
            "a variant has results, and its files are gone",
            {"variant": name, "missing": f"pipeline-config/{VARIANTS}/{name}/"},
            hint=f"put them back, or remove {root.show(made.data)}/",
        )
    known = [MAIN_NAME, *there, *(each for each in with_jobs(root) if each.startswith(MADE))]
    hint = f"a variant is a folder pipeline-config/{VARIANTS}/<name>/"
    raise UsageError("no such variant", no_such("variant", name, known), hint)


def made_by(root: Root, said: Mapping[str, Any]) -> Root:
    """The variant of a root, or of one of its variants, that settings make: its name follows from
    what they say."""
    of, text = root.variant.of or root.variant.name, jsonio.compact(jsonio.in_order(dict(said)))
    digest = jsonio.digest([of, said]).removeprefix("sha256:")
    return replace(root, variant=Variant(f"{MADE}{digest[:_CHARS]}", of, text))


def keep_said(root: Root) -> None:
    """Write what made a variant beside its jobs, so that it can be named later."""
    variant = root.variant
    if variant.said:
        said = {"of": variant.of, "set": jsonio.loads(variant.said.encode(), SAID_FILE)}
        path = root.data / SAID_FILE
        if not disk.stands(path):
            disk.make_folder(root.data)
            disk.write(path, jsonio.dumps(said))


def check_names(root: Root) -> list[ConfigError]:
    """What is wrong with the names of the folders."""
    found = []
    for name in written(root):
        where = {"folder": f"pipeline-config/{VARIANTS}/{ascii(name)[1:-1]}/"}
        if name == MAIN_NAME:
            hint = "`base` is the main one, which stands directly in pipeline-config/"
            found.append(ConfigError("a variant cannot have this name", where, hint))
        elif problem := name_problem(name) or (f"not {MADE}…" if name.startswith(MADE) else None):
            values = {**where, "allowed": problem}
            found.append(ConfigError("not a valid name for a variant", values))
    return found


@dataclass(frozen=True)
class VariantSettings:
    """What a variant says besides its files: a model for all tasks, vars, and settings by task.
    `places` say where each task's settings stand, `set_vars` are the vars that `--set` names."""

    model: str | None = None
    vars: Mapping[str, Any] = field(default_factory=dict)
    task_config: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)
    set_vars: frozenset[str] = frozenset()


def settings_of(documents: ConfigDocuments) -> tuple[VariantSettings, list[ConfigError]]:
    """The settings of a snapshot's variant, of its file and then of `--set`; with what is wrong."""
    snapshot = documents.snapshot
    found: dict[str, Any] = {}
    places: dict[str, str] = {}
    own_vars: frozenset[str] = frozenset()
    sources = [(snapshot.settings, config_place(f"{VARIANTS}/{snapshot.name}/{VARIANT_FILE}"))]
    sources.append((snapshot.said.encode() or None, "--set"))
    for data, where in sources:
        if data is None:
            continue
        try:
            body = documents.read_data(data, where, "variant") or {}
        except ConfigError as error:
            return VariantSettings(), [error]
        for task, given in body.get("taskConfig", {}).items():
            places[task] = where
            problems = list(settings.refusals(given, pointer_of(["taskConfig", task])))
            if problems:
                return VariantSettings(), [not_valid(data, where, "variant", problems)]
        own_vars = own_vars or frozenset(body.get("vars", {}) if where != "--set" else ())
        found = merged(found, body)
    config = found.get("taskConfig", {})
    said = jsonio.loads(snapshot.said.encode() or b"{}", "--set")
    set_vars = frozenset(said.get("vars", {})) - own_vars
    return VariantSettings(found.get("model"), found.get("vars", {}), config, places, set_vars), []


def without_effect(
    snapshot: Snapshot,
    variant: VariantSettings,
    pipelines: Iterable[Pipeline],
    known_vars: Collection[str],
) -> Iterator[ConfigError]:
    """Errors for what a variant says that changes nothing. `known_vars` are those of pipelines."""
    for name in sorted(variant.set_vars.difference(known_vars)):
        values = no_such("vars", name, known_vars, where={"file": "--set"})
        yield ConfigError("a variant sets a value that no pipeline's vars have", values)
    tasks = [task for pipeline in pipelines for task in pipeline.tasks]
    names = {task.id for task in tasks}
    for name, file in variant.places.items() if names else ():
        if name not in names:
            where = {"file": file, "at": pointer_of(["taskConfig", name])}
            values = no_such("task", name, names, where=where)
            yield ConfigError("a variant has settings of a task that no pipeline has", values)
    if names:
        yield from _stray_files(snapshot, {task.folder for task in tasks})
    for task in tasks:
        replaced = [path for path in snapshot.variant if path.startswith(f"{task.folder}/")]
        if task.command is not None and replaced:
            values = {"task": task.id, "file": snapshot.where(replaced[0])}
            hint = "let another entry of the registry name the variant's command"
            yield ConfigError("a command runs the files of its own folder only", values, hint)


def _stray_files(snapshot: Snapshot, folders: Collection[str]) -> Iterator[ConfigError]:
    """Errors for files that replace none of the main ones, that no other file of the variant names,
    and that are none that a task has."""
    for path in snapshot.variant:
        folder, _, file = path.rpartition("/")
        is_new_task = not any(each.startswith(f"{folder}/") for each in snapshot.main)
        if path in snapshot.main or (folder in folders and (file in OWN_FILES or is_new_task)):
            continue
        stem = file.removesuffix(".py").encode()
        others = (text for other, text in snapshot.variant.items() if other != path)
        if not any(stem in text for text in others):
            where = {"file": snapshot.where(path), "instead of": config_place(path)}
            close = nearest(path, snapshot.main)
            values = where | ({"did you mean": config_place(close)} if close else {})
            hint = "a file of a variant stands at the path of the file whose place it takes"
            yield ConfigError("a file of a variant replaces nothing", values, hint)
