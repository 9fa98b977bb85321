"""Whether artifacts that passed an older gate would pass today's. A stricter gate makes nothing
stale: it only judges later builds, and this says what it would reject.
"""

from __future__ import annotations

import contextlib
from typing import Any

from popbuild.base import jsonio
from popbuild.base.errors import InputError, PopbuildError
from popbuild.jobs.config_archive import Objects
from popbuild.model.letter import Letter

_SCHEMA = "/output.schema.json"


class Recheck:
    """Judges artifacts by the schemas that they were built with, as `objects` keeps them."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._known: dict[tuple[tuple[str, str], ...], Any] = {}

    def would_fail(self, letter: Letter, artifact: Any) -> str | None:
        """Why a task's artifact would not pass today; None if it would, or if its schema was not
        kept."""
        path, files = _schema_files(letter)
        if path is None:
            return None
        from popbuild.model.schema import gate

        try:
            schema = self._schema(path, files)
            problems = gate.judge(artifact, schema) if schema is not None else ()
        except PopbuildError as error:
            return error.as_line(without=())
        more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
        return f"{problems[0]}{more}" if problems else None

    def _schema(self, path: str, files: dict[str, str]) -> Any:
        key = (("", path), *sorted(files.items()))
        if key not in self._known:
            from popbuild.model.schema import schemas

            kept = {each: self._objects.get(digest) for each, digest in files.items()}
            documents = {}
            for each, data in kept.items():
                # No schema refers to a file that is not JSON, though the task depends on it.
                with contextlib.suppress(InputError):
                    documents[each] = jsonio.loads(data or b"", each)
            where = f"pipeline-config/{path}"
            self._known[key] = (
                None
                if None in kept.values()
                else schemas.compile_task_schema(path, documents, where)[0]
            )
        return self._known[key]


def _schema_files(letter: Letter) -> tuple[str | None, dict[str, str]]:
    """The path of the schema that a task was built with, and the digests of its JSON files."""
    files = {
        dependency.removeprefix("file:"): digest
        for dependency, digest in letter.fingerprint.items()
        if dependency.startswith("file:") and dependency.endswith(".json")
    }
    files = {path: digest for path, digest in files.items() if digest != jsonio.ABSENT}
    found = [path for path in files if path.endswith(_SCHEMA)]
    own = [path for path in found if path.endswith(f"/{letter.task}{_SCHEMA}")]
    (path,) = own if len(own) == 1 else found if len(found) == 1 else [None]
    return path, files
