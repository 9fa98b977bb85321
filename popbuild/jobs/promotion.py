"""How a job ends: promotion, rejection, runs.jsonl, and the results that later ones replaced."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from popbuild.base import disk, jsonio, permissions, tree
from popbuild.base.errors import UsageError
from popbuild.base.paths import COMPLETE, CURRENT, INPUTS, REJECTED, JobFolder, Root
from popbuild.jobs import originals, records, run_log, seals
from popbuild.jobs.examine import Exam
from popbuild.jobs.job_ids import PROMOTIONS
from popbuild.jobs.job_state import SUBMITTED, state_in
from popbuild.jobs.seed_files import BadSeed
from popbuild.model import scoring
from popbuild.model import status as states
from popbuild.model.clock import name_stamp, timestamp
from popbuild.model.decision import STAGE as HUMAN_GATE
from popbuild.model.letter import seal
from popbuild.model.pipeline import Task
from popbuild.model.problem import Problem

_PREVIOUS_KEPT = 1
_MAX_DIGITS = 4  # of how many previous results are kept
_NUMBERED = re.compile(r"(\d{6})-")


def previous_kept(environment: Mapping[str, str]) -> int:
    """How many previous good results of a job are kept: POPBUILD_KEEP_PREVIOUS, or one. Raises
    UsageError for anything else."""
    text = environment.get("POPBUILD_KEEP_PREVIOUS")
    if not text:
        return _PREVIOUS_KEPT
    if not (text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS):
        allowed = f"a whole number, 0 or more, by default {_PREVIOUS_KEPT}"
        raise UsageError(
            "not a number that this variable can have",
            {"POPBUILD_KEEP_PREVIOUS": text, "allowed": allowed},
            hint="it says how many previous good results of each job are kept",
        )
    return int(text)


def promote(root: Root, folder: JobFolder, run_line: Mapping[str, Any], kept: int) -> JobFolder:
    """Seal a job that passed every gate, move it from current/ to complete/, and log the run. It is
    exchanged with an existing good result in one step. The note that is written first lets
    `finish_promotion` add the log's line after a crash."""
    job = folder.id
    note = _promotion_note(root, job)
    target = root.job(COMPLETE, job)
    line = seal({**run_line, "seal": seals.write_seal(folder, target)})
    disk.make_folder(note.parent)
    run_log.start_anew(root)
    disk.write(note, jsonio.dumps(line, sort=False))
    if not tree.rename_new(folder.path, target.path):
        tree.exchange(folder.path, target.path)
        _set_aside(root, folder, kept)
    run_log.add(root, line)
    tree.remove(note)
    return target


def finish_promotion(root: Root, job: str, kept: int) -> None:
    """Finish a promotion that a crash cut short, or forget one that did not happen."""
    note = _promotion_note(root, job)
    if not note.exists():
        return
    line = promotion_under_way(root, job) or {}
    status = records.read_json(root.job(COMPLETE, job).status)
    run = line.get("pipelineId")
    if run is not None and isinstance(status, dict) and status.get("pipelineId") == run:
        left = root.job(CURRENT, job)
        if state_in(left) == states.COMPLETE:
            _set_aside(root, left, kept)
        run_log.add(root, line, once=True)
    tree.remove(note)


def unfinished_promotions(root: Root) -> list[str]:
    """The jobs that are being promoted, or whose promotion a crash cut short."""
    return sorted(tree.stems_in(root.own / PROMOTIONS, ".json"))


def is_promotion_unfinished(root: Root, job: str) -> bool:
    """Whether a job is being promoted, or a crash cut that short."""
    return disk.stands(_promotion_note(root, job))


def promotion_under_way(root: Root, job: str) -> Mapping[str, Any] | None:
    """The line of a promotion that is under way, or that a crash cut short; None for none."""
    line = records.read_json(_promotion_note(root, job))
    return line if isinstance(line, dict) else None


def _promotion_note(root: Root, job: str) -> Path:
    return root.own / PROMOTIONS / f"{job}.json"


def _set_aside(root: Root, folder: JobFolder, kept: int) -> None:
    """Keep the previous good result in .popbuild/previous/<id>/, and no more than are wanted."""
    if kept:
        tree.rename_new(folder.path, _next_previous(root, folder.id))
    tree.remove(folder.path)
    _drop_previous(root, folder.id, kept)


def keep_copy(root: Root, folder: JobFolder, kept: int) -> None:
    """Keep a copy of a good result that is about to be replaced, before it is."""
    if kept:
        place = _next_previous(root, folder.id)
        tree.sweep(place.parent)
        tree.copy_folder(folder.path, place)
    _drop_previous(root, folder.id, kept)


def _next_previous(root: Root, job: str) -> Path:
    shelf = root.own / "previous" / job
    disk.make_folder(shelf)
    newest = max((_number_of(each.path) for each in previous_results(root, job)), default=0)
    return shelf / f"{newest + 1:06d}-{name_stamp()}"


def _drop_previous(root: Root, job: str, kept: int) -> None:
    for result in previous_results(root, job)[kept:]:
        tree.remove(result.path)


