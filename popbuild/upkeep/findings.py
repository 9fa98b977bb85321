"""What is wrong with a file of ours, a seed, or a job's directory in any state."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from popbuild.base import disk, jsonio, tree
from popbuild.base.errors import InputError, PopbuildError
from popbuild.base.paths import COMPLETE, REJECTED, JobFolder, Root, check_name, seed_place
from popbuild.base.roots import as_seen
from popbuild.jobs import records
from popbuild.jobs.extraction import EXTRACTED, is_installed, looks_at_files, not_installed
from popbuild.jobs.input_files import InputFiles, own_inputs
from popbuild.jobs.records import listed_tasks
from popbuild.jobs.seed_files import BadSeed, key_problems, read_seed
from popbuild.jobs.surroundings import Surroundings
from popbuild.jobs.table_seeds import RowSeed
from popbuild.model.config.config import DEFAULT_PIPELINE
from popbuild.model.job_groups import named_groups
from popbuild.model.problem import Problem, pointer_of
from popbuild.model.schema import gate, schemas
from popbuild.task.attaching import attachment_problems
from popbuild.upkeep.ailments import index_gaps


@dataclass(frozen=True)
class Finding:
    """A problem, and the file that it is in. A warning names what may not be meant."""

    file: str
    problem: Problem
    is_warning: bool = False

    def as_json(self) -> dict[str, Any]:
        return {"file": self.file, **self.problem.as_json()}

    def as_seen(self, root: Root) -> Finding:
        """The finding of the file that the root's variant has."""
        return replace(self, file=as_seen(root, self.file))


def findings_of_error(error: PopbuildError, *, is_warning: bool = False) -> Iterator[Finding]:
    """An error as findings: one for each place that it names."""
    names = [name for name in ("file", "pipeline", "folder", "missing") if name in error.values]
    file = error.values[names[0]] if names else "pipeline-config/"
    numbered = [name for name in error.values if name == "at" or name.startswith("at ")]
    if len(numbered) > 1:
        said = [error.values[name] for name in numbered]
    else:
        said = [error.as_line(without=names[:1])]
    yield from (Finding(file, Problem(each), is_warning) for each in said)


def findings_in_file(root: Root, path: Path, kind: str) -> Iterator[Finding]:
    """What is wrong with a JSON file of ours, by the schema of its kind."""
    where = root.show(path)
    most = jsonio.MAX_BYTES if kind == "samples" else jsonio.MAX_OWN_BYTES
    try:
        body = jsonio.loads(disk.read(path, max_bytes=most), where, max_bytes=most)
    except FileNotFoundError:
        yield Finding(where, Problem("the file is missing"))
    except InputError as error:
        yield Finding(where, Problem(error.as_line()))
    except OSError as error:
        yield Finding(where, Problem(f"cannot be read: {error.strerror}"))
    else:
        for problem in gate.judge(body, schemas.for_format(kind)):
            yield Finding(where, problem)


def findings_in_lines(root: Root, path: Path, kind: str) -> Iterator[Finding]:
    """What is wrong with a file of JSON lines."""
    where = root.show(path)
    try:
        data = disk.read(path)
    except InputError as error:
        yield Finding(where, Problem(error.as_line()))
        return
    for number, line in enumerate(data.splitlines(), 1):
        try:
            judged = gate.judge(jsonio.loads(line, where), schemas.for_format(kind))
            problems = [str(problem) for problem in judged]
        except InputError as error:
            problems = [f"{error.message}, {error.values.get('found', '')}"]
        yield from (Finding(where, Problem(f"line {number}: {problem}")) for problem in problems)


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
    # A seed from elsewhere is read as one of the root's own.
    place = where if path.is_relative_to(root.path) else seed_place(job or "")
    read = functools.partial(read_seed, path, where, max_bytes=most)
    yield from _seed_findings(where, place, read, job, surroundings)


def row_findings(job: str, row: RowSeed, surroundings: Surroundings | None) -> Iterator[Finding]:
    """What is wrong with the seed that a row makes."""
    read = functools.partial(row.seed, job)
    yield from _seed_findings(row.place, row.place, read, job, surroundings)


def _seed_findings(
    where: str,
    place: str,
    read: Callable[[], dict[str, Any]],
    job: str | None,
    surroundings: Surroundings | None,
) -> Iterator[Finding]:
    try:
        seed = read()
        if surroundings is not None:
            problems = key_problems(seed, surroundings.config.environment)
            yield from (Finding(where, problem) for problem in problems)
            for name, glob in named_groups(seed).items():
                if not surroundings.names.with_source(glob, job or ""):
                    said = f"{glob} matches no job"
                    yield Finding(where, Problem(said, pointer_of(["jobs", name])))
            files = surroundings.inputs.find(job or "", seed, place)
            if seed.get("pipeline", DEFAULT_PIPELINE) not in surroundings.config.broken:
                pipeline = surroundings.config.pipeline_for(seed)
                for wrong in attachment_problems(pipeline, files):
                    yield Finding(where, Problem(wrong.as_line(without=())))
                if not is_installed() and looks_at_files(surroundings.config, pipeline):
                    yield from (Finding(where, each) for each in _unreadable(files))
    except BadSeed as bad:
        yield from (Finding(where, problem) for problem in bad.problems)
    except PopbuildError as error:
        yield Finding(where, Problem(error.as_line(), "/pipeline"))


