"""One-off jobs: a seed and its files are copied to pending/, the files first."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from popbuild.base import copies, disk, jsonio, tree
from popbuild.base.errors import InputError, UsageError
from popbuild.base.paths import Root, check_name
from popbuild.jobs import job_ids, lifecycle
from popbuild.jobs.seed_files import BadSeed, key_problems, read_seed, refuse_bad_seed
from popbuild.model.clock import run_id
from popbuild.model.config import config
from popbuild.model.input_file import (
    MAX_INPUT_BYTES,
    BadInput,
    document_of,
    input_name,
    input_place,
    named_inputs,
)
from popbuild.model.problem import Problem, pointer_of
from popbuild.query.describe import seed_error


def submit(root: Root, file: Path, job: str | None, files: Mapping[str, Path]) -> str:
    """Queue a one-off job from a seed file; gives its ID. The seed must be valid. `files` go with
    it, by the names that they have in the seed; those that it names besides are the root's."""
    job = run_id() if job is None else check_name("job", job)
    try:
        seed = read_seed(file, str(file))
    except FileNotFoundError:
        raise UsageError("no such seed file", {"file": file}) from None
    except BadSeed as bad:
        raise seed_error(bad) from None
    return queue(root, seed, job, files)


def queue(
    root: Root, seed: Mapping[str, Any], job: str | None, files: Mapping[str, Path] | None = None
) -> str:
    """Queue a one-off job from a seed that is valid, as `submit` does; gives its ID."""
    job = run_id() if job is None else check_name("job", job)
    environment = config.environment_of(root, os.environ)
    job_ids.refuse_keys(job, environment)
    try:
        seed = _with_files(seed, files or {})
        if problems := key_problems(seed, environment):
            raise BadSeed("the seed", problems)
        if job.casefold() in {each.casefold() for each in job_ids.known_jobs(root)}:
            raise UsageError(
                "there is a job with this ID already",
                {"job": job},
                hint="choose another ID, or edit its seed and run it",
            )
        lifecycle.prepare_root(root)
        _put_files(root, seed, job, files or {})
    except BadSeed as bad:
        raise seed_error(bad) from None
    data = jsonio.dumps(seed, sort=False)
    if len(data) > jsonio.MAX_QUEUED_BYTES:  # with the indentation of many levels
        data = jsonio.compact(seed).encode()
    disk.write(root.pending(job), data)
    return job


def _with_files(seed: Mapping[str, Any], files: Mapping[str, Path]) -> dict[str, Any]:
    """The seed with the files that go with it: each is named as it will stand in the job."""
    if not files:
        return dict(seed)
    own = {name: input_place(name, path.name) for name, path in files.items()}
    found = {**seed, "files": {**named_inputs(seed), **own}}
    refuse_bad_seed(found, "the seed")
    return found


def _put_files(root: Root, seed: Mapping[str, Any], job: str, files: Mapping[str, Path]) -> None:
    """Copy the files of a seed to pending/<id>-inputs/, where they are durable once it returns.
    Raises BadSeed for those that cannot be used."""
    target = root.pending_inputs(job)
    tree.remove(target)  # of a submit that was killed
    sources = named_inputs(seed)
    if not sources:
        return
    beside = disk.temporary_beside(target)
    disk.make_folder(beside)
    problems = []
    try:
        for name, source in sources.items():
            try:
                _put_file(root, files.get(name), source, beside / input_name(name, source))
            except InputError as error:
                said = f"{files.get(name, source)}: {error.as_line()}"
                problems.append(Problem(said, pointer_of(["files", name])))
        if problems:
            raise BadSeed("the seed", tuple(problems))
        disk.sync_folder(beside)
        tree.rename_new(beside, target)
    finally:
        tree.remove(beside)


def _put_file(root: Root, given: Path | None, source: str, target: Path) -> None:
    """Copy one file, given by a person or of the root. InputError where it cannot be used."""
    if given is None:
        link = tree.link_on_the_way(str(root.path), source)
        if link is not None:
            raise InputError("below a symbolic link", {"found": link})
    try:
        copies.put_copy(given or root.path / source, target, max_bytes=MAX_INPUT_BYTES)
        document_of(disk.read(target), target.name)
    except BadInput as bad:
        raise InputError(str(bad)) from None
    except FileNotFoundError:
        raise InputError("there is no such file") from None
    except PermissionError as error:
        raise InputError("cannot be read", {"found": error.strerror}) from None
