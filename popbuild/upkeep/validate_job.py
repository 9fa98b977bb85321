"""What is wrong with a seed, or with a job's directory in any state."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from popbuild.base import disk, jsonio, tree
from popbuild.base.errors import InputError, PopbuildError
from popbuild.base.paths import COMPLETE, FILE_KINDS, REJECTED, JobFolder, Root, check_name
from popbuild.jobs import seals
from popbuild.jobs.open_job import can_be_listed
from popbuild.jobs.records import (
    is_foreign,
    is_foreign_letter,
    read_artifact,
    read_decision,
    read_json,
    read_letter,
)
from popbuild.jobs.seed_files import BadSeed, key_problems, read_seed
from popbuild.jobs.surroundings import Surroundings
from popbuild.model.config.config import DEFAULT_PIPELINE
from popbuild.model.problem import Problem
from popbuild.model.schema import gate
from popbuild.upkeep.findings import Finding, findings_in_file


def task_names(folder: JobFolder) -> list[str]:
    """The tasks that a job's directory has a folder of."""
    tasks = folder.path / "tasks"
    return sorted(path.name for path in tasks.iterdir()) if tasks.is_dir() else []


def seed_findings(
    root: Root, path: Path, job: str | None, surroundings: Surroundings | None
) -> Iterator[Finding]:
    """What is wrong with a seed, of a job if its name is meant for one. Without `surroundings` the
    configuration cannot be read, and only the seed itself is checked."""
    where = root.show(path)
    try:
        if job is not None:
            check_name("job", job)
    except InputError as error:
        yield Finding(where, Problem(error.as_line()))
    most = jsonio.MAX_QUEUED_BYTES if path.is_relative_to(root.data) else jsonio.MAX_BYTES
    try:
        seed = read_seed(path, where, max_bytes=most)
        if surroundings is not None:
            problems = key_problems(seed, surroundings.config.environment)
            yield from (Finding(where, problem) for problem in problems)
            if seed.get("pipeline", DEFAULT_PIPELINE) not in surroundings.config.broken:
                surroundings.config.pipeline_for(seed)
    except BadSeed as bad:
        yield from (Finding(where, problem) for problem in bad.problems)
    except PopbuildError as error:
        yield Finding(where, Problem(error.as_line(), "/pipeline"))


def job_files(folder: JobFolder, state: str) -> list[tuple[Path, str]]:
    """The JSON files of a job in this state, each with its format."""
    files = [(folder.seed, "seed"), (folder.status, "tasks-status")]
    if state == COMPLETE and folder.seal.exists():
        files.append((folder.seal, "seal"))
    if state == REJECTED:
        # Without a status its seed was rejected: it never became a job.
        files = [*(files if folder.status.exists() else ()), (folder.rejection, "rejection")]
    for task in task_names(folder):
        known = [
            (folder.letter(task), "letter"),
            (folder.decision(task), "decision"),
            (folder.output(task), "output"),
            (folder.execution_logs(task), "execution-logs"),
        ]
        if is_foreign_letter(folder, task):
            del known[0]
        files += [each for each in known if each[0].exists()]
    return files


def job_findings(
    root: Root,
    folder: JobFolder,
    files: list[tuple[Path, str]],
    surroundings: Surroundings | None,
) -> Iterator[tuple[Finding, bool]]:
    """What is wrong with a job, and whether it is a warning; `files` are its `job_files`."""
    for path, kind in files:
        yield from ((each, False) for each in findings_in_file(root, path, kind))
    yield from ((each, False) for each in (*_in_index(root, folder), *_in_tasks(root, folder)))
    if surroundings is not None:
        yield from _in_artifacts(root, folder, surroundings)


def _in_index(root: Root, folder: JobFolder) -> Iterator[Finding]:
    """Indexed files that are missing; in a complete job, files that are not in the index."""
    status = read_json(folder.status)
    files = status.get("files", {}) if isinstance(status, dict) else None
    if not isinstance(files, dict):
        return
    where = root.show(folder.status)
    # A prune that was killed has marked these files: the next one finishes.
    seal = seals.read_seal(folder)
    changing = (seal or {}).get("changing", ())
    for kind, names in files.items():
        for n, name in enumerate(names if isinstance(names, list) else ()):
            place = f"files/{kind}/{name}"
            there = os.path.exists(folder.path / place)  # noqa: PTH110 - a plain test
            if not there and place not in changing:
                problem = Problem(f"the file {place} is missing", f"/files/{kind}/{n}")
                yield Finding(where, problem)
    if folder.path.parent.name != COMPLETE or is_foreign(folder):
        return  # the index is written with a task's end: a crash leaves it behind
    for kind in FILE_KINDS:
        known = files.get(kind)
        for path in sorted(folder.files(kind).glob("[!.]*")):
            place = tree.as_text(f"files/{kind}/{path.name}")
            if not can_be_listed(path) and seals.vouches_for(seal, place):
                continue  # another program's, which came with its job
            if isinstance(known, list) and path.name not in known and place not in changing:
                yield Finding(where, Problem(f"the file {place} is not in the index"))


def _in_tasks(root: Root, folder: JobFolder) -> Iterator[Finding]:
    """Letters and decisions that are not as they were written, and artifacts that letters name and
    that are missing."""
    for task in task_names(folder):
        path = folder.letter(task)
        letter = read_letter(folder, task)
        if path.exists() and letter is None and not is_foreign_letter(folder, task):
            problem = Problem("the letter was altered or is damaged", "/digest")
            yield Finding(root.show(path), problem)
        for name in letter.outputs if letter is not None else ():
            if not disk.is_regular(folder.artifact(name)):
                problem = Problem(f"its artifact {name} is missing", f"/outputs/{name}")
                yield Finding(root.show(path), problem)
        path = folder.decision(task)
        if read_json(path) is not None and read_decision(folder, task) is None:
            problem = Problem("the decision was altered or is damaged", "/digest")
            yield Finding(root.show(path), problem)


def _in_artifacts(
    root: Root, folder: JobFolder, surroundings: Surroundings
) -> Iterator[tuple[Finding, bool]]:
    """Main artifacts that are not JSON, or do not pass the schema that their task was built with,
    where that is still the configured one: what is stale is not judged here. An artifact that
    passed an older gate is a warning: nothing makes it stale."""
    try:
        seed = read_seed(folder.seed, "seed.json", max_bytes=jsonio.MAX_OWN_BYTES)
        pipeline = surroundings.config.pipeline_for(seed)
    except (BadSeed, PopbuildError, OSError):
        return  # reported with the seed
    today = surroundings.config.snapshot.digests
    for task in pipeline.tasks:
        letter = read_letter(folder, task.id)
        value, digest = read_artifact(folder, task)
        if letter is None or digest is None:
            continue  # never built, or reported with the letter
        where = root.show(folder.artifact(task.artifact))
        if value is None:
            yield Finding(where, Problem("not valid JSON")), False
            continue
        if letter.fingerprint.get(f"file:{task.schema}") != today.get(task.schema or ""):
            continue
        try:
            schema, _ = surroundings.schema(task)
        except PopbuildError:
            continue  # reported with the schema
        as_built = letter.outputs.get(task.artifact) == digest and not letter.edited
        for problem in gate.judge(value, schema) if schema is not None else ():
            message = f"would not pass today's gate: {problem.message}"
            shown = replace(problem, message=message) if as_built else problem
            yield Finding(where, shown), as_built
