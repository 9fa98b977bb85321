"""popbuild for programs: a root, and the verbs of the command line on it.

    from popbuild.api import Popbuild

    here = Popbuild("demo")
    job = here.submit({"name": "Bikes", "data": {"market": "cargo bikes"}})
    for result in here.build(job):
        print(result.id, result.outcome)
    print(here.read(job, "analysis-output.json").decode())

JSON has the same shape here, under --json, and in the HTTP API. Every error is a
`popbuild.base.errors.PopbuildError`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from popbuild.base import jsonio
from popbuild.base.errors import InputError
from popbuild.base.paths import Root
from popbuild.base.roots import find_root
from popbuild.build import draws, submission, verbs
from popbuild.build.chosen_variant import seen_by
from popbuild.build.given_files import GivenFile, file_at
from popbuild.jobs import job_ids
from popbuild.jobs.seed_files import BadSeed, key_problems, seed_of
from popbuild.model.config.config import load, load_to_read
from popbuild.model.problem import Problem
from popbuild.query import describe

if TYPE_CHECKING:
    from popbuild.build.events import Events, JobResult
    from popbuild.build.human_gate import Decided
    from popbuild.jobs.stop_requests import Stopped
    from popbuild.model.pipeline import Pipeline
    from popbuild.query.describe import ShownFile
    from popbuild.query.diff import Difference
    from popbuild.query.explain import Explanation
    from popbuild.query.planned import PlannedJob
    from popbuild.query.table.event_ring import Event


class Popbuild:
    """A root. Nothing is kept between calls: each reads the disk anew, and any number of them, and
    of commands, may work on one root at the same time."""

    def __init__(self, root: str | Path | None = None, variant: str | None = None) -> None:
        """The root in or above this folder, else the one that `popbuild` would find from here, as
        this variant sees it, else that of POPBUILD_VARIANT."""
        given = None if root is None else str(root)
        self.root: Root = seen_by(find_root(Path.cwd(), given), variant, None)

    @classmethod
    def seen_by(cls, root: Root) -> Popbuild:
        """A root that was found already, as its variant sees it."""
        found = cls.__new__(cls)
        found.root = root
        return found

    # Looking.

    def jobs(self, *names: str) -> list[dict[str, Any]]:
        """The jobs that IDs and globs match, or all, as `popbuild status --json` shows them."""
        found = describe.jobs_of(self.root, describe.names_to_ids(self.root, names))
        return [describe.describe_job(job, self.root) for job in found]

    def job(self, job: str) -> dict[str, Any]:
        """One job, by its exact ID."""
        return describe.describe_job(describe.find_job(self.root, job), self.root, unowned=True)

    def is_known(self, job: str) -> bool:
        return job_ids.is_known(self.root, job)

    def files(self, job: str, task: str | None = None) -> list[ShownFile]:
        return describe.files_of(describe.find_job(self.root, job), task)

    def read(self, job: str, name: str) -> bytes:
        """A file of a job: by its name, `<kind>/<name>` or `<task>/letter.json`."""
        return describe.read_file(describe.find_job(self.root, job), name)[1]

    def pipelines(self) -> dict[str, Pipeline]:
        """The pipelines by name; the default pipeline's name is empty."""
        return dict(load_to_read(self.root).pipelines)

    def explain(self, job: str, task: str | None = None) -> list[Explanation]:
        """Why a job's tasks, or one of them, are stale, with what changed."""
        from popbuild.query.explain import explain_job

        return explain_job(self.root, job, task)

    def diff(self, job: str, against: int = 1) -> Difference:
        """What the last rebuild of a complete job changed, or its last `against` rebuilds."""
        from popbuild.query.diff import diff

        return diff(self.root, job, against)

    def plan(
        self,
        *names: str,
        fresh: Sequence[str] = (),
        always: bool = False,
        store: str | None = None,
    ) -> list[PlannedJob]:
        """What `build` with the same arguments would do and cost. Makes no call."""
        from popbuild.build import session
        from popbuild.build.nothing_to_do import Options

        options = Options(always=always, fresh=tuple(fresh), store=store)
        return session.plan_run(self.root, None, names, options)

    async def events(self, job: str | None = None) -> AsyncIterator[Event]:
        """Events from now on, with the kinds and bodies of the HTTP API, for `async for`. The files
        of `job` are watched closely. Ends when the iteration does."""
        from popbuild.query.table.event_ring import Hub
        from popbuild.query.table.job_table import JobTable
        from popbuild.query.table.watcher import Eyes

        hub = Hub()
        eyes = Eyes(self.root, JobTable(), hub)
        looking = asyncio.create_task(eyes.run())
        try:
            with eyes.open_page(job):
                async for event in hub.follow():
                    yield event
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    # Doing.

    def check(self, seed: Mapping[str, Any] | bytes) -> tuple[Problem, ...]:
        """What is wrong with a seed; empty if it can be submitted."""
        try:
            valid = _seed(seed)
        except BadSeed as bad:
            return bad.problems
        try:
            config = load(self.root)
            config.pipeline_for(valid)
        except InputError as error:
            return (Problem(error.as_line(), "/pipeline"),)
        return key_problems(valid, config.environment)

    def submit(
        self,
        seed: Mapping[str, Any] | bytes,
        job: str | None = None,
        files: Mapping[str, Path | GivenFile] | None = None,
    ) -> str:
        """Queue a job from a seed, or from the bytes of its file; gives its ID. `files` go with it,
        by the names under which prompts read them."""
        try:
            valid = _seed(seed)
        except BadSeed as bad:
            raise describe.seed_error(bad) from None
        given = {
            name: file_at(each) if isinstance(each, Path) else each
            for name, each in (files or {}).items()
        }
        return submission.queue(self.root, valid, job, given)

    def build(
        self,
        *names: str,
        fresh: Sequence[str] = (),
        always: bool = False,
        store: str | None = None,
        in_flight: int | None = None,
        budget: float | None = None,
        wait: bool = True,
        events: Events | None = None,
    ) -> list[JobResult]:
        """Build what is stale in the named jobs, or in all, as `popbuild run --continue` does;
        gives a result for each. `budget` is in US dollars; without `wait`, jobs that another
        process builds are skipped. `events` receives what happens."""
        from popbuild.build import session
        from popbuild.build.nothing_to_do import Options

        options = Options(
            always=always,
            fresh=tuple(fresh),
            store=store,
            in_flight=in_flight,
            budget=budget,
            wait=wait,
            continue_=True,
        )
        return session.run(self.root, None, names, options, events)[1]

    def retry(self, job: str, *, failed: bool = False, item: str | None = None) -> list[JobResult]:
        """Build a rejected job with another sample for the task that rejected it. `job` may be
        `job:task`, of a task with items: those that failed, or one, then draw again."""
        draws.retry(self.root, job, failed=failed, item=item)
        return self.build(job.partition(":")[0])

    def approve(
        self,
        job: str,
        task: str | None = None,
        note: str | None = None,
        by: str | None = None,
        of: str | None = None,
    ) -> Decided:
        """Approve at a human gate. `task` is needed where several wait; `by` defaults to the login
        name. With `of`, from the question in `job(…)["waiting"]`, only if that is still the
        question and it was not rejected. The next `build` continues."""
        from popbuild.build.human_gate import HumanAnswer, approve

        return approve(self.root, job, HumanAnswer(task, note, by, of))

    def reject(
        self,
        job: str,
        task: str | None = None,
        note: str | None = None,
        by: str | None = None,
        of: str | None = None,
    ) -> Decided:
        """Reject at a human gate: the job goes to rejected/, with the note as its problem. The
        arguments are those of `approve`."""
        from popbuild.build.human_gate import HumanAnswer, reject

        return reject(self.root, job, HumanAnswer(task, note, by, of))

    def stop(self, *jobs: str, patience_s: float = 30.0) -> list[Stopped]:
        """Stop the builds of these jobs, and wait up to `patience_s` for them to end."""
        from popbuild.jobs import stop_requests

        for job in jobs:
            describe.check_known(self.root, job)
        return stop_requests.stop(self.root, jobs, patience_s)

    def accept(self, job: str, *tasks: str) -> list[str]:
        """Accept the artifacts as they are, without building; gives the tasks."""
        return verbs.accept(self.root, job, tasks)


def _seed(given: Mapping[str, Any] | bytes) -> dict[str, Any]:
    data = given if isinstance(given, bytes) else jsonio.dumps(given, sort=False)
    return seed_of(data, "seed")
