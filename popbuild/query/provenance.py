"""Where an artifact came from, task by task: run, model, calls, prompts, seed fields. Read from
the letters; nothing is built, and no call is made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from popbuild.base import disk, jsonio, tree
from popbuild.base.errors import InputError, UsageError, no_such
from popbuild.base.paths import COMPLETE, CURRENT, REJECTED, JobFolder, Root
from popbuild.jobs.job_ids import is_known, known_jobs, refuse_links
from popbuild.jobs.job_records import jobs_in
from popbuild.jobs.promotion import previous_results
from popbuild.jobs.records import is_foreign, read_decision, read_frozen, read_json, read_letter
from popbuild.llm.store import Store
from popbuild.model.config.snapshot import take_snapshot
from popbuild.model.letter import Letter
from popbuild.query.made_from import made_from_of

_STATES = (COMPLETE, CURRENT, REJECTED)


@dataclass(frozen=True)
class TracedTask:
    """A task of the chain as `trace --json` shows it, and the tasks that it read."""

    body: Mapping[str, Any]
    reads: tuple[str, ...]


@dataclass(frozen=True)
class Provenance:
    """An artifact, and every task that it came from, its own first, each once.

    `intact` says that the file matches the letter. `equal` names other results with the same
    artifact, if it was found by its digest.
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


@dataclass(frozen=True)
class _Found:
    """An artifact in a job's directory. The ID, since previous results' directories are not named
    by it."""

    job: str
    folder: JobFolder
    name: str


def trace(root: Root, given: str) -> Provenance:
    """The chain of an artifact: a path below pipeline-data/, <job>/<name>, or any file with the
    digest of one. UsageError for anything else."""
    found, equal = _find(root, given)
    letters = _letters(found.folder)
    maker = next((each for each in letters.values() if found.name in each.outputs), None)
    if maker is None:
        message = "no letter speaks of this artifact"
        hint = f"what made it is not known; doit run job={found.job} builds it"
        if is_foreign(found.folder):
            message = "another program made this artifact: its letters are not ours"
            hint = f"popbuild show {found.job} <task>/letter.json prints what that program wrote"
        raise UsageError(message, {"job": found.job, "artifact": found.name}, hint)
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
    """InputError for a path through a job's directory that is, or contains, a symbolic link."""
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
            allowed = "files under a job's files/artifacts/"
            raise UsageError("not an artifact", {"file": path, "allowed": allowed})
    return None


def _named(root: Root, job: str, name: str) -> _Found:
    if is_known(root, job):
        refuse_links(root, job)
    for state in _STATES:
        folder = root.job(state, job)
        if folder.path.is_dir():
            letters = _letters(folder)
            if name in letters:  # a task: its main artifact
                if skipped := letters[name].skipped:
                    values = {"job": job, "task": name, "skipped": skipped}
                    raise UsageError("the task was skipped: it has no artifact", values)
                name = _main(letters[name]) or name
            if disk.is_regular(folder.artifact(name)):
                return _Found(job, folder, name)
            known = {each for letter in letters.values() for each in letter.outputs}
            raise UsageError("no such artifact", no_such("artifact", name, known | letters.keys()))
    raise UsageError("no such job", no_such("job", job, known_jobs(root)))


def _by_digest(root: Root, data: bytes) -> Iterator[_Found]:
    """Every artifact with this content: of complete jobs first, then of previous results."""
    digests = {main: _digests_of(data, main=main) for main in (False, True)}
    jobs = known_jobs(root)
    results = [(job, root.job(COMPLETE, job)) for job in jobs]
    results += [(job, folder) for job in jobs for folder in previous_results(root, job)]
    for job, folder in results:
        if tree.first_link(str(folder.path)) is not None:
            continue  # a link leads out of the job
        for letter in _letters(folder).values():
            for name, digest in letter.outputs.items():
                if digest in digests[name == _main(letter)]:
                    yield _Found(job, folder, name)


def _digests_of(data: bytes, *, main: bool) -> set[str]:
    """The digests that a letter may have for a file: of its value, if it is a main artifact."""
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


# The inputs of its tasks.


def _traced(
    root: Root, folder: JobFolder, letter: Letter, now: Mapping[str, str], frozen: bool
) -> TracedTask:
    body = letter.body
    execution = body.get("execution") or {}
    settings = dict(body.get("configuration") or {})
    made_from = made_from_of(letter, read_json(folder.seed), now)
    traced = {
        "task": letter.task,
        "artifact": _main(letter),
        "pipelineId": body.get("pipelineId"),
        **{name: execution.get(name) for name in ("startedAt", "endedAt", "executionTime")},
        "edited": letter.edited,
        "adopted": bool(body.get("adopted")),
        "frozen": frozen,
        "skipped": letter.skipped or None,
        "decision": _decision(folder, letter),
        "refinementAttempts": letter.refinements,
        "model": settings.pop("model", None),
        "settings": settings,
        **made_from.rest,
        "usage": body.get("usage"),
        "calls": [_call(root, folder, letter, call) for call in body.get("calls") or ()],
        "files": made_from.files,
        "seed": made_from.seed,
        "vars": made_from.vars,
        "inputs": made_from.inputs,
        "artifacts": made_from.artifacts,
        **jobs_in(body),
    }
    return TracedTask(traced, tuple(dict.fromkeys(each["task"] for each in made_from.artifacts)))


def _decision(folder: JobFolder, letter: Letter) -> dict[str, Any] | None:
    """A person's decision about the artifact in the letter."""
    found, main = read_decision(folder, letter.task), _main(letter)
    if found is None or main is None or found.artifacts.get(main) != letter.outputs.get(main):
        return None
    return found.as_json()


def _call(root: Root, folder: JobFolder, letter: Letter, call: Mapping[str, Any]) -> dict[str, Any]:
    """A call as the letter has it, with the places of its prompt and answer, and in the store."""
    stored = Store(root.private / "store").path(call["request"])
    logs = {}
    # Only the stage `inference` sends the prompt of its cycle.
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
