"""Random commands in a random order, with faults in disk, clock and provider, against a few lines
of what must hold at every step.

Everything that is complete is whole and proven; a job stands in one place; what was answered is
stored, and nothing that is stored is bought again; each run is written down once. In the end, when
nothing fails any more, every job is complete, and the next run does nothing.
"""

from __future__ import annotations

import collections
import itertools
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import Result
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from provider import Provider, Reply, Request, fail
from workspace import Workspace

from popbuild.base.paths import Root
from popbuild.query import describe
from popbuild.upkeep import validate, verify

# A number here tries that many sequences, other ones each time; without it, the same few.
EXAMPLES = os.environ.get("POPBUILD_TEST_EXAMPLES")
STEPS = 30 if EXAMPLES else 9

# popbuild, with a clock that is wrong by so many seconds, and a disk on which the n-th step that
# changes something fails with an error, or is never taken, since the process dies before it. For
# `late` they count from a job's move to complete/, for `line` from its line in runs.jsonl.
PROGRAM = """
import errno, os, signal, sys, time
from popbuild.cli.main import main
from popbuild.base import tree

shift, kind, left = float(sys.argv[1]), sys.argv[2], int(sys.argv[3])
now, now_ns = time.time, time.time_ns
time.time = lambda: now() + shift
time.time_ns = lambda: now_ns() + int(shift * 1e9)

counting = kind not in ("late", "line")

def begins(function, arguments):
    if kind == "late":
        return function is renameat2 and "/complete/" in str(arguments[1])
    if function is not write:
        return False
    return os.readlink(f"/proc/self/fd/{arguments[0]}").endswith("/complete/runs.jsonl")

def step(function):
    def stepping(*arguments, **keywords):
        global left, counting
        counting = counting or begins(function, arguments)
        left -= counting
        if left == 0 and kind in ("kill", "late", "line"):
            os.kill(os.getpid(), signal.SIGKILL)
        if left == 0 and counting and kind != "none":
            raise OSError(getattr(errno, kind), os.strerror(getattr(errno, kind)))
        return function(*arguments, **keywords)
    return stepping

renameat2, write = tree._renameat2, os.write
for name in ("fsync", "replace", "mkdir", "unlink", "write", "rename"):
    setattr(os, name, step(getattr(os, name)))
tree._renameat2 = step(renameat2)
sys.exit(main(sys.argv[4:]))
"""
ENV = {"POPBUILD_TRIES": "2", "POPBUILD_BACKOFF_S": "0.01", "POPBUILD_PATIENCE_S": "0"}

JOBS = ("first", "queued")  # one has its seed under seeds/, the other was submitted
TOPICS = ("wind", "sun", "bad")  # the last is one that the gate says no to
SHIFTS = (0, 0, 0, -90_000, 3600, 40_000_000)
# Few of all steps come after a job's move to complete/, and fewer after its line: there it hangs on
# each whether the next command finishes the promotion, once. By kind, how many of them are tried.
LATE = {"late": 28, "line": 4}
FAULTS = st.sampled_from(["none", "kill", *LATE, "ENOSPC", "EIO"])
SCHEMA = {
    "type": "object",
    "properties": {"topic": {"enum": ["wind", "sun", "mended"]}, "words": {"type": "integer"}},
    "required": ["topic", "words"],
}


