"""Check configuration, seeds and jobs in any state: every problem, not only the first."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from popbuild.base import disk, tree
from popbuild.base.errors import PopbuildError, UsageError
from popbuild.base.paths import COMPLETE, CURRENT, PENDING, REJECTED, JobFolder, Root
from popbuild.jobs import job_ids
from popbuild.jobs.records import is_foreign
from popbuild.jobs.surroundings import Surroundings
from popbuild.model.config import config
from popbuild.model.problem import Problem
from popbuild.model.schema import gate, schemas
from popbuild.upkeep.archive import read, tarball
from popbuild.upkeep.findings import Finding, findings_in_file, findings_in_lines
from popbuild.upkeep.validate_config import config_findings
from popbuild.upkeep.validate_job import job_files, job_findings, seed_findings


@dataclass
class Validation:
    """How many files were checked, and what is wrong with them. `warnings` are what may not be
    meant, and stop nothing."""

    checked: int = 0
    findings: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, found: Iterable[Finding], checked: int = 1) -> None:
        self.checked += checked
        self.findings += found

    def add_judged(self, found: Iterable[tuple[Finding, bool]], checked: int) -> None:
        """Findings, each with whether it is a warning."""
        self.checked += checked
        for finding, is_warning in found:
            (self.warnings if is_warning else self.findings).append(finding)


def validate(root: Root, paths: Iterable[Path] = ()) -> Validation:
    """Check the given files and folders, or everything. UsageError for a path that is not there."""
    started = time.monotonic()
    given = [path.resolve() for path in paths]
    for path in given:
        if not path.exists():
            raise UsageError("no such file or folder", {"path": path})
    reading = config.read_config(root)
    surroundings = None if reading.for_all else Surroundings(reading.config)
    selection, found = _Paths(given), Validation()
    if selection.has(root.config):
        settings = replace(reading.config, pipelines=reading.in_part)
        checked = len(settings.snapshot.files)
        found.add_judged(config_findings(root, settings, reading.problems), checked)
    _check_sources(root, selection, surroundings, found)
    _check_jobs(root, selection, surroundings, found)
    _check_lines(root, selection, found)
    for path in selection.unknown():
        found.add(_in_stranger(root, path, surroundings))
    found.seconds = time.monotonic() - started
    return found


class _Paths:
    """The paths to check: those given, what is below them, and folders above them; or all."""

    def __init__(self, given: Sequence[Path]) -> None:
        self._given = given
        self._met: set[Path] = set()

    @property
    def all(self) -> bool:
        return not self._given

    def has(self, path: Path) -> bool:
        meant = {
            each for each in self._given if path.is_relative_to(each) or each.is_relative_to(path)
        }
        self._met |= meant
        return self.all or bool(meant)

    def unknown(self) -> list[Path]:
        """The given files that are no part of a root."""
        return [path for path in self._given if path not in self._met and not path.is_dir()]


def _check_sources(
    root: Root, selection: _Paths, surroundings: Surroundings | None, found: Validation
) -> None:
    """Seeds, sample numbers, and seeds that wait."""
    for path in sorted(root.seeds.glob("*.json")):
        if selection.has(path):
            found.add(seed_findings(root, path, path.stem, surroundings))
    for path in sorted(root.samples("any").parent.glob("*.json")):
        if selection.has(path):
            found.add(findings_in_file(root, path, "samples"))
    found.add(_alike(root) if selection.all else (), checked=0)
    for path in sorted((root.data / PENDING).glob("*-seed.json")):
        if selection.has(path):
            job = path.name.removesuffix("-seed.json")
            found.add(seed_findings(root, path, job, surroundings))


def _alike(root: Root) -> Iterator[Finding]:
    """Jobs whose IDs differ only by case."""
    seen: dict[str, str] = {}
    for job in job_ids.known_jobs(root):
        other = seen.setdefault(job.casefold(), job)
        if other != job:
            problem = Problem(f"its ID differs from that of {other} only by upper and lower case")
            yield Finding(job_ids.place_of(root, job), problem)


def _check_jobs(
    root: Root, selection: _Paths, surroundings: Surroundings | None, found: Validation
) -> None:
    for state in (CURRENT, COMPLETE, REJECTED):
        for path in sorted((root.data / state).glob("[!.]*/")):
            if not path.is_dir() or path == root.runs or not selection.has(path):
                continue
            folder, link = JobFolder(path), tree.first_link(str(path))
            if link is not None:
                problem = Problem("a symbolic link: nothing of the job was read")
                files, judged = [], iter([(Finding(root.show(Path(link)), problem), False)])
            else:
                files = job_files(folder, state)
                judged = job_findings(root, folder, files, surroundings)
            # What another program wrote is as that program wants it: warnings only.
            foreign = is_foreign(folder)
            judged = ((each, foreign or warns) for each, warns in judged)
            found.add_judged(judged, len(files) or 1)


def _check_lines(root: Root, selection: _Paths, found: Validation) -> None:
    """The files of a root that belong to no job."""
    for path, kind in ((root.runs, "run"), (root.runs_copy, "runs-copy")):
        if selection.has(path) and path.exists():
            found.add(findings_in_lines(root, path, kind))
    unpacked = root.path / tarball.CONTENTS  # tar leaves it there
    if selection.has(unpacked) and unpacked.exists():
        found.add(findings_in_file(root, unpacked, "archive"))


def _in_stranger(root: Root, path: Path, surroundings: Surroundings | None) -> Iterator[Finding]:
    """A file from anywhere: an archive, or else the draft of a seed."""
    if not disk.is_regular(path) or not read.looks_like_archive(path):
        yield from seed_findings(root, path, None, surroundings)
        return
    # It is read in full: every file in it against its digest, and what it says of them.
    where = root.show(path)
    try:
        contents = read.check_archive(path, ())
    except PopbuildError as error:
        yield Finding(where, Problem(error.as_line(without=("file",))))
        return
    for problem in gate.judge(contents.as_json(), schemas.for_format("archive")):
        yield Finding(where, problem)
