"""Dependencies -> digests: what a task is made from. Reads no files.

A fingerprint maps dependencies to digests. Their names are what `explain` prints:

    seed:/data/tone              a value of the seed that was read
    seed-kind:/data              only that there is an object, an array, something or nothing
    seed-length:/data/rows       only how many items a list has
    seed:/data/rows/*/name       what each item of a list has there, where a template loops over it
    artifact:research:/content   a value of an upstream task's main artifact
    vars:/tone                   a value of the pipeline's vars
    input:report:/text           a value of a file that the seed names
    inputs                       which files the seed names, where it asked that
    jobs:reviews                 which jobs of a group that the seed names are up to date
    jobs:reviews:/*/seed/data/stars   a value of each of them, by its place in id, seed, artifacts
    jobs                         which groups there are, where it asked that
    needs                        which tasks it needs, where it asked which artifacts there are
    file:tasks/research/prompt.md   a file under pipeline-config/
    setting:temperature          an effective model setting
    answer, output, command      how the task answers, the file it makes, what it runs
    when                         its condition: the expression
    fallback:openai/gpt-4o       that a model which answered in another's place is to be asked
    endpoint, weights            where the model answers; the file of a local one
    sample                       which draw the task is at, where it is not the first
    samples                      which draws its items are at, where one was asked for again
    job                          the job's ID, where a stage or a command saw it
    stages                       the version of what popbuild's own stages mean
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from popbuild.base import jsonio
from popbuild.jobs import members
from popbuild.jobs.input_files import InputFiles
from popbuild.model.config.rules import FILTERS_FILE
from popbuild.model.config.snapshot import is_litter
from popbuild.model.letter import Fingerprint
from popbuild.model.pipeline import Task
from popbuild.model.place import NOWHERE, Place
from popbuild.model.problem import MISSING, value_read
from popbuild.model.values import read_digest, value_digest

LISTED = "listed"  # of a fallback
UNREAD = "not extracted yet"  # of a document's text
_KNOWN_OF_UNREAD = ("/digest", "/media_type")
STAGES_VERSION = "2"  # raised when a default stage gives another result for the same inputs


@dataclass(frozen=True)
class Inputs:
    """What dependencies are resolved against: the seed, each upstream main artifact that exists,
    the digests of the snapshot by path, where the task's model answers, the number of its first
    draw, the job's ID, the files of the seed, the numbers of the draws of its items, the needed
    tasks that were skipped, the files of filters.py, the jobs that it is over, and why it waits for
    these. `resolved` are dependencies on documents that other tasks have too."""

    seed: Any
    artifacts: Mapping[str, Any]
    files: Mapping[str, str]
    place: Place = NOWHERE
    sample: int = 0
    job: str = ""
    inputs: InputFiles = field(default_factory=dict)
    samples: Mapping[str, int] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    filters: Mapping[str, str] = field(default_factory=dict)
    jobs: members.Groups = field(default_factory=dict)
    waits: tuple[str, ...] = ()
    resolved: dict[str, tuple[Any, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Seen:
    """What templates and stages see of a task's inputs: copies in which the keys of every object
    are sorted. A file has them in an order that no digest counts, so no prompt may show it."""

    seed: Any
    artifacts: Mapping[str, Any]
    config: Mapping[str, Any]
    vars: Mapping[str, Any] = field(default_factory=dict)
    files: InputFiles = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    jobs: members.Groups = field(default_factory=dict)

    @staticmethod
    def of(task: Task, inputs: Inputs) -> Seen:
        artifacts = {name: jsonio.in_order(value) for name, value in inputs.artifacts.items()}
        settings = jsonio.in_order(dict(task.settings))
        seed = jsonio.in_order(inputs.seed)
        own = (inputs.inputs, inputs.skipped, inputs.jobs)
        return Seen(seed, artifacts, settings, jsonio.in_order(dict(task.vars)), *own)


def fixed(task: Task, inputs: Inputs) -> dict[str, str]:
    """The dependencies that are known before a task runs: its files, settings and where it asks."""
    found = {
        f"file:{path}": digest
        for path, digest in {**task.files, **task.modules}.items()
        # What task.yaml says counts by its effect, so that a comment in it is free.
        if path != f"{task.folder}/task.yaml"
    }
    found.update({f"setting:{key}": digest for key, digest in task.setting_digests.items()})
    found.update(task.dependencies)
    found["stages"] = STAGES_VERSION
    if inputs.place.dependency is not None:
        found["endpoint"] = inputs.place.dependency
    if inputs.place.weights is not None:
        found["weights"] = inputs.place.weights
    if inputs.sample:
        found["sample"] = str(inputs.sample)
    if inputs.samples:
        found["samples"] = value_digest(dict(inputs.samples))
    return found


def of_skipped(task: Task) -> dict[str, str]:
    """What a skipped task depends on, besides what its condition read: neither its prompt nor its
    model decided anything."""
    said = task.dependencies
    return {name: said[name] for name in ("when", "output") if name in said}


def item_samples(task: Task, samples: Mapping[str, int]) -> dict[str, int]:
    """Which draw the items of a task are at, by key: those that were asked for again. `samples` are
    those of a job, where an item is `task:key`."""
    begins = f"{task.id}:"
    found = samples.items() if task.foreach else ()
    return {each[len(begins) :]: number for each, number in found if each.startswith(begins)}


def resolve(dependency: str, task: Task, inputs: Inputs) -> str:
    """Today's digest of a dependency that a run traced."""
    kind, _, rest = dependency.partition(":")
    if kind == "file":
        return inputs.files.get(rest, jsonio.ABSENT)
    if members.is_about_jobs(dependency):
        return members.resolved(dependency, inputs.jobs)
    return _resolve_own(dependency, task, inputs)


