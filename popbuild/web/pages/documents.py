"""The seed, the artifacts and the logs of a job, cut to the room of a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from popbuild.base import disk
from popbuild.base.errors import InputError
from popbuild.base.jsonio import MAX_BYTES
from popbuild.base.paths import INPUTS, Root
from popbuild.jobs.extraction import EXTRACTED
from popbuild.jobs.lookup import Job
from popbuild.jobs.records import read_json
from popbuild.model.input_file import media_type
from popbuild.model.stage_names import is_kept_name
from popbuild.query import describe
from popbuild.web.pages.text_budget import Room, Text, Tree

ARTIFACTS, LOGS = "artifacts", "logs"
_MAX_FILES = 40
_MAX_MARKDOWN = 32 * 1024  # characters: some texts take a parser the square of their length
_MAX_LOG = 16 * 1024


@dataclass(frozen=True)
class Document:
    """The seed, a file of it, an artifact or a log: its file, its task, and its value as JSON,
    Markdown or text; or that it is a picture. `kind` is the one by which `popbuild show` finds the
    file, or None; `size` is in bytes."""

    name: str
    task: str | None
    path: str
    size: int
    kind: str | None
    tree: Tree | None = None
    markdown: Text | None = None
    text: Text | None = None
    is_picture: bool = False


Shown = tuple[tuple[Document, ...], int]  # and how many are left out


class Documents:
    """The files of a job as its status has them."""

    def __init__(self, root: Root, job: Job, status: Mapping[str, Any], room: Room) -> None:
        self._root = root
        self._job = job
        self._status = status
        self._room = room

    def seed_and_artifacts(self) -> Shown:
        """The seed and its files, main artifacts in the pipeline's order, the other artifacts."""
        job, found = self._job, []
        copy = job.folder.seed if job.folder is not None else None
        if copy is not None and disk.is_regular(copy):
            found.append(self._document("seed.json", None, copy, None))
        elif job.bad_seed is not None:
            found += self._bad_seed(job.bad_seed.where)
        elif job.seed is not None:
            found.append(self._document("seed.json", None, self._root.seed(job.id), job.seed))
        found += self._inputs()
        tasks = job.exam.pipeline.tasks if job.exam is not None else ()
        main = {task.artifact: task.id for task in tasks}
        order = [task.id for task in tasks]
        files = self._files(ARTIFACTS)
        files.sort(key=lambda file: (file[0] not in main, [*order, file[1]].index(file[1])))
        values = job.exam.artifacts if job.exam is not None else {}
        for name, task, path in files[:_MAX_FILES]:
            found.append(self._document(name, task, path, values.get(main.get(name, ""))))
        return tuple(found), max(len(files) - _MAX_FILES, 0)

    def _inputs(self) -> Iterator[Document]:
        """The job's copies of the files of its seed: pictures, the beginnings of texts, and of any
        other that it is there."""
        for file in describe.files_of(self._job) if self._job.folder is not None else ():
            if (
                file.kind != INPUTS
                or file.name.endswith(EXTRACTED)
                or not disk.is_regular(file.path)
            ):
                continue
            what = media_type(file.name).partition("/")[0]
            text = self._room.text(_read(file.path), _MAX_LOG) if what == "text" else None
            is_picture = what == "image"
            yield self._made(file.name, None, file.path, INPUTS, text=text, is_picture=is_picture)

    def _bad_seed(self, where: str) -> Iterator[Document]:
        path = Path(self._root.at(where))
        if disk.is_regular(path):
            text = self._room.text(_read(path, MAX_BYTES))
            yield self._made(path.name, None, path, None, text=text)

    def logs(self) -> Shown:
        """What stages wrote; kept prompts and answers are shown with the calls."""
        files = [file for file in self._files(LOGS) if not is_kept_name(file[0])]
        found = [
            self._made(name, task, path, LOGS, text=self._room.text(_read(path), _MAX_LOG))
            for name, task, path in files[:_MAX_FILES]
        ]
        return tuple(found), max(len(files) - _MAX_FILES, 0)

    def _files(self, kind: str) -> list[tuple[str, str, Path]]:
        """The files of a kind that exist, each with its task."""
        if self._job.folder is None:
            return []
        entries = self._status.get("tasks", {}).items()
        owners = {name: task for task, entry in entries for name in entry["files"][kind]}
        return [
            (file.name, owners.get(file.name, ""), file.path)
            for file in describe.files_of(self._job)
            if file.kind == kind and disk.is_regular(file.path)
        ]

    def _document(self, name: str, task: str | None, path: Path, value: object) -> Document:
        if value is None and name.endswith(".json"):
            value = read_json(path)
        answered = value.get("content") if isinstance(value, dict) and len(value) == 1 else None
        if isinstance(answered, str):  # by a task that answers in text
            return self._text(name, task, path, answered)
        kind = ARTIFACTS if task else None
        if value is not None:
            return self._made(name, task, path, kind, tree=self._room.tree(value))
        if name.endswith((".md", ".markdown")):
            return self._text(name, task, path, _read(path))
        return self._made(name, task, path, kind, text=self._room.text(_read(path)))

    def _text(self, name: str, task: str | None, path: Path, text: str) -> Document:
        """A text as Markdown, if it is not too long for that."""
        how = "markdown" if len(text) <= _MAX_MARKDOWN else "text"
        kind = ARTIFACTS if task else None
        return self._made(name, task, path, kind, **{how: self._room.text(text)})

    def _made(
        self, name: str, task: str | None, path: Path, kind: str | None, **content: Any
    ) -> Document:
        size = path.stat().st_size
        return Document(name, task, self._root.show(path), size, kind, **content)


def _read(path: Path, max_bytes: int | None = None) -> str:
    try:
        return disk.read(path, max_bytes=max_bytes).decode(errors="replace")
    except InputError as error:
        return error.as_line()
