"""The file API: artifacts, logs and temporary files of a task, under the job's files/."""

from __future__ import annotations

import contextlib
import copy
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from popbuild.base import disk, jsonio
from popbuild.base.errors import InputError, TaskError, no_such
from popbuild.base.paths import FILE_KINDS, check_file_name
from popbuild.base.redact import redact
from popbuild.jobs.open_job import OpenJob
from popbuild.model.pipeline import Task
from popbuild.model.stage_names import is_kept_name

Mode = Literal["replace", "append"]


class Files:
    """What `context.files` is. Every write lands in the job's and the task's index.

    In a new attempt the first append to a file replaces what an earlier attempt left there:
    otherwise a rebuilt log would hold both. Keys are taken out of every text; the main artifact
    comes without any. `artifacts` are the main artifacts of the pipeline, each with its task: they
    belong to their tasks from the start. `inputs` are the files of the seed. Of an item of a task
    with `foreach`, prompts and answers are kept here, for its receipt.
    """

    def __init__(
        self,
        opened: OpenJob,
        task: Task,
        artifacts: Mapping[str, str],
        environment: Mapping[str, str],
        inputs: Mapping[str, Any],
    ) -> None:
        self._inputs = inputs
        self._opened = opened
        self._folder = opened.folder
        self._task = task.id
        self._main = task.artifact
        self._artifacts = {name.casefold(): owner for name, owner in artifacts.items()}
        self._environment = environment
        self._lock = threading.Lock()
        self.is_revoked = False  # a stage outlived its timeout: nothing more is written
        self.written: set[tuple[str, str]] = set()
        self._item: str | None = None
        self._of_items: dict[tuple[str, str], str] = {}  # the item that wrote each file
        self._kept: dict[str, object] = {}

    def write_artifact(self, name: str, value: object, mode: Mode = "replace") -> None:
        """Write a result. The main artifact is written by popbuild itself, from the output."""
        if name.casefold() == self._main.casefold():
            raise TaskError(
                "the main artifact is written from the task's output",
                {"task": self._task, "file": name},
                hint="return the document from parsing or integration, or choose another name",
            )
        self._write("artifacts", name, value, mode)

    def write_log(self, name: str, value: object, mode: Mode = "append") -> None:
        """Write a log, by default appended to what is there. The logs of prompts and answers are
        written by popbuild itself."""
        if isinstance(name, str) and is_kept_name(name):
            raise TaskError(
                "popbuild keeps prompts and answers under such names",
                {"task": self._task, "file": f"files/logs/{name}"},
                hint="choose a name that does not end in -prompt-<number> or -answer-<number>",
            )
        self._write("logs", name, value, mode)

    def write_tmp(self, name: str, value: object, mode: Mode = "replace") -> None:
        """Write something that is not needed after the task."""
        self._write("tmp", name, value, mode)

    def read_artifact(self, name: str) -> str:
        """An artifact's text, of any task. Reading it makes no dependency: read main artifacts
        through `context.artifacts` or `context.read`."""
        return self._read("artifacts", name)

    def read_log(self, name: str) -> str:
        return self._read("logs", name)

    def read_tmp(self, name: str) -> str:
        return self._read("tmp", name)

    def names(self, kind: str) -> list[str]:
        """The names under files/artifacts, files/logs or files/tmp."""
        if kind not in FILE_KINDS:
            raise TaskError("no such kind of file", {"kind": kind, "known": ", ".join(FILE_KINDS)})
        folder = self._folder.files(kind)
        return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))

    def __getitem__(self, name: str) -> Any:
        """A file of the seed by its name there."""
        try:
            return self._inputs[name]
        except KeyError:
            values = no_such("file", str(name), self._inputs, where={"task": self._task})
            raise TaskError("the seed names no such file", values) from None

    def __contains__(self, name: object) -> bool:
        return name in self._inputs

    def __iter__(self) -> Iterator[str]:
        """The names of the seed's files."""
        return iter(self._inputs)

    def __len__(self) -> int:
        return len(self._inputs)

    # What follows is the runner's.

    def keep(self, name: str, value: object) -> None:
        """A prompt or a raw answer, among the task's logs."""
        if self._item is None:
            self._write("logs", name, value, "replace")
        else:
            self._kept[name] = value

    def of_item(self, key: str, inputs: Mapping[str, Any]) -> Files:
        """The same for one item, which may write no file of another."""
        files = copy.copy(self)
        files._item, files._inputs = key, inputs
        files.written, files._kept, files.is_revoked = set(), {}, False
        return files

    def take(self, key: str, files: Iterable[tuple[str, str]]) -> None:
        """Count these files of an item among those of the task."""
        with self._lock:
            for kind, name in files:
                self.written.add((kind, name))
                self._of_items[kind, name.casefold()] = key

    def kept_of_item(self) -> dict[str, list[object]]:
        """The prompts and the answers of an item, in the order in which they were kept."""
        return {
            f"{what}s": [value for name, value in self._kept.items() if f"-{what}-" in name]
            for what in ("prompt", "answer")
        }

    def prepare_main(self, value: object) -> disk.Prepared:
        """The main artifact: sorted, indented, to be durable before the letter vouches for it."""
        with self._place("artifacts", self._main, value) as (path, data):
            return disk.prepare(path, data)

    def revoke(self) -> None:
        with self._lock:
            self.is_revoked = True

    def _write(self, kind: str, name: str, value: object, mode: Mode) -> None:
        if mode not in ("replace", "append"):
            raise TaskError("no such mode", {"mode": mode, "known": "replace, append"})
        with self._place(kind, name, value) as (path, given):
            # Bytes that are not text come back as they were.
            text = redact(given.decode(errors="surrogateescape"), self._environment)
            data = text.encode(errors="surrogateescape")
            if mode == "append" and (kind, name) in self.written:
                disk.append(path, data, sync=False, lines=False)
            else:
                disk.write(path, data, sync=kind == "artifacts")

    @contextlib.contextmanager
    def _place(self, kind: str, name: str, value: object) -> Iterator[tuple[Path, bytes]]:
        """A file's path and bytes, where this task may write it; then it is in the index."""
        try:
            check_file_name(name)
            data = _bytes(value, name)
        except InputError as error:
            raise TaskError(error.message, {"task": self._task, **error.values}) from None
        with self._lock:
            if self.is_revoked:
                raise TaskError("the task outlived its timeout", {"task": self._task, "file": name})
            main = self._artifacts.get(name.casefold()) if kind == "artifacts" else None
            owner = main or self._opened.owner(kind, name)
            if owner not in (None, self._task):
                raise TaskError(
                    "this file belongs to another task",
                    {"file": f"files/{kind}/{name}", "task": self._task, "belongs to": owner},
                )
            other = self._of_items.get((kind, name.casefold()), self._item)
            if other != self._item:
                raise TaskError(
                    "two items write the same file",
                    {
                        "task": self._task,
                        "file": f"files/{kind}/{name}",
                        "items": f"{other}, {self._item}",
                    },
                    hint="put something of the item into the name",
                )
            for other_kind, other in self.written:
                if other_kind == kind and other != name and other.casefold() == name.casefold():
                    raise TaskError(
                        "two files have the same name",
                        {"task": self._task, "files": f"{other}, {name}"},
                        hint="names must differ by more than upper and lower case",
                    )
            yield self._folder.files(kind) / name, data
            if (kind, name) not in self.written:
                self.written.add((kind, name))
                if self._item is not None:
                    self._of_items[kind, name.casefold()] = self._item
                self._opened.add_file(self._task, kind, name)

    def _read(self, kind: str, name: str) -> str:
        try:
            check_file_name(name)
            return disk.read(self._folder.files(kind) / name).decode()
        except InputError as error:
            raise TaskError(error.message, {"task": self._task, **error.values}) from None
        except FileNotFoundError:
            raise TaskError(
                "no such file", {"task": self._task, "file": f"files/{kind}/{name}"}
            ) from None


def _bytes(value: object, name: str) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError:
            raise InputError("text has half a surrogate pair", {"file": name}) from None
    return jsonio.dumps(jsonio.normal(value, name))
