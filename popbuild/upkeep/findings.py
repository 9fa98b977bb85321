"""What `validate` finds wrong in files by their format, whatever they belong to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from popbuild.base import disk, jsonio
from popbuild.base.errors import InputError, PopbuildError
from popbuild.base.paths import Root
from popbuild.model.problem import Problem
from popbuild.model.schema import gate, schemas


@dataclass(frozen=True)
class Finding:
    """A problem, and the file that it is in."""

    file: str
    problem: Problem

    def as_json(self) -> dict[str, Any]:
        return {"file": self.file, **self.problem.as_json()}


def findings_of_error(error: PopbuildError) -> Iterator[Finding]:
    """An error as findings: one for each place that it names."""
    names = [name for name in ("file", "pipeline", "folder", "missing") if name in error.values]
    file = error.values[names[0]] if names else "pipeline-config/"
    numbered = [name for name in error.values if name == "at" or name.startswith("at ")]
    if len(numbered) > 1:
        yield from (Finding(file, Problem(error.values[name])) for name in numbered)
    else:
        yield Finding(file, Problem(error.as_line(without=names[:1])))


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
