"""The files that a seed names: the rules for their names and paths, and what each is as a document.

    {"name": "Q3", "files": {"report": "inputs/q3.md"}, "data": {}}

Reads no files. A document has `digest` (of the bytes), `media_type`, `title`, and, where the file
has a text, `text` and `pages`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from popbuild.base import jsonio
from popbuild.base.paths import INPUTS
from popbuild.model.problem import Problem, pointer_of

MAX_INPUT_BYTES = 64 << 20
MAX_INPUTS = 100  # of one seed
_RUN_BY_TOOLS = frozenset({"dodo.py", "pyproject.toml", "archive.json"})
MAX_PATH = 1_000  # characters
PATH_RULE = (
    "a path below the root with / between its parts, none of which is hidden, empty, . or .., and "
    "not in seeds/, samples/, pipeline-config/ or pipeline-data/"
)
# What stands there is not for the author of a seed, who may be a stranger.
_OWN_FOLDERS = frozenset({"seeds", "samples", "pipeline-config", "pipeline-data"})
OCTETS = "application/octet-stream"
_ENDING = re.compile(r"\.[a-z0-9]{1,12}\Z")
_TEXTS = {
    ".txt": "text/plain",
    ".text": "text/plain",
    ".log": "text/plain",
    ".md": "text/markdown",
    ".markdown": "text/markdown",
    ".csv": "text/csv",
    ".tsv": "text/tab-separated-values",
}
# Kinds without a text, each with what such a file begins with.
_MEDIA: dict[str, tuple[str, tuple[bytes, ...]]] = {
    ".png": ("image/png", (b"\x89PNG\r\n\x1a\n",)),
    ".jpg": ("image/jpeg", (b"\xff\xd8\xff",)),
    ".jpeg": ("image/jpeg", (b"\xff\xd8\xff",)),
    ".gif": ("image/gif", (b"GIF87a", b"GIF89a")),
    ".webp": ("image/webp", (b"RIFF",)),
    ".mp3": ("audio/mpeg", (b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2")),
    ".wav": ("audio/wav", (b"RIFF",)),
}
_ZIP = b"PK\x03\x04"
_OFFICE = "application/vnd.openxmlformats-officedocument"
# Documents, whose text is extracted (jobs/extraction.py), each with what it begins with.
_DOCUMENTS: dict[str, tuple[str, tuple[bytes, ...]]] = {
    ".pdf": ("application/pdf", (b"%PDF-",)),
    ".docx": (f"{_OFFICE}.wordprocessingml.document", (_ZIP,)),
    ".xlsx": (f"{_OFFICE}.spreadsheetml.sheet", (_ZIP,)),
    ".pptx": (f"{_OFFICE}.presentationml.presentation", (_ZIP,)),
    ".html": ("text/html", (b"",)),
    ".htm": ("text/html", (b"",)),
}
_STARTS = _MEDIA | _DOCUMENTS
_BOMS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+(.+?)[ \t]*#*[ \t]*$", re.MULTILINE)


def is_document(place: str) -> bool:
    """Whether the text of a file has to be extracted, by its path."""
    return suffix_of(place) in _DOCUMENTS


class BadInput(Exception):
    """A file that is not what its name says, or cannot be read as such; the message is a phrase."""


def named_inputs(seed: Any) -> dict[str, str]:
    """The files of a seed: paths by name. None where it has none, or not in this shape."""
    files = seed.get("files") if isinstance(seed, dict) else None
    if not isinstance(files, dict) or not all(isinstance(each, str) for each in files.values()):
        return {}
    return files


def input_place(name: str, source: str) -> str:
    """Where a file stands in a job: `inputs/report.md`, with the ending of its source."""
    return f"{INPUTS}/{input_name(name, source)}"


def input_name(name: str, source: str) -> str:
    return name + suffix_of(source)


def suffix_of(source: str) -> str:
    """The ending of a path in lower case, with its dot; empty for one that tells nothing."""
    ending = PurePosixPath(source).suffix.lower()
    return ending if _ENDING.match(ending) else ""


def input_problems(seed: Mapping[str, Any]) -> Iterator[Problem]:
    """What no schema says of the files of a seed: names that differ, paths that stay inside."""
    seen: dict[str, str] = {}
    for name, source in named_inputs(seed).items():
        at = pointer_of(["files", name])
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            yield Problem(f"differs from {other} only by upper and lower case", at)
        if not is_input_path(source):
            yield Problem(f"{source[:80]!r} is not a path that a seed may name: {PATH_RULE}", at)


def is_input_path(source: str) -> bool:
    """Whether a path keeps PATH_RULE. Hidden files hold keys and what is private to popbuild."""
    parts = source.split("/")
    return (
        source.isprintable()
        and not any(part.startswith(".") or not part for part in parts)
        and parts[0].casefold() not in _OWN_FOLDERS
    )


def may_be_backed_up(place: str) -> bool:
    """Whether a backup may have this file because a seed names it: none that a tool would run."""
    return is_input_path(place) and place.casefold() not in _RUN_BY_TOOLS


def media_type(source: str) -> str:
    """The media type that a path's ending stands for; of an unknown one, bytes of any kind."""
    ending = suffix_of(source)
    return _TEXTS.get(ending) or _STARTS.get(ending, (OCTETS, ()))[0]


def document_of(data: bytes, place: str) -> dict[str, Any]:
    """A file as a document, by its place in its job. BadInput where it is not what its ending
    says."""
    ending, kind = suffix_of(place), media_type(place)
    found: dict[str, Any] = {
        "digest": jsonio.digest_bytes(data),
        "media_type": kind,
        "title": PurePosixPath(place).stem,
    }
    if ending in _STARTS:
        if not data.startswith(_STARTS[ending][1]):
            begin = f"it begins with {data[:8]!r}" if data else "it is empty"
            raise BadInput(f"not {kind}, as its name says: {begin}")
        return found
    if ending not in _TEXTS and b"\0" in data:
        return found
    try:
        text = text_of(data)
    except BadInput:
        if ending in _TEXTS:
            raise
        return found
    kind = "text/plain" if kind == OCTETS else kind
    heading = _HEADING.search(text) if kind == "text/markdown" else None
    title = heading[1] if heading else found["title"]
    return {**found, "media_type": kind, "title": title, "text": text, "pages": [text]}


def text_of(data: bytes) -> str:
    """The text of a file: UTF-8, or UTF-16 with its mark, and lines that end as on Unix, so that a
    checkout on another system is the same text. BadInput for what is no text."""
    encoding = _BOMS.get(data[:2], "utf-8-sig")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise BadInput(
            f"not a text in {encoding.removesuffix('-sig')}: byte {error.start}"
        ) from None
    if "\0" in text:
        raise BadInput(f"not a text: character {text.index(chr(0)) + 1} is NUL")
    return text.replace("\r\n", "\n").replace("\r", "\n")