def _unreadable(files: InputFiles) -> Iterator[Problem]:
    """The documents of a seed whose texts need a library that is not installed."""
    for name, file in files.items():
        if file.is_unread:
            said = not_installed(file.place).as_line(without=())
            yield Problem(said, pointer_of(["files", name]))


def job_files(folder: JobFolder, state: str) -> list[tuple[Path, str]]:
    """The JSON files of a job in this state, each with its format."""
    files = [(folder.seed, "seed"), (folder.status, "tasks-status")]
    if state == COMPLETE and folder.seal.exists():
        files.append((folder.seal, "seal"))
    if state == REJECTED:
        # Without a status its seed was rejected: it never became a job.
        files = [*(files if folder.status.exists() else ()), (folder.rejection, "rejection")]
    texts = [folder.path / (each + EXTRACTED) for each in own_inputs(folder).values()]
    files += [(path, "extraction") for path in texts if disk.stands(path)]
    for task in listed_tasks(folder, None):
        ours = [] if records.is_foreign_letter(folder, task) else [(folder.letter(task), "letter")]
        known = [
            *ours,
            (folder.decision(task), "decision"),
            (folder.output(task), "output"),
            (folder.execution_logs(task), "execution-logs"),
        ]
        files += [each for each in known if each[0].exists()]
    return files


def job_findings(
    root: Root,
    folder: JobFolder,
    files: list[tuple[Path, str]],
    surroundings: Surroundings | None,
) -> Iterator[Finding]:
    """What is wrong with a job; `files` are its `job_files`."""
    for path, kind in files:
        yield from findings_in_file(root, path, kind)
    for task in listed_tasks(folder, None):
        if folder.items(task).exists():
            yield from findings_in_lines(root, folder.items(task), "items")
    yield from _in_inputs(root, folder)
    yield from _in_index(root, folder)
    yield from _in_tasks(root, folder)
    if surroundings is not None:
        yield from _in_artifacts(root, folder, surroundings)


def _in_inputs(root: Root, folder: JobFolder) -> Iterator[Finding]:
    """Files that the job's seed names, and that are missing beside it."""
    for name, place in own_inputs(folder).items() if disk.stands(folder.status) else ():
        if not disk.is_regular(folder.path / place):
            at = pointer_of(["files", name])
            yield Finding(root.show(folder.seed), Problem(f"the file {place} is missing", at))


def _in_index(root: Root, folder: JobFolder) -> Iterator[Finding]:
    """Indexed files that are missing; in a complete job, files that are not in the index."""
    status = records.read_json(folder.status)
    index = status.get("files") if isinstance(status, dict) else None
    where = root.show(folder.status)
    for gap in index_gaps(folder, index) if isinstance(index, dict) else ():
        place = tree.as_text(gap.place)
        if gap.is_changing:
            continue  # a prune that was killed: the next one finishes it
        if gap.number is None:
            yield Finding(where, Problem(f"the file {place} is not in the index"))
        else:
            at = f"/files/{gap.kind}/{gap.number}"
            yield Finding(where, Problem(f"the file {place} is missing", at))


def _in_tasks(root: Root, folder: JobFolder) -> Iterator[Finding]:
    """Letters and decisions that are not as they were written, and artifacts that letters name and
    that are missing."""
    for task in listed_tasks(folder, None):
        path = folder.letter(task)
        letter = records.read_letter(folder, task)
        if path.exists() and letter is None and not records.is_foreign_letter(folder, task):
            problem = Problem("the letter was altered or is damaged", "/digest")
            yield Finding(root.show(path), problem)
        for name in letter.outputs if letter is not None else ():
            if not disk.is_regular(folder.artifact(name)):
                problem = Problem(f"its artifact {name} is missing", f"/outputs/{name}")
                yield Finding(root.show(path), problem)
        path = folder.decision(task)
        if records.read_json(path) is not None and records.read_decision(folder, task) is None:
            problem = Problem("the decision was altered or is damaged", "/digest")
            yield Finding(root.show(path), problem)


def _in_artifacts(root: Root, folder: JobFolder, surroundings: Surroundings) -> Iterator[Finding]:
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
        letter = records.read_letter(folder, task.id)
        value, digest = records.read_artifact(folder, task)
        if letter is None or digest is None:
            continue  # never built, or reported with the letter
        where = root.show(folder.artifact(task.artifact))
        if value is None:
            yield Finding(where, Problem("not valid JSON"))
            continue
        if letter.fingerprint.get(f"file:{task.schema}") != today.get(task.schema or ""):
            continue
        try:
            schema, _ = surroundings.schema(task)
        except PopbuildError:
            continue  # reported with the schema
        as_built = letter.outputs.get(task.artifact) == digest and not letter.edited
        for problem in gate.judge_main(value, schema, of_items=bool(task.foreach)):
            message = f"would not pass today's gate: {problem.message}"
            shown = replace(problem, message=message) if as_built else problem
            yield Finding(where, shown, is_warning=as_built)
