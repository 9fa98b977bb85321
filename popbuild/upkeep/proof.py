"""What `verify` found of one job, as data, and the list that its checks add to."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from popbuild.base.paths import JobFolder, Root
from popbuild.base.units import count


@dataclass(frozen=True)
class ProofFinding:
    """An alteration, or a note of something that could not be checked."""

    file: str
    what: str
    altered: bool = True


@dataclass(frozen=True)
class Proof:
    """What was checked of one job, and what was found: `files` are as they were promoted, `answers`
    of its calls are in the store and intact."""

    job: str
    sealed: bool
    tasks: int
    files: int
    answers: int
    findings: tuple[ProofFinding, ...]
    foreign: bool = False  # built by another program: nothing says what it should be

    @property
    def alterations(self) -> list[ProofFinding]:
        return [finding for finding in self.findings if finding.altered]

    @property
    def notes(self) -> list[ProofFinding]:
        return [finding for finding in self.findings if not finding.altered]

    @property
    def summary(self) -> str:
        """`2 alterations`, or `proven: 3 tasks, 12 files, 4 stored answers`."""
        if self.alterations:
            return count(len(self.alterations), "alteration")
        numbers = ((self.tasks, "task"), (self.files, "file"), (self.answers, "stored answer"))
        parts = ", ".join(f"{number} {name}{'s' * (number != 1)}" for number, name in numbers)
        return f"{'nothing to prove' if self.foreign else 'proven'}: {parts}"

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.job,
            "proven": not self.alterations,
            **({"foreign": True} if self.foreign else {}),
            "sealed": self.sealed,
            "tasks": self.tasks,
            "files": self.files,
            "answers": self.answers,
            "findings": [asdict(finding) for finding in self.findings],
        }


class FindingList:
    """The findings about one job. `reported` are the files that an alteration names, relative to
    its directory."""

    def __init__(self, root: Root, folder: JobFolder) -> None:
        self._root = root
        self._folder = folder
        self._found: list[ProofFinding] = []
        self.reported: set[str] = set()

    def altered(self, name: str, what: str) -> None:
        """A file of the job, or with an empty name the job itself."""
        self.reported.add(name)
        self._found.append(ProofFinding(self._root.show(self._folder.path / name), what))

    def note(self, what: str) -> None:
        """Something that could not be checked, or is worth knowing."""
        self.add(ProofFinding(self._root.show(self._folder.path), what, altered=False))

    def add(self, *findings: ProofFinding) -> None:
        self._found += findings

    @property
    def in_order(self) -> tuple[ProofFinding, ...]:
        """Alterations first, by file."""
        return tuple(sorted(self._found, key=lambda each: (not each.altered, each.file)))