def _resolve_own(dependency: str, task: Task, inputs: Inputs) -> str:
    """The same of one that is about the job itself."""
    kind, _, rest = dependency.partition(":")
    if kind == "job":
        return inputs.job
    if kind == "needs":
        return value_digest([name for name in task.needs if name not in inputs.skipped])
    if kind == "inputs":
        return value_digest(sorted(inputs.inputs))
    if kind == "fallback":
        return LISTED if rest in task.fallbacks else jsonio.ABSENT
    is_there = kind == "input-kind" and rest.endswith(":")  # which needs no text
    if kind.partition("-")[0] == "input" and not is_there and _is_unread(rest, inputs):
        return UNREAD
    document, pointer = _read_from(dependency, task, inputs)
    known = inputs.resolved.get(dependency)
    if known is not None and known[0] is document:
        return known[1]
    found = read_digest(kind, document, pointer)
    inputs.resolved[dependency] = document, found
    return found


def _is_unread(rest: str, inputs: Inputs) -> bool:
    """Whether a value of an input file is unknown: its text was not extracted yet."""
    name, _, pointer = rest.partition(":")
    file = inputs.inputs.get(name)
    return file is not None and file.is_unread and pointer not in _KNOWN_OF_UNREAD


def value_now(dependency: str, task: Task, inputs: Inputs) -> Any:
    """Today's value of a dependency, or MISSING where it has none that could be shown."""
    kind, _, rest = dependency.partition(":")
    if kind == "setting":
        return task.settings.get(rest, MISSING)
    if kind == "input" and _is_unread(rest, inputs):
        return MISSING
    if kind in DOCUMENTS:
        return value_read(*_read_from(dependency, task, inputs))
    return MISSING


def vars_read(fingerprint: Fingerprint, task: Task) -> dict[str, Any]:
    """The values of the pipeline's vars that a task read, by pointer: they stand nowhere else once
    they change."""
    pointers = (name.removeprefix("vars:") for name in fingerprint if name.startswith("vars:"))
    found = {pointer: value_read(task.vars, pointer) for pointer in pointers}
    return {pointer: value for pointer, value in found.items() if value is not MISSING}


def _read_from(dependency: str, task: Task, inputs: Inputs) -> tuple[Any, str]:
    """The document that a dependency is a part of, or MISSING, and the pointer to that part."""
    kind, _, pointer = dependency.partition(":")
    kind = kind.partition("-")[0]
    if kind == "seed":
        return inputs.seed, pointer
    if kind == "vars":
        return task.vars, pointer
    upstream, _, pointer = pointer.partition(":")
    if kind == "input":
        file = inputs.inputs.get(upstream)
        return MISSING if file is None else file.document, pointer
    is_needed = upstream in task.needs
    return inputs.artifacts.get(upstream, MISSING) if is_needed else MISSING, pointer


DOCUMENTS = ("seed", "artifact", "input", "vars")  # what values are read from
_LEARNED = ("", "-kind", "-length")  # of a value
_TRACED = (
    *(a + b for a in (*DOCUMENTS, "jobs") for b in _LEARNED),
    *("inputs", "needs", "fallback", "job"),
)


def _is_no_more(dependency: str, task: Task, now: Fingerprint) -> bool:
    """Whether an old letter names what never changed a result: a time limit, editors' files."""
    if dependency == "setting:timeout":
        return task.command is None
    kind, _, path = dependency.partition(":")
    is_own = kind == "file" and path.startswith(f"{task.folder}/")
    return is_own and dependency not in now and is_litter(path)


def current(
    last: Fingerprint, task: Task, inputs: Inputs, *, skipped: bool = False
) -> dict[str, str]:
    """Today's fingerprint, over the dependencies of `last` and all that are fixed. `skipped` says
    that `last` is of a task that its condition left out."""
    now = of_skipped(task) if skipped else fixed(task, inputs)
    if f"file:{FILTERS_FILE}" in last:  # a module that it comes to import counts as added
        now.update({f"file:{path}": digest for path, digest in inputs.filters.items()})
    members.prepare_fields(last, inputs.jobs)
    for dependency in last:
        kind = dependency.partition(":")[0]
        if _is_no_more(dependency, task, now):
            now[dependency] = last[dependency]
        elif kind in _TRACED or (kind == "file" and dependency not in now):
            now[dependency] = resolve(dependency, task, inputs)
    if inputs.place.is_that_of(last.get("endpoint")):
        now.pop("endpoint", None)
        if "endpoint" in last:
            now["endpoint"] = last["endpoint"]
    return now
