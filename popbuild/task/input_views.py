"""The files of a seed as templates and stages see them.

What is read is noted, to the value: of a text its digest, so that a file that changes and keeps its
text makes no task stale.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from popbuild.base import disk
from popbuild.base.errors import TaskError
from popbuild.base.paths import Root
from popbuild.jobs.fingerprint import Seen
from popbuild.jobs.input_files import InputFile, InputFiles
from popbuild.llm.attachments import attached_part
from popbuild.llm.tokens import count_text
from popbuild.model.input_file import MAX_INPUT_BYTES
from popbuild.model.item import Item
from popbuild.model.problem import MISSING
from popbuild.task.chunks import chunks_of
from popbuild.task.job_views import GroupsView
from popbuild.task.read_trace import ReadTrace
from popbuild.task.reads import ArtifactsView, view

_VALUES = ("text", "pages", "title", "media_type", "tokens", "digest")


class FileView:
    """A file. An image, for one, has no `text`: then the attribute is missing."""

    __slots__ = ("_file", "_trace", "name")

    def __init__(self, file: InputFile, trace: ReadTrace) -> None:
        self.name = file.name
        self._file = file
        self._trace = trace

    @property
    def text(self) -> Any:
        return self._value("text")

    @property
    def pages(self) -> Any:
        """The texts of its pages. A file without pages is one."""
        return self._value("pages")

    @property
    def title(self) -> Any:
        """The first heading of Markdown, else the name of the file without its ending."""
        return self._value("title")

    @property
    def media_type(self) -> Any:
        return self._value("media_type")

    @property
    def digest(self) -> Any:
        """That of its bytes."""
        return self._value("digest")

    @property
    def tokens(self) -> int:
        """About how many tokens its text has. It follows from the text, which counts as read."""
        return count_text(self.text)

    def chunks(self, tokens: int = 1500, overlap: int = 100) -> list[str]:
        """Its text in pieces of at most so many tokens, each with the end of the one before. The
        text counts as read."""
        return list(chunks_of(self.text, tokens, overlap))

    def __str__(self) -> str:
        return str(self.text)

    def lack(self, name: str) -> str:
        """Why there is no such attribute, as an error says it."""
        if name in _VALUES:
            kind = self._file.value("/media_type")
            scan = ", and no page of it has any: a scan?" if self._file.extraction else ""
            return f"files.{self.name} ({self._file.source}) has no {name}: it is {kind}{scan}"
        return f"files.{self.name} has no {name!r}; known: {', '.join(_VALUES)}, chunks()"

    def _value(self, name: str) -> Any:
        document, pointer = f"input:{self.name}", f"/{name}"
        if self._file.is_unread and name not in ("digest", "media_type"):
            raise TaskError(
                "the text of a document was not extracted yet",
                {"file": self._file.place},
                hint="a build does that before its first task",
            )
        value = self._file.value(pointer)
        if isinstance(value, str) and self._trace.knows(document, pointer):
            return value
        self._trace.looked(document, pointer, value)
        if value is MISSING:
            raise AttributeError(self.lack(name))
        return view(value, document, pointer, self._trace)


class FilesView(ArtifactsView):
    """The files of a seed by name. Each is a separate document."""

    __slots__ = ()

    def __init__(self, files: InputFiles, trace: ReadTrace) -> None:
        super().__init__(files, trace)
        self._document = "files"

    def _note_names(self) -> None:
        self._trace.inputs(self._value)

    def _whole(self) -> Any:
        return dict(self.items())

    def _at(self, part: str | int) -> Any:
        if part in self._value:
            self._trace.looked(f"input:{part}", "", self._value[part].document)
            return self._seen(self._value[part])
        self._note_names()
        return MISSING

    def _seen(self, file: InputFile) -> FileView:
        return FileView(file, self._trace)


class OpenFileView(FileView):
    """A file as code sees it, which may read its bytes."""

    __slots__ = ("_root",)

    def __init__(self, file: InputFile, trace: ReadTrace, root: Root) -> None:
        super().__init__(file, trace)
        self._root = root

    @property
    def path(self) -> Path:
        """Where the job has it. The task then depends on its bytes."""
        self._value("digest")
        return self._root.path / self._file.place

    def read(self) -> bytes:
        return disk.read(self.path, max_bytes=MAX_INPUT_BYTES)

    @property
    def part(self) -> Mapping[str, Any]:
        """The part of a message that sends it; its bytes are put in when it is sent."""
        return attached_part(self.name, self.media_type, self.digest)

    def as_json(self) -> Mapping[str, Any]:
        """What a command is given."""
        return {"path": str(self.path), "media_type": self.media_type, "digest": self.digest}


class OpenFilesView(FilesView):
    """The files of a seed as code sees them."""

    __slots__ = ("_root",)

    def __init__(self, files: InputFiles, trace: ReadTrace, root: Root) -> None:
        super().__init__(files, trace)
        self._root = root

    def _seen(self, file: InputFile) -> FileView:
        return OpenFileView(file, self._trace, self._root)


def documents(seen: Seen, trace: ReadTrace) -> dict[str, Any]:
    """What a template sees of a task's inputs, by the name that it has there."""
    return {
        "seed": view(seen.seed, "seed", "", trace),
        "artifacts": ArtifactsView(seen.artifacts, trace, seen.skipped),
        "files": FilesView(seen.files, trace),
        "jobs": GroupsView(seen.jobs, trace),
        "vars": view(seen.vars, "vars", "", trace),
        "config": dict(seen.config),
    }


def item_seen(item: Item | None, trace: ReadTrace) -> dict[str, Any]:
    """What a template sees of the item that its task is run for. Of a text or a number there is no
    view: it counts as read."""
    if item is None:
        return {}
    trace.looked("item", "", item.value)
    return {"item": view(item.value, "item", "", trace), "position": item.position}
