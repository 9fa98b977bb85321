"""Check configuration, seeds and jobs in any state: every problem, not only the first."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from popbuild.base import disk, tree
from popbuild.base.errors import NotOursError, PopbuildError, UsageError
from popbuild.base.paths import (
    COMPLETE,
    CURRENT,
    PENDING,
    REJECTED,
    VARIANTS,
    JobFolder,
    Root,
    shown_name,
)
from popbuild.base.units import count
from popbuild.jobs import job_ids, row_seeds
from popbuild.jobs.records import is_foreign
from popbuild.jobs.surroundings import Surroundings
from popbuild.model.config import config, variants
from popbuild.model.config.config import Config
from popbuild.model.config.rules import has_ours
from popbuild.model.pipeline import Pipeline, Task
from popbuild.model.problem import Problem
from popbuild.model.schema import gate, schemas
from popbuild.query.describe import jobs_of, names_to_ids
from popbuild.query.preview import template_problems, templates_of, unusable
from popbuild.upkeep import findings
from popbuild.upkeep.archive import age, tarball
from popbuild.upkeep.findings import Finding, findings_of_error, row_findings, seed_findings
from popbuild.upkeep.misspelt import doubts, wrong_filters


@dataclass
class Validation:
    """How many files were checked, those of all variants beside the main one once more for each,
    and what is wrong with them. `warnings` are what may not be meant, and stop nothing."""

    checked: int = 0
    findings: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)
    variants: int = 0

    def add(self, found: Iterable[Finding], checked: int = 1) -> None:
        self.checked += checked
        for finding in found:
            (self.warnings if finding.is_warning else self.findings).append(finding)


def validate(root: Root, paths: Iterable[Path] = ()) -> Validation:
    """Check the given files and folders, or everything. UsageError for a path that is not there."""
    given = [path.resolve() for path in paths]
    for path in given:
        if not path.exists():
            raise UsageError("no such file or folder", {"path": path})
    found = _Validator(root, given).run()
    wrong, doubtful = found.findings, found.warnings
    seen = [each.as_seen(root) for each in wrong], [each.as_seen(root) for each in doubtful]
    return Validation(found.checked, *seen)


def validate_all(root: Root) -> Validation:
    """Check everything, of each variant too. What concerns several of them is found once."""
    whole = validate(root)
    for label in dict.fromkeys([*variants.written(root), *variants.with_jobs(root)]):
        try:
            found = validate(variants.choose(root, label))
        except UsageError as error:
            file = f"pipeline-data/{VARIANTS}/{label}/"
            warning = Finding(file, Problem(error.as_line()), is_warning=True)
            found = Validation(0, [], [warning])
        whole.variants += 1
        for told, more in ((whole.findings, found.findings), (whole.warnings, found.warnings)):
            told += [each for each in more if each not in told]
    return whole


class _Validator:
    """Checks the given paths, what is below them, and folders above them; without any, all."""

    def __init__(self, root: Root, given: Sequence[Path]) -> None:
        self._root = root
        self._given = given
        self._met: set[Path] = set()
        self._found = Validation()
        self._reading = config.read_config(root)
        broken = self._reading.for_all
        self._around = None if broken else Surroundings(self._reading.config)

    def run(self) -> Validation:
        settings = replace(self._reading.config, pipelines=self._reading.in_part)
        found = config_findings(self._root, settings, self._reading.problems)
        self._check(self._root.config, found, len(settings.snapshot.files))
        self._sources()
        self._jobs()
        self._lines()
        for path in self._given:
            if path not in self._met and not path.is_dir():
                self._found.add(self._in_stranger(path))
        return self._found

    def _has(self, path: Path) -> bool:
        meant = {
            each for each in self._given if path.is_relative_to(each) or each.is_relative_to(path)
        }
        self._met |= meant
        return bool(meant or not self._given)

    def _check(self, path: Path, found: Iterable[Finding], checked: int = 1) -> None:
        if self._has(path):
            self._found.add(found, checked)

    def _sources(self) -> None:
        """Seeds, sample numbers, and seeds that wait."""
        root = self._root
        tables = row_seeds.table_files(root)
        for path in sorted(root.seeds.glob("*.json")):
            if root.show(path) not in tables:
                self._check(path, seed_findings(root, path, path.stem, self._around))
        for job, row in sorted(row_seeds.of_rows(root).items()):
            self._check(root.seeds / row.source, row_findings(job, row, self._around))
        for path in sorted(root.samples("any").parent.glob("*.json")):
            self._check(path, findings.findings_in_file(root, path, "samples"))
        self._found.add(() if self._given else self._alike(), checked=0)
        for path in sorted((root.data / PENDING).glob("*-seed.json")):
            job = path.name.removesuffix("-seed.json")
            self._check(path, seed_findings(root, path, job, self._around))

    def _alike(self) -> Iterator[Finding]:
        """Jobs whose IDs differ only by case."""
        seen: dict[str, str] = {}
        for job in job_ids.known_jobs(self._root):
            other = seen.setdefault(job.casefold(), job)
            if other != job:
                what = f"its ID differs from that of {other} only by upper and lower case"
                yield Finding(job_ids.place_of(self._root, job), Problem(what))

    def _jobs(self) -> None:
        for state in (CURRENT, COMPLETE, REJECTED):
            for path in sorted((self._root.data / state).glob("[!.]*/")):
                if path.is_dir() and path != self._root.runs and self._has(path):
                    self._job(JobFolder(path), state)

    def _job(self, folder: JobFolder, state: str) -> None:
        link = tree.first_link(str(folder.path))
        files = findings.job_files(folder, state) if link is None else []
        judged = findings.job_findings(self._root, folder, files, self._around)
        if link is not None:
            problem = Problem("a symbolic link: nothing of the job was read")
            judged = iter([Finding(self._root.show(Path(link)), problem)])
        if is_foreign(folder):  # what another program wrote is as that program wants it
            judged = (replace(each, is_warning=True) for each in judged)
        self._found.add(judged, len(files) or 1)

    def _lines(self) -> None:
        """The files of a root that belong to no job."""
        root = self._root
        for path, kind in ((root.runs, "run"), (root.runs_copy, "runs-copy")):
            if path.exists():
                self._check(path, findings.findings_in_lines(root, path, kind))
        unpacked = root.path / tarball.CONTENTS  # tar leaves it there
        if unpacked.exists():
            self._check(unpacked, findings.findings_in_file(root, unpacked, "archive"))

    def _in_stranger(self, path: Path) -> Iterator[Finding]:
        """A file from anywhere: an archive, or else the draft of a seed."""
        if not disk.is_regular(path) or not tarball.looks_like_archive(path):
            yield from seed_findings(self._root, path, None, self._around)
            return
        # It is read in full: every file in it against its digest, and what it says of them.
        where = self._root.show(path)
        try:
            contents = tarball.check_archive(path, ())
        except PopbuildError as error:
            yield Finding(where, Problem(error.as_line(without=("file",))))
            return
        for problem in gate.judge(contents.as_json(), schemas.for_format("archive")):
            yield Finding(where, problem)


def config_findings(
    root: Root, settings: Config, problems: Sequence[PopbuildError]
) -> Iterator[Finding]:
    """Every finding; `problems` are those met while reading."""
    files = settings.snapshot.files
    # Another program's configuration is not wrong because we cannot build it; one that has tasks
    # of ours is meant to be built.
    ours = has_ours(files)
    for error in problems:
        yield from findings_of_error(error, is_warning=isinstance(error, NotOursError) and not ours)
    yield from _in_tasks(settings)
    yield from wrong_filters(settings)
    # Each once, though pipelines share tasks.
    doubtful = (doubts(settings, each, task) for each, task in _tasks(settings))
    yield from dict.fromkeys(itertools.chain.from_iterable(doubtful))
    for path, data in files.items():
        if age.holds_private_key(data):
            yield Finding(root.show(root.config / path), Problem("a private key lies in the root"))


def _tasks(settings: Config) -> Iterator[tuple[Pipeline, Task]]:
    for pipeline in settings.pipelines.values():
        yield from ((pipeline, task) for task in pipeline.tasks)


def _in_tasks(settings: Config) -> Iterator[Finding]:
    """Schemas that do not compile, templates and code that do not parse."""
    around = Surroundings(settings)
    templates = templates_of(settings)
    tasks: dict[str, Task] = {}
    for _, task in _tasks(settings):
        tasks.setdefault(task.folder, task)  # pipelines may share it
    for task in tasks.values():
        errors: list[PopbuildError] = []
        try:
            around.sent_schema(task)
            for path, problem in around.schema_warnings(task):
                yield Finding(f"pipeline-config/{path}", problem, is_warning=True)
        except PopbuildError as error:
            errors.append(error)
        for each in (
            *errors,
            *template_problems(settings, task),
            *unusable(settings, task, templates),
        ):
            yield from findings_of_error(each)


@dataclass(frozen=True)
class Check:
    """How many jobs and files were checked; the jobs that are not complete and up to date, with
    their descriptions; the frozen tasks of the others; and what `validate` found."""

    jobs: int
    files: int
    stale: list[tuple[str, str]]
    frozen: dict[str, tuple[str, ...]]
    findings: list[Finding]

    @property
    def passed(self) -> bool:
        return not self.stale and not self.findings

    def lines(self) -> Iterator[str]:
        """Everything that is wrong, and a summary."""
        for job, description in self.stale:
            yield f"{job}: {description}"
        for finding in self.findings:
            yield f"{finding.file}: {finding.problem}"
        for job, tasks in self.frozen.items():
            yield f"{job}: frozen: {', '.join(tasks)}"
        jobs, files = count(self.jobs, "job"), count(self.files, "file")
        if self.passed:
            yield f"{jobs} up to date, {files} valid"
        else:
            found = count(len(self.findings), "problem")
            yield f"{len(self.stale)} of {jobs} not up to date, {found} in {files}"

    def as_json(self) -> dict[str, Any]:
        return {
            "passed": self.passed,
            "jobs": self.jobs,
            "checkedFiles": self.files,
            "notUpToDate": [{"id": job, "state": state} for job, state in self.stale],
            "frozen": {job: list(tasks) for job, tasks in self.frozen.items()},
            "problems": [finding.as_json() for finding in self.findings],
        }


def check(root: Root, names: Iterable[str] = ()) -> Check:
    """Whether the named jobs, or all, are complete, up to date and valid."""
    names = list(names)
    ids = names_to_ids(root, names)
    paths: list[Path] = []
    stale = []
    frozen: dict[str, tuple[str, ...]] = {}
    for job in jobs_of(root, ids):
        if names:
            row = row_seeds.of_row(root, job.id)
            source = root.seed(job.id) if row is None else root.seeds / row.source
            paths += [source, root.samples(job.id)]
            paths += [job.folder.path] if job.folder else []
        if not job.up_to_date:
            stale.append((shown_name(job.id), job.description))  # which says what is frozen
        elif job.exam is not None and job.exam.frozen:
            frozen[job.id] = job.exam.frozen
    validation = validate(root, [root.config, *filter(Path.exists, paths)] if names else ())
    return Check(len(ids), validation.checked, stale, frozen, validation.findings)
