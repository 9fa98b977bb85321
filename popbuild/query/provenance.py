"""Where an artifact came from: task, run, model, calls, prompts, seed fields, and what stands
above it, task by task. Told from the letters; nothing is built, nothing asked."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from popbuild.base import disk, jsonio, tree
from popbuild.base.errors import InputError, UsageError, no_such
from popbuild.base.paths import COMPLETE, CURRENT, REJECTED, JobFolder, Root
from popbuild.base.units import money, seconds
from popbuild.jobs.fingerprint import value_digest
from popbuild.jobs.foreign import is_foreign
from popbuild.jobs.job_ids import is_known, known_jobs, refuse_links
from popbuild.jobs.promotion import previous_results
from popbuild.jobs.records import read_decision, read_frozen, read_json, read_letter
from popbuild.jobs.staleness import brief
from popbuild.llm.store import Store
from popbuild.model.config.snapshot import take_snapshot
from popbuild.model.decision import in_words
from popbuild.model.letter import Letter, kinds_text
from popbuild.model.place import OWN
from popbuild.model.problem import value_at

_STATES = (COMPLETE, CURRENT, REJECTED)
_COLUMNS = 80
_LABEL = 12
_SHOWN = len("sha256:") + 12  # characters of a digest that a person reads


@dataclass(frozen=True)
class TracedTask:
    """A task of the chain, as `trace --json` shows it, and the tasks that it read."""

    body: Mapping[str, Any]
    reads: tuple[str, ...]


@dataclass(frozen=True)
class Provenance:
    """An artifact, and every task that it came from, its own first, each once.

    `intact` says that the file is what the letter says. `equal` names other results that have the
    same artifact, where it was found by its digest.
    """

    job: str
    path: str
    name: str
    digest: str
    intact: bool
    tasks: tuple[TracedTask, ...]
    equal: tuple[str, ...] = field(default=())

    def as_json(self) -> dict[str, Any]:
        return {
            "job": self.job,
            "artifact": self.name,
            "path": self.path,
            "digest": self.digest,
            "intact": self.intact,
            "equal": list(self.equal),
            "tasks": [dict(task.body) for task in self.tasks],
        }

    def lines(self) -> Iterator[str]:
        """As a person reads it, in 80 columns where the words allow."""
        yield f"{self.name} of {self.job}"
        if not self.intact:
            yield "  ALTERED: not what its letter says; what follows made the file before"
        yield f"  {self.path}"
        yield f"  {self.digest}"
        for path in self.equal:
            yield f"  equal: {path}"
        for task in self.tasks:
            yield ""
            yield from _task_lines(task.body)


@dataclass(frozen=True)
class _Found:
    """An artifact in a job's directory; the job's ID, since a previous result has another name."""

    job: str
    folder: JobFolder
    name: str


def trace(root: Root, given: str) -> Provenance:
    """The chain of an artifact: a path below pipeline-data/, <job>/<name>, or a file anywhere that
    has the digest of one. UsageError where there is none."""
    found, equal = _find(root, given)
    letters = _letters(found.folder)
    maker = next((each for each in letters.values() if found.name in each.outputs), None)
    if maker is None and is_foreign(found.folder):
        raise UsageError(
            "another program made this artifact: its letters are not ours",
            {"job": found.job, "artifact": found.name},
            hint=f"popbuild show {found.job} <task>/letter.json prints what that program wrote",
        )
    if maker is None:
        raise UsageError(
            "no letter speaks of this artifact",
            {"job": found.job, "artifact": found.name},
            hint=f"what made it is not known; doit run job={found.job} builds it",
        )
    path = found.folder.artifact(found.name)
    data = disk.read(path)
    now = take_snapshot(root)[0].digests
    frozen = read_frozen(root, found.job)
    chain: dict[str, TracedTask] = {}
    waiting = [maker.task]
    while waiting:
        name = waiting.pop(0)
        if name not in chain and name in letters:
            chain[name] = _traced(root, found.folder, letters[name], now, name in frozen)
            waiting += chain[name].reads
    return Provenance(
        found.job,
        root.show(path),
        found.name,
        jsonio.digest_bytes(data),
        maker.outputs[found.name] in _digests_of(data, main=_main(maker) == found.name),
        tuple(chain.values()),
        tuple(root.show(each.folder.artifact(each.name)) for each in equal),
    )


# Which artifact is meant.


def _find(root: Root, given: str) -> tuple[_Found, list[_Found]]:
    path = Path(given)
    _refuse_links_on_the_way(root, path)
    if path.is_file():
        inside = _inside(root, path)
        if inside is not None:
            return inside, []
        found = list(_by_digest(root, disk.read(path.resolve())))
        if not found:
            raise UsageError(
                "no result has this file",
                {"file": given, "looked in": "complete jobs, and their previous results"},
                hint="a file that was changed since is another file: export it anew",
            )
        return found[0], found[1:]
    job, separator, name = given.partition("/")
    if not separator:
        raise UsageError(
            "no such artifact",
            {"artifact": given, "allowed": "a file, or <job>/<artifact>, or <job>/<task>"},
        )
    return _named(root, job, name), []


def _refuse_links_on_the_way(root: Root, path: Path) -> None:
    """InputError for a path through a job's directory that is, or holds, a symbolic link."""
    way = path.parent.absolute()
    for folder in (way, *way.parents):
        if folder.parent.parent.resolve() == root.data.resolve() and folder.parent.name in _STATES:
            refuse_links(root, folder.name)


