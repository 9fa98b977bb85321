"""One snapshot read into pipelines, with located errors."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from popbuild.base.errors import ConfigError, no_such
from popbuild.base.paths import Root
from popbuild.model.config import python_imports, settings
from popbuild.model.config.documents import ConfigDocuments, not_valid
from popbuild.model.config.javascript_map import plain_map, task_folder
from popbuild.model.config.litter import is_litter
from popbuild.model.config.rules import (
    TASK_FILE,
    TaskEntry,
    check_ours,
    check_task,
    check_unique,
    gates_of_others,
    not_registered,
    same_artifacts,
    task_entries,
    wrong_needs,
)
from popbuild.model.config.snapshot import Snapshot
from popbuild.model.pipeline import Budget, HumanGate, Limit, Pipeline, Task

_LIMIT_KEYS = ("inFlight", "requestsPerMinute", "tokensPerMinute")  # in the order of Limit's


class Reader:
    """Reads the pipelines of one snapshot."""

    def __init__(self, root: Root, snapshot: Snapshot, environment: Mapping[str, str]) -> None:
        self._snapshot = snapshot
        self._documents = ConfigDocuments(root, snapshot, environment)
        self._model = environment.get("POPBUILD_MODEL") or None

    def save_index(self) -> None:
        """Keep what was read, for the next command."""
        self._documents.save_index()

    def pipeline(self, folder: str, problems: list[ConfigError]) -> Pipeline:
        """The pipeline in a folder, with every task that can be read; what is wrong with the
        others is added to `problems`."""
        path = self._one_of(folder, ("pipeline.json", "pipeline.yaml", "pipeline.yml"))
        document = self._documents.read(path, "pipeline")
        where = f"pipeline-config/{path}"
        entries = task_entries(document, where)
        registry, registered = self._registry(folder)
        tasks: list[Task] = []
        for number, entry in enumerate(entries):
            # Also those that cannot be read: what needs one of them is not wrong for that.
            earlier = tuple(each.id for each in entries[:number])
            try:
                if entry.id not in registered:
                    raise not_registered(entry.id, registered, where, registry)
                tasks.append(self._task(path, registry, entry, registered[entry.id], earlier))
            except ConfigError as error:
                problems.append(error)
        if len(tasks) == len(entries):
            problems.extend(
                [
                    *wrong_needs(tasks, where),
                    *same_artifacts(tasks, where),
                    *gates_of_others(tasks, where),
                ]
            )
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

    def _one_of(self, folder: str, names: Iterable[str]) -> str:
        found = [folder + name for name in names if folder + name in self._snapshot.files]
        if len(found) > 1:
            raise ConfigError(
                "two files say the same thing",
                {"files": ", ".join(f"pipeline-config/{path}" for path in found)},
                hint="keep one of them",
            )
        return found[0]

    def _registry(self, folder: str) -> tuple[str, dict[str, Any]]:
        """The registry of a folder and where it stands, in YAML or, where there is none, another
        program's in JavaScript."""
        path = f"{folder}tasks/index.yaml"
        modules = f"{folder}tasks/index.js"
        registry: dict[str, Any]
        if path in self._snapshot.files:
            registry = self._documents.read(path, "registry")
            check_unique("task", registry, f"pipeline-config/{path}")
            return f"pipeline-config/{path}", registry
        if modules not in self._snapshot.files:
            raise ConfigError(
                "there is no task registry",
                {"missing": f"pipeline-config/{path}"},
                hint="a line `research: ./research` for each task",
            )
        where = f"pipeline-config/{modules}"
        self._documents.check_no_key(modules)
        found = plain_map(self._snapshot.text(modules))
        if found is None:
            raise ConfigError(
                "the task registry is JavaScript that is no plain map of names",
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
        own = self._own_settings(own_path)
        artifact, gate = own.get("artifact", f"{name}-output.json"), own.get("gate", {})
        for pattern in own.get("files", ()):
            files.update(self._further_files(pattern, name, own_path))
        if command is None:
            self._refuse(own.get("config", {}), own_path, "/config", "task")
            self._refuse(entry.settings, pipeline, entry.place, "pipeline")
        task = Task(
            id=name,
            label=entry.label,
            folder=folder,
            needs=tuple(own.get("needs", earlier)),
            artifact=artifact,
            answer=own.get("answer", "json" if f"{folder}/output.schema.json" in files else "text"),
            refinements=gate.get("refinements", 2),
            timeout_s=float(own.get("timeout", 600)),
            command=command,
            files=files,
            human_gate=HumanGate(gate["message"], tuple(gate.get("artifacts", (artifact,))))
            if "message" in gate
            else None,
            **self._settings({**own.get("config", {}), **entry.settings}, command),
        )
        check_task(task)
        return self._with_modules(task)

    def _settings(self, given: dict[str, Any], command: tuple[str, ...] | None) -> dict[str, Any]:
        """What a task's merged settings say, by the names of its fields."""
        # No setting of a request, and no dependency of an answer that the first model gave.
        fallbacks = tuple(given.pop("fallbacks", ()))
        if command is not None:  # it gets its settings as they are, and may use them as it likes
            return {"settings": given, "fallbacks": fallbacks}
        if self._model is not None:
            given["model"], fallbacks = self._model, ()  # this model, and no other
        call_timeout_s = given.pop("timeout", None)
        return {
            "settings": settings.effective(given.items()),
            "fallbacks": fallbacks,
            "call_timeout_s": call_timeout_s,
        }

    def _with_modules(self, task: Task) -> Task:
        """The task with the files elsewhere that its stages.py imports."""
        if task.stages is None or task.command is not None:
            return task
        known = self._snapshot
        modules = python_imports.imported_files(task.stages, known.files, self._documents.names_in)
        elsewhere = {path: known.digests[path] for path in modules - task.files.keys()}
        return dataclasses.replace(task, modules=elsewhere)

    def _no_folder(self, tasks: str, given: str, task: str, registry: str) -> ConfigError:
        below = [
            path.removeprefix(tasks) for path in self._snapshot.files if path.startswith(tasks)
        ]
        folders = {path.split("/")[0] for path in below if "/" in path}
        return ConfigError(
            "a task's folder is empty or missing",
            no_such("folder", given, folders, where={"task": task, "file": registry}),
        )

    def _own_files(self, folder: str, command: tuple[str, ...]) -> dict[str, str]:
        """The files of a task's folder, with their digests: without litter that neither another
        file of the folder nor the command names."""
        known = self._snapshot.digests
        paths = [path for path in self._snapshot.files if path.startswith(f"{folder}/")]
        litter = [path for path in paths if is_litter(path)]
        files = {path: known[path] for path in paths if path not in litter}
        if litter:
            texts = [*(self._snapshot.files[each] for each in files), *map(str.encode, command)]
            for path in litter:
                name = path.rpartition("/")[2]
                # A number may stand in any text.
                if not name.isdecimal() and any(name.encode() in text for text in texts):
                    files[path] = known[path]
        return files

    def _refuse(self, given: Mapping[str, Any], path: str, place: str, kind: str) -> None:
        """ConfigError for settings that no call can have."""
        problems = list(settings.refusals(given, place))
        if problems:
            raise not_valid(self._snapshot.files[path], f"pipeline-config/{path}", kind, problems)

    def _further_files(self, pattern: str, task: str, where: str) -> dict[str, str]:
        """The files outside of its folder that a task names as its dependencies."""
        known = self._snapshot.digests
        regex = re.compile(_as_regex(pattern))
        found = {
            path: digest
            for path, digest in known.items()
            if regex.fullmatch(path) and (path == pattern or not is_litter(path))
        }
        if not found:
            raise ConfigError(
                "a task names a file that is not there",
                no_such(
                    "files",
                    pattern,
                    known,
                    where={"task": task, "file": f"pipeline-config/{where}"},
                ),
                hint="a path below pipeline-config/, as in shared/x.txt or data/*.csv",
            )
        return found

    def _own_settings(self, path: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if path in self._snapshot.files:
            found = self._documents.read(path, "task")
        return found


def _as_regex(pattern: str) -> str:
    """A pattern of paths: `*` and `?` stay in a name, `**` goes over folders."""
    ours = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    return "".join(ours.get(part) or re.escape(part) for part in parts)


def _folder(given: str, base: str, registry: str, task: str) -> str:
    """A folder of the registry as a path relative to pipeline-config/, and inside it."""
    if given.endswith((".js", ".mjs", ".ts", ".py")):
        raise ConfigError(
            "the registry names a folder, not a module",
            {"file": registry, "task": task, "found": given},
            hint=f"write `{task}: {str(PurePosixPath(given).parent)!s}` "
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
