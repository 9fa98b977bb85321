"""What the last rebuild changed in the result that it replaced: artifacts place by place, tokens
and cost task by task."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from popbuild.base import disk, jsonio
from popbuild.base.errors import InputError, UsageError, no_such
from popbuild.base.paths import COMPLETE, INPUTS, JobFolder, Root
from popbuild.base.units import money, tokens
from popbuild.jobs.job_ids import known_jobs, refuse_links
from popbuild.jobs.promotion import previous_results
from popbuild.jobs.records import read_frozen, read_json, read_letter
from popbuild.model.letter import Letter, tokens_in
from popbuild.model.problem import MISSING, pointer_of

_COLUMNS = 80
_MAX_SHOWN = 50  # changes of one artifact that are printed; --json has them all
_LEAD = 15  # characters before the first difference


@dataclass(frozen=True)
class ValueChange:
    """A place of an artifact whose value differs; an absent value is MISSING. Files that are not
    JSON have one place, and are compared by their text, or their bytes."""

    pointer: str
    before: Any
    after: Any

    @property
    def kind(self) -> str:
        if self.before is MISSING:
            return "added"
        return "removed" if self.after is MISSING else "changed"

    def as_json(self) -> dict[str, Any]:
        values = {"before": self.before, "after": self.after}
        known = {name: value for name, value in values.items() if value is not MISSING}
        return {"pointer": self.pointer, "change": self.kind, **known}


@dataclass(frozen=True)
class ArtifactChange:
    """An artifact that was added, removed or changed, and where."""

    name: str
    kind: str
    changes: tuple[ValueChange, ...]

    def as_json(self) -> dict[str, Any]:
        places = [change.as_json() for change in self.changes]
        return {"artifact": self.name, "change": self.kind, "changes": places}


@dataclass(frozen=True)
class TaskChange:
    """What happened to a task: rebuilt, skipped, kept, edited (by hand, and kept), added or
    removed. The usages are those of its last build, then and now, or None."""

    task: str
    outcome: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    frozen: bool

    def as_json(self) -> dict[str, Any]:
        usage = {"before": self.before, "after": self.after}
        frozen = {"frozen": True} if self.frozen else {}
        return {"task": self.task, "outcome": self.outcome, **frozen, "usage": usage}


@dataclass(frozen=True)
class InputChange:
    """A file of the seed that was added, removed or changed."""

    place: str
    change: str


@dataclass(frozen=True)
class Difference:
    """Two results of a job, by the runs that promoted them."""

    job: str
    against: str
    run_before: str | None
    run_after: str | None
    usage: Mapping[str, Any] | None  # of the last run
    tasks: tuple[TaskChange, ...]
    artifacts: tuple[ArtifactChange, ...]
    inputs: tuple[InputChange, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.job,
            "against": self.against,
            "runs": {"before": self.run_before, "after": self.run_after},
            "usage": self.usage,
            "inputs": [asdict(each) for each in self.inputs],
            "tasks": [task.as_json() for task in self.tasks],
            "artifacts": [artifact.as_json() for artifact in self.artifacts],
        }

    def lines(self) -> Iterator[str]:
        """For a person, in 80 columns."""
        yield f"{self.job}: {self.run_before} ->"
        yield f"{'':<{len(self.job)}}  {self.run_after}" + (
            f", {_usage(self.usage)}" if self.usage else ""
        )
        for file in self.inputs:
            yield f"  {file.place} {file.change}"
        width = max((len(each.task) for each in self.tasks), default=0)
        for each in self.tasks:
            frozen = ", frozen" if each.frozen else ""
            yield f"  {each.task:<{width}}  {_outcome(each)}{frozen}"
        for artifact in self.artifacts:
            yield ""
            yield f"{artifact.name}" + ("" if artifact.kind == "changed" else f" {artifact.kind}")
            for change in artifact.changes[:_MAX_SHOWN]:
                yield from _change_lines(change)
            if len(artifact.changes) > _MAX_SHOWN:
                yield f"  … {len(artifact.changes) - _MAX_SHOWN} more; --json has them all"
        if not self.artifacts:
            yield "no artifact differs"


def diff(root: Root, job: str, against: int = 1) -> Difference:
    """A complete job compared with the `against`-th result before it. UsageError if that is
    missing."""
    folder = root.job(COMPLETE, job)
    known = known_jobs(root)
    if job not in known:
        raise UsageError("no such job", no_such("job", job, known))
    refuse_links(root, job)
    if not folder.path.is_dir():
        raise UsageError("the job is not complete", {"job": job}, hint=f"doit run job={job}")
    if against < 1:
        raise UsageError("--against is a number, 1 for the last result", {"found": against})
    previous = previous_results(root, job)
    if len(previous) < against:
        raise UsageError(
            "there is no such previous result" if previous else "there is no previous result",
            {"job": job, "asked for": against, "kept": len(previous)},
            hint="a rebuild keeps the result that it replaces; POPBUILD_KEEP_PREVIOUS says how "
            "many of them (1)",
        )
    before = previous[against - 1]
    return Difference(
        job,
        root.show(before.path),
        _run_of(before),
        _run_of(folder),
        _status(folder).get("usage"),
        tuple(_tasks(before, folder, read_frozen(root, job))),
        tuple(_artifacts(before, folder)),
        tuple(_inputs(before, folder)),
    )


def _status(folder: JobFolder) -> Mapping[str, Any]:
    status = read_json(folder.status)
    return status if isinstance(status, dict) else {}


def _run_of(folder: JobFolder) -> str | None:
    run = _status(folder).get("pipelineId")
    return run if isinstance(run, str) else None


def _tasks(before: JobFolder, after: JobFolder, frozen: Container[str]) -> Iterator[TaskChange]:
    # In the pipeline's order, removed tasks last.
    names = dict.fromkeys([*_status(after).get("tasks", {}), *_status(before).get("tasks", {})])
    for name in names:
        old, new = read_letter(before, name), read_letter(after, name)
        if name not in _status(after).get("tasks", {}):
            outcome = "removed"
        elif name not in _status(before).get("tasks", {}):
            outcome = "added"
        elif _built_by(old) == _built_by(new):
            outcome = "kept"
        else:
            outcome = "edited" if new is not None and new.edited else "rebuilt"
            outcome = "skipped" if new is not None and new.skipped else outcome
        yield TaskChange(name, outcome, _usage_of(old), _usage_of(new), name in frozen)


def _built_by(letter: Letter | None) -> Any:
    return letter.body.get("pipelineId") if letter is not None else None


def _usage_of(letter: Letter | None) -> Mapping[str, Any] | None:
    usage = letter.body.get("usage") if letter is not None else None
    return usage if isinstance(usage, dict) else None


def _inputs(before: JobFolder, after: JobFolder) -> Iterator[InputChange]:
    old, new = (_files(folder.inputs) for folder in (before, after))
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            change = "added" if name not in old else "removed" if name not in new else "changed"
            yield InputChange(f"{INPUTS}/{name}", change)


def _artifacts(before: JobFolder, after: JobFolder) -> Iterator[ArtifactChange]:
    old, new = (_files(folder.files("artifacts")) for folder in (before, after))
    for name in sorted(old.keys() | new.keys()):
        if name not in old:
            yield ArtifactChange(name, "added", ())
        elif name not in new:
            yield ArtifactChange(name, "removed", ())
        elif old[name] != new[name]:
            values = [_value(each[name]) for each in (old, new)]
            found = tuple(compare(*values))
            if found:
                yield ArtifactChange(name, "changed", found)


def _files(folder: Path) -> dict[str, bytes]:
    paths = sorted(folder.glob("[!.]*")) if folder.is_dir() else []
    return {path.name: disk.read(path) for path in paths if disk.is_regular(path)}


def _value(data: bytes) -> Any:
    """A file's JSON value; else its text; else its size and digest."""
    try:
        return jsonio.loads(data, "artifact")
    except InputError:
        pass
    try:
        return data.decode()
    except UnicodeDecodeError:
        return f"{len(data):,} bytes, {jsonio.digest_bytes(data)}"