def _inside(root: Root, path: Path) -> _Found | None:
    """The artifact that a path below pipeline-data/ names; None for one elsewhere."""
    resolved = path.resolve()
    for state in _STATES:
        base = (root.data / state).resolve()
        if resolved.is_relative_to(base):
            job, *parts = resolved.relative_to(base).parts
            if len(parts) == 3 and parts[:2] == ["files", "artifacts"]:
                return _Found(job, root.job(state, job), parts[2])
            raise UsageError(
                "not an artifact",
                {"file": path, "allowed": "files under a job's files/artifacts/"},
            )
    return None


def _named(root: Root, job: str, name: str) -> _Found:
    if is_known(root, job):
        refuse_links(root, job)
    for state in _STATES:
        folder = root.job(state, job)
        if folder.path.is_dir():
            letters = _letters(folder)
            if name in letters:  # a task: its main artifact
                name = _main(letters[name]) or name
            if disk.is_regular(folder.artifact(name)):
                return _Found(job, folder, name)
            known = {each for letter in letters.values() for each in letter.outputs}
            raise UsageError("no such artifact", no_such("artifact", name, known | letters.keys()))
    raise UsageError("no such job", no_such("job", job, known_jobs(root)))


def _by_digest(root: Root, data: bytes) -> Iterator[_Found]:
    """Every artifact that is this file: of complete jobs first, then of previous results."""
    digests = {main: _digests_of(data, main=main) for main in (False, True)}
    jobs = known_jobs(root)
    results = [(job, root.job(COMPLETE, job)) for job in jobs]
    results += [(job, folder) for job in jobs for folder in previous_results(root, job)]
    for job, folder in results:
        if tree.first_link(str(folder.path)) is not None:
            continue  # what it leads to is not this job's
        for letter in _letters(folder).values():
            for name, digest in letter.outputs.items():
                if digest in digests[name == _main(letter)]:
                    yield _Found(job, folder, name)


def _digests_of(data: bytes, *, main: bool) -> set[str]:
    """What a letter may call a file: a main artifact goes by its value."""
    if main:
        try:
            return {jsonio.digest(jsonio.loads(data, "artifact"))}
        except InputError:
            return set()
    return {jsonio.digest_bytes(data)}


def _letters(folder: JobFolder) -> dict[str, Letter]:
    tasks = folder.path / "tasks"
    names = sorted(path.name for path in tasks.iterdir()) if tasks.is_dir() else []
    found = {name: read_letter(folder, name) for name in names}
    return {name: letter for name, letter in found.items() if letter is not None}


def _main(letter: Letter) -> str | None:
    return letter.fingerprint.get("output")


# What its task was made from.


def _traced(
    root: Root, folder: JobFolder, letter: Letter, now: Mapping[str, str], frozen: bool
) -> TracedTask:
    body = letter.body
    execution = body.get("execution") or {}
    settings = dict(body.get("configuration") or {})
    seed = read_json(folder.seed)
    files, fields, artifacts, rest = [], [], [], {}
    for dependency, digest in sorted(letter.fingerprint.items()):
        kind, _, name = dependency.partition(":")
        if kind == "file":
            same = now.get(name, jsonio.ABSENT) == digest
            today = "same" if same else "changed" if name in now else "removed"
            files.append({"path": name, "digest": digest, "today": today})
        elif kind in ("seed", "seed-kind"):
            entry: dict[str, Any] = {"pointer": name, "digest": digest}
            value = value_at(seed, name)
            if kind == "seed" and digest != jsonio.ABSENT and value_digest(value) == digest:
                entry["value"] = value
            fields.append(entry)
        elif kind in ("artifact", "artifact-kind"):
            upstream, _, pointer = name.partition(":")
            artifacts.append({"task": upstream, "pointer": pointer, "digest": digest})
        elif kind in ("command", "endpoint", "weights") and digest != OWN:
            rest[kind] = digest
    traced = {
        "task": letter.task,
        "artifact": _main(letter),
        "pipelineId": body.get("pipelineId"),
        "startedAt": execution.get("startedAt"),
        "endedAt": execution.get("endedAt"),
        "executionTime": execution.get("executionTime"),
        "edited": letter.edited,
        "adopted": bool(body.get("adopted")),
        "frozen": frozen,
        "decision": _decision(folder, letter),
        "refinementAttempts": letter.refinements,
        "model": settings.pop("model", None),
        "settings": settings,
        **rest,
        "usage": body.get("usage"),
        "calls": [_call(root, folder, letter, call) for call in body.get("calls") or ()],
        "files": files,
        "seed": fields,
        "artifacts": artifacts,
    }
    return TracedTask(traced, tuple(dict.fromkeys(each["task"] for each in artifacts)))


