"""The crash matrix: each scenario once for every call that changes something, with every fault.

A scenario is a real command on a real root. It is run whole once, which gives its calls and its
result; then once for each call and fault, from the same beginning, and again to its end. What
must hold after each is in invariants.py.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import faults
import invariants
from commands import Result
from faults import Call, Fault
from provider import Provider, Reply, Request, default_answer
from workspace import Workspace

CANARY = "sk-canary-7f3a91c5d2e84b06"
SCHEMA = {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]}
# Exit codes that docs/design.md names: a crash of popbuild itself is none of them.
_TOLD = (0, 1, 2, 3, 4)
_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Scenario:
    """`prepare` makes the root as it is before the command; `answer` is the provider's while the
    command runs, and `again` the command that must bring it to its end after a fault."""

    name: str
    argv: tuple[str, ...]
    prepare: Callable[[Workspace], None]
    jobs: tuple[str, ...] = ("first",)
    code: int = 0
    answer: Callable[[Request], Reply] = default_answer
    again: Callable[[Workspace], tuple[str, ...]] | None = None
    in_flight: int = 1  # calls of which a crash may lose the answers
    stands: tuple[str, ...] = ()  # jobs that are in complete/ at every moment


@dataclass(frozen=True)
class Cell:
    """One fault at one call, and what was found broken; nothing is good."""

    scenario: str
    kind: str
    call: Call
    broken: tuple[str, ...]


@dataclass
class Bench:
    """A scenario on a root of its own, made ready to be run again and again from its beginning.

    `folder` may be on any file system. Syncs that `unsynced` names do nothing.
    """

    scenario: Scenario
    folder: Path
    provider: Provider
    unsynced: tuple[str, ...] = ()
    calls: list[Call] = field(init=False)
    result: dict[str, Any] = field(init=False)
    needed: int = field(init=False)  # calls to the provider in an undisturbed run
    verified: int = field(init=False)  # verify's exit code after one

    def __post_init__(self) -> None:
        self.workspace = Workspace(self.folder / "work", self.provider)
        self.root = self.workspace.root
        self.aside = Path(tempfile.mkdtemp(prefix="matrix-"))  # what no cut of power may touch
        self.provider.answer = default_answer
        self.scenario.prepare(self.workspace)
        self.provider.answer = self.scenario.answer
        shutil.copytree(self.root, self.aside / "before", symlinks=True)

    def close(self) -> None:
        self.workspace.close()
        shutil.rmtree(self.aside)

    def measure(self) -> None:
        """The run that nothing disturbs: what all others must come to."""
        before = len(self.provider.requests)
        result = self.run(Fault(str(self.root), self.log))
        self.calls = faults.calls(Path(self.log))
        self.needed = len(self.provider.requests) - before
        self.result = self.reached()
        self.verified = self.verify().code
        wrong = invariants.broken(self.root, CANARY)
        if result.code != self.scenario.code or wrong:
            raise AssertionError(f"{self.scenario.name} fails undisturbed: {result}, {wrong}")

    def points(self, kind: str) -> list[Call]:
        """The calls that this can happen to."""
        return [call for call in self.calls if call.can(kind)]

    def try_at(self, kind: str, call: Call) -> Cell:
        """Begin anew, let a fault happen at this call, look, run it to its end, look again."""
        self.reset()
        before = len(self.provider.requests)
        fault = Fault(str(self.root), self.log, kind, call.number, self.unsynced)
        result = self.run(fault)
        wrong = [*self.told(result, kind), *self.look(result)]
        wrong += self.finish(before)
        return Cell(self.scenario.name, kind, call, tuple(wrong))

    def finish(self, requests_before: int) -> Iterator[str]:
        """The next run comes to the same result, for no more calls than were under way."""
        again = self.scenario.again
        argv = again(self.workspace) if again else self.scenario.argv
        result = self._popbuild(*argv)
        if result.code != self.scenario.code:
            yield f"the next run ended with {result.code}: {result.err[-600:]}"
        if self.reached() != self.result:
            yield f"another result: {_difference(self.reached(), self.result)}"
        spent = len(self.provider.requests) - requests_before
        if spent > self.needed + self.scenario.in_flight:
            yield f"{spent} calls, {self.needed} needed"
        verified = self.verify()
        if verified.code != self.verified:
            yield f"verify says {verified.code}: {verified.out[-600:]}{verified.err[-600:]}"
        yield from self.look(result)

    def look(self, result: Result | None, after_cut: bool = False) -> Iterator[str]:
        """What must hold at any moment."""
        yield from invariants.broken(self.root, CANARY, after_cut)
        for job in self.scenario.stands:
            if job not in [path.name for path in invariants.job_folders(self.root, "complete")]:
                yield f"the good result is gone: {job}"
        if result is not None and CANARY in result.out + result.err:
            yield "the key is in the output"

    def told(self, result: Result, kind: str) -> Iterator[str]:
        """An error is told as one, and what was told to be done is done."""
        if kind in (faults.KILL, faults.KILL_ALL):
            return
        if result.code not in _TOLD or "Traceback" in result.err:
            yield f"ended with {result.code}: {result.err[-900:]}"
        if result.code == self.scenario.code and self.reached() != self.result:
            yield f"said to be done, and is not: {_difference(self.reached(), self.result)}"

    def reset(self) -> None:
        for path in self.root.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(self.aside / "before", self.root, symlinks=True, dirs_exist_ok=True)

    def reached(self) -> dict[str, Any]:
        return invariants.result(self.root, self.scenario.jobs) | {
            "sources": sorted(path.name for path in self.root.glob("pipeline-data/pending/[!.]*"))
        }

    @property
    def log(self) -> str:
        return str(self.aside / "log")

    def run(self, fault: Fault) -> Result:
        """The scenario's command with a fault in it."""
        Path(self.log).unlink(missing_ok=True)
        argv = faults.program(*self.scenario.argv)
        return self._run(*argv, env=fault.environment())

    def verify(self) -> Result:
        return self._popbuild("verify")

    def _popbuild(self, *argv: str) -> Result:
        return self._run("popbuild", *argv, env={})

    def _run(self, *argv: str, env: dict[str, str]) -> Result:
        keys = {"OPENAI_API_KEY": CANARY, "POPBUILD_TRIES": "1", "POPBUILD_BACKOFF_S": "0.01"}
        return self.workspace.run(*argv, env=keys | env, timeout_s=_TIMEOUT_S)


