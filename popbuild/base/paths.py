"""Every path under a root, and the rule for names."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path

from popbuild.base.errors import InputError

CURRENT, COMPLETE, REJECTED, PENDING = "current", "complete", "rejected", "pending"
PACKAGE = Path(__file__).parent.parent
FILE_KINDS = ("artifacts", "logs", "tmp")

NAME_RULE = "letters, digits, - and _, first a letter or digit, at most 64 characters"
FILE_NAME_RULE = "letters, digits, -, _ and ., first a letter or digit, at most 64 characters"
NO_DEVICE = "a name that is not a device name of Windows (con, nul, com1, …)"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")
_DEVICES = frozenset(
    ["con", "prn", "aux", "nul"] + [f"{port}{n}" for port in ("com", "lpt") for n in range(10)]
)


def name_problem(name: str) -> str | None:
    """Why a name cannot be a job's ID or a task's, or None."""
    if not _NAME.match(name):
        return NAME_RULE
    return NO_DEVICE if name.casefold() in _DEVICES else None


def shown_name(name: str) -> str:
    """A name as a listing shows it: control characters are escaped."""
    if name.isprintable():
        return name
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in name
    )


def file_name_problem(name: str) -> str | None:
    """Why a name cannot be a file's, or None."""
    if not _FILE_NAME.match(name) or name.endswith("."):
        return FILE_NAME_RULE
    if name.split(".", maxsplit=1)[0].casefold() in _DEVICES:
        return NO_DEVICE
    return None


def check_name(kind: str, name: str, where: str | None = None) -> str:
    """The name, or an InputError that gives the rule."""
    problem = name_problem(name)
    if problem:
        values: dict[str, object] = {kind: ascii(name[:80]), "allowed": problem}
        if where:
            values["file"] = where
        raise InputError(f"not a valid name for a {kind}", values)
    return name


def check_file_name(name: str) -> str:
    """The file name, or an InputError that gives the rule."""
    problem = file_name_problem(name)
    if problem:
        raise InputError(
            "not a valid file name", {"file name": ascii(name[:80]), "allowed": problem}
        )
    return name


# The places below a root, and those inside a job's directory, relative to it.


def seed_place(job: str) -> str:
    """Where a job's source is, if it has one."""
    return f"seeds/{job}.json"


def samples_place(job: str) -> str:
    """Where the numbers of a job's draws are, if any task is at another than its first."""
    return f"samples/{job}.json"


def pending_place(job: str) -> str:
    """Where a job's seed waits."""
    return f"pipeline-data/{PENDING}/{job}-seed.json"


def job_place(state: str, job: str) -> str:
    """Where a job's directory is."""
    return f"pipeline-data/{state}/{job}"


SEED, STATUS = "seed.json", "tasks-status.json"
RUNS = "runs.jsonl"  # in complete/, and our copy of it


def artifact_place(name: str) -> str:
    """Where an artifact of this name is."""
    return f"files/artifacts/{name}"


def letter_place(task: str) -> str:
    """Where a task's letter is."""
    return f"tasks/{task}/letter.json"


def decision_place(task: str) -> str:
    """Where a person's decision about a task is."""
    return f"tasks/{task}/decision.json"


@dataclass(frozen=True)
class JobFolder:
    """The paths inside one job's directory, wherever it stands."""

    path: Path

    @functools.cached_property
    def _text(self) -> str:
        return str(self.path)

    def at(self, place: str) -> str:
        """The path of a place inside as text: where ten thousand jobs are read, a Path for each
        file would take longer than the file."""
        return f"{self._text}/{place}"

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def seed(self) -> Path:
        return self.path / SEED

    @property
    def status(self) -> Path:
        return self.path / STATUS

    @property
    def rejection(self) -> Path:
        return self.path / "rejection.json"

    @property
    def seal(self) -> Path:
        return self.path / "seal.json"

    def files(self, kind: str) -> Path:
        return self.path / f"files/{kind}"

    def artifact(self, name: str) -> Path:
        return self.path / artifact_place(name)

    def task(self, task: str) -> Path:
        return self.path / f"tasks/{task}"

    def letter(self, task: str) -> Path:
        return self.path / letter_place(task)

    def decision(self, task: str) -> Path:
        return self.path / decision_place(task)

    def output(self, task: str) -> Path:
        return self.path / f"tasks/{task}/output.json"

    def execution_logs(self, task: str) -> Path:
        return self.path / f"tasks/{task}/execution-logs.json"


@dataclass(frozen=True)
class Root:
    """A folder with seeds/, pipeline-config/, pipeline-data/ and the private .popbuild/; samples/,
    once a task has drawn another one."""

    path: Path

    @functools.cached_property
    def _text(self) -> str:
        return str(self.path)

    def at(self, place: str) -> str:
        """The path of a place below as text, as `JobFolder.at`."""
        return f"{self._text}/{place}"

    @property
    def seeds(self) -> Path:
        return self.path / "seeds"

    @property
    def config(self) -> Path:
        return self.path / "pipeline-config"

    @property
    def data(self) -> Path:
        return self.path / "pipeline-data"

    @property
    def private(self) -> Path:
        return self.path / ".popbuild"

    @property
    def runs(self) -> Path:
        return self.data / COMPLETE / RUNS

    @property
    def runs_copy(self) -> Path:
        return self.private / RUNS

    @property
    def environment_file(self) -> Path:
        return self.path / ".env"

    def seed(self, job: str) -> Path:
        return self.path / seed_place(job)

    def samples(self, job: str) -> Path:
        return self.path / samples_place(job)

    def pending(self, job: str) -> Path:
        return self.path / pending_place(job)

    def job(self, state: str, job: str) -> JobFolder:
        return JobFolder(self.path / job_place(state, job))

    def folders(self) -> list[Path]:
        return [self.data / state for state in (PENDING, CURRENT, COMPLETE, REJECTED)]

    def show(self, path: Path) -> str:
        """A path as a person should read it: relative to the root where it lies inside."""
        try:
            return path.relative_to(self.path).as_posix()
        except ValueError:
            return str(path)
