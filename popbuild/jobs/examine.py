"""A job as it is examined: its seed, letters and artifacts, and which tasks are stale."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from popbuild.base import disk, jsonio
from popbuild.base.paths import COMPLETE, JobFolder
from popbuild.jobs import fingerprint, records, staleness
from popbuild.jobs.input_files import InputFiles, places_in_job
from popbuild.jobs.members import Groups, SeedNames, waits_of
from popbuild.jobs.past_values import PastValues
from popbuild.jobs.surroundings import Surroundings
from popbuild.model.decision import APPROVED, OPEN, REJECTED, Decision, Question
from popbuild.model.job_groups import least_share
from popbuild.model.letter import Letter
from popbuild.model.pipeline import Pipeline, Task
from popbuild.model.problem import MISSING, Problem
from popbuild.model.schema import gate


@dataclass
class Exam:
    """A job's directory held against today's inputs: a verdict for every task."""

    folder: JobFolder
    seed: Any
    pipeline: Pipeline
    around: Surroundings
    artifacts: dict[str, Any] = field(default_factory=dict)
    digests: dict[str, str | None] = field(default_factory=dict)
    letters: dict[str, Letter | None] = field(default_factory=dict)
    verdicts: dict[str, staleness.Verdict] = field(default_factory=dict)
    decisions: dict[str, Decision | None] = field(default_factory=dict)  # of gated tasks
    asked: dict[str, str] = field(default_factory=dict)  # tasks a person wants built, and why
    samples: Mapping[str, int] = field(default_factory=dict)  # which draw a task is at, from 0
    frozen_from: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # see read_frozen
    files: InputFiles = field(default_factory=dict)  # of the seed
    input_places: tuple[str, ...] = ()  # of these, in its directory
    jobs: Groups = field(default_factory=dict)  # that it is over
    waits: tuple[str, ...] = ()  # why it has to wait for these
    last_seed: Any = None  # what the job's own copy was, where today's seed stands in its place
    _resolved: dict[str, tuple[Any, str]] = field(default_factory=dict)

    def go_on_without(self) -> None:
        """Judge by the jobs that there are: none is built before this one any more."""
        if self.waits:
            self.waits = ()
            for task in self.pipeline.in_order:
                self.look(task)

    def moved(self, folder: JobFolder, last_seed: object, files: InputFiles) -> Exam:
        """This exam for another directory with the same files, but for its seed and the `files` of
        that. Judges anew only if one of these was changed meanwhile."""
        exam = dataclasses.replace(self, folder=folder, last_seed=last_seed, files=files)
        if {name: each.digest for name, each in files.items()} != {
            name: each.digest for name, each in self.files.items()
        }:
            for task in self.pipeline.in_order:
                exam.look(task)
        return exam

    def look(self, task: Task) -> staleness.Verdict:
        """Read a task's letter and artifact anew, and say whether it must run."""
        value, digest = records.read_artifact(self.folder, task)
        self._hold(task, value, digest)
        letter = self.letters[task.id] = records.read_letter(self.folder, task.id)
        if task.human_gate is not None:
            self.decisions[task.id] = records.read_decision(self.folder, task.id)
        last = self.last_letter(task)
        stale = tuple(
            name for name in task.needs if name in self.verdicts and self.verdicts[name].stale
        )
        verdict = staleness.verdict_of(
            task,
            last,
            self.inputs(task),
            digest,
            stale,
            functools.partial(self._before, last),
            asked=self.asked.get(task.id),
            frozen=task.id in self.frozen_from,
        )
        if last is not letter:
            verdict = staleness.unfinished(verdict)
        if letter is None and disk.stands(self.folder.letter(task.id)):
            foreign = records.is_foreign_letter(self.folder, task.id)
            verdict = staleness.FOREIGN if foreign else staleness.DAMAGED
        self.verdicts[task.id] = verdict
        return verdict

    def last_letter(self, task: Task) -> Letter | None:
        """A task's letter; while an unfinished build removed it, that of the last good result."""
        letter = self.letters[task.id]
        last_good = self.around.root.job(COMPLETE, self.folder.id)
        if letter is not None or self.folder == last_good:
            return letter
        return records.read_letter(last_good, task.id)

    def made_from(self, task: str) -> dict[str, Any]:
        """The values of the seed and of artifacts that a task was made from, as far as known."""
        letter = self.letters[task]
        last = letter.fingerprint if letter else {}
        found = {each: self._before(letter, each, digest) for each, digest in last.items()}
        return {
            dependency: value
            for dependency, value in found.items()
            if value is not MISSING and dependency.partition(":")[0] in fingerprint.DOCUMENTS
        }

    def changes(self, task: Task) -> tuple[staleness.DependencyChange, ...]:
        """Every dependency of a task that differs from its last letter; none without one."""
        letter, inputs = self.last_letter(task), self.inputs(task)
        if letter is None:
            return ()
        now, past = staleness.now_of(letter, task, inputs), functools.partial(self._before, letter)
        return staleness.changes(letter.fingerprint, now, task, inputs, past)

    def _before(self, letter: Letter | None, dependency: str, digest: str) -> Any:
        """The value that a dependency had at the last build, or MISSING where it is unknown."""
        if letter is None:
            return MISSING
        last_good = self.around.root.job(COMPLETE, self.folder.id)
        kept = self.frozen_from.get(letter.task, {})
        past = PastValues(self.folder, last_good, self.pipeline, kept, self.last_seed)
        return past.value(letter, dependency, digest)

    def inputs(self, task: Task) -> fingerprint.Inputs:
        """The inputs of a task, against which its dependencies are resolved."""
        skipped = tuple(name for name in task.needs if self.skipped(name))
        there = [name for name in task.needs if name in self.artifacts and name not in skipped]
        return fingerprint.Inputs(
            self.seed,
            {name: self.artifacts[name] for name in there},
            self.around.config.snapshot.digests,
            self.around.model_place(task),
            self.draw_of(task),
            self.folder.id,
            self.files,
            fingerprint.item_samples(task, self.samples),
            skipped,
            self.around.config.filters,
            self.jobs,
            self.waits,
            self._resolved,
        )

    def draw_of(self, task: Task) -> int:
        """Which draw of its model a task is at."""
        return self.samples.get(task.id, self.around.root.variant.draw)

    def skipped(self, task: str) -> str:
        """Why a task has no artifact, as its letter says; empty where it was not skipped."""
        return letter.skipped if (letter := self.letters.get(task)) else ""

    def judge(self, task: Task) -> tuple[Problem, ...]:
        """The problems of a main artifact as it stands; none if it passes its gate."""
        if skipped := self.skipped(task.id):
            stray = Problem(f"the task was skipped, and has no artifact: {skipped}")
            return () if self.digests[task.id] is None else (stray,)
        if self.digests[task.id] is None or task.id not in self.artifacts:
            return (Problem("the artifact is missing"),)
        value = self.artifacts[task.id]
        if value is None:
            return (Problem("the file is not valid JSON"),)
        schema, _ = self.around.schema(task)
        return gate.judge_main(value, schema, of_items=bool(task.foreach))

    def settle(self, task: Task, value: object, letter: Letter) -> None:
        """Note a task that was built, or skipped (its value is MISSING), for the tasks below."""
        self._hold(task, value, None if value is MISSING else jsonio.digest(value))
        self.letters[task.id] = letter
        self.verdicts[task.id] = staleness.Verdict((), skipped=letter.skipped)
        self.asked.pop(task.id, None)

    def _hold(self, task: Task, value: object, digest: str | None) -> None:
        self.artifacts.pop(task.id, None)
        self.digests[task.id] = digest
        if digest is not None:
            self.artifacts[task.id] = value

    def draw_again(self, task: Task) -> int:
        """Let a task draw the sample after its last one; gives its number."""
        letter = self.letters[task.id]
        drawn = [int(call["sample"]) for call in letter.body.get("calls", ())] if letter else []
        known = (
            self.draw_of(task),
            *fingerprint.item_samples(task, self.samples).values(),
        )
        number = max([*known, *drawn]) + 1
        self.samples = {**self.samples, task.id: number}
        return number

    # Human gates.

    def decided_about(self, task: Task) -> dict[str, str]:
        """The digests of a gated task's artifacts: the main one, and those that the gate names."""
        found = {task.artifact: self.digests.get(task.id) or jsonio.ABSENT}
        for name in task.human_gate.artifacts if task.human_gate else ():
            if name not in found:
                path = self.folder.artifact(name)
                there = disk.is_regular(path)
                found[name] = jsonio.digest_bytes(disk.read(path)) if there else jsonio.ABSENT
        return found

    def asked_of(self, task: Task) -> str:
        """The digest of a gated task's question: its message, and the artifacts as they stand."""
        message = task.human_gate.message if task.human_gate else ""
        about = {"task": task.id, "message": message, "artifacts": self.decided_about(task)}
        return jsonio.digest(about)

    def standing(self, task: Task) -> str | None:
        """What a person said about a task's artifacts as they stand: approved, rejected, or open
        where no person did. None without a human gate, and while the task is to be built."""
        if task.human_gate is None or self.verdicts[task.id].stale:
            return None
        if self.digests.get(task.id) is None:  # a skipped one has nothing to look at
            return APPROVED if self.skipped(task.id) else None
        decision = self.decisions.get(task.id)
        if decision is None or not decision.holds_for(self.decided_about(task)):
            return OPEN
        return decision.decision

    def held_by(self, task: Task) -> tuple[str, ...]:
        """The tasks above whose human gates hold this one back: not approved, or to be built."""
        gated = self.pipeline.gated
        above = self.pipeline.upstream(task.id) if gated else ()
        return tuple(
            each.id for each in gated if each.id in above and self.standing(each) != APPROVED
        )

    @property
    def questions(self) -> tuple[Question, ...]:
        """The open human gates."""
        return tuple(
            Question(
                task.id, task.human_gate.message, task.human_gate.artifacts, self.asked_of(task)
            )
            for task in self.pipeline.gated
            if task.human_gate is not None and self.standing(task) == OPEN
        )

    @property
    def refused(self) -> Task | None:
        """A task whose artifacts, as they stand, a person rejected."""
        return next((e for e in self.pipeline.gated if self.standing(e) == REJECTED), None)

    @property
    def frozen(self) -> tuple[str, ...]:
        """The tasks that are kept as they are, whatever changes."""
        return tuple(name for name, verdict in self.verdicts.items() if verdict.frozen)

    def up_to_date(self, tasks: Iterable[str] | None = None) -> bool:
        """Whether nothing has to be done: no task is stale, none was edited."""
        names = self.pipeline.names if tasks is None else tasks
        return not any(self.verdicts[name].stale or self.verdicts[name].edited for name in names)