def every(bench: Bench, kinds: Sequence[str], stride: int = 1, offset: int = 0) -> Iterator[Cell]:
    """All cells of a scenario, or every n-th of each kind."""
    for kind in kinds:
        for call in bench.points(kind)[offset::stride]:
            yield bench.try_at(kind, call)


def _difference(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    parts = [
        f"{job}: {json.dumps(found.get(job))[:300]} instead of {json.dumps(value)[:300]}"
        for job, value in wanted.items()
        if found.get(job) != value
    ]
    return "; ".join(parts)


# --- the scenarios ---


def _two_tasks(workspace: Workspace) -> None:
    workspace.seed("first", {"topic": "grid batteries"})
    workspace.task("research", prompt="Research: {{ seed.data.topic }}.\n")
    workspace.task("analysis", prompt="Analysis of: {{ artifacts.research.content }}\n")
    workspace.pipeline(["research", "analysis"])


def _built(workspace: Workspace) -> None:
    _two_tasks(workspace)
    _must(workspace, 0, "run", "first")


def _edited(workspace: Workspace) -> None:
    _built(workspace)
    workspace.seed("first", {"topic": "wind"})


def _gated(workspace: Workspace) -> None:
    _two_tasks(workspace)
    workspace.task("analysis", schema=SCHEMA, task_yaml={"gate": {"refinements": 1}})


def _rejected(workspace: Workspace) -> None:
    _gated(workspace)
    assert workspace.provider is not None
    workspace.provider.answer = _bad_answer
    _must(workspace, 1, "run", "first")


def _bad_answer(request: Request) -> Reply:
    return Reply('{"title": 3}') if request.schema else default_answer(request)


def _waiting(workspace: Workspace) -> None:
    _two_tasks(workspace)
    workspace.task("research", task_yaml={"gate": {"message": "Is this fit to print?"}})
    _must(workspace, 4, "run", "first")


def _submitted(workspace: Workspace) -> None:
    _two_tasks(workspace)
    (workspace.root / "seeds/first.json").unlink()
    for job in ("one", "two", "three"):
        seed = workspace.write("seed.json", {"name": job, "data": {"topic": f"topic of {job}"}})
        _must(workspace, 0, "submit", "--id", job, str(seed))
        seed.unlink()


def _must(workspace: Workspace, code: int, *argv: str) -> None:
    result = workspace.popbuild(*argv, env={"OPENAI_API_KEY": CANARY})
    assert result.code == code, result


def _retry_or_run(workspace: Workspace) -> tuple[str, ...]:
    """A retry that was cut short goes on as a run, as its message says."""
    rejected = workspace.states("first") == ["rejected"]
    return ("retry", "first") if rejected else ("run", "first")


def _watch_or_run(workspace: Workspace) -> tuple[str, ...]:
    """What failed waits for a person, who runs it; an orchestrator goes on with all else."""
    jobs = ("one", "two", "three")
    current = [workspace.job(job, "current") / "tasks-status.json" for job in jobs]
    failed = any('"failed"' in path.read_text() for path in current if path.exists())
    return ("run", *jobs) if failed else WATCH


WATCH = ("watch", "--once", "--workers", "2", "-n", "4", "--rescan", "0.2")
PRUNE = ("cache", "prune", "--older-than", "0h", "--referenced", "--yes")

SCENARIOS = (
    Scenario("build", ("run", "first"), _two_tasks),
    Scenario("rebuild", ("run", "first"), _edited, stands=("first",)),
    Scenario("rejection", ("run", "first"), _gated, code=1, answer=_bad_answer),
    Scenario("retry", ("retry", "first"), _rejected, again=_retry_or_run),
    Scenario("approve", ("approve", "first"), _waiting),
    Scenario("reject", ("reject", "first", "--note", "Too long."), _waiting),
    Scenario("prune", ("prune", "--older-than", "0h", "--yes"), _built),
    Scenario("prune logs", ("prune", "--logs", "--yes"), _built, stands=("first",)),
    Scenario("cache prune", PRUNE, _built, stands=("first",)),
    Scenario(
        "orchestrator",
        WATCH,
        _submitted,
        jobs=("one", "two", "three"),
        again=_watch_or_run,
        in_flight=4,
    ),
)
