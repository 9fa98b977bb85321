"""One snapshot read into pipelines, with located errors."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from popbuild.base.errors import ConfigError, no_such
from popbuild.model.config import python_imports, score_settings, settings
from popbuild.model.config.documents import ConfigDocuments, not_valid
from popbuild.model.config.javascript_map import plain_map, task_folder
from popbuild.model.config.rules import (
    FILTERS_FILE,
    TASK_FILE,
    TaskEntry,
    check_ours,
    check_task,
    check_unique,
    not_registered,
    task_entries,
    wrong_together,
)
from popbuild.model.config.snapshot import is_litter
from popbuild.model.config.variants import VariantSettings, merged
from popbuild.model.pipeline import Budget, HumanGate, Limit, Pipeline, Task, said_of_task

PIPELINE_FILES = ("pipeline.json", "pipeline.yaml", "pipeline.yml")
_LIMIT_KEYS = ("inFlight", "requestsPerMinute", "tokensPerMinute")  # in the order of Limit's


class Reader:
    """Reads the pipelines of one snapshot; `model` is for all tasks, in place of their own, and
    `variant` has the settings of a variant."""

    def __init__(
        self, documents: ConfigDocuments, model: str | None, variant: VariantSettings
    ) -> None:
        self._snapshot = documents.snapshot
        self._documents = documents
        self._model = model
        self._variant = variant
        self.known_vars: set[str] = set()  # of all pipelines, without the variant's

    def pipeline(self, folder: str, problems: list[ConfigError]) -> Pipeline:
        """The pipeline in a folder, with every readable task; errors in the others are added to
        `problems`."""
        paths = [folder + name for name in PIPELINE_FILES if folder + name in self._snapshot.files]
        path = paths[0]
        if len(paths) > 1:
            raise ConfigError(
                "two files say the same thing",
                {"files": ", ".join(map(self._snapshot.where, paths))},
                hint="keep one of them",
            )
        document = self._documents.read(path, "pipeline")
        where = self._snapshot.where(path)
        entries = task_entries(document, where)
        self.known_vars.update(document.get("vars", {}))
        self._refuse(document.get("defaults", {}), path, "/defaults", "pipeline")
        registry, registered = self._registry(folder)
        tasks: list[Task] = []
        for number, entry in enumerate(entries):
            # Unreadable ones too: a task that needs one of them is not wrong for that.
            earlier = tuple(each.id for each in entries[:number])
            try:
                if entry.id not in registered:
                    raise not_registered(entry.id, registered, where, registry)
                tasks.append(self._task(path, registry, entry, registered[entry.id], earlier))
            except ConfigError as error:
                problems.append(error)
        if len(tasks) == len(entries):
            problems.extend(wrong_together(tasks, where))
        return Pipeline(
            document["name"],
            where,
            tuple(tasks),
            document.get("version"),
            document.get("description"),
            Budget(**document.get("budget", {})),
            {
                name: Limit(*(given.get(key) for key in _LIMIT_KEYS))
                for name, given in document.get("limits", {}).items()
            },
        )

    def _registry(self, folder: str) -> tuple[str, dict[str, Any]]:
        """Where the registry of a folder stands, and its tasks: ours in YAML, or else another
        program's in JavaScript."""
        path = f"{folder}tasks/index.yaml"
        modules = f"{folder}tasks/index.js"
        registry: dict[str, Any]
        if path in self._snapshot.files:
            registry = self._documents.read(path, "registry")
            check_unique("task", registry, self._snapshot.where(path))
            return self._snapshot.where(path), registry
        if modules not in self._snapshot.files:
            raise ConfigError(
                "there is no task registry",
                {"missing": f"pipeline-config/{path}"},
                hint="a line `research: ./research` for each task",
            )
        where = self._snapshot.where(modules)
        self._documents.check_no_key(modules)
        found = plain_map(self._snapshot.text(modules))
        if found is None:
            raise ConfigError(
                "the task registry is JavaScript that is not a plain map of names",
                {"file": where, "missing": f"pipeline-config/{path}"},
                hint="nothing of it is run: write tasks/index.yaml beside it, with a line "
                "`research: ./research` for each task",
            )
        return where, {name: task_folder(module) for name, module in found.items()}

    def _task(
        self,
        pipeline: str,
        registry: str,
        entry: TaskEntry,
        registered: Any,
        earlier: tuple[str, ...],
    ) -> Task:
        name, base = entry.id, pipeline[: pipeline.rfind("/") + 1]
        is_object = isinstance(registered, dict)
        command = tuple(registered["command"]) if is_object else None
        given = registered.get("folder", f"./{name}") if is_object else registered
        folder = _folder(given, f"{base}tasks", registry, name)
        files = self._own_files(folder, command or ())
        if registry.endswith(".js"):
            check_ours(name, folder, files, registry)
        if not files and command is None:
            raise self._no_folder(f"{base}tasks/", given, name, registry)
        own_path = f"{folder}/{TASK_FILE}"
        has_own = own_path in self._snapshot.files
        own: dict[str, Any] = self._documents.read(own_path, "task") if has_own else {}
        config = own.get("config", {})
        scoring = score_settings.scoring_of(self._documents, folder, own)
        files = score_settings.without_code(self._documents, scoring, files, command or ())
        for pattern in own.get("files", ()):
            files.update(self._further_files(pattern, name, own_path))
        if command is None:
            self._refuse(config, own_path, "/config", "task")
            self._refuse(entry.settings, pipeline, entry.place, "pipeline")
        said = {
            "needs": earlier,
            "artifact": f"{name}-output.json",
            "answer": "json" if f"{folder}/output.schema.json" in files else "text",
            **said_of_task(own),
            **self._settings(name, {**config, **entry.settings}, command, entry.defaults),
            "vars": merged(entry.vars, self._variant.vars),
            "scoring": scoring,
        }
        gate = own.get("gate", {})
        if "message" in gate:
            looked_at = tuple(gate.get("artifacts", (said["artifact"],)))
            said["human_gate"] = HumanGate(gate["message"], looked_at)
        task = Task(name, entry.label, folder, command=command, files=files, **said)
        check_task(task)
        return self._with_modules(task)

    def _settings(
        self,
        task: str,
        given: dict[str, Any],
        command: tuple[str, ...] | None,
        defaults: Mapping[str, Any],
    ) -> dict[str, Any]:
        """What a task's merged settings say, by the names of its fields. The pipeline's `defaults`
        are for models: a command is given its own settings alone."""
        if command is None:
            given = {**defaults, **given}
            given |= {} if self._variant.model is None else {"model": self._variant.model}
        given = merged(given, self._variant.task_config.get(task, {}))
        # Neither a setting of a request nor a dependency of the first model's answer.
        fallbacks = tuple(given.pop("fallbacks", ()))
        if command is not None:  # it gets its settings as they are, and may use them as it likes
            return {"settings": given, "fallbacks": fallbacks}
        if self._model is not None:
            given["model"], fallbacks = self._model, ()  # this model, and no other
        call_timeout_s = given.pop("timeout", None)
        accepts = tuple(given.pop("accepts", ()))
        return {
            "settings": settings.effective(given.items()),
            "fallbacks": fallbacks,
            "call_timeout_s": call_timeout_s,
            "accepts": accepts,
        }

    def filters(self) -> dict[str, str]:
        """The digests of filters.py and of what it imports, by path; none without it."""
        if FILTERS_FILE not in self._snapshot.files:
            return {}
        files, names_in = self._snapshot.files, self._documents.names_in
        paths = python_imports.imported_files(FILTERS_FILE, files, names_in)
        return {path: self._snapshot.digests[path] for path in paths}

    def _with_modules(self, task: Task) -> Task:
        """The task with the modules elsewhere that its stages.py imports."""
        if task.stages is None or task.command is not None:
            return task
        files, names_in = self._snapshot.files, self._documents.names_in
        modules = python_imports.imported_files(task.stages, files, names_in) - task.files.keys()
        elsewhere = {path: self._snapshot.digests[path] for path in modules}
        return dataclasses.replace(task, modules=elsewhere)

    def _no_folder(self, tasks: str, given: str, task: str, registry: str) -> ConfigError:
        below = {
            path.removeprefix(tasks).partition("/")[0]
            for path in self._snapshot.files
            if path.startswith(tasks) and "/" in path.removeprefix(tasks)
        }
        values = no_such("folder", given, below, where={"task": task, "file": registry})
        return ConfigError("a task's folder is empty or missing", values)

    def _own_files(self, folder: str, command: tuple[str, ...]) -> dict[str, str]:
        """The digests of the files of a task's folder, without litter that neither another file of
        the folder nor the command names."""
        known = self._snapshot.digests
        paths = [path for path in self._snapshot.files if path.startswith(f"{folder}/")]
        files = {path: known[path] for path in paths if not is_litter(path)}
        texts = [*(self._snapshot.files[each] for each in files), *map(str.encode, command)]
        for path in (each for each in paths if each not in files):
            name = path.rpartition("/")[2]
            # Any text may have a number in it.
            if not name.isdecimal() and any(name.encode() in text for text in texts):
                files[path] = known[path]
        return files

    def _refuse(self, given: Mapping[str, Any], path: str, place: str, kind: str) -> None:
        """ConfigError for settings that no call can have."""
        problems = list(settings.refusals(given, place))
        if problems:
            raise not_valid(self._snapshot.files[path], self._snapshot.where(path), kind, problems)

    def _further_files(self, pattern: str, task: str, where: str) -> dict[str, str]:
        """The files outside its folder that a task names as dependencies."""
        known = self._snapshot.digests
        regex = re.compile(_as_regex(pattern))
        found = {
            path: digest
            for path, digest in known.items()
            if regex.fullmatch(path) and (path == pattern or not is_litter(path))
        }
        if not found:
            places = {"task": task, "file": self._snapshot.where(where)}
            hint = "a path below pipeline-config/, as in shared/x.txt or data/*.csv"
            values = no_such("files", pattern, known, where=places)
            raise ConfigError("a task names a file that is not there", values, hint)
        return found


def _as_regex(pattern: str) -> str:
    """A pattern of paths: `*` and `?` stay within a name, `**` spans folders."""
    ours = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    return "".join(ours.get(part) or re.escape(part) for part in parts)


def _folder(given: str, base: str, registry: str, task: str) -> str:
    """A folder of the registry as a path relative to pipeline-config/; ConfigError if it lies
    outside."""
    if given.endswith((".js", ".mjs", ".ts", ".py")):
        raise ConfigError(
            "the registry names a folder, not a module",
            {"file": registry, "task": task, "found": given},
            hint=f"write `{task}: {PurePosixPath(given).parent}` "
            "and put the code in stages.py there",
        )
    parts: list[str] = base.split("/")
    outside = given.startswith("/")
    for part in PurePosixPath(given).parts:
        if part != "..":
            parts.append(part)
        elif parts:
            parts.pop()
        else:
            outside = True
    if outside or not parts:
        raise ConfigError(
            "a task's folder lies outside pipeline-config/",
            {"file": registry, "task": task, "found": given},
        )
    return "/".join(parts)
