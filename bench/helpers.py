"""What the benchmarks share: roots to work in, the loopback provider in its own process, timing."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
SCRIPTS = Path(sys.executable).parent  # where doit and popbuild of this environment are
MODEL = "openai/gpt-4o-mini"
TASKS = ("research", "analysis", "synthesis", "formatting")
_NEEDED = ("seed.json", "tasks-status.json", "letter.json", "-output.json")

_SCHEMA = {
    "type": "object",
    "properties": {"summary": {"type": "string", "minLength": 20}, "score": {"type": "integer"}},
    "required": ["summary", "score"],
    "additionalProperties": False,
}
# An installed package has its bytecode: the first round of each command writes ours.
_ENVIRONMENT = {k: each for k, each in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
_SERVER = """\
from provider import Provider, Reply, default_answer
with Provider() as p:
    {setup}
    print(p.base_url, flush=True)
    input()
"""


@contextlib.contextmanager
def provider(setup: str = "pass") -> Iterator[dict[str, str]]:
    """The tests' loopback provider in a process of its own: its CPU time is its own.

    `setup` is a statement that may change how the provider `p` answers. Gives the variables under
    which a command finds it.
    """
    with subprocess.Popen(
        [sys.executable, "-c", _SERVER.format(setup=setup)],
        cwd=CHECKOUT / "tests",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        assert server.stdout is not None
        yield {
            "OPENAI_BASE_URL": server.stdout.readline().strip(),
            "OPENAI_API_KEY": "sk-bench-not-a-real-key",
        }
        server.communicate("\n")


@contextlib.contextmanager
def root(jobs: int) -> Iterator[Path]:
    """A root with `jobs` seeds and a declarative pipeline of four tasks, each after the last;
    two answer in text, two in JSON under a schema."""
    with tempfile.TemporaryDirectory(prefix="popbuild-bench-") as folder:
        path = Path(folder)
        write(path / "dodo.py", (CHECKOUT / "dodo.py").read_text())
        config = path / "pipeline-config"
        settings = {name: {"model": MODEL, "temperature": 0.2, "maxTokens": 200} for name in TASKS}
        pipeline = {"name": "bench", "tasks": list(TASKS), "taskConfig": settings}
        write(config / "pipeline.json", json.dumps(pipeline))
        write(config / "tasks/index.yaml", "".join(f"{name}: ./{name}\n" for name in TASKS))
        for number, name in enumerate(TASKS):
            above = "".join(f"{{{{ artifacts.{each} }}}}\n" for each in TASKS[:number])
            write(config / f"tasks/{name}/system.md", f"You are good at {name}.\n")
            write(
                config / f"tasks/{name}/prompt.md", f"{name} of {{{{ seed.data.topic }}}}\n{above}"
            )
            if number % 2:
                write(config / f"tasks/{name}/output.schema.json", json.dumps(_SCHEMA))
        for number in range(jobs):
            seed = {"name": f"job {number}", "data": {"topic": f"topic {number}"}}
            write(path / f"seeds/job-{number:05}.json", json.dumps(seed))
        yield path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def multiply(root: Path, job: str, names: Iterable[str], *, bare: bool = False) -> None:
    """Further complete jobs, as if each had been built from a seed of the same value: no letter
    names the job it belongs to. Those that are `bare` have only the files that a verdict needs."""
    seed = (root / f"seeds/{job}.json").read_bytes()
    source = root / "pipeline-data/complete" / job
    below = [(path.relative_to(source).as_posix(), path) for path in sorted(source.rglob("*"))]
    folders = ["", *(name for name, path in below if path.is_dir())]
    files = [
        (name, path.read_bytes())
        for name, path in below
        if path.is_file() and (not bare or name.endswith(_NEEDED))
    ]
    for name in names:
        (root / f"seeds/{name}.json").write_bytes(seed)
        for folder in folders:
            (source.parent / name / folder).mkdir()
        for file, data in files:
            (source.parent / name / file).write_bytes(data)


@dataclass(frozen=True)
class Timed:
    """What a command took: seconds on the wall, seconds on the CPU, user and system, and the most
    memory that it had, in bytes."""

    wall: float
    cpu: float
    memory: int

    def __str__(self) -> str:
        times = f"{self.wall * 1000:7.0f} ms wall {self.cpu * 1000:7.0f} ms CPU"
        return f"{times} {self.memory / 1e6:5.0f} MB"


def run(command: Sequence[str], cwd: Path, environment: Mapping[str, str] | None = None) -> Timed:
    """Run a command of this environment to its end; fails if the command does."""
    with tempfile.TemporaryFile() as output, tempfile.NamedTemporaryFile() as times:
        done = subprocess.run(
            [*_LAUNCHER, times.name, SCRIPTS / command[0], *command[1:]],
            cwd=cwd,
            env={**_ENVIRONMENT, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
        if done.returncode:
            output.seek(0)
            raise SystemExit(f"{' '.join(command)} failed:\n{output.read().decode()[-5000:]}")
        return Timed(*json.loads(Path(times.name).read_bytes()))


# A small process of its own starts each command: Linux counts what a process had before it became
# another program to the most memory that program had.
_LAUNCHER = (
    sys.executable,
    "-I",
    "-S",
    "-c",
    """\
import os, sys, time
started = time.perf_counter()
process = os.fork()
if not process:
    os.execv(sys.argv[2], sys.argv[2:])
_, status, used = os.wait4(process, 0)
wall = time.perf_counter() - started
with open(sys.argv[1], "w") as file:
    file.write(f"[{wall}, {used.ru_utime + used.ru_stime}, {used.ru_maxrss * 1024}]")
sys.exit(os.waitstatus_to_exitcode(status) != 0)
""",
)


Command = tuple[Sequence[str], Path, Mapping[str, str]]  # words, working directory, environment


def alternately(commands: Mapping[str, Command], rounds: int) -> dict[str, Timed]:
    """The median times of each command. They take turns, so that whatever else the machine does
    meets all of them; the first round warms the caches and does not count."""
    times: dict[str, list[Timed]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, (command, cwd, environment) in commands.items():
            took = run(command, cwd, environment)
            if number:
                times[name].append(took)
    return {name: median(took) for name, took in times.items()}


def median(times: Sequence[Timed]) -> Timed:
    """The median of each measure."""
    return Timed(
        statistics.median(each.wall for each in times),
        statistics.median(each.cpu for each in times),
        int(statistics.median(each.memory for each in times)),
    )