class Machine(RuleBasedStateMachine):
    """`lost` counts the calls that a kill or a fault may have taken along, `gone` the answers that
    were dropped from the store: these may be bought again. `lenient` says whether the model has
    come to its senses."""

    def __init__(self, provider: Provider, folder: Path) -> None:
        super().__init__()
        self.provider = provider
        self.folder = folder
        self.workspace = Workspace(folder, provider)
        self.copies = itertools.count(1)
        self.versions = itertools.count(3)
        self.before = len(provider.requests)
        self.lenient = False
        self.topics = {"first": "wind"}
        self.lost = 0
        self.gone: collections.Counter[str] = collections.Counter()
        provider.answer = self.answer

    def answer(self, request: Request) -> Reply:
        said = request.said("user")
        if request.schema is None:
            return Reply(f"Written: {said}")
        topic = next((each for each in TOPICS if each in said), "wind")
        topic = "mended" if topic == "bad" and self.lenient else topic
        return Reply(json.dumps({"topic": topic, "words": len(said)}))

    def teardown(self) -> None:
        try:
            self.converge()
        finally:
            self.workspace.close()
            shutil.rmtree(self.folder)

    # --- what is done ---

    @initialize()
    def begin(self) -> None:
        space = self.workspace
        space.seed("first", {"topic": "wind", "tone": "plain"})
        space.task("research", prompt="Research: {{ seed.data.topic }}.\n", schema=SCHEMA)
        space.task("research", task_yaml="gate:\n  refinements: 1\n")
        space.task("analysis", prompt="Of {{ artifacts.research.topic }}, version 0\n")
        space.pipeline(["research", "analysis"])

    def command(self, *words: str, fault: str = "none", at: int = 0, shift: float = 0) -> Result:
        """A command to its end, with an exit code that is documented."""
        note(f"{' '.join(words)} [{fault} {at}, clock {shift:+}]")
        at = at % LATE[fault] + 1 if fault in LATE else at
        argv = ["python", "-c", PROGRAM, str(shift), fault, str(at), *words]
        result = self.workspace.run(*argv, env=ENV)
        return self.ended(result, fault)

    def ended(self, result: Result, fault: str) -> Result:
        said = result.out + result.err
        note(f"-> {result.code}: {said[-600:]}")
        assert "Traceback" not in said, said
        assert "mistake in popbuild" not in said, said
        assert (
            result.code == -9
            if fault in ("kill", *LATE) and result.code < 0
            else result.code in range(7)
        )
        if fault != "none":
            self.lost += 2 * len(JOBS)
        self.look(may_lack=fault != "none")
        return result

    @rule(topic=st.sampled_from(TOPICS))
    def edit_seed(self, topic: str) -> None:
        self.topics["first"] = topic
        self.workspace.seed("first", {"topic": topic, "tone": f"of {len(self.topics)}"})

    @rule(version=st.integers(0, 2))
    def edit_prompt(self, version: int) -> None:
        prompt = f"Of {{{{ artifacts.research.topic }}}}, version {version}\n"
        self.workspace.task("analysis", prompt=prompt)

    @precondition(lambda self: "queued" not in self.topics)
    @rule(topic=st.sampled_from(TOPICS), fault=FAULTS, at=st.integers(1, 6))
    def submit(self, topic: str, fault: str, at: int) -> None:
        self.workspace.write("draft.json", {"name": "queued", "data": {"topic": topic}})
        words = ("submit", "draft.json", "--id", "queued")
        self.command(*words, fault=fault, at=at)
        if (self.workspace.root / "pipeline-data/pending/queued-seed.json").exists():
            self.topics["queued"] = topic

    @rule(
        fault=FAULTS,
        at=st.integers(1, 90),
        shift=st.sampled_from(SHIFTS),
        more=st.sampled_from([(), ("first",), ("-c",), ("-n", "1")]),
    )
    def run(self, fault: str, at: int, shift: float, more: tuple[str, ...]) -> None:
        self.command("run", *more, fault=fault, at=at, shift=shift)

    @rule(fault=st.sampled_from([*LATE]), at=st.integers(0, 27))
    def die_behind_a_promotion(self, fault: str, at: int) -> None:
        self.edit_prompt(next(self.versions))
        self.command("run", "first", fault=fault, at=at)

    @rule(status=st.sampled_from([500, 429, 401, 0]))
    def run_while_the_provider_fails(self, status: int) -> None:
        reply = fail(status) if status else Reply(drop=True)
        sent = len(self.provider.requests)
        self.provider.answer = lambda _: reply
        self.command("run", "-c")
        self.provider.answer = self.answer
        self.lost += len(self.provider.requests) - sent

    @rule(fault=FAULTS, at=st.integers(1, 60))
    def two_at_once(self, fault: str, at: int) -> None:
        """One of them meets the fault; neither is in the other's way."""
        argv = ["python", "-c", PROGRAM, "0"]
        with (
            self.workspace.start(*argv, fault, str(at), "run", "-c", env=ENV) as one,
            self.workspace.start(*argv, "none", "0", "run", "-c", env=ENV) as other,
        ):
            results = one.wait(), other.wait()
        for result in results:
            self.ended(result, fault)

    @rule(lenient=st.booleans())
    def change_the_models_mind(self, lenient: bool) -> None:
        self.lenient = lenient

    @rule(job=st.sampled_from(JOBS), fault=FAULTS, at=st.integers(1, 5))
    def retry(self, job: str, fault: str, at: int) -> None:
        if job in self.topics:
            self.command("retry", job, fault=fault, at=at)

    @rule(job=st.sampled_from(JOBS), fault=FAULTS, at=st.integers(1, 12))
    def accept(self, job: str, fault: str, at: int) -> None:
        if job in self.topics:
            self.command("accept", job, fault=fault, at=at)

    @rule(has_gate=st.booleans())
    def edit_gate(self, has_gate: bool) -> None:
        """Below it is nothing: it holds the promotion back."""
        self.workspace.task("analysis", task_yaml="gate:\n  message: Fit?\n" if has_gate else "")

    @rule(
        job=st.sampled_from(JOBS),
        said=st.sampled_from(["approve", "approve", "reject"]),
        fault=FAULTS,
        at=st.integers(1, 12),
    )
    def decide(self, job: str, said: str, fault: str, at: int) -> None:
        if job in self.topics:
            self.command(said, job, fault=fault, at=at)

    @rule(
        words=st.sampled_from(
            [
                ("--older-than", "0s"),
                ("complete", "--keep", "1"),
                ("rejected", "--older-than", "0s"),
                ("--logs",),
                ("--orphans",),
            ]
        ),
        fault=FAULTS,
        at=st.integers(1, 12),
        shift=st.sampled_from(SHIFTS),
    )
    def prune(self, words: tuple[str, ...], fault: str, at: int, shift: float) -> None:
        """A job whose seed is under seeds/ is made again; one that was submitted is gone."""
        self.command("prune", *words, "--yes", fault=fault, at=at, shift=shift)
        pending = self.workspace.root / "pipeline-data/pending/queued-seed.json"
        if not self.workspace.states("queued") and not pending.exists():
            self.topics.pop("queued", None)

    @rule(fault=FAULTS, at=st.integers(1, 12), shift=st.sampled_from(SHIFTS))
    def doctor(self, fault: str, at: int, shift: float) -> None:
        self.command("doctor", "--yes", fault=fault, at=at, shift=shift)

    @rule(more=st.sampled_from([(), ("--referenced",)]), fault=FAULTS, at=st.integers(1, 5))
    def prune_the_store(self, more: tuple[str, ...], fault: str, at: int) -> None:
        words = ("cache", "prune", "--max-size", "0", "--yes", *more)
        note(" ".join(words))
        argv = ["python", "-c", PROGRAM, "0", fault, str(at), *words]
        result = self.workspace.run(*argv, env=ENV)
        assert "Traceback" not in result.out + result.err
        self.look(may_lack=True)

    @rule()
    def copy(self) -> None:
        """The whole root goes elsewhere, and the work goes on there."""
        target = self.folder / f"copy-{next(self.copies)}"
        shutil.copytree(self.workspace.root, target, symlinks=True)
        shutil.rmtree(self.workspace.root)
        self.workspace.root = target

    # --- what holds ---

    def ledger(self) -> dict[str, collections.Counter[str]]:
        """How often each request was reserved, settled and released, by its digest."""
        path = self.workspace.root / ".popbuild/ledger.jsonl"
        events: dict[str, collections.Counter[str]] = {
            name: collections.Counter() for name in ("reserved", "settled", "released")
        }
        request: dict[str, str] = {}
        for line in path.read_bytes().splitlines() if path.exists() else ():
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # torn by a fault: its call is among those that are lost
            request.setdefault(entry["entry"], entry.get("request", ""))
            events[entry["event"]][request[entry["entry"]]] += 1
        return events

    def look(self, *, may_lack: bool) -> None:
        """After a command: the ledger against the store and the provider."""
        events = self.ledger()
        for digest, count in events["settled"].items():
            name = digest.removeprefix("sha256:")
            stored = self.workspace.root / f".popbuild/store/{name[:2]}/{name[2:]}.json"
            if stored.exists():
                assert count - self.gone[digest] <= 1, f"bought twice: {digest}"
            elif may_lack or self.gone[digest] == count:
                self.gone[digest] = count
            else:
                raise AssertionError(f"answered, and not stored: {digest}")

    @invariant()
    def calls_are_accounted_for(self) -> None:
        events = {name: sum(counts.values()) for name, counts in self.ledger().items()}
        sent = len(self.provider.requests) - self.before
        assert sent <= events["reserved"] + self.lost
        assert events["reserved"] - events["settled"] - events["released"] <= self.lost

    @invariant()
    def what_is_complete_is_whole(self) -> None:
        root = Root(self.workspace.root)
        if not root.config.exists():
            return
        proofs = verify.verify(root)
        assert proofs.proven, proofs
        for finding in validate.validate(root).findings:
            assert "pipeline-data/complete" not in str(finding.as_json()), finding

    @invariant()
    def each_run_is_written_down_once(self) -> None:
        path = self.workspace.root / "pipeline-data/complete/runs.jsonl"
        runs = (
            [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []
        )
        named = [each["pipelineId"] for each in runs]
        assert len(set(named)) == len(named)

    @invariant()
    def one_directory_answers(self) -> None:
        root = Root(self.workspace.root)
        known = [job for job in self.topics if self.workspace.states(job)]
        for job in describe.jobs_of(root, known) if known else ():
            assert job.folder is not None
            assert job.folder.path.is_dir()
            assert job.state in ("complete", "rejected", "stopped", "failed", "running", "waiting")

    def converge(self) -> None:
        """With nothing in the way, and a model that means well: all is built, and then stands."""
        if not self.workspace.root.exists() or not (self.workspace.root / "seeds").exists():
            return
        self.lenient = True
        self.edit_gate(False)
        for job in self.topics:
            if "rejected" in self.workspace.states(job):
                self.command("retry", job)
        self.command("run", "-c", "--discard-edits")
        for job in self.topics:  # rejected for an answer that is stored, or failed too often
            if self.workspace.states(job) != ["complete"]:
                self.command("retry", job)
        result = self.command("run", "-c", "--discard-edits")
        assert result.code == 0, result
        for job in self.topics:
            assert self.workspace.states(job) == ["complete"], job
            assert self.workspace.artifact(job, "research")["topic"] in ("wind", "sun", "mended")
        sent, runs = len(self.provider.requests), self.workspace.runs()
        assert self.command("run").code == 0
        assert len(self.provider.requests) == sent
        assert self.workspace.runs() == runs
        assert self.workspace.popbuild("check").code == 0


@pytest.fixture(autouse=True)
def _same_endpoint(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks in this process see what the commands see: the address is a dependency."""
    for key, value in provider.environment().items():
        monkeypatch.setenv(key, value)


@pytest.mark.slow
def test_whatever_is_done_in_whatever_order(provider: Provider, tmp_path: Path) -> None:
    """Nothing is lost, nothing bought twice, and nothing stays in the way."""
    folders: Iterator[Path] = (tmp_path / str(number) for number in itertools.count())

    def machine() -> Any:
        return Machine(provider, next(folders))

    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            max_examples=int(EXAMPLES or 3),
            stateful_step_count=STEPS,
            derandomize=EXAMPLES is None,
            phases=[
                Phase.generate
            ],  # the steps are told one by one; to shorten them takes too long
            suppress_health_check=list(HealthCheck),
        ),
    )
