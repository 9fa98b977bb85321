"""The files of a snapshot that have a format of ours, read and valid. Results are kept on disk."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from popbuild.base import disk, jsonio
from popbuild.base.errors import ConfigError, InputError
from popbuild.base.paths import Root
from popbuild.base.redact import redact
from popbuild.model.config import python_functions, python_imports
from popbuild.model.config.snapshot import Snapshot
from popbuild.model.problem import Problem

_YAML = (".yaml", ".yml")
_TITLES = {"registry": "task registry", "task": "task.yaml"}


class ConfigDocuments:
    """The documents of one snapshot. What was parsed and validated once is kept by digest in the
    index, so that a command with nothing to do imports neither YAML nor jsonschema."""

    def __init__(self, root: Root, snapshot: Snapshot, environment: Mapping[str, str]) -> None:
        self.snapshot = snapshot
        self._environment = environment
        self._index_path = root.own / "index" / "config.json"
        self._index: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):
            index = json.loads(self._index_path.read_bytes())
            self._index = index if isinstance(index, dict) else {}
        self._used: dict[str, Any] = {}

    def save_index(self) -> None:
        """Keep what this command used; in a root that cannot be written, the next one reads it all
        again."""
        if self._used != self._index:
            with contextlib.suppress(OSError):
                disk.make_folder(self._index_path.parent)
                disk.write(self._index_path, jsonio.dumps(self._used), sync=False)

    def read(self, path: str, kind: str) -> Any:
        """A file's value, valid against the schema of its format. Raises ConfigError."""
        return self.read_data(self.snapshot.files[path], self.snapshot.where(path), kind)

    def read_data(self, data: bytes, where: str, kind: str) -> Any:
        """The same of a file's bytes, which stands at `where`."""
        from popbuild.model.schema import schemas

        self._check_no_key(data, where)
        key = _key(where.encode(), data, schemas.version().encode(), kind.encode())
        value = self._index[key] if key in self._index else parse_and_validate(data, where, kind)
        self._used[key] = value
        return value

    def names_in(self, path: str) -> list[str]:
        """The modules that a Python file names, read once for each content and place of it."""
        data = self.snapshot.files[path]
        key = _key(b"imports", python_imports.VERSION.encode(), path.encode(), data)
        if key not in self._used:
            found = self._index.get(key)
            self._used[key] = python_imports.names_in_source(data, path) if found is None else found
        names: list[str] = self._used[key]
        return names

    def scores_in(self, path: str) -> dict[str, list[str]]:
        """What a scores.py defines, read once for each content of it."""
        data = self.snapshot.files[path]
        key = _key(b"scores", python_functions.FUNCTIONS_VERSION.encode(), data)
        if key not in self._used:
            found = self._index.get(key)
            found = python_functions.scores_in_source(data) if found is None else found
            self._used[key] = found
        scores: dict[str, list[str]] = self._used[key]
        return scores

    def check_no_key(self, path: str) -> None:
        """ConfigError for a file with a key in it: settings go into letters and the store."""
        self._check_no_key(self.snapshot.files[path], self.snapshot.where(path))

    def _check_no_key(self, data: bytes, file: str) -> None:
        text = data.decode(errors="replace")
        if redact(text, self._environment) == text:
            return
        for number, line in enumerate(text.splitlines(), 1):
            clean = redact(line, self._environment)
            if clean != line:
                raise ConfigError(
                    "a key stands in the configuration",
                    {"file": file, "at": f"line {number}", "found": clean.strip()},
                    hint="keys come from the environment, or from .env at the root",
                )


def _key(*parts: bytes) -> str:
    return jsonio.digest_bytes(b"\0".join(parts))


def parse_and_validate(data: bytes, where: str, kind: str) -> Any:
    """The value of a file of this format. Raises ConfigError."""
    from popbuild.model.schema import gate, schemas

    if where.endswith(_YAML):
        from popbuild.model.config import yamlio

        value = yamlio.yaml_value(data, where)
        if value is None and kind in ("task", "variant"):
            value = {}  # a file of comments only
    else:
        try:
            value = jsonio.loads(data, where)
        except InputError as error:
            raise ConfigError.of(error) from None
    problems = gate.judge(value, schemas.for_format(kind))
    if problems:
        raise not_valid(data, where, kind, problems)
    return value


def not_valid(data: bytes, where: str, kind: str, problems: Sequence[Problem]) -> ConfigError:
    """The error for a file of a format: each problem with its place, in YAML also by line."""
    values: dict[str, object] = {"file": where}
    for number, problem in enumerate(problems, 1):
        place = problem.pointer or "/"
        if where.endswith(_YAML):
            from popbuild.model.config import yamlio

            line = yamlio.yaml_line(data, problem.pointer)
            place = f"line {line}, {place}" if line else place
        values[f"at {number}" if len(problems) > 1 else "at"] = f"{place}: {problem.message}"
    return ConfigError(f"not a valid {_TITLES.get(kind, kind)}", values)
