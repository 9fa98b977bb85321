"""A folder as the storage document describes it, which another program wrote."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parent / "storage_examples"
JOB = "content-generation-7f3a"  # a complete job's ID is not its seed's name
MODULE = "export async function inference(context) {\n  return context.llm.chat();\n}\n"


def example(name: str) -> Any:
    """An example of the document, by its file's name without the ending."""
    return json.loads((EXAMPLES / f"{name}.json").read_bytes())


def write(root: Path, path: str, content: object) -> None:
    """Text as it is, all else as JSON, as JavaScript writes it."""
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content, indent=2)
    target.write_text(text, encoding="utf-8")


def write_demo(root: Path, pipeline: str = "pipeline-names", registry: str | None = None) -> None:
    """The document's `demo/`: its seeds, its pipeline in one of the two forms, its registry letter
    for letter, or another one, and no job yet."""
    for name in ("market-analysis", "content-generation", "data-processing"):
        write(root, f"seeds/{name}.json", (EXAMPLES / f"seed-{name}.json").read_text())
    document = example(pipeline)
    write(root, "pipeline-config/pipeline.json", document)
    path = root / "pipeline-config/tasks/index.js"
    path.parent.mkdir(parents=True)
    if registry is None:
        shutil.copy(EXAMPLES / "index.js", path)
    else:
        path.write_text(registry, encoding="utf-8")
    for task in document["tasks"]:
        name = task if isinstance(task, str) else task["id"]
        write(root, f"pipeline-config/tasks/{name}/index.js", MODULE)
    for state in ("pending", "current", "complete", "rejected"):
        (root / "pipeline-data" / state).mkdir(parents=True)


def write_job(
    root: Path,
    state: str = "complete",
    job: str = JOB,
    status: Any = None,
    letter: Any = None,
    files: Mapping[str, str] | None = None,
) -> Path:
    """A job with the document's status, output and run, or with others; gives its directory. Of the
    files that the status names only some are on disk."""
    folder = f"pipeline-data/{state}/{job}"
    write(root, f"{folder}/seed.json", example("seed-content-generation"))
    write(root, f"{folder}/tasks-status.json", status or example("tasks-status"))
    for task in ("research", "analysis"):
        at = {"task": task, "at": "2025-10-02T06:37:48.243Z"}
        write(root, f"{folder}/tasks/{task}/letter.json", at if letter is None else letter)
        log = {"timestamp": "2025-10-02T06:37:48.243Z", "level": "info", "message": f"{task} began"}
        write(root, f"{folder}/tasks/{task}/execution-logs.json", [log])
    write(root, f"{folder}/tasks/research/output.json", example("output"))
    found = {
        "artifacts/research-output.json": '{"content": "storage grows"}',
        "artifacts/final-content.json": '{"content": "the end"}',
        "logs/research.log": "began\nended\n",
    }
    for name, text in (found if files is None else files).items():
        write(root, f"{folder}/files/{name}", text)
    if state == "complete":
        line = json.dumps(example("run"))
        write(root, "pipeline-data/complete/runs.jsonl", f"{line}\n")
    return root / folder


ERROR = {
    "message": "quota is used up",
    "stack": "Error: quota is used up\n    at call (llm.js:7:3)",
}
WHEN = "2025-10-02T06:37:29.984Z"
STATUSES: dict[str, Any] = {
    "failed": {
        "pipelineId": "pl-2025-10-02T06-37-29-980Z-0d57ed",
        "name": "content-generation",
        "current": "analysis",
        "state": "failed",
        "createdAt": WHEN,
        "error": ERROR,
        "tasks": {
            "research": {"state": "done", "executionTime": 18176.66},
            "analysis": {"state": "failed", "startedAt": WHEN, "error": ERROR},
        },
    },
    "erring": {  # in the document's words, without a state of the job
        "pipelineId": "pl-2025-10-02T06-37-29-980Z-0d57ee",
        "createdAt": WHEN,
        "files": {"artifacts": ["gone.json"], "logs": [], "tmp": []},
        "tasks": {
            "research": {
                "state": "error",
                "error": ERROR,
                "files": {"artifacts": ["gone.json"], "logs": [], "tmp": []},
            }
        },
    },
    "going": {
        "pipelineId": "pl-2025-10-02T06-37-29-980Z-0d57ef",
        "current": "analysis",
        "tasks": {
            "research": {"state": "done"},
            "analysis": {"state": "running", "startedAt": WHEN},
        },
    },
    "odd": {
        "id": 7,
        "state": "paused",
        "files": ["a.json"],
        "error": 7,
        "tasks": {
            "research": {
                "state": "skipped",
                "attempts": "two",
                "executionTime": -1,
                "usage": {"total_tokens": 5, "cost": "much"},
                "files": {"artifacts": ["../../../seed.json", 7, "", "research-output.json"]},
            },
            "analysis": None,
            "list": [],
            "../../../../seeds": {"state": "done"},
            "coded": {"state": "failed", "error": {"code": 7}},
        },
    },
    "bare": {"pipelineId": "x"},
    "begun": {"id": "begun", "state": "pending", "tasks": {}},
}
LETTERS: dict[str, Any] = {
    "failed": [1, {"formatVersion": 1}],
    "erring": {},
    "going": "as it came",
    "odd": 7,
    "bare": {"digest": "none", "calls": [{"cost": 0.1}]},
    "begun": {"task": "research", "validation": []},
}


def write_all(root: Path) -> list[str]:
    """The complete job, a rejected one, one that waits, and a job in current/ for each status.
    Gives their IDs."""
    write_job(root)
    for job, status in STATUSES.items():
        write_job(root, "current", job, status, LETTERS[job])
    write_job(root, "rejected", "refused", STATUSES["failed"], {"at": WHEN})
    write(root, "pipeline-data/pending/data-9-seed.json", example("seed-data-processing"))
    return [JOB, *STATUSES, "refused", "data-9"]