def compare(before: object, after: object, at: tuple[str | int, ...] = ()) -> Iterator[ValueChange]:
    """Every place where two JSON values differ, as deep as their shapes agree."""
    places: list[tuple[str | int, Any, Any]]
    if isinstance(before, dict) and isinstance(after, dict):
        keys = [*before, *(key for key in after if key not in before)]
        places = [(key, before.get(key, MISSING), after.get(key, MISSING)) for key in keys]
    elif isinstance(before, list) and isinstance(after, list):
        places = [
            (n, before[n] if n < len(before) else MISSING, after[n] if n < len(after) else MISSING)
            for n in range(max(len(before), len(after)))
        ]
    else:
        # As JSON: in Python, 1 equals 1.0 and true.
        if MISSING in (before, after) or jsonio.compact(before) != jsonio.compact(after):
            yield ValueChange(pointer_of(list(at)), before, after)
        return
    for part, old, new in places:
        yield from compare(old, new, (*at, part))


def _outcome(change: TaskChange) -> str:
    if change.outcome in ("kept", "removed") or change.after is None:
        return change.outcome
    if change.outcome == "edited":
        return "edited by hand, and kept"
    then = f" (before: {_usage(change.before)})" if change.before is not None else ""
    took = "" if change.outcome == "skipped" else f": {_usage(change.after)}"
    return f"{change.outcome}{took}{then}"


def _usage(usage: Mapping[str, Any]) -> str:
    if not usage["calls"]:
        return "from the store" if usage["storedCalls"] else "no call"
    return f"{tokens(tokens_in(usage))}, {money(usage['cost'])}"


def _change_lines(change: ValueChange) -> Iterator[str]:
    yield f"  {change.pointer or '/'} {change.kind}"
    pair = [
        each if isinstance(each, str) else _text(each) for each in (change.before, change.after)
    ]
    same = next((n for n, (old, new) in enumerate(zip(*pair, strict=False)) if old != new), None)
    # If one begins with the other, they differ where the shorter one ends.
    start = (min(map(len, pair)) if same is None else same) - _LEAD
    for sign, value, text in zip("-+", (change.before, change.after), pair, strict=True):
        if value is not MISSING:
            yield f"    {sign} {_shortened(text, max(start, 0))}"


def _text(value: object) -> str:
    return "" if value is MISSING else jsonio.compact(value)


def _shortened(text: str, start: int) -> str:
    """One line of a text, from a little before the difference."""
    room = _COLUMNS - len("    - ")
    if len(text) <= room:
        start = 0
    line = ("…" if start else "") + " ".join(text[start : start + room].split())
    end = start + room < len(text) or len(line) > room
    return line[: room - 1] + "…" if end else line
