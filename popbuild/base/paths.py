"""Every path under a root, and the rule for names."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path

from popbuild.base.errors import InputError

CURRENT, COMPLETE, REJECTED, PENDING = "current", "complete", "rejected", "pending"
VARIANTS = "variants"  # in pipeline-config/, and where what is kept by a job's ID stands
MAIN_NAME = "base"  # what the main variant is called beside others
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
        values = {kind: ascii(name[:80]), "allowed": problem, **({"file": where} if where else {})}
        raise InputError(f"not a valid name for a {kind}", values)
    return name


def check_file_name(name: str) -> str:
    """The file name, or an InputError that gives the rule."""
    problem = file_name_problem(name)
    if problem:
        values = {"file name": ascii(name[:80]), "allowed": problem}
        raise InputError("not a valid file name", values)
    return name


# Places below a root, of its main variant, and inside a job's directory, as relative POSIX paths.

SEED, STATUS = "seed.json", "tasks-status.json"
RUNS = "runs.jsonl"  # in complete/, and our copy of it
INPUTS = "inputs"  # in a job: the files that its seed names


def seed_place(job: str) -> str:
    return f"seeds/{job}.json"


def pending_place(job: str) -> str:
    return f"pipeline-data/{PENDING}/{job}-seed.json"


def pending_inputs_place(job: str) -> str:
    return f"pipeline-data/{PENDING}/{job}-inputs"


def job_place(state: str, job: str) -> str:
    return f"pipeline-data/{state}/{job}"


def artifact_place(name: str) -> str:
    return f"files/artifacts/{name}"


def letter_place(task: str) -> str:
    return f"tasks/{task}/letter.json"


def items_place(task: str) -> str:
    return f"tasks/{task}/items.jsonl"


def decision_place(task: str) -> str:
    return f"tasks/{task}/decision.json"


def scores_place(task: str) -> str:
    return f"tasks/{task}/scores.json"


def expected_place(job: str) -> str:
    return f"expected/{job}.json"


class _Below:
    """An attribute of a folder: a path below it."""

    def __init__(self, place: str) -> None:
        self._place = place

    def __get__(self, folder: _Folder, kind: type) -> Path:
        return folder.path / self._place


@dataclass(frozen=True)
class _Folder:
    path: Path

    @functools.cached_property
    def _text(self) -> str:
        return str(self.path)

    def at(self, place: str) -> str:
        """The path of a place below, as text: for ten thousand jobs, making a Path for each file
        takes longer than reading the file."""
        return f"{self._text}/{place}"


@dataclass(frozen=True)
class JobFolder(_Folder):
    """The paths inside one job's directory, wherever it stands."""

    seed = _Below(SEED)
    status = _Below(STATUS)
    rejection = _Below("rejection.json")
    seal = _Below("seal.json")
    inputs = _Below(INPUTS)

    @property
    def id(self) -> str:
        return self.path.name

    def files(self, kind: str) -> Path:
        return self.path / f"files/{kind}"

    def artifact(self, name: str) -> Path:
        return self.path / artifact_place(name)

    def task(self, task: str) -> Path:
        return self.path / f"tasks/{task}"

    def letter(self, task: str) -> Path:
        return self.path / letter_place(task)

    def items(self, task: str) -> Path:
        return self.path / items_place(task)

    def decision(self, task: str) -> Path:
        return self.path / decision_place(task)

    def scores(self, task: str) -> Path:
        return self.path / scores_place(task)

    def output(self, task: str) -> Path:
        return self.path / f"tasks/{task}/output.json"

    def execution_logs(self, task: str) -> Path:
        return self.path / f"tasks/{task}/execution-logs.json"


@dataclass(frozen=True)
class Variant:
    """Other settings and files for the same seeds, by its name; "" is the main one. One that was
    made by `--set` has what that said, as JSON, and the name of the variant that it changes. In a
    further `draw` of any, each task's sample has a number that is higher by so much."""

    name: str = ""
    of: str = ""
    said: str = ""
    draw: int = 0

    @property
    def label(self) -> str:
        """What it is called beside others, and what its folders are called: `cheap`, `base@2`."""
        name = self.name or MAIN_NAME
        return f"{name}@{self.draw}" if self.draw else name

    @property
    def apart(self) -> str:
        """Its label, empty for the main one."""
        return self.label if self.name or self.draw else ""


@dataclass(frozen=True)
class Root(_Folder):
    """A folder with seeds/, pipeline-config/, pipeline-data/ and the private .popbuild/; and
    samples/, once a task has drawn a further sample. All that is kept by a job's ID is kept apart
    for each variant; `own` is where the private part of it stands."""

    variant: Variant = Variant()

    seeds = _Below("seeds")
    config = _Below("pipeline-config")
    private = _Below(".popbuild")
    environment_file = _Below(".env")

    @functools.cached_property
    def _apart(self) -> str:
        """What comes between a folder of the root and what is kept by a job's ID."""
        return f"/{VARIANTS}/{self.variant.apart}" if self.variant.apart else ""

    @functools.cached_property
    def data(self) -> Path:
        return self.path / f"pipeline-data{self._apart}"

    @functools.cached_property
    def own(self) -> Path:
        return self.path / f".popbuild{self._apart}"

    @property
    def runs(self) -> Path:
        return self.data / COMPLETE / RUNS

    @property
    def runs_copy(self) -> Path:
        return self.own / RUNS

    def samples_place(self, job: str) -> str:
        # Draws have none of their own: theirs are those of the variant, raised.
        name = self.variant.name
        return f"samples/{VARIANTS}/{name}/{job}.json" if name else f"samples/{job}.json"

    def pending_place(self, job: str) -> str:
        return f"pipeline-data{self._apart}/{PENDING}/{job}-seed.json"

    def pending_inputs_place(self, job: str) -> str:
        return f"pipeline-data{self._apart}/{PENDING}/{job}-inputs"

    def job_place(self, state: str, job: str) -> str:
        return f"pipeline-data{self._apart}/{state}/{job}"

    def seed(self, job: str) -> Path:
        return self.path / seed_place(job)

    def samples(self, job: str) -> Path:
        return self.path / self.samples_place(job)

    def pending(self, job: str) -> Path:
        return self.path / self.pending_place(job)

    def pending_inputs(self, job: str) -> Path:
        return self.path / self.pending_inputs_place(job)

    def job(self, state: str, job: str) -> JobFolder:
        return JobFolder(self.path / self.job_place(state, job))

    def folders(self) -> list[Path]:
        return [self.data / state for state in (PENDING, CURRENT, COMPLETE, REJECTED)]

    def show(self, path: Path) -> str:
        """A path for a person: relative to the root if it lies inside."""
        if path.is_relative_to(self.path):
            return path.relative_to(self.path).as_posix()
        return str(path)
