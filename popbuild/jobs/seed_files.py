"""Seeds, read strictly: a bad one gives its problems."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from popbuild.base import disk, jsonio
from popbuild.base.errors import InputError
from popbuild.base.paths import NO_DEVICE, name_problem
from popbuild.base.redact import key_in_name
from popbuild.model.input_file import MAX_INPUTS, MAX_PATH, input_problems
from popbuild.model.problem import Problem
from popbuild.model.schema import gate, schemas

MAX_SEED_BYTES = jsonio.MAX_BYTES


class BadSeed(Exception):
    """A seed that cannot start a job, with its problems."""

    def __init__(self, where: str, problems: tuple[Problem, ...]) -> None:
        super().__init__(where)
        self.where = where
        self.problems = problems


def read_seed(path: str | Path, where: str, *, max_bytes: int = MAX_SEED_BYTES) -> dict[str, Any]:
    """A seed, strict and valid. Raises BadSeed or FileNotFoundError. Our copies may be larger."""
    try:
        data = disk.read(path, max_bytes=max_bytes)
    except InputError as error:
        raise BadSeed(where, (Problem(error.as_line()),)) from None
    except FileNotFoundError:
        raise
    except OSError as error:
        raise BadSeed(where, (Problem(f"cannot be read: {error.strerror}"),)) from None
    return seed_of(data, where, max_bytes=max_bytes)


def seed_of(data: bytes, where: str, *, max_bytes: int = MAX_SEED_BYTES) -> dict[str, Any]:
    """A seed from the bytes of its file, strict and valid. Raises BadSeed."""
    try:
        seed = jsonio.loads(data, where, max_bytes=max_bytes)
    except InputError as error:
        raise BadSeed(where, (Problem(error.as_line()),)) from None
    refuse_bad_seed(seed, where)
    found: dict[str, Any] = seed
    return found


def refuse_bad_seed(seed: Any, where: str) -> None:
    """Raise BadSeed for a document that is no seed."""
    if not _looks_valid(seed):
        problems = gate.judge(seed, schemas.for_format("seed"))
        # A rule of ours that a schema cannot say: no device names.
        raise BadSeed(where, problems or tuple(_devices(seed)))
    if problems := tuple(input_problems(seed)):
        raise BadSeed(where, problems)


def key_problems(seed: Mapping[str, Any], environment: Mapping[str, str]) -> tuple[Problem, ...]:
    """The problem of a seed whose name holds a key: the name stands in runs.jsonl and in lists."""
    found = key_in_name(seed["name"], environment)
    return () if found is None else (Problem(f"the name holds {found}", "/name"),)


def _looks_valid(seed: object) -> bool:
    """The seed's schema in a few lines: a command with nothing to do does not import jsonschema.
    What this refuses is judged by the schema itself; a test holds the two together."""
    return (
        isinstance(seed, dict)
        and isinstance(seed.get("name"), str)
        and 0 < len(seed["name"]) <= 200
        and isinstance(seed.get("data"), dict)
        and ("pipeline" not in seed or _is_name(seed["pipeline"]))
        and ("files" not in seed or _are_files(seed["files"]))
    )


def _devices(seed: Mapping[str, Any]) -> Iterator[Problem]:
    names = {"/pipeline": seed.get("pipeline"), **{f"/files/{e}": e for e in seed.get("files", {})}}
    for at, name in names.items():
        if name is not None and not _is_name(name):
            yield Problem(f"not a valid name: {NO_DEVICE}", at)


def _are_files(value: Any) -> bool:
    """Whether these look like files; `input_problems` says more of each."""
    return (
        isinstance(value, dict)
        and len(value) <= MAX_INPUTS
        and all(map(_is_name, value))
        and all(isinstance(each, str) and 0 < len(each) <= MAX_PATH for each in value.values())
    )


def _is_name(value: object) -> bool:
    return isinstance(value, str) and name_problem(value) is None
