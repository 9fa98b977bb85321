"""The files of pipeline-config/ at one moment, without those that editors and systems leave behind.

Prompts, schemas and code are served from it, so that a file edited while a model answers takes
effect at the next run, and is noticed.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from popbuild.base import disk, jsonio, tree
from popbuild.base.errors import ConfigError, InputError
from popbuild.base.paths import VARIANTS, Root

# What popbuild itself reads: prompts, schemas, pipelines, settings, code.
_OURS = (".md", ".yaml", ".yml", ".py", "schema.json", "pipeline.json")

VARIANT_FILE = "variant.yaml"  # the settings of a variant, in its folder

# Never read, even if a file names them: backups, bytecode, packages.
_UNREAD_FOLDERS = frozenset({"__pycache__", "node_modules"})
_UNREAD = ("~", ".pyc", ".pyo", ".swp", ".swo", ".bak", ".orig", ".tmp")

_LITTER = frozenset(
    {"thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r"}  # of systems
    # vim tests whether it can write into a folder with the first of these names that is free.
    | {str(4913 + 123 * number) for number in range(20)}
)
_LITTER_FOLDERS = frozenset(
    {"__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information"}
)
_LITTER_PATTERN = re.compile(
    r"~\$.*"  # an office's lock
    r"|~wr[a-z]\d+\..*"  # and its temporary files
    r"|.+\.tmp\..+"  # written beside a file, to replace it
    r"|.+(?:___jb_tmp___|___jb_old___|\.crdownload|\.rej|\.sw[a-z]|\.bak|\.orig|\.tmp)"
)


def is_litter(path: str) -> bool:
    """Whether a file is a dependency only if an `include`, `files:` in `task.yaml`, or the task's
    code or command names it. Case is ignored, as by the systems that leave such files."""
    *folders, name = path.casefold().split("/")
    return (
        name in _LITTER
        or not _LITTER_FOLDERS.isdisjoint(folders)
        or _LITTER_PATTERN.fullmatch(name) is not None
    )


@dataclass(frozen=True)
class Snapshot:
    """The files under pipeline-config/ by relative POSIX path, as bytes. Where they are those of
    the variant `name`, its files, `variant`, stand in the places of the main ones, whose paths are
    `main`; `settings` is its variant.yaml, and `said` what `--set` says."""

    files: Mapping[str, bytes]
    main: Collection[str] = ()
    name: str = ""
    variant: Mapping[str, bytes] = field(default_factory=dict)
    settings: bytes | None = None
    said: str = ""

    @functools.cached_property
    def digests(self) -> dict[str, str]:
        """The digest of each file; of JSON whatever its formatting, but not whatever the order of
        its keys: a schema is sent in that order, and a model writes its members in it."""
        return {path: _file_digest(path, data) for path, data in self.files.items()}

    @functools.cached_property
    def look(self) -> list[object]:
        """A value that differs if anything in it does."""
        return [self.digests, self.settings and jsonio.digest_bytes(self.settings), self.said]

    def where(self, path: str) -> str:
        """Where a file stands, relative to the root."""
        return config_place(f"{VARIANTS}/{self.name}/{path}" if path in self.variant else path)

    def text(self, path: str) -> str:
        """A file as text; ConfigError if it is not UTF-8."""
        try:
            return jsonio.utf8(self.files[path], self.where(path))
        except InputError as error:
            raise ConfigError.of(error) from None


def take_snapshot(root: Root) -> tuple[Snapshot, dict[str, ConfigError]]:
    """Every file under pipeline-config/, and an error for each that cannot be read. Hidden files
    and editors' backups are left out; other litter is there only while an editor writes."""
    name = root.variant.of or ("" if root.variant.said else root.variant.name)
    files, unread = _files(root.config, "", _UNREAD_FOLDERS | {VARIANTS})
    if not name:
        return Snapshot(files, said=root.variant.said), unread
    own = f"{VARIANTS}/{name}/"
    over, wrong = _files(root.config / VARIANTS / name, own, _UNREAD_FOLDERS)
    settings = over.pop(VARIANT_FILE, None)
    there = Snapshot({**files, **over}, frozenset(files), name, over, settings, root.variant.said)
    return there, {**{path: it for path, it in unread.items() if path not in over}, **wrong}


def _files(
    folder: Path, below: str, skip: frozenset[str]
) -> tuple[dict[str, bytes], dict[str, ConfigError]]:
    """The files of a folder, which stands `below` pipeline-config/, by their path in it."""
    files: dict[str, bytes] = {}
    unread: dict[str, ConfigError] = {}
    for relative, path in tree.walk_files(folder, skip):
        name = relative.rpartition("/")[2]
        if name.endswith(_UNREAD) or name.startswith("#"):
            continue
        where = {"file": config_place(below + relative)}
        # Data that only a task's code reads may have any size.
        most = jsonio.MAX_BYTES if relative.endswith(_OURS) else None
        try:
            files[relative] = disk.read(path, max_bytes=most)
        except InputError as error:
            unread[relative] = ConfigError(error.message, {**error.values, **where}, error.hint)
        except OSError as error:
            unread[relative] = ConfigError("cannot be read", {**where, "found": error.strerror})
    return files, {path: each for path, each in unread.items() if not is_litter(path)}


def config_place(path: str) -> str:
    """A path of the configuration, relative to the root."""
    return f"pipeline-config/{path}"


def _file_digest(path: str, data: bytes) -> str:
    if path.endswith(".json"):
        try:
            return jsonio.digest_in_order(jsonio.loads(data, path))
        except InputError:
            pass  # the reader that wants JSON reports what is wrong with it
    return jsonio.digest_bytes(data)
