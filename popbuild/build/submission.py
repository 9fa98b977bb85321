"""One-off jobs: a seed and its files are copied to pending/, the files first."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from popbuild.base import disk, jsonio, tree
from popbuild.base.errors import InputError, UsageError
from popbuild.base.paths import Root, check_name
from popbuild.build.given_files import GivenFile, below, file_at, is_packed, packed_seed
from popbuild.jobs import job_ids, lifecycle
from popbuild.jobs.row_templates import Filled, compiled_id
from popbuild.jobs.seed_files import BadSeed, key_problems, read_seed, refuse_bad_seed
from popbuild.jobs.table_rows import read_rows
from popbuild.model.clock import run_id
from popbuild.model.config import config
from popbuild.model.input_file import (
    BadInput,
    document_of,
    input_name,
    input_place,
    named_inputs,
)
from popbuild.model.problem import Problem, pointer_of
from popbuild.model.table import TABLE_KINDS, Form, table_kind
from popbuild.query.describe import seed_error


def submit(root: Root, path: Path, job: str | None, files: Mapping[str, Path]) -> str:
    """Queue a one-off job; gives its ID. The path is that of a seed, whose files are the root's, or
    of a folder or a zip file with a `seed.json` and its files. `files` go with it besides, by the
    names that they have in the seed."""
    job = run_id() if job is None else check_name("job", job)
    given = {name: file_at(each) for name, each in files.items()}
    with contextlib.ExitStack() as held:
        own: Mapping[str, GivenFile] = {}
        try:
            if is_packed(path):
                seed, own = held.enter_context(packed_seed(path))
            else:
                seed = read_seed(path, str(path))
        except FileNotFoundError as error:
            values = {"file": error.filename or error}
            hint = "seed.json stands at the top, in no folder of it" if is_packed(path) else ""
            raise UsageError("no such seed file", values, hint) from None
        except BadSeed as bad:
            raise seed_error(bad) from None
        return queue(root, seed, job, {**own, **given})


def submit_table(
    root: Root, path: Path, name: str | None, pipeline: str | None, sheet: str = ""
) -> list[str]:
    """Queue a one-off job for each row of a table; gives their IDs. `name` is the template of an
    ID, None for new ones; `sheet` is one of a workbook, empty for the first. Nothing is queued if a
    row is odd, or two have the same ID."""
    where = str(path)
    try:
        rows = read_rows(path, where, Form(sheet=sheet))
    except FileNotFoundError:
        raise UsageError("no such file", {"file": where}) from None
    more = {} if pipeline is None else {"pipeline": pipeline}
    known = {each.casefold() for each in job_ids.known_jobs(root)}
    seeds: dict[str, dict[str, Any]] = {}
    places: dict[str, str] = {}
    id_of = None if name is None else compiled_id(name, "--id")
    for row in rows:
        at = f"{where}, {row.at}"
        if row.values is None:
            raise InputError("a row cannot be read", {"at": at, "found": row.problem})
        job = run_id() if id_of is None else _id_of_row(row.values, id_of, at)
        hint = "--id makes an ID of a row: --id 'review-{{ row.id }}'"
        other = places.setdefault(job.casefold(), row.at)
        if other != row.at:
            values = {"job": job, "at": f"{where}, {other} and {row.at}"}
            raise UsageError("two rows make a job of the same ID", values, hint)
        if job.casefold() in known:
            raise UsageError("there is a job with this ID already", {"job": job, "at": at}, hint)
        seeds[job] = {"name": job, **more, "data": row.values}
    environment = config.environment_of(root, os.environ)
    try:
        for job, seed in seeds.items():  # all of them, before the first is queued
            job_ids.refuse_keys(job, environment)
            refuse_bad_seed(seed, f"the seed of {job}")
            if problems := key_problems(seed, environment):
                raise BadSeed(f"the seed of {job}", problems)
        lifecycle.prepare_root(root)
        for job, seed in seeds.items():
            _put_seed(root, seed, job, {})
    except BadSeed as bad:
        raise seed_error(bad) from None
    return list(seeds)


def _id_of_row(row: Mapping[str, Any], id_of: Filled, at: str) -> str:
    try:
        return check_name("job", str(id_of(row)))
    except InputError as error:
        raise InputError(error.message, {**error.values, "at": at}, error.hint) from None


def is_table(path: Path) -> bool:
    """Whether a file that is submitted is a table: a seed is a JSON object."""
    if path.suffix.lower() == ".json":
        with contextlib.suppress(OSError), disk.open_to_read(path) as file:
            return os.read(file, 1024).lstrip().startswith(b"[")
    return table_kind(str(path)) in TABLE_KINDS and path.suffix.lower() != ".json"


def queue(
    root: Root,
    seed: Mapping[str, Any],
    job: str | None,
    files: Mapping[str, GivenFile] | None = None,
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
        _put_seed(root, seed, job, files or {})
    except BadSeed as bad:
        raise seed_error(bad) from None
    return job


def _put_seed(
    root: Root, seed: Mapping[str, Any], job: str, files: Mapping[str, GivenFile]
) -> None:
    """Put a seed that is checked into pending/, its files first. Raises BadSeed for these."""
    _put_files(root, seed, job, files)
    data = jsonio.dumps(seed, sort=False)
    if len(data) > jsonio.MAX_QUEUED_BYTES:  # with the indentation of many levels
        data = jsonio.compact(seed).encode()
    disk.write(root.pending(job), data)


def _with_files(seed: Mapping[str, Any], files: Mapping[str, GivenFile]) -> dict[str, Any]:
    """The seed with the files that go with it: each is named as it will stand in the job."""
    if not files:
        return dict(seed)
    own = {name: input_place(name, each.where) for name, each in files.items()}
    found = {**seed, "files": {**named_inputs(seed), **own}}
    refuse_bad_seed(found, "the seed")
    return found


def _put_files(
    root: Root, seed: Mapping[str, Any], job: str, files: Mapping[str, GivenFile]
) -> None:
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
            file = files.get(name) or below(root.path, source)
            try:
                _put_file(file, beside / input_name(name, source))
            except InputError as error:
                said = f"{file.where}: {error.as_line()}"
                problems.append(Problem(said, pointer_of(["files", name])))
        if problems:
            raise BadSeed("the seed", tuple(problems))
        disk.sync_folder(beside)
        tree.rename_new(beside, target)
    finally:
        tree.remove(beside)


def _put_file(file: GivenFile, target: Path) -> None:
    """Copy one file. InputError where it cannot be used."""
    try:
        file.put(target)
        document_of(disk.read(target), target.name)
    except BadInput as bad:
        raise InputError(str(bad)) from None
    except (FileNotFoundError, NotADirectoryError):
        raise InputError("there is no such file") from None
    except PermissionError as error:
        raise InputError("cannot be read", {"found": error.strerror}) from None
