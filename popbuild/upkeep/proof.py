"""The proof of one job as `verify` makes it, and its seal: against its files and its last run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from popbuild.base import disk, tree
from popbuild.base.errors import InputError
from popbuild.base.paths import FILE_KINDS, JobFolder
from popbuild.base.units import count
from popbuild.jobs import seals
from popbuild.jobs.promotion import promotion_under_way
from popbuild.jobs.records import is_foreign, read_json
from popbuild.jobs.run_log import RunLine
from popbuild.upkeep.evidence import Evidence, bytes_of

# Folders that every job has, even if they are empty; git keeps no empty folder.
_OWN_FOLDERS = frozenset({"tasks", "files", *(f"files/{kind}" for kind in FILE_KINDS)})


@dataclass(frozen=True)
class ProofFinding:
    """An alteration, or a note of something that could not be checked."""

    file: str
    what: str
    altered: bool = True


class JobProof:
    """What was checked of one job, and what was found. `reported` are the files that an alteration
    names, `vouched` those whose bytes are as the seal says, both relative to its directory; `tasks`
    counts the intact letters. `answers` and `config_files` say of each whether it is intact, None
    where it is not here."""

    def __init__(self, evidence: Evidence, folder: JobFolder) -> None:
        self.evidence = evidence
        self.folder = folder
        self.sealed = False
        self.foreign = False  # built by another program: nothing says what it should be
        self.reported: set[str] = set()
        self.vouched: set[str] = set()
        self.tasks = 0
        self.answers: dict[str, bool | None] = {}
        self.config_files: dict[str, bool | None] = {}
        self._found: list[ProofFinding] = []

    def altered(self, name: str, what: str) -> None:
        """A file of the job, or with an empty name the job itself."""
        self.reported.add(name)
        self._found.append(ProofFinding(self._show(name), what))

    def note(self, what: str) -> None:
        """Something that could not be checked, or is worth knowing."""
        self.add(ProofFinding(self._show(""), what, altered=False))

    def add(self, *findings: ProofFinding) -> None:
        self._found += findings

    def _show(self, name: str) -> str:
        return self.evidence.root.show(self.folder.path / name)

    @property
    def findings(self) -> list[ProofFinding]:
        """Alterations first, by file."""
        return sorted(self._found, key=lambda each: (not each.altered, each.file))

    @property
    def alterations(self) -> list[ProofFinding]:
        return [finding for finding in self.findings if finding.altered]

    @property
    def notes(self) -> list[ProofFinding]:
        return [finding for finding in self.findings if not finding.altered]

    @property
    def intact_answers(self) -> int:
        return sum(each is True for each in self.answers.values())

    @property
    def summary(self) -> str:
        """`2 alterations`, or `proven: 3 tasks, 12 files, 4 stored answers`."""
        if self.alterations:
            return count(len(self.alterations), "alteration")
        files, answers = len(self.vouched), self.intact_answers
        numbers = ((self.tasks, "task"), (files, "file"), (answers, "stored answer"))
        parts = ", ".join(f"{number} {name}{'s' * (number != 1)}" for number, name in numbers)
        return f"{'nothing to prove' if self.foreign else 'proven'}: {parts}"

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.folder.id,
            "proven": not self.alterations,
            **({"foreign": True} if self.foreign else {}),
            "sealed": self.sealed,
            "tasks": self.tasks,
            "files": len(self.vouched),
            "answers": self.intact_answers,
            "findings": [asdict(finding) for finding in self.findings],
        }

    def check_missing(self) -> bool:
        """Whether the job was promoted and has gone since without `clean` or `prune`."""
        runs, job = self.evidence.runs, self.folder.id
        line = runs.last(job)
        if line is None or not runs.is_missed(job):
            return False
        names = self.evidence.jobs_made_by(line)
        stands = f", and its result stands as {', '.join(names)}" if names else ""
        what = f"is missing: the run {line['pipelineId']} promoted it{stands}; if that was meant,"
        self.altered("", f"{what} doit clean --complete {job} says so")
        return True

    def check_result(self, run: object) -> RunLine | None:
        """The line of the run that made this result: it should be the job's last one."""
        runs, job = self.evidence.runs, self.folder.id
        body = seals.read_seal(self.folder)
        promoted = seals.promotion_of(body) if body is not None else None
        line, last = runs.result(promoted, run), runs.last(job)
        if line is None:
            under_way = promotion_under_way(self.evidence.root, job)
            if under_way is not None and under_way.get("seal") == promoted:
                self.note("its promotion was cut short: the next command on it adds its line")
            elif last is None:
                self.note("no line in runs.jsonl: it was promoted elsewhere")
            elif promoted is None and run is None:
                return last  # neither seal nor status: both are reported on their own
            else:
                what = f"is not the result of its last run, {last['pipelineId']}"
                self.altered("", what)
            return None
        made = line["pipelineId"]
        if line.get("id", job) != job:
            what = f"is the result of the job {line['id']}, of its run {made}"
            self.altered("", f"{what}; popbuild run -a {job} makes its own, from the store")
        elif last is not None and last["pipelineId"] != made:
            what = f"is the result of the earlier run {made}, not of the last one"
            self.altered("", f"{what}, {last['pipelineId']}")
        return line

    def check_seal(self, line: RunLine | None) -> list[tuple[str, str]] | None:
        """The files that are not as the seal says, each with what is wrong; None without a usable
        seal."""
        folder = self.folder
        promoted = line.get("seal") if line is not None else None
        if not disk.stands(folder.seal):
            if promoted is not None:
                self.altered("seal.json", "is missing: the job was promoted with it")
            elif is_foreign(folder):
                self.note("another program built it: nothing here says what it should be")
            else:
                self.note("no seal: only letters and artifacts could be checked")
                if not isinstance(read_json(folder.status), dict):
                    self.altered("tasks-status.json", "is missing or damaged")
            return None
        body = read_json(folder.seal)
        if not seals.intact(body) or bytes_of(folder.seal) != seals.seal_bytes(body):
            self.altered("seal.json", "was altered: it does not have its own digest")
            self.note("without its seal only letters and artifacts could be checked")
            return None
        if promoted is not None and seals.promotion_of(body) != promoted:
            self.altered("seal.json", "is not the one that runs.jsonl says was promoted")
        return list(self._differing(body["files"], set(body.get("changing", ()))))

    def _differing(self, files: Mapping[str, str], changing: set[str]) -> Iterator[tuple[str, str]]:
        there = dict(tree.walk_all(self.folder.path))
        there.pop("seal.json", None)
        for name in sorted(there.keys() | files.keys() | changing):
            if name in changing:
                self.note(f"{name} was being changed when a command was killed")
            elif name not in there:
                yield name, "is missing"
            elif name not in files:
                if tree.is_temporary(name):
                    self.note(f"{name} was left by a command that was killed")
                else:
                    yield name, "was added since the promotion"
            elif _digest(there[name]) != files[name]:
                yield name, "was altered since the promotion"
            else:
                self.vouched.add(name)

    def check_empty_folders(self) -> None:
        """A seal names files only, so an empty folder that is not ours was added."""
        for name in tree.empty_folders(self.folder.path):
            if name not in _OWN_FOLDERS:
                self.altered(name, "was added since the promotion")


def _digest(path: Path) -> str | None:
    with contextlib.suppress(OSError, InputError):
        return seals.file_digest(path)
    return None
