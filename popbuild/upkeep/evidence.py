"""What `verify` compares jobs with, outside of their directories. Each thing is read once."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from popbuild.base import disk, jsonio, tree
from popbuild.base.errors import InputError
from popbuild.base.paths import COMPLETE, Root
from popbuild.jobs import seals
from popbuild.jobs.config_archive import Objects
from popbuild.jobs.records import read_json
from popbuild.jobs.run_history import Runs
from popbuild.jobs.run_log import RunLine, complete_jobs
from popbuild.llm.store import Store
from popbuild.model.config.snapshot import Snapshot
from popbuild.model.letter import is_sealed
from popbuild.upkeep.recheck import Recheck


class Evidence:
    """Configuration files and answers by digest, and the runs."""

    def __init__(self, root: Root) -> None:
        self.root = root
        self.runs = Runs(root)
        self._objects = Objects(root)
        self.gates = Recheck(self._objects)
        self._store = Store(root.private / "store")
        self._known: dict[tuple[str, str], bool | None] = {}

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

    def file(self, path: str, digest: str) -> bool | None:
        """Whether the kept copy of a configuration file has the digest; None without a copy."""
        # JSON is digested without its formatting, so the suffix decides the digest too.
        key = (Path(path).suffix, digest)
        if key not in self._known:
            data = self._objects.get(digest)
            right = data is not None and Snapshot({path: data}).digests[path] == digest
            self._known[key] = None if data is None else right
        return self._known[key]

    def answer(self, digest: str) -> bool | None:
        """Whether the stored answer to a request is intact; None if it is not in the store."""
        key = ("answer", digest)
        if key not in self._known:
            path = self.answer_path(digest)
            self._known[key] = _is_answer(read_json(path), digest) if disk.stands(path) else None
        return self._known[key]

    def answer_path(self, digest: str) -> Path:
        return self._store.path(digest)


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
