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
from popbuild.model.job_groups import MAX_GLOB, MAX_GROUPS, is_missing_rule
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
        and ("files" not in seed or _are_named(seed["files"], MAX_INPUTS, MAX_PATH))
        and ("jobs" not in seed or _are_groups(seed))
    )


def _devices(seed: Mapping[str, Any]) -> Iterator[Problem]:
    names = {"/pipeline": seed.get("pipeline")}
    for key in ("files", "jobs"):
        names |= {f"/{key}/{each}": each for each in seed.get(key, {})}
    for at, name in names.items():
        if name is not None and not _is_name(name):
            yield Problem(f"not a valid name: {NO_DEVICE}", at)


def _are_named(value: Any, most: int, longest: int) -> bool:
    """Whether these are texts by name, as files are; `input_problems` says more of each."""
    return (
        isinstance(value, dict)
        and len(value) <= most
        and all(map(_is_name, value))
        and all(isinstance(each, str) and 0 < len(each) <= longest for each in value.values())
    )


def _are_groups(seed: Mapping[str, Any]) -> bool:
    """Whether these are the jobs that a seed is over, and what it says of missing ones."""
    named = _are_named(seed["jobs"], MAX_GROUPS, MAX_GLOB)
    return named and ("missing" not in seed or is_missing_rule(seed["missing"]))


def _is_name(value: object) -> bool:
    return isinstance(value, str) and name_problem(value) is None
