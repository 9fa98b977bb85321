"""The crash matrix: each scenario once for every call that changes something, with every fault.

A scenario, see scenarios.py, is a real command on a real root. It is run whole once, which gives
its calls and its result; then once for each call and fault, from the same beginning, and again to
its end. What must hold after each is in invariants.py and accounts.py.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import faults
import invariants
from accounts import Accounts
from commands import Result
from faults import Call, Fault
from provider import Provider, Reply, Request, default_answer
from workspace import Workspace

CANARY = "sk-canary-7f3a91c5d2e84b06"
# Exit codes that docs/design.md names: a crash of popbuild itself is none of them.
_TOLD = (0, 1, 2, 3, 4)
_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Scenario:
    """`prepare` makes the root as it is before the command; `answer` is the provider's while the
    command runs, and `again` the command that must bring it to its end after a fault.

    Below the root, `made` is a file or folder that is there whole or not at all. `holds` says what
    is wrong at a moment, of what is this scenario's own to promise.
    """

    name: str
    argv: tuple[str, ...]
    prepare: Callable[[Workspace], object]
    jobs: tuple[str, ...] = ("first",)
    code: int = 0
    answer: Callable[[Request], Reply] = default_answer
    again: Callable[[Workspace], tuple[str, ...]] | None = None
    in_flight: int = 1  # calls of which a crash may lose the answers
    stands: tuple[str, ...] = ()  # jobs that are in complete/ at every moment
    made: str = ""
    holds: Callable[[Workspace], Iterator[str]] = lambda workspace: iter(())
    keeps_answers: bool = True  # nothing of it drops answers from the store
    variants: tuple[str, ...] = ("base",)  # whose jobs are verified in the end


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
    result: dict[str, Any] = field(init=False)  # none before `measure`
    needed: int = field(init=False)  # calls to the provider in an undisturbed run
    verified: int = field(init=False)  # verify's exit code after one

    def __post_init__(self) -> None:
        self.workspace = Workspace(self.folder / "work", self.provider)
        self.root = self.workspace.root
        self.result = {}
        self.aside = Path(tempfile.mkdtemp(prefix="matrix-"))  # what no cut of power may touch
        self.provider.answer = default_answer
        first = len(self.provider.requests)
        self.scenario.prepare(self.workspace)
        self.provider.answer = self.scenario.answer
        self._prepared = self.provider.requests[first:]
        self._begun = len(self.provider.requests)
        shutil.copytree(self.root, self.aside / "before", symlinks=True)

    def close(self) -> None:
        self.workspace.close()
        shutil.rmtree(self.aside)

    def measure(self) -> None:
        """The run that nothing disturbs: what all others must come to."""
        result = self.run(Fault(str(self.root), self.log))
        self.calls = faults.calls(Path(self.log))
        self.needed = len(self.sent())
        self.result = self.reached()
        self.verified = self.verify().code
        wrong = [*self.look(result), *self.accounts().wrong(0, self.scenario.keeps_answers)]
        if result.code != self.scenario.code or wrong:
            raise AssertionError(f"{self.scenario.name} fails undisturbed: {result}, {wrong}")

    def points(self, kind: str) -> list[Call]:
        """The calls that this can happen to."""
        return [call for call in self.calls if call.can(kind)]

    def try_at(self, kind: str, call: Call) -> Cell:
        """Begin anew, let a fault happen at this call, look, run it to its end, look again."""
        self.reset()
        fault = Fault(str(self.root), self.log, kind, call.number, self.unsynced)
        result = self.run(fault)
        wrong = [*self.told(result, kind), *self.look(result)]
        wrong += self.finish()
        return Cell(self.scenario.name, kind, call, tuple(wrong))

    def finish(self) -> Iterator[str]:
        """The next run comes to the same result, for no more calls than were under way."""
        again = self.scenario.again
        argv = again(self.workspace) if again else self.scenario.argv
        result = self.popbuild(*argv)
        if result.code != self.scenario.code:
            yield f"the next run ended with {result.code}: {result.err[-600:]}"
        if self.reached() != self.result:
            yield f"another result: {_difference(self.reached(), self.result)}"
        spent = len(self.sent())
        if spent > self.needed + self.scenario.in_flight:
            yield f"{spent} calls, {self.needed} needed"
        verified = self.verify()
        if verified.code != self.verified:
            yield f"verify says {verified.code}: {verified.out[-600:]}{verified.err[-600:]}"
        yield from self.look(result)

    def look(self, result: Result | None, after_cut: bool = False) -> Iterator[str]:
        """What must hold at any moment."""
        yield from invariants.broken(self.root, CANARY, after_cut)
        yield from self.accounts().wrong(self.scenario.in_flight, self.scenario.keeps_answers)
        yield from self.scenario.holds(self.workspace)
        made = self.made()
        if made is not None and made != self.result.get("made", made):
            yield f"neither whole nor missing: {self.scenario.made}"
        for job in self.scenario.stands:
            complete = invariants.job_folders(self.root / "pipeline-data", "complete")
            if job not in [path.name for path in complete]:
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
        self._begun = len(self.provider.requests)

    def sent(self) -> list[Request]:
        """What the provider saw since the root was as at its beginning."""
        return self.provider.requests[self._begun :]

    def accounts(self) -> Accounts:
        """Store and ledger as they stand now, beside all requests that made this root."""
        return Accounts(self.root, [*self._prepared, *self.sent()])

    def reached(self) -> dict[str, Any]:
        return invariants.result(self.root, self.scenario.jobs) | {
            "sources": sorted(path.name for path in self.root.glob("pipeline-data/pending/[!.]*")),
            "made": self.made(),
            "lines": sum(len(invariants.runs(each)) for each in invariants.data_folders(self.root)),
        }

    def made(self) -> str | None:
        """The digest of what the command is to make, None where it is not there."""
        path = self.root / self.scenario.made
        if not self.scenario.made or not path.exists():
            return None
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        digest = hashlib.sha256()
        for each in files:
            digest.update(f"{each.relative_to(path)}\n".encode())
            digest.update(each.read_bytes() if each.is_file() else b"")
        return digest.hexdigest()

    @property
    def log(self) -> str:
        return str(self.aside / "log")

    def run(self, fault: Fault, on_start: Callable[[int], object] = lambda process: None) -> Result:
        """The scenario's command with a fault in it. `on_start` is told the number of its process
        before it can have sent anything."""
        Path(self.log).unlink(missing_ok=True)
        argv = faults.program(*self.scenario.argv)
        return self._run(*argv, env=fault.environment(), on_start=on_start)

    def verify(self) -> Result:
        """What verify says of the variants; of the worst of them."""
        found = [self.popbuild("verify", "--variant", each) for each in self.scenario.variants]
        return max(found, key=lambda each: each.code)

    def popbuild(self, *argv: str) -> Result:
        """Any command on the root as it stands."""
        return self._run("popbuild", *argv, env={})

    def _run(
        self,
        *argv: str,
        env: dict[str, str],
        on_start: Callable[[int], object] = lambda process: None,
    ) -> Result:
        keys = {"OPENAI_API_KEY": CANARY, "POPBUILD_TRIES": "1", "POPBUILD_BACKOFF_S": "0.01"}
        with self.workspace.start(*argv, env=keys | env) as running:
            on_start(running.pid)
            return running.wait(_TIMEOUT_S)


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
