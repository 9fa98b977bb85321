"""Variants as they stand on disk: `pipeline-config/variants/<name>/` has files that stand in the
place of those at the same paths in pipeline-config/, and a variant.yaml with settings.

One that `--set` made has no files of its own: what that said stands with its jobs.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from popbuild.base import disk, jsonio, tree
from popbuild.base.errors import ConfigError, InputError, UsageError, nearest, no_such
from popbuild.base.paths import MAIN_NAME, VARIANTS, Root, Variant, name_problem
from popbuild.model.config import settings
from popbuild.model.config.documents import ConfigDocuments, not_valid
from popbuild.model.config.rules import OWN_FILES
from popbuild.model.config.snapshot import VARIANT_FILE, Snapshot, config_place
from popbuild.model.pipeline import Pipeline
from popbuild.model.problem import pointer_of

SAID_FILE = "variant.json"  # beside the jobs of one that --set made
MADE = "set-"  # the beginning of its name
_CHARS = 8  # of a digest, in that name
MOST_DRAWS = 1000


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """An object with what another one says in its place, down to the single values."""
    found = dict(base)
    for key, value in over.items():
        below = found.get(key)
        if isinstance(value, dict) and isinstance(below, dict):
            value = merged(below, value)  # noqa: PLW2901 - the value that is put there
        found[key] = value
    return found


def written(root: Root) -> list[str]:
    """The names of the variants that have files, by their folders."""
    return _folders(root.config / VARIANTS)


def with_jobs(root: Root) -> list[str]:
    """The names of the variants that have jobs, or had some."""
    return _folders(root.path / "pipeline-data" / VARIANTS)


def _folders(path: Path) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return sorted(it.name for it in entries if it.is_dir() and not it.name.startswith("."))
    except FileNotFoundError:
        return []


def own_files(root: Root) -> list[str]:
    """The files of a variant, by their paths in its folder."""
    folder = root.config / VARIANTS / (root.variant.of or root.variant.name)
    return [place for place, _ in tree.walk_files(folder)] if root.variant.name else []


def choose(root: Root, label: str) -> Root:
    """The root as a variant sees it; the main one's for `base`, and that of a further draw for
    `base@2`. UsageError for an unknown one, or one that cannot be told any more."""
    name, at, number = label.partition("@")
    if at:
        if not (number.isascii() and number.isdecimal() and 0 < int(number) < MOST_DRAWS):
            values = {"variant": label, "allowed": f"{name}@1 to {name}@{MOST_DRAWS - 1}"}
            raise UsageError("no such draw of a variant", values)
        return drawn(choose(root, name), int(number))
    if name == MAIN_NAME:
        return replace(root, variant=Variant())
    there, used = written(root), with_jobs(root)
    found = replace(root, variant=Variant(name))
    if name in there and name_problem(name) is None:
        return found
    if name in used and name.startswith(MADE):
        return replace(root, variant=_as_made(found))
    if name in used:
        raise UsageError(
            "a variant has results, and its files are gone",
            {
                "variant": name,
                "results": f"{root.show(found.data)}/",
                "missing": f"pipeline-config/{VARIANTS}/{name}/",
            },
            hint=f"put them back, or popbuild variant drop {name}",
        )
    known = [MAIN_NAME, *there, *(each for each in used if each.startswith(MADE))]
    hint = f"a variant is a folder pipeline-config/{VARIANTS}/<name>/"
    raise UsageError("no such variant", no_such("variant", name, known), hint)


def drawn(root: Root, number: int) -> Root:
    """The root as a further draw of its variant sees it."""
    return replace(root, variant=replace(root.variant, draw=number))


def _as_made(root: Root) -> Variant:
    """A variant that `--set` made, from what stands beside its jobs."""
    path, name = root.data / SAID_FILE, root.variant.name
    try:
        match jsonio.loads(disk.read(path, max_bytes=jsonio.MAX_BYTES), root.show(path)):
            case {"of": str(of), "set": dict(said)}:
                return Variant(name, of, jsonio.compact(said))
    except (OSError, InputError):
        pass  # as a file that says something else
    raise UsageError(
        "what made a variant cannot be read",
        {"variant": name, "file": root.show(path)},
        hint=f"say it by --set again, or popbuild variant drop {name}",
    )


def made_by(root: Root, said: Mapping[str, Any]) -> Root:
    """The variant of a root, or of one of its variants, that settings make: its name follows from
    what they say."""
    before = root.variant
    of, whole = before.of if before.said else before.name, merged(said_by(before), said)
    digest = jsonio.digest([of, whole]).removeprefix("sha256:")
    text = jsonio.compact(jsonio.in_order(whole))
    return replace(root, variant=Variant(f"{MADE}{digest[:_CHARS]}", of, text, before.draw))


def said_by(variant: Variant) -> dict[str, Any]:
    """What `--set` said to make a variant; empty for one that it did not make."""
    found: dict[str, Any] = jsonio.loads(variant.said.encode(), SAID_FILE) if variant.said else {}
    return found


def keep_said(root: Root) -> None:
    """Write what made a variant beside its jobs, so that it can be named later."""
    root = drawn(root, 0)
    variant = root.variant
    if variant.said and not _stands_as_made(root):
        said = {"of": variant.of, "set": said_by(variant)}
        disk.make_folder(root.data)
        disk.write(root.data / SAID_FILE, jsonio.dumps(said))


def _stands_as_made(root: Root) -> bool:
    try:
        return _as_made(root) == root.variant
    except UsageError:
        return False


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
    file = config_place(f"{VARIANTS}/{snapshot.name}/{VARIANT_FILE}")
    try:
        own = _settings_in(documents, snapshot.settings, file)
        said = _settings_in(documents, snapshot.said.encode(), "--set")
    except ConfigError as error:
        return VariantSettings(), [error]
    found, set_vars = merged(own, said), said.get("vars", {}).keys() - own.get("vars", {}).keys()
    config, by_set = found.get("taskConfig", {}), said.get("taskConfig", {})
    places = {task: "--set" if task in by_set else file for task in config}
    vars_ = found.get("vars", {})
    return VariantSettings(found.get("model"), vars_, config, places, frozenset(set_vars)), []


def _settings_in(documents: ConfigDocuments, data: bytes | None, where: str) -> dict[str, Any]:
    """What a file, or `--set`, says. Raises ConfigError."""
    body: dict[str, Any] = documents.read_data(data, where, "variant") if data else {}
    for task, given in body.get("taskConfig", {}).items():
        problems = list(settings.refusals(given, pointer_of(["taskConfig", task])))
        if problems:
            raise not_valid(data or b"", where, "variant", problems)
    return body


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
