"""One snapshot read into pipelines, with located errors."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from popbuild.base import disk, jsonio
from popbuild.base.errors import ConfigError, InputError, no_such
from popbuild.base.paths import Root
from popbuild.base.redact import redact
from popbuild.model.config import python_imports, settings
from popbuild.model.config.javascript_map import plain_map, task_folder
from popbuild.model.config.litter import is_litter
from popbuild.model.config.rules import (
    TASK_FILE,
    check_ours,
    check_task,
    check_unique,
    gates_of_others,
    not_registered,
    same_artifacts,
    wrong_needs,
)
from popbuild.model.config.snapshot import Snapshot
from popbuild.model.pipeline import Budget, HumanGate, Limit, Pipeline, Task
from popbuild.model.problem import Problem, pointer_of

_LIMIT_KEYS = ("inFlight", "requestsPerMinute", "tokensPerMinute")  # in the order of Limit's


@dataclasses.dataclass(frozen=True)
class _Entry:
    """A task as a pipeline names it: `place` is where its settings stand in the pipeline's file."""

    id: str
    label: str
    settings: Mapping[str, Any]
    place: str


class Reader:
    """Reads one snapshot. What was parsed and validated once is kept by digest in the index, so
    that a command with nothing to do imports neither YAML nor jsonschema."""

    def __init__(self, root: Root, snapshot: Snapshot, environment: Mapping[str, str]) -> None:
        self._root = root
        self._snapshot = snapshot
        self._environment = environment
        self._model = environment.get("POPBUILD_MODEL") or None
        self._index_path = root.private / "index" / "config.json"
        self._index = self._load_index()
        self._used: dict[str, Any] = {}

    def _load_index(self) -> dict[str, Any]:
        try:
            index = json.loads(self._index_path.read_bytes())
        except (OSError, ValueError):
            return {}
        return index if isinstance(index, dict) else {}

    def save_index(self) -> None:
        """Keep what this command used; a root that cannot be written just pays again."""
        if self._used == self._index:
            return
        try:
            disk.make_folder(self._index_path.parent)
            disk.write(self._index_path, jsonio.dumps(self._used), sync=False)
        except OSError:
            pass

    def document(self, path: str, kind: str) -> Any:
        """A file's value, valid against the schema of its format."""
        from popbuild.model.schema import schemas

        data = self._snapshot.files[path]
        _check_no_key(data, f"pipeline-config/{path}", self._environment)
        key = jsonio.digest_bytes(
            b"\0".join([path.encode(), data, schemas.version().encode(), kind.encode()])
        )
        if key in self._index:
            value = self._index[key]
        else:
            value = parse_and_validate(data, f"pipeline-config/{path}", kind)
        self._used[key] = value
        return value

    def pipeline(self, folder: str, problems: list[ConfigError]) -> Pipeline:
        """The pipeline in a folder, with every task that can be read; what is wrong with the
        others is added to `problems`."""
        path = self._one_of(folder, ("pipeline.json", "pipeline.yaml", "pipeline.yml"))
        document = self.document(path, "pipeline")
        where = f"pipeline-config/{path}"
        entries = _entries(document, where)
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
            registry = self.document(path, "registry")
            check_unique("task", registry, f"pipeline-config/{path}")
            return f"pipeline-config/{path}", registry
        if modules not in self._snapshot.files:
            raise ConfigError(
                "there is no task registry",
                {"missing": f"pipeline-config/{path}"},
                hint="a line `research: ./research` for each task",
            )
        where = f"pipeline-config/{modules}"
        _check_no_key(self._snapshot.files[modules], where, self._environment)
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
        entry: _Entry,
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
            folders = {
                path.removeprefix(f"{base}tasks/").split("/")[0]
                for path in self._snapshot.files
                if path.startswith(f"{base}tasks/") and path.count("/") > base.count("/") + 1
            }
            raise ConfigError(
                "a task's folder is empty or missing",
                no_such("folder", given, folders, where={"task": name, "file": registry}),
            )
        own = self._own_settings(folder)
        artifact, gate = own.get("artifact", f"{name}-output.json"), own.get("gate", {})
        for pattern in own.get("files", ()):
            files.update(self._further_files(pattern, name, f"{folder}/{TASK_FILE}"))
        if command is None:
            self._refuse(own.get("config", {}), f"{folder}/{TASK_FILE}", "/config", "task")
            self._refuse(entry.settings, pipeline, entry.place, "pipeline")
        merged = {**own.get("config", {}), **entry.settings}
        # No setting of a request, and no dependency of an answer that the first model gave.
        fallbacks = tuple(merged.pop("fallbacks", ()))
        if self._model is not None and command is None:
            merged["model"], fallbacks = self._model, ()  # this model, and no other
        # A command is given its settings as they are: what it makes of them is its own affair.
        call_timeout_s = merged.pop("timeout", None) if command is None else None
        if command is None:
            merged = settings.effective(merged.items())
        task = Task(
            id=name,
            label=entry.label,
            folder=folder,
            needs=tuple(own.get("needs", earlier)),
            settings=merged,
            artifact=artifact,
            answer=own.get("answer", "json" if f"{folder}/output.schema.json" in files else "text"),
            refinements=gate.get("refinements", 2),
            timeout_s=float(own.get("timeout", 600)),
            call_timeout_s=call_timeout_s,
            command=command,
            files=files,
            fallbacks=fallbacks,
            human_gate=HumanGate(gate["message"], tuple(gate.get("artifacts", (artifact,))))
            if "message" in gate
            else None,
        )
        check_task(task)
        if task.stages is None or command is not None:
            return task
        modules = python_imports.imported_files(task.stages, self._snapshot.files, self._names_in)
        elsewhere = {path: self._snapshot.digests[path] for path in modules - files.keys()}
        return dataclasses.replace(task, modules=elsewhere)

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
            raise _not_valid(self._snapshot.files[path], f"pipeline-config/{path}", kind, problems)

    def _names_in(self, path: str) -> list[str]:
        """The modules that a Python file names, read once for each content and place of it."""
        data = self._snapshot.files[path]
        parts = [b"imports", python_imports.VERSION.encode(), path.encode(), data]
        key = jsonio.digest_bytes(b"\0".join(parts))
        if key not in self._used:
            found = self._index.get(key)
            self._used[key] = python_imports.names_in_source(data, path) if found is None else found
        names: list[str] = self._used[key]
        return names

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

    def _own_settings(self, folder: str) -> dict[str, Any]:
        path = f"{folder}/{TASK_FILE}"
        if path not in self._snapshot.files:
            return {}
        found: dict[str, Any] = self.document(path, "task")
        return found


