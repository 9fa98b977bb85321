"""Whether all is up to date and valid: `popbuild check`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from popbuild.base.paths import (
    Root,
    shown_name,
)
from popbuild.base.units import count
from popbuild.query.describe import jobs_of, names_to_ids

if TYPE_CHECKING:
    from popbuild.upkeep.findings import Finding


@dataclass(frozen=True)
class Check:
    """How many jobs and files were looked at; jobs that are not complete and up to date, with
    their descriptions; the frozen tasks of those that are; and what `validate` found."""

    jobs: int
    files: int
    stale: list[tuple[str, str]]
    frozen: dict[str, tuple[str, ...]]
    findings: list[Finding]

    @property
    def passed(self) -> bool:
        return not self.stale and not self.findings

    def lines(self) -> Iterator[str]:
        """Everything that is not as it should be, and a line that sums up."""
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
    """Whether jobs, the named ones or all, are complete and up to date, and everything is valid."""
    from popbuild.upkeep.validate import validate

    names = list(names)
    ids = names_to_ids(root, names)
    paths: list[Path] = []
    stale = []
    frozen: dict[str, tuple[str, ...]] = {}
    for job in jobs_of(root, ids):
        if names:
            paths += [root.seed(job.id), root.samples(job.id)]
            paths += [job.folder.path] if job.folder else []
        if not job.up_to_date:
            stale.append((shown_name(job.id), job.description))  # which says what is frozen
        elif job.exam is not None and job.exam.frozen:
            frozen[job.id] = job.exam.frozen
    validation = validate(root, [root.config, *filter(Path.exists, paths)] if names else ())
    return Check(len(ids), validation.checked, stale, frozen, validation.findings)
