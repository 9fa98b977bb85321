"""What the parts of a build share: a command's services, and one run of one job."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from popbuild.base.paths import JobFolder
from popbuild.build.events import Events, JobResult
from popbuild.build.nothing_to_do import Options
from popbuild.build.outcomes import Outcomes
from popbuild.jobs.claims import Claims
from popbuild.jobs.examine import Exam
from popbuild.jobs.open_job import OpenJob
from popbuild.jobs.surroundings import Surroundings
from popbuild.llm.calls import Calls
from popbuild.task.templates.render import Templates


@dataclass
class BuildServices:
    """Shared by all builds of one command. It is `stopping` once it starts nothing more, since a
    job failed, and `draining` once it sends nothing more either."""

    around: Surroundings
    calls: Calls
    claims: Claims
    options: Options
    events: Events
    templates: Templates
    previous_kept: int
    stopping: bool = False
    draining: bool = False

    def show(self, folder: JobFolder) -> str:
        """A job's directory as people and documents name it."""
        return self.around.root.show(folder.path)

    @property
    def environment(self) -> Mapping[str, str]:
        return self.around.config.environment


@dataclass(frozen=True)
class JobRun:
    """One run of one job: `id` is its pipeline ID. With `goes_on` there are results of earlier runs
    that were not promoted. `started_s` is of the monotonic clock. The job's lock is held."""

    services: BuildServices
    id: str
    opened: OpenJob
    exam: Exam
    is_partial: bool
    goes_on: bool
    started_s: float

    @property
    def job(self) -> str:
        return self.opened.folder.id

    @property
    def folder(self) -> JobFolder:
        return self.opened.folder

    def check(self) -> None:
        """FencedError where the job was given to another worker since: write nothing more."""
        self.services.claims.check(self.job)

    def result(
        self, outcome: str, outcomes: Outcomes, folder: JobFolder | None = None, **more: Any
    ) -> JobResult:
        """How the run ended."""
        return JobResult(
            self.job,
            outcome,
            run=self.id,
            built=outcomes.built,
            usage=outcomes.spent.usage,
            duration_ms=round((time.monotonic() - self.started_s) * 1000, 1),
            path=self.services.show(folder or self.folder),
            **more,
        )
