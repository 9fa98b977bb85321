"""A popbuild root in a temporary folder, and the commands run in it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import commands
import yaml
from commands import Result, Running
from provider import Provider

CHECKOUT = Path(__file__).resolve().parent.parent
MODEL = "openai/gpt-4o-mini"


class Workspace:
    """`folder/root` is the root, `folder/home` the home directory of every command.

    Nothing is inherited from the tests' own environment. Close it, or use it in a `with`
    statement: what `start` left running is killed.
    """

    def __init__(self, folder: Path, provider: Provider | None = None) -> None:
        self.root = folder / "root"
        self.home = folder / "home"
        self.provider = provider
        self._started: list[Running] = []
        for path in (self.home, self.root / "seeds", self.root / "pipeline-config/tasks"):
            path.mkdir(parents=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        while self._started:
            self._started.pop().close()

    # --- inputs ---

    def write(self, path: str, content: object) -> Path:
        """Write a file below the root: text and bytes as they are, all else as JSON."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            target.write_bytes(content)
        elif isinstance(content, str):
            target.write_text(content, encoding="utf-8")
        else:
            target.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        return target

    def seed(self, job: str, data: Mapping[str, Any], name: str | None = None) -> Path:
        return self.write(f"seeds/{job}.json", {"name": name or job, "data": data})

    def task(
        self,
        name: str,
        prompt: str | None = None,
        system: str | None = None,
        schema: Mapping[str, Any] | None = None,
        stages: str | None = None,
        task_yaml: str | Mapping[str, Any] | None = None,
    ) -> Path:
        """Write the files that are given into the task's folder, and leave the others alone."""
        if isinstance(task_yaml, Mapping):
            task_yaml = yaml.safe_dump(dict(task_yaml))
        files = {
            "prompt.md": prompt,
            "system.md": system,
            "output.schema.json": schema,
            "stages.py": stages,
            "task.yaml": task_yaml,
        }
        for file, content in files.items():
            if content is not None:
                self.write(f"pipeline-config/tasks/{name}/{file}", content)
        return self.root / "pipeline-config/tasks" / name

    def pipeline(
        self,
        tasks: Iterable[str],
        task_config: Mapping[str, Mapping[str, Any]] | None = None,
        model: str | None = MODEL,
        **more: Any,
    ) -> Path:
        """Write `pipeline.json` and the registry. `model` is every task's, unless it has its own;
        `more` are further members of the pipeline, its `name` for one."""
        names = list(tasks)
        common = {} if model is None else {"model": model}
        settings = {name: {**common, **(task_config or {}).get(name, {})} for name in names}
        registry = {name: f"./{name}" for name in names}
        self.write("pipeline-config/tasks/index.yaml", yaml.safe_dump(registry, sort_keys=False))
        document = {
            "name": "test-pipeline",
            "version": "1.0.0",
            "tasks": names,
            "taskConfig": settings,
        }
        return self.write("pipeline-config/pipeline.json", document | more)

    def dodo(self) -> Path:
        """Copy the checkout's `dodo.py` into the root."""
        return Path(shutil.copy(CHECKOUT / "dodo.py", self.root / "dodo.py"))

    # --- what stands on disk ---

    def job(self, job: str, state: str = "complete") -> Path:
        return self.root / "pipeline-data" / state / job

    def states(self, job: str) -> list[str]:
        """The folders of `pipeline-data/` in which this job has a directory."""
        return sorted(path.parent.name for path in self.root.glob(f"pipeline-data/*/{job}/"))

    def read(self, path: str) -> Any:
        """A JSON file below the root."""
        return json.loads((self.root / path).read_text(encoding="utf-8"))

    def artifact(self, job: str, name: str, state: str = "complete") -> Any:
        """A JSON artifact by its file name, or the main artifact of the task of that name."""
        file = name if "." in name else f"{name}-output.json"
        return json.loads((self.job(job, state) / "files/artifacts" / file).read_bytes())

    def status(self, job: str, state: str = "complete") -> Any:
        return json.loads((self.job(job, state) / "tasks-status.json").read_bytes())

    def letter(self, job: str, task: str, state: str = "complete") -> Any:
        return json.loads((self.job(job, state) / "tasks" / task / "letter.json").read_bytes())

    def runs(self) -> list[Any]:
        """The lines of `runs.jsonl`, none if there is no such file."""
        path = self.root / "pipeline-data/complete/runs.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]

    def tree(self, under: str = ".") -> list[tuple[str, str]]:
        """Every file below `under` with the digest of its bytes, sorted, bytecode aside, and the
        index, which may be deleted at any time."""
        return [
            (str(path.relative_to(self.root)), hashlib.sha256(path.read_bytes()).hexdigest())
            for path in sorted((self.root / under).rglob("*"))
            if path.is_file()
            and "__pycache__" not in path.parts
            and (self.root / ".popbuild/index") not in path.parents
        ]

    # --- commands ---

    def environment(self) -> dict[str, str]:
        """The whole environment of a command: no key, no endpoint but the provider's."""
        minimal = {
            "PATH": f"{commands.SCRIPTS}{os.pathsep}{os.defpath}",
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
        }
        return minimal | (self.provider.environment() if self.provider else {})

    def start(
        self,
        *argv: str,
        env: Mapping[str, str] | None = None,
        cwd: str | Path = ".",
        stdin: str | None = None,
        real: bool = False,
    ) -> Running:
        """Start a command; `env` adds to its environment, `cwd` is relative to the root."""
        running = commands.start(argv, **self._order(argv, cwd, env), stdin=stdin, real=real)
        self._started.append(running)
        return running

    def run(
        self,
        *argv: str,
        env: Mapping[str, str] | None = None,
        cwd: str | Path = ".",
        **options: Any,
    ) -> Result:
        """A command, to its end. Raises TimeoutError."""
        return commands.run(argv, **self._order(argv, cwd, env), **options)

    def _order(
        self, argv: Sequence[str], cwd: str | Path, env: Mapping[str, str] | None
    ) -> dict[str, Any]:
        if argv[0] == "doit" and not (self.root / "dodo.py").exists():
            self.dodo()
        return {"cwd": self.root / cwd, "env": self.environment() | dict(env or {})}

    def popbuild(self, *args: str, **options: Any) -> Result:
        return self.run("popbuild", *args, **options)

    def doit(self, *args: str, **options: Any) -> Result:
        return self.run("doit", *args, **options)


def watching(workspace: Workspace, *options: str, **more: Any) -> Running:
    """A started orchestrator that has one worker, unless told otherwise."""
    return workspace.start(
        "popbuild", "watch", "--workers", "1", "--rescan", "0.3", *options, **more
    )
