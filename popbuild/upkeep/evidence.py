"""What `verify` compares jobs with, outside of their directories. Each thing is read once."""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from popbuild.base import disk, jsonio, tree
from popbuild.base.errors import InputError, PopbuildError
from popbuild.base.paths import COMPLETE, Root
from popbuild.jobs import seals
from popbuild.jobs.config_archive import Objects
from popbuild.jobs.records import read_json
from popbuild.jobs.run_history import Runs
from popbuild.jobs.run_log import RunLine, complete_jobs
from popbuild.llm.store import Store
from popbuild.model.config.snapshot import Snapshot
from popbuild.model.letter import Letter, is_sealed

if TYPE_CHECKING:
    from popbuild.model.schema.schemas import Schema

_SCHEMA = "/output.schema.json"


class Evidence:
    """Configuration files and answers by digest, schemas, and the runs."""

    def __init__(self, root: Root) -> None:
        self.root = root
        self.runs = Runs(root)
        self._objects = Objects(root)
        self._store = Store(root.private / "store")
        self.file = functools.cache(self._file)
        self.answer = functools.cache(self._answer)
        self._schema = functools.cache(self._compiled)

    def renew(self) -> bool:
        """Read the runs again; whether any was added since."""
        before, self.runs = self.runs, self.runs.again()
        return self.runs is not before

    def jobs_made_by(self, line: RunLine) -> list[str]:
        """The complete jobs that are the result of a run, whatever their names."""
        return self._jobs_by_seal.get(str(line.get("seal")), [])

    @functools.cached_property
    def _jobs_by_seal(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for job in complete_jobs(self.root):
            folder = self.root.job(COMPLETE, job)
            body = None if tree.first_link(str(folder.path)) else seals.read_seal(folder)
            if body is not None:
                found.setdefault(seals.promotion_of(body), []).append(job)
        return found

    def _file(self, path: str, digest: str) -> bool | None:
        """Whether the kept copy of a configuration file has the digest; None without a copy."""
        data = self._objects.get(digest)
        # JSON is digested without its formatting, so the path decides the digest too.
        return None if data is None else Snapshot({path: data}).digests[path] == digest

    def _answer(self, digest: str) -> bool | None:
        """Whether the stored answer to a request is intact; None if it is not in the store."""
        path = self.answer_path(digest)
        return _is_answer(read_json(path), digest) if disk.stands(path) else None

    def answer_path(self, digest: str) -> Path:
        return self._store.path(digest)

    def would_fail(self, letter: Letter, artifact: Any) -> str | None:
        """Why a task's artifact, which passed an older gate, would not pass today's; None if it
        would, or if its schema was not kept."""
        path, files = _schema_files(letter)
        if path is None:
            return None
        from popbuild.model.schema import gate

        try:
            schema = self._schema(path, frozenset(files.items()))
            problems = gate.judge_main(artifact, schema, of_items="items" in letter.body)
        except PopbuildError as error:
            return error.as_line(without=())
        more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
        return f"{problems[0]}{more}" if problems else None

    def _compiled(self, path: str, files: frozenset[tuple[str, str]]) -> Schema | None:
        from popbuild.model.schema import schemas

        documents = {}
        for each, digest in files:
            data = self._objects.get(digest)
            if data is None:
                return None
            # No schema refers to a file that is not JSON, though the task depends on it.
            with contextlib.suppress(InputError):
                documents[each] = jsonio.loads(data, each)
        return schemas.compile_task_schema(path, documents, f"pipeline-config/{path}")[0]


def _schema_files(letter: Letter) -> tuple[str | None, dict[str, str]]:
    """The path of the schema that a task was built with, and the digests of its JSON files."""
    files = {
        dependency.removeprefix("file:"): digest
        for dependency, digest in letter.fingerprint.items()
        if dependency.startswith("file:") and dependency.endswith(".json")
        if digest != jsonio.ABSENT
    }
    found = [path for path in files if path.endswith(_SCHEMA)]
    own = [path for path in found if path.endswith(f"/{letter.task}{_SCHEMA}")]
    (path,) = own if len(own) == 1 else found if len(found) == 1 else [None]
    return path, files


def _is_answer(body: Any, digest: str) -> bool:
    return (
        isinstance(body, dict)
        and body.get("digestOfRequest") == digest
        and jsonio.digest(body.get("request")) == digest
        and is_sealed(body)
    )


def bytes_of(path: Path) -> bytes | None:
    """A file's bytes; None where it cannot be read."""
    try:
        return disk.read(path)
    except (OSError, InputError):
        return None
