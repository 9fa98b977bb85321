"""What was extracted from a document: its texts, by page, beside the copy of the file in the job.

It is done once, in a process of its own, before the first task of a build starts, and only where a
pipeline looks at files. No command that only looks extracts anything.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from popbuild.base import jsonio
from popbuild.base.errors import ConfigError, InputError
from popbuild.base.limited_process import run_limited
from popbuild.jobs import extract_child
from popbuild.jobs.records import read_json
from popbuild.model.config.config import Config
from popbuild.model.letter import is_sealed, seal
from popbuild.model.pipeline import Pipeline

EXTRACTION_VERSION = 1
EXTRACTED = ".extracted.json"
TIMEOUT_S = 180.0
_MAX_OUTPUT_BYTES = 64 << 20
_LOOKS_AT_FILES = re.compile(rb"\bfiles\b")
_SPACES = re.compile(r"[ \t]+\n")


@dataclass(frozen=True)
class Extraction:
    """The texts of a document's pages, of the bytes with this digest."""

    digest: str
    pages: tuple[str, ...]
    title: str | None
    version: str

    @functools.cached_property
    def body(self) -> dict[str, Any]:
        """As it stands beside the file."""
        return seal(
            {
                "formatVersion": EXTRACTION_VERSION,
                "of": self.digest,
                "title": self.title,
                "pages": list(self.pages),
                "extractor": {"name": extract_child.LIBRARY, "version": self.version},
            }
        )

    @property
    def document(self) -> dict[str, Any]:
        """What it adds to the file's document: no text, where no page has any."""
        pages = [each for each in self.pages if each.strip()]
        titled = {"title": self.title} if self.title else {}
        if not pages:
            return titled
        return {**titled, "text": "\n\n".join(pages), "pages": list(self.pages)}


def read_extraction(path: str | Path, digest: str) -> Extraction | None:
    """What was extracted from the file with this digest; None where it is not there, damaged, or of
    another file."""
    body = read_json(path)
    if (
        not isinstance(body, dict)
        or body.get("formatVersion") != EXTRACTION_VERSION
        or body.get("of") != digest
        or not is_sealed(body)
    ):
        return None
    version = str(body["extractor"]["version"])
    return Extraction(digest, tuple(body["pages"]), body["title"], version)


def is_installed() -> bool:
    """Whether the library of the extra `documents` is there. Imports nothing."""
    return importlib.util.find_spec(extract_child.LIBRARY) is not None


def not_installed(place: str) -> ConfigError:
    return ConfigError(
        "the text of a document needs the extra `documents`",
        {"file": place, "missing": extract_child.LIBRARY},
        hint="pip install 'popbuild[documents]'",
    )


def looks_at_files(config: Config, pipeline: Pipeline) -> bool:
    """Whether templates or code of a pipeline may read the files of a seed: a template may include
    any other, so all of them count."""
    files = config.snapshot.files
    shared = [each for each in files if not each.startswith(("tasks/", "pipelines/"))]
    own = [each for task in pipeline.tasks for each in (*task.files, *task.modules)]
    texts = (
        files.get(each, b"") for each in {*shared, *own} if not each.endswith((".yaml", ".yml"))
    )
    conditions = (task.when.encode() for task in pipeline.tasks)
    return any(map(_LOOKS_AT_FILES.search, itertools.chain(texts, conditions)))


def extract(path: Path, digest: str, media_type: str) -> Extraction:
    """The texts of a document. Blocks for as long as that takes, at most three minutes. Raises
    InputError where it cannot be read."""
    if not is_installed():
        error = not_installed(path.name)
        raise InputError(error.message, {"missing": extract_child.LIBRARY}, error.hint)
    ended = run_limited(
        extract_child,
        (str(path), media_type),
        timeout_s=TIMEOUT_S,
        max_output_bytes=_MAX_OUTPUT_BYTES,
    )
    found = _found(ended.output) if not ended.code and not ended.why else {}
    if "error" in found:
        raise InputError("its text cannot be read", {"found": _plainly(str(found["error"]))})
    if "pages" not in found:
        most = f"{extract_child.MAX_MEMORY_BYTES >> 30} GiB of memory and {TIMEOUT_S:g} s"
        raise InputError(
            "its text cannot be read",
            {"found": ended.trouble, "allowed": most},
        )
    pages = tuple(_SPACES.sub("\n", each.replace("\r\n", "\n")).strip() for each in found["pages"])
    return Extraction(digest, pages, found["title"], found["version"])


def _found(output: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(output)
        jsonio.normal(found, "extracted")
    except (ValueError, InputError, RecursionError):
        return {"error": "a text that is no text"}
    return found if isinstance(found, dict) else {}


def _plainly(error: str) -> str:
    """The library's words, which say everything twice."""
    parts = error.split(": ")
    return ": ".join(dict.fromkeys(parts))[:200]