def examine_unbuilt(
    folder: JobFolder, seed: Any, pipeline: Pipeline, around: Surroundings, named: SeedNames
) -> Exam:
    """The exam of a job without a directory: no file of it is looked for."""
    exam = _exam(folder, seed, pipeline, around, named)
    for task in pipeline.in_order:
        exam.digests[task.id] = exam.letters[task.id] = None
        exam.verdicts[task.id] = staleness.NEVER_BUILT
        if task.human_gate is not None:
            exam.decisions[task.id] = None
    return exam


def examine(
    folder: JobFolder, seed: Any, pipeline: Pipeline, around: Surroundings, named: SeedNames
) -> Exam:
    """Hold a job's directory against today's inputs. Reads; writes nothing."""
    exam = _exam(folder, seed, pipeline, around, named)
    for task in pipeline.in_order:
        exam.look(task)
    return exam


def _exam(
    folder: JobFolder, seed: Any, pipeline: Pipeline, around: Surroundings, named: SeedNames
) -> Exam:
    return Exam(
        folder,
        seed,
        pipeline,
        around,
        samples=records.read_samples(around.root, folder.id),
        frozen_from=records.read_frozen(around.root, folder.id),
        files=named.files,
        input_places=places_in_job(named.files),
        jobs=named.jobs,
        waits=waits_of(named.jobs, least_share(seed)) if named.jobs else (),
    )