def _decision(folder: JobFolder, letter: Letter) -> dict[str, Any] | None:
    """What a person said about the artifact that the letter speaks of."""
    found, main = read_decision(folder, letter.task), _main(letter)
    if found is None or main is None or found.artifacts.get(main) != letter.outputs.get(main):
        return None
    return found.as_json()


def _call(root: Root, folder: JobFolder, letter: Letter, call: Mapping[str, Any]) -> dict[str, Any]:
    """A call as the letter has it, with where its prompt, its answer and what is stored can be
    read."""
    stored = Store(root.private / "store").path(call["request"])
    logs = {}
    # Only what the stage `inference` sends is the prompt of its cycle.
    if call.get("stage") == "inference":
        tasks = (read_json(folder.status) or {}).get("tasks", {})
        names = ((tasks.get(letter.task) or {}).get("files") or {}).get("logs", ())
        for what, ending in (("prompt", "json"), ("answer", "txt")):
            found = [each for each in names if each.endswith(f"-{what}-{call['cycle']}.{ending}")]
            if found:
                logs[what] = root.show(folder.files("logs") / found[0])
    return {
        **call,
        "prompt": logs.get("prompt"),
        "answer": logs.get("answer"),
        "inStore": root.show(stored) if disk.stands(stored) else None,
    }


# For people.


def _task_lines(task: Mapping[str, Any]) -> Iterator[str]:
    yield f"{task['task']}: {task['artifact']}"
    if task["endedAt"]:
        took = f", in {seconds(task['executionTime'])}" if task["executionTime"] else ""
        yield from _row("built", f"{task['endedAt']}{took}")
    if task["pipelineId"]:
        yield from _row("run", task["pipelineId"])
    if task["adopted"]:
        said = "made by another program; its model and its cost are unknown"
        yield from _row("adopted", said)
    if task["edited"]:
        yield from _row("edited", "by hand, and accepted")
    if task["frozen"]:
        yield from _row("frozen", "not built again whatever changes")
    if task["decision"]:
        yield from _row("decision", in_words(task["decision"]))
    if task["model"]:
        settings = [f"{name} {brief(value)}" for name, value in task["settings"].items()]
        yield from _row("model", ", ".join([task["model"], *settings]))
    for name in ("command", "endpoint", "weights"):
        if name in task:
            source, space, digest = task[name].rpartition(" ")  # of an endpoint
            yield from _row(name, f"{source}{space}{digest[:_SHOWN]}")
    for call in task["calls"]:
        yield from _call_lines(call)
    for file in task["files"]:
        absent = file["digest"] == jsonio.ABSENT
        today = {"same": "as today", "changed": "today another", "removed": "today gone"}
        yield from _row("file", file["path"])
        yield from _row("", f"{file['digest'][:_SHOWN]}, {'' if absent else today[file['today']]}")
    for each in task["seed"]:
        value = brief(each["value"]) if "value" in each else ""
        absent = "(absent)" if each["digest"] == jsonio.ABSENT else value
        yield from _row("seed", f"{each['pointer'] or '/'}  {absent}".rstrip())
    for each in task["artifacts"]:
        yield from _row("read", f"{each['pointer'] or '/'} of {each['task']}")


def _call_lines(call: Mapping[str, Any]) -> Iterator[str]:
    how = "from the store" if call["stored"] else "sent"
    asked, answered = (
        "unknown" if each is None else f"{each:,}"
        for each in (call["inputTokens"], call["outputTokens"])
    )
    names = ("cachedTokens", "cacheWriteTokens", "reasoningTokens")
    tokens = f"{asked} tokens in, {answered} out{kinds_text(*map(call.get, names))}"
    cost = money(call["cost"]) + (", counted by us" if call.get("counted") else "")
    stage = "" if call.get("stage") == "inference" else f", {call.get('stage')}"
    cycle = f", refinement {call['cycle']}" if call.get("cycle") else ""
    sample = f", sample {call['sample']}" if call.get("sample") else ""
    yield from _row("call", f"{how}: {tokens}, {cost}{stage}{cycle}{sample}")
    where = "in the store" if call["inStore"] else "not in the store"
    yield from _row("", f"{call['request'][:_SHOWN]}, {where}")
    for name in ("prompt", "answer"):
        if call[name]:
            yield from _row(name, call[name])


def _row(label: str, text: str) -> Iterator[str]:
    """Two columns; a word that is too long for its line is not torn."""
    lines = textwrap.wrap(
        text,
        _COLUMNS - _LABEL,
        break_long_words=False,
        break_on_hyphens=False,
    )
    for number, line in enumerate(lines or [""]):
        yield f"  {'' if number else label:<{_LABEL - 2}}{line}".rstrip()
