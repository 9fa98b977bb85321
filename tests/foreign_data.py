"""A data folder as the storage document's own program writes it, by the document's own examples."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parent / "storage_examples"
JOB = "pl-2025-10-02T06-37-29-980Z-0d57ec"
TASKS = ("research", "analysis", "synthesis", "formatting")
# What each task of the document's example makes.
ARTIFACTS = {
    "research": "research-output.json",
    "analysis": "analysis-result.json",
    "synthesis": "synthesis-draft.json",
    "formatting": "final-content.json",
}
# Files that nothing indexes, under names that popbuild itself would never write.
STRAYS = {
    "notes.txt": "kept",
    "files/artifacts/My Draft.md": "# Draft",
    "files/artifacts/images/chart.svg": "<svg/>",
    "files/logs/research.trace": "trace",
    "files/tmp/.hidden": "h",
    "tasks/research/raw-answer.txt": "raw",
    "tasks/outline/output.json": '{"outline": {"content": "o"}}',
    "tasks/outline/letter.json": '{"task": "outline", "at": 1}',
}


def example(name: str) -> Any:
    return json.loads((EXAMPLES / name).read_text())


class ForeignData:
    """A program's root, `demo/` in the document, with its seeds and pipeline-data."""

    def __init__(self, folder: Path) -> None:
        self.path = folder
        for state in ("pending", "current", "complete", "rejected"):
            (folder / "pipeline-data" / state).mkdir(parents=True)
        for name in ("market-analysis", "content-generation", "data-processing"):
            self.write(f"seeds/{name}.json", example(f"seed-{name}.json"))

    def write(self, path: str, content: object) -> Path:
        target = self.path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        text = content if isinstance(content, str) else json.dumps(content, indent=2)
        target.write_text(text, encoding="utf-8")
        return target

    def job(
        self,
        job: str = JOB,
        where: str = "complete",
        artifacts: Mapping[str, object] | None = None,
        strays: Iterable[str] = STRAYS,
        **status: Any,
    ) -> Path:
        """A job as the document shows it. `artifacts` are contents by name where they matter, and
        `status` are members of its tasks-status.json."""
        base = f"pipeline-data/{where}/{job}"
        body = {**example("tasks-status.json"), "pipelineId": job, **status}
        self.write(f"{base}/seed.json", example("seed-content-generation.json"))
        self.write(f"{base}/tasks-status.json", body)
        for kind, names in body["files"].items():
            for name in names:
                given = (artifacts or {}).get(name, {"content": f"What {name} says."})
                self.write(f"{base}/files/{kind}/{name}", given)
        for task in TASKS:
            output = {task: {"content": f"Text of {task}.", "metadata": {}, "timestamp": "t"}}
            self.write(f"{base}/tasks/{task}/output.json", output)
            self.write(f"{base}/tasks/{task}/letter.json", {"task": task, "at": "2025-10-02"})
            self.write(f"{base}/tasks/{task}/execution-logs.json", [{"level": "info", "m": task}])
        for name in strays:
            self.write(f"{base}/{name}", STRAYS[name])
        return self.path / base

    def runs(self, *lines: Any) -> Path:
        """runs.jsonl with these lines, the document's example if none is given."""
        text = "".join(json.dumps(line) + "\n" for line in lines or (example("run.json"),))
        return self.write("pipeline-data/complete/runs.jsonl", text)

    def tree(self) -> dict[str, bytes]:
        return tree(self.path)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes, by its path."""
    found = sorted(folder.rglob("*"))
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in found if path.is_file()
    }
