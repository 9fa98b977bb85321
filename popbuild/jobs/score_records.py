"""The scores of a job as they stand, held against what they hang on: the function or rule, the
seed, what was expected and the output. Reads; writes nothing.

A score that does not hold makes no task stale: it is measured anew. Only where a gate asks for it,
the job does not match today's inputs until it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from popbuild.base import disk, jsonio
from popbuild.base.errors import InputError
from popbuild.base.paths import JobFolder, Root, expected_place, scores_place
from popbuild.jobs.examine import Exam
from popbuild.jobs.records import read_json
from popbuild.model.pipeline import Task
from popbuild.model.problem import Problem
from popbuild.model.scores import Score, TaskScores, open_scores
from popbuild.model.scoring import Scoring


@dataclass(frozen=True)
class Expected:
    """What is expected of a job, with its digest, "" for nothing. `problem` says why there is
    nothing, or why it cannot be read."""

    value: Any
    digest: str
    problem: str = ""


@dataclass(frozen=True)
class ScoreBasis:
    """What the scores of a task hang on, by digest; `rules` by the names of the scores."""

    seed: str
    expected: str
    output: str
    rules: Mapping[str, str]

    @property
    def digest(self) -> str:
        return jsonio.digest([self.seed, self.expected, self.output, dict(self.rules)])

    def of(self, name: str) -> tuple[str, ...]:
        """What one score hangs on, as `Score.basis` has it."""
        return self.rules[name], self.seed, self.expected, self.output


def read_expected(root: Root, job: str) -> Expected:
    """What is expected of a job."""
    place = expected_place(job)
    try:
        data = disk.read(root.at(place), max_bytes=jsonio.MAX_BYTES)
    except FileNotFoundError:
        return Expected(None, "", f"nothing is expected: there is no {place}")
    except (OSError, InputError) as error:
        return Expected(None, "unreadable", f"{place} cannot be read: {error}")
    try:
        value = jsonio.loads(data, place)
    except InputError as error:
        return Expected(None, jsonio.digest_bytes(data), f"{place}: {error.as_line()}")
    return Expected(value, jsonio.digest(value))


def read_scores(folder: JobFolder, task: str) -> TaskScores | None:
    """The scores of a task; None where there are none, or the file is damaged."""
    return open_scores(read_json(folder.at(scores_place(task))), task)


def is_measurable(exam: Exam, task: Task) -> bool:
    """Whether a task has an output of today that is to be measured."""
    verdict = exam.verdicts.get(task.id)
    there = exam.digests.get(task.id) is not None and not exam.skipped(task.id)
    return task.scoring is not None and there and verdict is not None and not verdict.stale


def basis_of(exam: Exam, task: Task, scoring: Scoring, expected: Expected) -> ScoreBasis:
    """What the scores of a task hang on today."""
    output = exam.digests[task.id] or ""
    return ScoreBasis(jsonio.digest(exam.seed), expected.digest, output, scoring.digests)


def why_unmeasured(exam: Exam, task: Task) -> dict[str, str]:
    """Why each score of a task is to be measured, by its name; empty where all of them hold."""
    if task.scoring is None or not is_measurable(exam, task):
        return {}
    expected = read_expected(exam.around.root, exam.folder.id)
    basis = basis_of(exam, task, task.scoring, expected)
    last = read_scores(exam.folder, task.id)
    known, found = last.scores if last is not None else {}, {}
    for name in task.scoring.names:
        score = known.get(name)
        if score is None:
            found[name] = "it was never measured"
            continue
        what = "function" if name in task.scoring.functions else "rule"
        said = (f"its {what}", "the seed", "what is expected", "the output")
        pairs = zip(said, score.basis, basis.of(name), strict=True)
        changed = [text for text, before, now in pairs if before != now]
        if changed:
            found[name] = f"{', '.join(changed)} changed"
    return found


def unmeasured(exam: Exam) -> tuple[str, ...]:
    """The tasks of which a score does not hold, or was never measured."""
    tasks = [task for task in exam.pipeline.scored if is_measurable(exam, task)]
    if not tasks:
        return ()
    expected = read_expected(exam.around.root, exam.folder.id)
    found = []
    for task in tasks:
        assert task.scoring is not None
        last = read_scores(exam.folder, task.id)
        basis = basis_of(exam, task, task.scoring, expected)
        if last is None or last.basis != basis.digest:
            found.append(task.id)
    return tuple(found)


def passes_by_score(exam: Exam) -> bool:
    """Whether every score that a gate asks for holds, and is as the gate wants it."""
    gated = [task for task in exam.pipeline.scored if task.scoring and task.scoring.gate]
    if not gated:
        return True
    waiting = unmeasured(exam)
    return not any(task.id in waiting or gate_problems(exam, task) for task in gated)


def gate_problems(exam: Exam, task: Task) -> tuple[Problem, ...]:
    """Why the scores of a task, as they stand, do not let its job pass. Empty where they do, and
    where no gate asks."""
    if task.scoring is None or not is_measurable(exam, task):
        return ()
    last = read_scores(exam.folder, task.id) if task.scoring.gate else None
    scores = last.scores if last is not None else {}
    found = []
    for name, threshold in task.scoring.gate.items():
        score = scores.get(name, Score(None, "it was not measured"))
        if score.number is None:
            found.append(Problem(f"score {name} could not be measured: {score.reason}"))
        elif not threshold.lets_pass(score.number):
            why = f": {score.reason}" if score.reason else ""
            found.append(Problem(f"score {name} is {score.number:g}, must be {threshold}{why}"))
    return tuple(found)


def score_gate(exam: Exam) -> tuple[Task, tuple[Problem, ...]] | None:
    """The first task whose scores do not let the job pass, with the problems; None if all do."""
    for task in exam.pipeline.scored:
        problems = gate_problems(exam, task)
        if problems:
            return task, problems
    return None
