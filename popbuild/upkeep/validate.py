"""Check configuration, seeds and jobs in any state: every problem, not the first."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from popbuild.base import disk, jsonio
from popbuild.base.errors import InputError, NotOursError, PopbuildError, UsageError
from popbuild.base.paths import COMPLETE, CURRENT, FILE_KINDS, REJECTED, JobFolder, Root, check_name
from popbuild.jobs import job_ids, seals
from popbuild.jobs.foreign import is_foreign
from popbuild.jobs.open_job import can_be_listed
from popbuild.jobs.records import (
    is_foreign_letter,
    read_artifact,
    read_decision,
    read_json,
    read_letter,
)
from popbuild.jobs.seed_files import BadSeed, key_problems, read_seed
from popbuild.jobs.surroundings import Surroundings
from popbuild.model.config import config
from popbuild.model.config.config import Config
from popbuild.model.config.rules import has_ours
from popbuild.model.problem import Problem
from popbuild.model.schema import gate, schemas
from popbuild.upkeep.archive import age, tarball


@dataclass(frozen=True)
class Finding:
    """One thing that `validate` found wrong: the file, and the problem in it."""

    file: str
    problem: Problem

    def as_json(self) -> dict[str, Any]:
        return {"file": self.file, **self.problem.as_json()}


@dataclass
class Validation:
    """Everything that was looked at, and everything that is wrong with it. `warnings` are what may
    not be meant, and stop nothing."""

    checked: int
    findings: list[Finding]
    seconds: float
    warnings: list[Finding] = field(default_factory=list)


def validate(root: Root, paths: Iterable[Path] = ()) -> Validation:
    """Check configuration, seeds and jobs in any state: the given paths, or everything."""
    started = time.monotonic()
    found: list[Finding] = []
    warnings: list[Finding] = []
    checked = 0
    given = [path.resolve() for path in paths]
    for path in given:
        if not path.exists():
            raise UsageError("no such file or folder", {"path": path})

    met: set[Path] = set()

    def wanted(path: Path) -> bool:
        meant = {each for each in given if path.is_relative_to(each) or each.is_relative_to(path)}
        met.update(meant)
        return not given or bool(meant)

    reading = config.read_config(root)
    settings, problems = replace(reading.config, pipelines=reading.in_part), reading.problems
    surroundings = None if reading.for_all else Surroundings(reading.config)
    if wanted(root.config):
        checked += len(settings.snapshot.files)
        # Another program's configuration is not wrong because it cannot be built here. One with
        # tasks of ours is meant to be built.
        ours = has_ours(settings.snapshot.files)
        theirs = [each for each in problems if isinstance(each, NotOursError) and not ours]
        found += [each for error in problems if error not in theirs for each in _findings(error)]
        warnings += [each for error in theirs for each in _findings(error)]
        found += list(_validate_tasks(settings, warnings))
        doubtful = _doubts(settings)
        found += [finding for finding, is_warning in doubtful if not is_warning]
        warnings += [finding for finding, is_warning in doubtful if is_warning]
        found += [
            Finding(root.show(root.config / path), Problem("a private key lies in the root"))
            for path, data in settings.snapshot.files.items()
            if age.holds_private_key(data)
        ]
    for path in sorted(root.seeds.glob("*.json")) if root.seeds.is_dir() else ():
        if wanted(path):
            checked += 1
            found += _validate_seed(root, path, path.stem, surroundings)
    samples = [path for path in sorted(root.samples("any").parent.glob("*.json")) if wanted(path)]
    checked += len(samples)
    found += [each for path in samples for each in _validate_file(root, path, "samples")]
    found += _validate_names(root) if not given else []
    for path in sorted((root.data / "pending").glob("*-seed.json")):
        if wanted(path):
            checked += 1
            job = path.name.removesuffix("-seed.json")
            found += _validate_seed(root, path, job, surroundings)
    for state in (CURRENT, COMPLETE, REJECTED):
        for path in sorted((root.data / state).glob("[!.]*/")):
            if path.is_dir() and path != root.runs and wanted(path):
                count, more = _validate_job(root, JobFolder(path), state, surroundings, warnings)
                checked += count
                # What another program wrote is as that wants it.
                (warnings if is_foreign(JobFolder(path)) else found).extend(more)
    for path, look in _loose_files(root):
        if wanted(path) and path.exists():
            checked += 1
            found += look()
    for path in given:
        if path not in met and not path.is_dir():
            checked += 1
            found += _validate_stranger(root, path, surroundings)
    return Validation(checked, found, time.monotonic() - started, warnings)


def _findings(error: PopbuildError) -> Iterator[Finding]:
    """An error as lines of the list: one for each place that it names."""
    names = [name for name in ("file", "pipeline", "folder", "missing") if name in error.values]
    file = error.values[names[0]] if names else "pipeline-config/"
    numbered = [name for name in error.values if name == "at" or name.startswith("at ")]
    if len(numbered) > 1:
        for name in numbered:
            yield Finding(file, Problem(error.values[name]))
    else:
        yield Finding(file, Problem(error.as_line(without=names[:1])))


def _validate_tasks(settings: Config, warnings: list[Finding]) -> Iterator[Finding]:
    """Schemas that compile, templates and code that parse."""
    from popbuild.query.preview import template_problems, unusable

    around = Surroundings(settings)
    seen: set[str] = set()
    for pipeline in settings.pipelines.values():
        for task in pipeline.tasks:
            if task.folder in seen:
                continue
            seen.add(task.folder)
            try:
                around.sent_schema(task)
                for path, problem in around.schema_warnings(task):
                    warnings.append(Finding(f"pipeline-config/{path}", problem))
            except PopbuildError as error:
                yield from _findings(error)
            for each in (*template_problems(settings, task), *unusable(settings, task)):
                yield from _findings(each)


def _doubts(settings: Config) -> list[tuple[Finding, bool]]:
    """What is misspelt, or names what is not there: each once, and whether it is a warning."""
    from popbuild.upkeep.misspelt import doubts

    found: dict[tuple[Finding, bool], None] = {}
    for pipeline in settings.pipelines.values():
        for task in pipeline.tasks:
            for doubt in doubts(settings, pipeline, task):
                found |= dict.fromkeys((each, doubt.is_warning) for each in _findings(doubt.error))
    return list(found)


def _validate_names(root: Root) -> list[Finding]:
    """No two jobs have IDs that differ only by case."""
    seen: dict[str, str] = {}
    found = []
    for job in job_ids.known_jobs(root):
        other = seen.setdefault(job.casefold(), job)
        if other != job:
            problem = Problem(f"its ID differs from that of {other} only by upper and lower case")
            found.append(Finding(job_ids.place_of(root, job), problem))
    return found


def _validate_seed(
    root: Root, path: Path, job: str | None, surroundings: Surroundings | None
) -> list[Finding]:
    where = root.show(path)
    found = []
    if job is not None:
        try:
            check_name("job", job)
        except InputError as error:
            found.append(Finding(where, Problem(error.as_line())))
    most = jsonio.MAX_QUEUED_BYTES if path.is_relative_to(root.data) else jsonio.MAX_BYTES
    try:
        seed = read_seed(path, where, max_bytes=most)
        if surroundings is not None:
            problems = key_problems(seed, surroundings.config.environment)
            found += [Finding(where, problem) for problem in problems]
            if seed.get("pipeline", config.DEFAULT_PIPELINE) not in surroundings.config.broken:
                surroundings.config.pipeline_for(seed)
    except BadSeed as bad:
        found += [Finding(where, problem) for problem in bad.problems]
    except PopbuildError as error:
        found.append(Finding(where, Problem(error.as_line(), "/pipeline")))
    return found


def _validate_job(
    root: Root,
    folder: JobFolder,
    state: str,
    surroundings: Surroundings | None,
    warnings: list[Finding],
) -> tuple[int, list[Finding]]:
    link = disk.first_link(str(folder.path))
    if link is not None:
        problem = Problem("a symbolic link: nothing of the job was read")
        return 1, [Finding(root.show(Path(link)), problem)]
    files = [(folder.seed, "seed"), (folder.status, "tasks-status")]
    if state == COMPLETE and folder.seal.exists():
        files.append((folder.seal, "seal"))
    if state == REJECTED:
        files.append((folder.rejection, "rejection"))
        if not folder.status.exists():  # a bad seed: it never became a job
            files = [(folder.rejection, "rejection")]
    tasks = folder.path / "tasks"
    for task in sorted(tasks.iterdir()) if tasks.is_dir() else ():
        files += [
            (path, kind)
            for path, kind in (
                (folder.letter(task.name), "letter"),
                (folder.decision(task.name), "decision"),
                (folder.output(task.name), "output"),
                (folder.execution_logs(task.name), "execution-logs"),
            )
            if path.exists() and not (kind == "letter" and is_foreign_letter(folder, task.name))
        ]
    found: list[Finding] = []
    for path, kind in files:
        found += _validate_file(root, path, kind)
    found += _validate_index(root, folder, state)
    found += _validate_letters(root, folder)
    found += _validate_decisions(root, folder)
    if surroundings is not None:
        found += _validate_artifacts(root, folder, surroundings, warnings)
    return len(files), found


def _validate_file(root: Root, path: Path, kind: str) -> list[Finding]:
    where = root.show(path)
    try:
        most = jsonio.MAX_BYTES if kind == "samples" else jsonio.MAX_OWN_BYTES
        body = jsonio.loads(disk.read(path, max_bytes=most), where, max_bytes=most)
    except FileNotFoundError:
        return [Finding(where, Problem("the file is missing"))]
    except InputError as error:
        return [Finding(where, Problem(error.as_line()))]
    except OSError as error:
        return [Finding(where, Problem(f"cannot be read: {error.strerror}"))]
    problems = gate.judge(body, schemas.for_format(kind))
    return [Finding(where, problem) for problem in problems]


def _validate_index(root: Root, folder: JobFolder, state: str) -> list[Finding]:
    """Every indexed file exists; in a complete job, every file is in the index."""
    status = read_json(folder.status)
    files = status.get("files", {}) if isinstance(status, dict) else None
    if not isinstance(files, dict):
        return []
    where = root.show(folder.status)
    # A prune that was killed has said of these that they go: the next one finishes.
    seal = seals.read_seal(folder)
    changing = (seal or {}).get("changing", ())
    found = [
        Finding(where, Problem(f"the file files/{kind}/{name} is missing", f"/files/{kind}/{n}"))
        for kind, names in files.items()
        if isinstance(names, list)
        for n, name in enumerate(names)
        if not os.path.exists(folder.files(kind) / str(name))  # noqa: PTH110 - a plain test
        and f"files/{kind}/{name}" not in changing
    ]
    if state != COMPLETE or is_foreign(folder):
        return found  # the index is written with a task's end: a crash leaves it behind
    for kind in FILE_KINDS:
        known = files.get(kind)
        for path in sorted(folder.files(kind).glob("[!.]*")):
            listed = not isinstance(known, list) or path.name in known
            place = disk.as_text(f"files/{kind}/{path.name}")
            if not can_be_listed(path) and seals.vouches_for(seal, place):
                continue  # another program's, which came with its job
            if not listed and place not in changing:
                problem = Problem(f"the file {place} is not in the index")
                found.append(Finding(where, problem))
    return found


def _validate_letters(root: Root, folder: JobFolder) -> list[Finding]:
    """Every letter is whole, and every artifact is as its letter says."""
    found = []
    tasks = folder.path / "tasks"
    for task in sorted(tasks.iterdir()) if tasks.is_dir() else ():
        path = folder.letter(task.name)
        if not path.exists():
            continue
        if is_foreign_letter(folder, task.name):
            continue
        letter = read_letter(folder, task.name)
        where = root.show(path)
        if letter is None:
            found.append(Finding(where, Problem("the letter was altered or is damaged", "/digest")))
            continue
        for name in letter.outputs:
            if not disk.is_regular(folder.artifact(name)):
                problem = Problem(f"its artifact {name} is missing", f"/outputs/{name}")
                found.append(Finding(where, problem))
    return found


def _validate_decisions(root: Root, folder: JobFolder) -> Iterator[Finding]:
    """Every decision is whole: one that is not holds for nothing."""
    tasks = folder.path / "tasks"
    for task in sorted(tasks.iterdir()) if tasks.is_dir() else ():
        body = read_json(folder.decision(task.name))
        if body is not None and read_decision(folder, task.name) is None:
            where = root.show(folder.decision(task.name))
            yield Finding(where, Problem("the decision was altered or is damaged", "/digest"))


def _validate_artifacts(
    root: Root, folder: JobFolder, surroundings: Surroundings, warnings: list[Finding]
) -> Iterator[Finding]:
    """Every main artifact is JSON and passes the schema that its task was built with, as far as
    that is still the configured one; a stale task is none of validate's business. One that passed
    as it stands, under a gate of before, is a warning: nothing makes it stale."""
    try:
        seed = read_seed(folder.seed, "seed.json", max_bytes=jsonio.MAX_OWN_BYTES)
        pipeline = surroundings.config.pipeline_for(seed)
    except (BadSeed, PopbuildError, OSError):
        return  # told of the seed already
    for task in pipeline.tasks:
        letter = read_letter(folder, task.id)
        value, digest = read_artifact(folder, task)
        if letter is None or digest is None:
            continue  # never built, or told of the letter already
        where = root.show(folder.artifact(task.artifact))
        if value is None:
            yield Finding(where, Problem("not valid JSON"))
            continue
        key = f"file:{task.schema}"
        if letter.fingerprint.get(key) != surroundings.config.snapshot.digests.get(
            task.schema or ""
        ):
            continue
        try:
            schema, _ = surroundings.schema(task)
        except PopbuildError:
            continue  # told of the schema already
        problems = gate.judge(value, schema) if schema is not None else ()
        if letter.outputs.get(task.artifact) == digest and not letter.edited:
            warnings += [Finding(where, _of_old_gate(problem)) for problem in problems]
        else:
            yield from (Finding(where, problem) for problem in problems)


def _of_old_gate(problem: Problem) -> Problem:
    """A problem of what was built before the gate knew it."""
    return replace(problem, message=f"would not pass today's gate: {problem.message}")


def _loose_files(root: Root) -> Iterator[tuple[Path, Callable[[], list[Finding]]]]:
    """The files of a root that belong to no job, and what looks at them."""
    yield root.runs, lambda: _validate_lines(root, root.runs, "run")
    yield root.runs_copy, lambda: _validate_lines(root, root.runs_copy, "runs-copy")
    unpacked = root.path / tarball.CONTENTS  # tar leaves it there
    yield unpacked, lambda: _validate_file(root, unpacked, "archive")


def _validate_stranger(root: Root, path: Path, surroundings: Surroundings | None) -> list[Finding]:
    """A file wherever it lies: an archive, or else a draft of a seed."""
    from popbuild.upkeep.archive import write

    if not disk.is_regular(path) or not write.looks_like_one(path):
        return _validate_seed(root, path, None, surroundings)
    # It is read in full: every file in it against its digest, and what it says of them.
    where = root.show(path)
    try:
        contents = write.check_archive(path, ())
    except PopbuildError as error:
        return [Finding(where, Problem(error.as_line(without=("file",))))]
    problems = gate.judge(contents.as_json(), schemas.for_format("archive"))
    return [Finding(where, problem) for problem in problems]


def _validate_lines(root: Root, path: Path, kind: str) -> list[Finding]:
    where = root.show(path)
    found: list[Finding] = []
    try:
        data = disk.read(path)
    except InputError as error:
        return [Finding(where, Problem(error.as_line()))]
    for number, line in enumerate(data.splitlines(), 1):
        try:
            body = jsonio.loads(line, where)
        except InputError as error:
            problem = Problem(f"line {number}: {error.message}, {error.values.get('found', '')}")
            found.append(Finding(where, problem))
            continue
        found += [
            Finding(where, Problem(f"line {number}: {problem}"))
            for problem in gate.judge(body, schemas.for_format(kind))
        ]
    return found
