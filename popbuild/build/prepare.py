"""Before a job's first task: edits by hand are settled, and its directory stands in current/."""

from __future__ import annotations

from collections.abc import Iterable

from popbuild.base import disk, jsonio, tree
from popbuild.base.errors import GateError, StoppedError
from popbuild.base.paths import CURRENT, REJECTED, JobFolder, Root
from popbuild.build.nothing_to_do import Options
from popbuild.jobs import job_state, lifecycle, originals
from popbuild.jobs.examine import Exam
from popbuild.jobs.lookup import Job
from popbuild.jobs.staleness import FRESH
from popbuild.model.pipeline import Task
from popbuild.model.problem import Problem
from popbuild.model.schema import gate


def check_edits(exam: Exam, options: Options) -> None:
    """An artifact edited by hand is a decision of a person, never overwritten unasked. Raises
    StoppedError where its task is stale as well, GateError where it does not pass its gate."""
    for task in exam.pipeline.tasks:
        verdict = exam.verdicts[task.id]
        if not verdict.edited or (options.discard_edits and not verdict.frozen):
            continue
        artifact = exam.around.root.show(exam.folder.artifact(task.artifact))
        where = {"job": exam.folder.id, "artifact": artifact}
        if verdict.stale and not options.keep_edits:
            raise StoppedError(
                "an artifact was edited by hand, and its task is stale too",
                {**where, "task": task.id, "stale": str(verdict)},
                hint="--keep-edits keeps the file as it is, --discard-edits builds it anew",
            )
        problems = judge_file(exam, task)
        if problems:
            raise GateError(
                "an artifact was edited by hand and does not pass its gate",
                {**where, **{f"problem {n}": each for n, each in enumerate(problems, 1)}},
                hint="mend the file"
                + ("" if verdict.frozen else ", or --discard-edits to build it anew"),
            )


def judge_file(exam: Exam, task: Task) -> tuple[Problem, ...]:
    """The problems of a main artifact as it stands; none if it passes its gate."""
    if exam.digests[task.id] is None or task.id not in exam.artifacts:
        return (Problem("the artifact is missing"),)
    value = exam.artifacts[task.id]
    if value is None:
        return (Problem("the file is not valid JSON"),)
    schema, _ = exam.around.schema(task)
    return gate.judge(value, schema) if schema else ()


def goes_on(job: Job, root: Root) -> bool:
    """Whether a job continues from results of earlier runs that were not promoted."""
    in_current = root.job(CURRENT, job.id).path.is_dir() and not job.matches
    return in_current or job.state == REJECTED


def take_up(job: Job, root: Root) -> JobFolder:
    """The job's directory in current/, with today's seed in it."""
    assert job.seed is not None
    current = root.job(CURRENT, job.id)
    if job.matches:
        for state in (CURRENT, REJECTED):  # as where there is nothing to do
            originals.discard_original(root, root.job(state, job.id))
    if not current.path.is_dir():
        if job.state == REJECTED and job.folder is not None:
            tree.rename_new(job.folder.path, current.path)
        elif job.folder is not None:
            # A copy: the good result stands until a better one passes every gate.
            tree.copy_folder(job.folder.path, current.path)
        elif not root.pending(job.id).exists():
            data = disk.read(root.seed(job.id), max_bytes=jsonio.MAX_BYTES)
            lifecycle.queue_seed(root, job.id, data)
    originals.keep_original(root, current)
    lifecycle.claim(root, job.id)
    tree.remove(current.rejection)
    if not job_state.holds_seed(current, job.seed):
        lifecycle.write_seed(current, job.seed)
    tree.remove(current.path / job_state.CLAIMED)
    return current


def draw_again(exam: Exam, tasks: Iterable[str]) -> None:
    """Let these tasks draw the sample after their last one."""
    for name in tasks:
        number = exam.draw_again(exam.pipeline.task(name))
        lifecycle.set_sample(exam.around.root, exam.folder.id, name, number)
        exam.asked[name] = FRESH
        for task in exam.pipeline.in_order:
            exam.look(task)
