"""What must not grow with what stands beside it: a plan of many new jobs beside `doit list` on the
same, `verify` beside a long runs.jsonl, and a task of a job of 80 tasks beside one of a job of 8.

Ratios of CPU in one run, and memory; the commands take turns. `--old` is the `bin/` of another
checkout's environment, whose commands take turns with these.
"""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import helpers
from helpers import Timed

from popbuild.base import jsonio
from popbuild.model.letter import seal

_SETTINGS = {"model": helpers.MODEL, "temperature": 0.2, "maxTokens": 200}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--new-jobs", type=int, default=2_000)
    parser.add_argument("--lines", type=int, default=100_000, help="of runs.jsonl")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--old", type=Path, help="bin/ of another checkout's environment")
    given = parser.parse_args()
    for measured in (
        plan_of_new_jobs(given.new_jobs, given.rounds, given.old),
        verify_beside_a_log(given.lines, given.rounds, given.old),
        task_of_a_long_job(given.rounds, given.old),
    ):
        for line in measured:
            print(line)


def plan_of_new_jobs(jobs: int, rounds: int, old: Path | None) -> Iterator[str]:
    """`popbuild plan` and `doit list` on so many new jobs of two tasks."""
    with helpers.root(jobs) as root, helpers.provider() as environment:
        _configure(root, helpers.TASKS[:2])
        commands = {"plan": ("popbuild", "plan"), "list": ("doit", "list")}
        took = helpers.alternately(
            {name: (each, root, environment) for name, each in _both(commands, old).items()},
            rounds,
        )
    yield f"{jobs:,} new jobs of two tasks"
    yield from _rows(took)
    ratio = took["plan"].cpu / took["list"].cpu
    yield f"  popbuild plan to doit list {ratio:.2f} (at most 1.5)"


def verify_beside_a_log(lines: int, rounds: int, old: Path | None) -> Iterator[str]:
    """`popbuild verify` of 300 tasks beside a log of so many runs of these jobs."""
    with helpers.provider() as environment, helpers.root(75) as root:
        helpers.run(("popbuild", "run"), root, environment)
        _lengthen(root, lines)
        commands = _both({"verify": ("popbuild", "verify")}, old)
        took = helpers.alternately(
            {name: (each, root, environment) for name, each in commands.items()}, rounds
        )
    yield f"verify of 300 tasks beside {lines:,} lines of runs.jsonl (at most 5 s, 80 MB)"
    yield from _rows(took)


def task_of_a_long_job(rounds: int, old: Path | None) -> Iterator[str]:
    """CPU for a task more, of jobs of 80 tasks and of jobs of 8, each after the last."""
    shapes = {"8": (30, 8), "80": (3, 80), "one job of 8": (1, 8)}
    words = _both({"run": ("popbuild", "run", "-n", "1")}, old)
    found: dict[str, list[Timed]] = {f"{each} {name}": [] for each in words for name in shapes}
    with helpers.provider() as environment:
        for _ in range(rounds):
            for name, (jobs, tasks) in shapes.items():
                for each, command in words.items():
                    with _long(jobs, tasks) as root:
                        found[f"{each} {name}"].append(helpers.run(command, root, environment))
    took = {name: helpers.median(times) for name, times in found.items()}
    yield "240 tasks in jobs of 8 and in jobs of 80"
    yield from _rows(took)
    for each in words:
        base = took[f"{each} one job of 8"].cpu
        ratio = (took[f"{each} 80"].cpu - base) / (took[f"{each} 8"].cpu - base)
        yield f"  {each}: a task of a job of 80, to one of 8 {ratio:.2f} (at most 1.3)"


def _both(commands: dict[str, tuple[str, ...]], old: Path | None) -> dict[str, tuple[str, ...]]:
    """The commands, and those of another checkout."""
    if old is None:
        return commands
    others = {f"old {name}": (str(old / each[0]), *each[1:]) for name, each in commands.items()}
    return commands | others


def _rows(took: dict[str, Timed]) -> Iterator[str]:
    for name, each in took.items():
        yield f"  {name:<20} {each}"


def _configure(root: Path, names: tuple[str, ...]) -> None:
    """Another pipeline, of these tasks, each after the last and with its artifact in its prompt."""
    config = root / "pipeline-config"
    pipeline = {
        "name": "bench",
        "tasks": list(names),
        "taskConfig": dict.fromkeys(names, _SETTINGS),
    }
    helpers.write(config / "pipeline.json", json.dumps(pipeline))
    helpers.write(config / "tasks/index.yaml", "".join(f"{name}: ./{name}\n" for name in names))
    for above, name in zip(("", *names), names, strict=False):
        shown = f"{{{{ artifacts['{above}'] }}}}\n" if above else ""
        text = f"{name} of {{{{ seed.data.topic }}}}\n{shown}"
        helpers.write(config / f"tasks/{name}/prompt.md", text)


@contextlib.contextmanager
def _long(jobs: int, tasks: int) -> Iterator[Path]:
    with helpers.root(jobs) as root:
        _configure(root, tuple(f"step-{number:02}" for number in range(tasks)))
        yield root


def _lengthen(root: Path, lines: int) -> None:
    """Earlier runs of the same jobs, above those that are in runs.jsonl."""
    files = root / "pipeline-data/complete/runs.jsonl", root / ".popbuild/runs.jsonl"
    real = [json.loads(line) for line in files[0].read_bytes().splitlines()]
    above: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        outputs = [stack.enter_context(each.open("wb")) for each in files]
        for number in range(lines):
            body = {**real[number % len(real)], **above}
            if number < lines - len(real):
                body |= {"pipelineId": f"earlier-{number}", "seal": f"sha256:{number:064x}"}
            else:
                body = {**real[number - lines], **above}
            body.pop("digest")
            if not above:
                body.pop("after", None)
            body = seal(body)
            above = {"after": body["digest"]}
            for output in outputs:
                output.write(jsonio.compact(body).encode() + b"\n")


if __name__ == "__main__":
    main()
