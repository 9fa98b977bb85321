"""What must hold of a root at every moment, read from its files on their own terms.

Nothing of popbuild is imported: the storage format and the formats of docs/formats.md are read
here a second time, by a few lines that know nothing of how they are written.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

COMPLETE, CURRENT, REJECTED = "complete", "current", "rejected"
# Made to be lost: nothing that was reported is in them, and each is read with suspicion.
_TRANSIENT = tuple(
    f".popbuild/{name}/" for name in ("index", "limits", "locks", "restoring", "tmp")
)
_DIGEST = "sha256:"


def broken(root: Path, canary: str, after_cut: bool = False) -> list[str]:
    """All that must never be, whatever was killed and whichever call failed; none is good.

    After a cut of power files of a task under way may be empty, and the status of its job:
    nothing of it was reported, and the next run writes them anew.
    """
    return [
        *(each for each in torn(root) if not (after_cut and _is_under_way(root, each))),
        *(
            each
            for data in data_folders(root)
            for wrong in (half_complete, doubled, told_twice)
            for each in wrong(data)
        ),
        *leaked(root, canary),
    ]


def data_folders(root: Path) -> list[Path]:
    """Where the four folders of jobs stand, of the main variant and of all others."""
    main = root / "pipeline-data"
    others = sorted((main / "variants").glob("[!.]*"))
    return [main, *(path for path in others if path.is_dir())]


def files(root: Path) -> Iterator[tuple[str, Path]]:
    """Every file that popbuild made and that stands under its final name."""
    for folder in ("pipeline-data", ".popbuild", "samples"):
        for path in sorted((root / folder).rglob("*")):
            name = path.relative_to(root).as_posix()
            hidden = any(part.startswith(".tmp-") for part in path.relative_to(root).parts)
            if path.is_file() and not hidden and not name.startswith(_TRANSIENT):
                yield name, path


def torn(root: Path) -> Iterator[str]:
    """A file that is not whole. Of JSON Lines only the last may be cut off, without its end."""
    for name, path in files(root):
        data = path.read_bytes()
        if name.endswith(".json") and not _is_json(data):
            yield f"torn: {name}, {len(data)} bytes"
        if name.endswith(".jsonl"):
            whole = data.split(b"\n")[:-1]
            bad = sum(1 for line in whole if line and not _is_json(line))
            # A torn line that a later one was put behind is ended first, and stays.
            if bad > 1:
                yield f"torn: {bad} lines of {name}"
        if name.startswith(".popbuild/store/") and name.endswith(".json") and _is_json(data):
            body = json.loads(data)
            if body.get("digestOfRequest") != _DIGEST + path.parent.name + path.stem:
                yield f"another request's answer: {name}"
        if name.startswith(".popbuild/objects/"):
            # A JSON file is named after its value, a text after its bytes.
            named = path.parent.name + path.name
            if hashlib.sha256(data).hexdigest() != named and not _is_json(data):
                yield f"not what its name says: {name}"


def _is_under_way(root: Path, found: str) -> bool:
    parts = found.removeprefix("torn: ").partition(",")[0].split("/")
    data = root.joinpath(*parts[:3] if parts[1:2] == ["variants"] else parts[:1])
    parts = ["", *parts[len(data.relative_to(root).parts) :]]
    if data not in data_folders(root) or parts[1:2] != [CURRENT]:
        return False
    folder = data.joinpath(*parts[1:3])
    tasks = {path.parent.name for path in folder.glob("tasks/*/letter.json") if _json(path)}
    own = parts[4] if parts[3] == "tasks" else parts[-1]
    return not any(own == task or own.startswith(f"{task}-") for task in tasks)


def half_complete(data: Path) -> Iterator[str]:
    """A job in complete/ that is not all there: its status, letters, artifacts and seal."""
    for folder in job_folders(data, COMPLETE):
        status = _json(folder / "tasks-status.json")
        if isinstance(status, dict) and "id" not in status:
            continue  # another program's, as it came
        if not isinstance(status, dict) or status.get("state") != COMPLETE:
            yield f"in complete/ and not complete: {folder.name}"
            continue
        for task, entry in status["tasks"].items():
            if entry["state"] != "done" or not (folder / "tasks" / task / "letter.json").exists():
                yield f"in complete/ without its task {task}: {folder.name}"
            for kind in ("artifacts", "logs", "tmp"):
                for name in entry["files"][kind]:
                    if not (folder / "files" / kind / name).is_file():
                        yield f"in the index of {folder.name} and not there: {kind}/{name}"
        sealed = _json(folder / "seal.json")
        if not isinstance(sealed, dict):
            yield f"in complete/ without a seal: {folder.name}"
            continue
        for name, digest in sealed["files"].items():
            if name in sealed.get("changing", ()):
                continue  # it says itself that it does not vouch for these
            path = folder / name
            if not path.is_file() or _digest(path) != digest:
                yield f"not as it was sealed: {folder.name}/{name}"


def told_twice(data: Path) -> Iterator[str]:
    """A run that ended at one time by its line, and at another by the status of its job."""
    lines = {line["pipelineId"]: line["finishedAt"] for line in runs(data)}
    for folder in job_folders(data, COMPLETE):
        status = _json(folder / "tasks-status.json") or {}
        ended = status.get("finishedAt")  # another program's status has none
        if ended is not None and lines.get(status.get("pipelineId"), ended) != ended:
            yield f"its run ended at two times: {folder.name}"


def doubled(data: Path) -> Iterator[str]:
    """A run that is in runs.jsonl twice; a job that two directories claim to be going on with."""
    lines = Counter(line["pipelineId"] for line in runs(data))
    yield from (f"{count} lines of one run: {run}" for run, count in lines.items() if count > 1)
    for folder in job_folders(data, CURRENT):
        if not (data / REJECTED / folder.name).is_dir():
            continue
        state = (_json(folder / "tasks-status.json") or {}).get("state")
        if state == REJECTED and (folder / "rejection.json").exists():
            other = _json(data / REJECTED / folder.name / "rejection.json")
            if other == _json(folder / "rejection.json"):
                yield f"one rejection in two directories: {folder.name}"


def leaked(root: Path, canary: str) -> Iterator[str]:
    """A file that has the key in it, under whichever name."""
    for path in sorted(root.rglob("*")):
        if path.is_file() and canary.encode() in path.read_bytes():
            yield f"the key is in {path.relative_to(root)}"


def job_folders(data: Path, state: str) -> list[Path]:
    """The directories of jobs in one of the four folders."""
    folder = data / state
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in found if path.is_dir() and not path.name.startswith("."))


def runs(data: Path) -> list[dict[str, Any]]:
    """The lines of runs.jsonl that are whole."""
    path = data / "complete/runs.jsonl"
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    return [json.loads(line) for line in lines if _is_json(line)]


def result(root: Path, jobs: Iterable[str]) -> dict[str, Any]:
    """What a command is run for: where each job stands, the values of its artifacts, what a person
    said of them, the number of its runs. Two builds of the same inputs have the same. A job of a
    variant is named `cheap/first`."""
    found: dict[str, Any] = {}
    lines = {path: Counter(line.get("id") for line in runs(path)) for path in data_folders(root)}
    for job in jobs:
        states = [
            state for state in (COMPLETE, CURRENT, REJECTED) if (_place(root, state, job)).is_dir()
        ]
        artifacts = {
            f"{state}/{path.name}": _json(path)
            for state in states
            for path in sorted((_place(root, state, job) / "files/artifacts").glob("*.json"))
        }
        decisions = {
            path.parent.name: (_json(path) or {}).get("decision")
            for state in states
            for path in sorted(_place(root, state, job).glob("tasks/*/decision.json"))
        }
        found[job] = {
            "states": states,
            "artifacts": artifacts,
            "decisions": decisions,
            "runs": lines.get(_data(root, job), Counter())[job.rpartition("/")[2]],
        }
    return found


def _place(root: Path, state: str, job: str) -> Path:
    return _data(root, job) / state / job.rpartition("/")[2]


def _data(root: Path, job: str) -> Path:
    variant = job.rpartition("/")[0]
    return root / "pipeline-data" / (f"variants/{variant}" if variant else "")


def _digest(path: Path) -> str:
    return _DIGEST + hashlib.sha256(path.read_bytes()).hexdigest()


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except ValueError:
        return False
    return True
