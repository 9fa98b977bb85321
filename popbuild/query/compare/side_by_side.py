"""Two documents side by side, with the words marked that only one of them has."""

from __future__ import annotations

import difflib
import itertools
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from popbuild.base import jsonio
from popbuild.base.errors import UsageError, no_such
from popbuild.base.paths import COMPLETE, JobFolder, Root
from popbuild.jobs.lookup import Job
from popbuild.jobs.promotion import previous_results
from popbuild.jobs.records import read_json, read_main
from popbuild.query import describe

_COLUMN = 38  # two of them, and what stands between, are 80
_MOST_WORDS = 4_000  # of which the likeness is looked for word by word
_WORDS = re.compile(r"\S+")


@dataclass(frozen=True)
class ShownDocument:
    """A document of a job, of the run that promoted it."""

    job: str
    run: str | None
    artifact: str
    text: str

    def as_json(self) -> dict[str, Any]:
        return {"job": self.job, "run": self.run, "artifact": self.artifact}


@dataclass(frozen=True)
class WordChange:
    """A stretch of words that both documents have, or that one has in place of the other's."""

    is_same: bool
    before: str
    after: str

    def as_json(self) -> dict[str, Any]:
        change = "same" if self.is_same else "changed"
        return {"change": change, "before": self.before, "after": self.after}


@dataclass(frozen=True)
class SideBySide:
    """Two documents, line by line: each line is a list of stretches."""

    before: ShownDocument
    after: ShownDocument
    lines: tuple[tuple[WordChange, ...], ...]

    def as_json(self) -> dict[str, Any]:
        lines = [[part.as_json() for part in line] for line in self.lines]
        return {"before": self.before.as_json(), "after": self.after.as_json(), "lines": lines}

    def lines_of_text(self) -> Iterator[str]:
        """In 80 columns: words that only the left one has as [-word-], those of the right one as
        {+word+}."""
        for document, sign in ((self.before, "-"), (self.after, "+")):
            yield f"{sign} {document.job}  {document.artifact}  {document.run or ''}".rstrip()
        yield ""
        if all(part.is_same for line in self.lines for part in line):
            yield "no word differs"
            return
        for line in self.lines:
            left = " ".join(_marked(each.before, each, "[-", "-]") for each in line if each.before)
            right = " ".join(_marked(each.after, each, "{+", "+}") for each in line if each.after)
            yield from _beside(left, right)


def _marked(text: str, change: WordChange, begin: str, end: str) -> str:
    return text if change.is_same else f"{begin}{text}{end}"


def _beside(left: str, right: str) -> Iterator[str]:
    columns = [textwrap.wrap(each, _COLUMN) for each in (left, right)]
    for one, other in itertools.zip_longest(*columns, fillvalue=""):
        yield f"{one:<{_COLUMN}}  {other}".rstrip()


def two_jobs(root: Root, names: Sequence[str], task: str | None = None) -> SideBySide:
    """The documents of two jobs of one pipeline."""
    jobs = [_complete(root, each) for each in names]
    before, after = (_document(job, describe.folder_of(job), task) for job in jobs)
    return side_by_side(before, after)


def against_run(root: Root, name: str, run: str, task: str | None = None) -> SideBySide:
    """A job's document beside the one that an earlier run of it made. UsageError where that is not
    kept."""
    job = _complete(root, name)
    kept = {_run_in(each): each for each in previous_results(root, name)}
    if run not in kept:
        known = [each for each in kept if each]
        hint = "a rebuild keeps the result that it replaces; POPBUILD_KEEP_PREVIOUS says how many"
        raise UsageError("no such earlier result", no_such("run", run, known), hint)
    before = _document(job, kept[run], task)
    return side_by_side(before, _document(job, describe.folder_of(job), task))


def _complete(root: Root, name: str) -> Job:
    job = describe.find_job(root, name)
    if job.state != COMPLETE:
        values = {"job": name, "state": job.state}
        raise UsageError("the job has no result to compare", values, f"popbuild run {name}")
    return job


def _run_in(folder: JobFolder) -> str | None:
    status = read_json(folder.status)
    run = status.get("pipelineId") if isinstance(status, dict) else None
    return run if isinstance(run, str) else None


def _document(job: Job, folder: JobFolder, task: str | None) -> ShownDocument:
    """The main artifact of a task, or of the last one that has any, in a directory of a job."""
    pipeline = describe.pipeline_with(job, task)
    for each in [pipeline.task(task)] if task is not None else reversed(pipeline.tasks):
        value, digest = read_main(folder, each.artifact)
        if digest is not None:
            return ShownDocument(job.id, _run_in(folder), each.artifact, _text_of(value))
    values = {"job": job.id, **({"task": task} if task else {})}
    raise UsageError("there is no document to compare", values)


def _text_of(value: object) -> str:
    """A document as a person reads it: the text of one that has nothing else, all else as JSON."""
    match value:
        case str(text):
            return text
        case {"content": str(text), **rest} if not rest:
            return text
    return jsonio.dumps(value, sort=False).decode()


def side_by_side(before: ShownDocument, after: ShownDocument) -> SideBySide:
    """Lines that are alike stand beside each other; among others, words are compared."""
    old, new = before.text.splitlines(), after.text.splitlines()
    lines: list[tuple[WordChange, ...]] = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            lines += [(WordChange(True, each, each),) for each in old[a:b]]
            continue
        for one, other in itertools.zip_longest(old[a:b], new[c:d], fillvalue=""):
            lines.append(tuple(_changes(one, other)))
    return SideBySide(before, after, tuple(lines))


def _changes(old: str, new: str) -> Iterator[WordChange]:
    one, other = _WORDS.findall(old), _WORDS.findall(new)
    if len(one) + len(other) > _MOST_WORDS:
        yield WordChange(False, old, new)
        return
    for kind, a, b, c, d in difflib.SequenceMatcher(None, one, other, False).get_opcodes():
        yield WordChange(kind == "equal", " ".join(one[a:b]), " ".join(other[c:d]))
