"""Rules that a change of one sign once broke without a test that fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from provider import Provider
from workspace import Workspace

from popbuild.base.locks import Locks, locks_of

TITLED = {
    "type": "object",
    "properties": {"title": {"type": "string", "minLength": 3}},
    "required": ["title"],
}
SHORT, GOOD = '{"title": "A"}', '{"title": "Abc"}'


def reasons(workspace: Workspace) -> list[str]:
    (job,) = json.loads(workspace.popbuild("status", "--json").out)
    found: list[str] = job["tasks"]["research"]["reasons"]
    return found


# --- refinements ---


@pytest.mark.parametrize("used", [0, 1, 2])
def test_all_refinements_were_used(used: int, workspace: Workspace, provider: Provider) -> None:
    """A task that needed as many refinements as it may have is up to date. It is stale when it may
    have fewer, for that reason alone, and not when it may have more."""
    gate = {"gate": {"refinements": used}}
    workspace.task("research", schema=TITLED, task_yaml=gate)
    workspace.pipeline(["research"])
    provider.script([*[SHORT] * used, GOOD])
    assert workspace.popbuild("run").code == 0
    assert workspace.letter("first", "research")["refinementAttempts"] == used
    assert workspace.popbuild("run").out == "-- first  up to date\n"
    assert len(provider.requests) == used + 1
    for allowed in range(3):
        workspace.task("research", task_yaml={"gate": {"refinements": allowed}})
        fewer = [f"built with {used} refinements, now {allowed}"] if allowed < used else []
        assert reasons(workspace) == fewer


# --- kinds ---


@pytest.mark.parametrize(
    ("container", "scalar"), [(["a"], "a"), ({"a": 1}, 1), ([], None), ({}, False)], ids=str
)
def test_a_container_becomes_a_scalar(
    container: Any, scalar: Any, workspace: Workspace, provider: Provider
) -> None:
    """A template that only learned that a list or an object stands somewhere runs again when a
    text, a number or null stands there."""
    tests = " or ".join(
        f"seed.data.it is {kind}" for kind in ("string", "boolean", "none", "number")
    )
    prompt = f"{{{{ 'scalar' if {tests} else 'container' }}}}"
    workspace.task("research", prompt=prompt)
    workspace.pipeline(["research"])
    workspace.seed("first", {"it": container})
    assert workspace.popbuild("run").code == 0
    kind = "array" if isinstance(container, list) else "object"
    assert workspace.letter("first", "research")["fingerprint"]["seed-kind:/data/it"] == kind
    workspace.seed("first", {"it": scalar})
    assert reasons(workspace) == [f"seed-kind:/data/it changed: {kind} → scalar"]
    assert workspace.popbuild("run").code == 0
    assert [each.said("user") for each in provider.requests] == ["container", "scalar"]
    assert workspace.popbuild("run").out == "-- first  up to date\n"
    assert len(provider.requests) == 2


# --- the ledger ---


@pytest.fixture
def built(workspace: Workspace, provider: Provider) -> Workspace:
    """A job was built, by two calls of its code."""
    stages = "def inference(context):\n    context.llm('One?')\n    return context.llm('Two?')\n"
    workspace.task("research", stages=stages)
    workspace.pipeline(["research"], task_config={"research": {"maxTokens": 500}})
    assert workspace.popbuild("run").code == 0
    return workspace


def settle_again(workspace: Workspace) -> None:
    """Let each call end three times more, as in a ledger that was put together from two copies: as
    it did, as one that cost nothing, and as one that was refused."""
    path = workspace.root / ".popbuild/ledger.jsonl"
    lines = path.read_text().splitlines()
    settled = [line for line in lines if json.loads(line)["event"] == "settled"]
    assert len(settled) == 2
    for line in settled:
        end = json.loads(line)
        released = {"event": "released", "entry": end["entry"], "at": end["at"], "reason": "x"}
        nothing = end | {"cost": 0.0, "inputTokens": 0, "outputTokens": 0}
        lines += [line, json.dumps(nothing), json.dumps(released)]
    path.write_text("\n".join(lines) + "\n")


def test_a_call_is_settled_once_for_a_budget(built: Workspace, provider: Provider) -> None:
    """What ends an entry first is what the call cost. Further ends of it give nothing back."""
    settle_again(built)
    spent = sum(call["cost"] for call in built.letter("first", "research")["calls"])
    calls = len(provider.requests)
    built.seed("second", {"topic": "tides", "tone": "plain"})
    built.task("research", stages="def inference(context):\n    return context.llm('Three?')\n")
    for budget in (spent, spent + 1):
        built.pipeline(
            ["research"],
            task_config={"research": {"maxTokens": 500}},
            budget={"pipeline": budget},
        )
        result = built.popbuild("run", "second")
        assert result.code == (6 if budget == spent else 0), result.err
        assert len(provider.requests) == calls + (budget != spent)
    assert built.popbuild("run", "second").code == 0
    assert len(provider.requests) == calls + 1


def test_a_call_is_settled_once_for_a_plan(built: Workspace) -> None:
    """A plan learns from each call once, from its first end."""
    before = built.popbuild("plan", "-a", "--store", "off", "--json").out
    settle_again(built)
    assert built.popbuild("plan", "-a", "--store", "off", "--json").out == before


# --- locks ---


def test_a_lock_that_this_process_has(tmp_path: Path) -> None:
    """The kernel would give a process its own lock again: here it is refused, until it was given
    back. Other names, and other processes, are told apart."""
    path = tmp_path / "locks"
    locks = Locks(path)
    assert locks.is_free("job")
    assert locks.holder("job") is None
    assert locks.acquire("job")
    assert not locks.acquire("job")
    assert not locks.is_free("job")
    assert locks.holder("job") == os.getpid()
    assert locks.is_free("other")
    assert not elsewhere(path, "job")
    assert elsewhere(path, "other")
    assert locks.acquire("other")
    locks.release("job")
    assert locks.is_free("job")
    assert not locks.is_free("other")
    assert elsewhere(path, "job")
    assert not elsewhere(path, "other")
    assert locks.acquire("job")
    assert not locks.acquire("job")


def test_a_process_has_one_set_of_locks_of_a_file(tmp_path: Path) -> None:
    """One part of a process is refused the locks of a file that another part holds."""
    assert locks_of(tmp_path / "locks").acquire("job")
    assert not locks_of(tmp_path / "locks").acquire("job")
    assert locks_of(tmp_path / "others").acquire("job")


def elsewhere(path: Path, name: str) -> bool:
    """Whether another process gets a lock."""
    source = (
        "import sys; from pathlib import Path; from popbuild.base.locks import Locks; "
        "sys.exit(not Locks(Path(sys.argv[1])).acquire(sys.argv[2]))"
    )
    return not subprocess.run([sys.executable, "-c", source, path, name], check=False).returncode
