"""pipeline-config/ as it was at one moment: all its files.

Prompts, schemas and code are served from it, so that a file edited while a model answers takes
effect at the next run, and is noticed.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

from popbuild.base import disk, jsonio, tree
from popbuild.base.errors import ConfigError, InputError
from popbuild.base.paths import Root
from popbuild.model.config import litter

# What popbuild itself reads: prompts, schemas, pipelines, settings, code.
_OURS = (".md", ".yaml", ".yml", ".py", "schema.json", "pipeline.json")


@dataclass(frozen=True)
class Snapshot:
    """The files under pipeline-config/ by relative POSIX path, as bytes."""

    files: Mapping[str, bytes]

    @functools.cached_property
    def digests(self) -> dict[str, str]:
        """The digest of each file. The formatting of JSON is no change. The order of keys is one: a
        schema is sent in it, and a model writes its members as they come."""
        return {path: _file_digest(path, data) for path, data in self.files.items()}

    def text(self, path: str) -> str:
        """A file as text; ConfigError if it is not UTF-8."""
        try:
            return self.files[path].decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ConfigError(
                "file is not UTF-8",
                {"file": f"pipeline-config/{path}", "at": f"byte {error.start}"},
            ) from None


def take_snapshot(root: Root) -> tuple[Snapshot, dict[str, ConfigError]]:
    """Every file under pipeline-config/, and an error for each that cannot be read. Editors'
    backups and dotfiles are none of ours; other litter is there only while an editor writes."""
    files: dict[str, bytes] = {}
    unread: dict[str, ConfigError] = {}
    for relative, path in tree.walk_files(root.config, litter.FOLDERS):
        if litter.is_unread(relative):
            continue
        where = {"file": f"pipeline-config/{relative}"}
        try:
            files[relative] = disk.read(path, max_bytes=_most(relative))
        except (InputError, OSError) as error:
            if litter.is_litter(relative):
                continue
            if isinstance(error, InputError):
                unread[relative] = ConfigError(error.message, {**error.values, **where}, error.hint)
                continue
            unread[relative] = ConfigError("cannot be read", {**where, "found": error.strerror})
    return Snapshot(files), unread


def _most(path: str) -> int | None:
    """How large a file may be: unlimited where it may be data that only a task's code reads."""
    return jsonio.MAX_BYTES if path.endswith(_OURS) else None


def _file_digest(path: str, data: bytes) -> str:
    if path.endswith(".json"):
        try:
            return jsonio.digest_in_order(jsonio.loads(data, path))
        except InputError:
            pass  # the reader that wants JSON says what is wrong with it
    return jsonio.digest_bytes(data)