def _as_regex(pattern: str) -> str:
    """A pattern of paths: `*` and `?` stay in a name, `**` goes over folders."""
    ours = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    return "".join(ours.get(part) or re.escape(part) for part in parts)


def _check_no_key(data: bytes, where: str, environment: Mapping[str, str]) -> None:
    """Settings go into letters and the store: a key among them would be spread."""
    text = data.decode(errors="replace")
    if redact(text, environment) == text:
        return
    for number, line in enumerate(text.splitlines(), 1):
        clean = redact(line, environment)
        if clean != line:
            raise ConfigError(
                "a key stands in the configuration",
                {"file": where, "at": f"line {number}", "found": clean.strip()},
                hint="keys come from the environment, or from .env at the root",
            )


def parse_and_validate(data: bytes, where: str, kind: str) -> Any:
    from popbuild.model.schema import gate, schemas

    if where.endswith(_YAML):
        from popbuild.model.config import yamlio

        value = yamlio.yaml_value(data, where)
        if value is None and kind == "task":
            value = {}  # a file of comments only
    else:
        try:
            value = jsonio.loads(data, where)
        except InputError as error:
            raise ConfigError(error.message, error.values, error.hint) from None
    problems = gate.judge(value, schemas.for_format(kind))
    if problems:
        raise _not_valid(data, where, kind, problems)
    return value


def _not_valid(data: bytes, where: str, kind: str, problems: Sequence[Problem]) -> ConfigError:
    """What is wrong with a file of a format, each problem with its place, by line in YAML."""
    values: dict[str, object] = {"file": where}
    for number, problem in enumerate(problems, 1):
        place = problem.pointer or "/"
        if where.endswith(_YAML):
            from popbuild.model.config import yamlio

            line = yamlio.yaml_line(data, problem.pointer)
            place = f"line {line}, {place}" if line else place
        values[f"at {number}" if len(problems) > 1 else "at"] = f"{place}: {problem.message}"
    return ConfigError(f"not a valid {_TITLES[kind]}", values)


_YAML = (".yaml", ".yml")
_TITLES = {
    "pipeline": "pipeline",
    "registry": "task registry",
    "task": "task.yaml",
    "seed": "seed",
}


def _entries(document: Mapping[str, Any], where: str) -> list[_Entry]:
    """The tasks of both forms."""
    by_name = document.get("taskConfig", {})
    entries = []
    for number, task in enumerate(document["tasks"]):
        if isinstance(task, str):
            place = pointer_of(["taskConfig", task])
            entries.append(_Entry(task, task, by_name.get(task, {}), place))
        else:
            place = f"/tasks/{number}/config"
            if task["id"] in by_name:
                raise ConfigError(
                    "a task has settings in two places",
                    {"file": where, "at": f"{place} and /taskConfig/{task['id']}"},
                    hint="taskConfig goes with tasks as names",
                )
            label = task.get("name", task["id"])
            entries.append(_Entry(task["id"], label, task.get("config", {}), place))
    names = [entry.id for entry in entries]
    check_unique("task", names, where)
    for name in by_name:
        if name not in names:
            raise ConfigError(
                "taskConfig names a task that the pipeline does not have",
                no_such("task", name, names, where={"file": where, "at": f"/taskConfig/{name}"}),
            )
    return entries


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