def previous_results(root: Root, job: str) -> list[JobFolder]:
    """The good results of a job that later ones replaced, newest first, as far as they are kept.
    They are numbered, since the clock may be moved back."""
    try:
        found = [each for each in (root.own / "previous" / job).iterdir() if each.is_dir()]
    except FileNotFoundError:
        return []
    shown = [path for path in found if not path.name.startswith(".")]
    shown.sort(key=lambda path: (_number_of(path), path.name), reverse=True)
    return [JobFolder(path) for path in shown]


def _number_of(path: Path) -> int:
    """0 for one that was kept before they were numbered."""
    match = _NUMBERED.match(path.name)
    return int(match[1]) if match else 0


def promote_to_rejected(root: Root, folder: JobFolder, body: Mapping[str, Any]) -> JobFolder:
    """Move a job to rejected/ with its rejection.json; an older rejection of it is replaced."""
    tree.sync_all(folder.path)  # the task that failed has no letter, which would have done so
    disk.write(folder.rejection, jsonio.dumps(dict(body), sort=False))
    target = root.job(REJECTED, folder.id)
    if not tree.rename_new(folder.path, target.path):
        tree.exchange(folder.path, target.path)
        originals.discard_original(root, folder)
    return target


def reject_seed(root: Root, job: str, bad: BadSeed) -> JobFolder:
    """A seed that cannot be read goes to rejected/ byte for byte, with its problems: out of
    pending/, or as a copy of the user's own file. What an earlier rejection left stays beside
    it."""
    target = root.job(REJECTED, job)
    source = root.seed(job).name if disk.stands(root.seed(job)) else SUBMITTED
    body = jsonio.dumps(rejection(job, bad.problems, source=source), sort=False)
    if target.path.is_dir():
        originals.keep_original(root, target)
        _take_seed(root, job, target.seed)
        disk.write(target.rejection, body)
        return target
    folder = JobFolder(target.path.parent / f".tmp-{job}")
    tree.remove(folder.path)
    disk.make_folder(folder.path)
    _take_seed(root, job, folder.seed)
    disk.write(folder.rejection, body)
    tree.rename_new(folder.path, target.path)
    return target


def _take_seed(root: Root, job: str, target: Path) -> None:
    """Put today's seed where the job's own copy belongs. What cannot be read stays in seeds/."""
    source, pending = root.seed(job), root.pending(job)
    if disk.stands(source):
        if disk.is_regular(source):
            with contextlib.suppress(PermissionError):
                tree.copy_file(source, target)
    elif disk.stands(pending):
        waiting = root.pending_inputs(job)
        if disk.is_folder(waiting):  # first: nothing answers for them without their seed
            tree.remove(target.parent / INPUTS)
            tree.rename_new(waiting, target.parent / INPUTS)
        tree.remove(target)
        tree.rename_new(pending, target)
        if disk.is_regular(target):
            permissions.own(target)


def rejection(job: str, problems: Iterable[Problem], **known: Any) -> dict[str, Any]:
    """The body of rejection.json, with what is `known` besides, by the names of its members."""
    body = {
        "formatVersion": 1,
        "id": job,
        "pipelineId": None,
        "rejectedAt": timestamp(),
        "task": None,
        "stage": None,
        "problems": [problem.as_json() for problem in problems],
        "answer": None,
        "refinementAttempts": 0,
        "fingerprint": {},
    }
    return {**body, **known}


def run_line(
    exam: Exam,
    run: str,
    ended: Mapping[str, Any],
    *,
    built: Iterable[str] = (),
    execution_ms: float = 0,
    refinements: int = 0,
    earlier: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """A line of runs.jsonl (storage format, section 8); totals are those of this run. `ended` has
    its time and its usage; `earlier` are tasks that earlier runs built, by task."""
    names = list(exam.pipeline.names)
    return {
        "name": exam.seed["name"],
        "pipelineId": run,
        "id": exam.folder.id,
        "finishedAt": ended["finishedAt"],
        "tasks": names,
        "totalExecutionTime": round(execution_ms, 2),
        "totalRefinementAttempts": refinements,
        "finalArtifacts": [name for name in names if not exam.skipped(name)],
        "built": list(built),
        **({"earlier": earlier} if earlier else {}),
        "usage": ended["usage"],
    }


def refusal_body(exam: Exam, task: Task, run: str) -> dict[str, Any]:
    """The body of rejection.json for artifacts that a person rejected, while they stand so."""
    decision, letter = exam.decisions[task.id], exam.letters[task.id]
    assert decision is not None
    assert letter is not None
    return rejection(
        exam.folder.id,
        [Problem(decision.note or f"rejected by {decision.by}")],
        pipelineId=run,
        task=task.id,
        stage=HUMAN_GATE,
        refinementAttempts=letter.refinements,
        fingerprint=letter.fingerprint,
        calls=letter.body.get("calls", []),
    )


def score_refusal(exam: Exam, task: Task, problems: Iterable[Problem], run: str) -> dict[str, Any]:
    """The body of rejection.json for scores of a task that are not as its gate wants them."""
    letter = exam.letters[task.id]
    assert letter is not None
    return rejection(
        exam.folder.id,
        problems,
        pipelineId=run,
        task=task.id,
        stage=scoring.SCORE_STAGE,
        refinementAttempts=letter.refinements,
        fingerprint=letter.fingerprint,
        calls=letter.body.get("calls", []),
    )
