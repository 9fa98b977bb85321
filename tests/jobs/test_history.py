"""fresh=, freeze and thaw: what a person decides about tasks, whatever changed or did not."""

from __future__ import annotations

import json
from typing import Any

from provider import Provider, Reply
from workspace import Workspace


def ok(workspace: Workspace, *args: str, code: int = 0) -> str:
    result = workspace.popbuild(*args)
    assert result.code == code, result.out + result.err
    return result.out


def run(workspace: Workspace, *args: str) -> Any:
    (result,) = json.loads(ok(workspace, "run", "--json", *(args or ["first"])))
    return result


# --- fresh ---


def test_fresh_draws_a_new_sample(workspace: Workspace, provider: Provider) -> None:
    """Of the named task alone; what stands below is built if the new artifact differs; after it
    everything is up to date, and nothing was thrown away in the store."""
    run(workspace)
    provider.script(["Another text about batteries, drawn anew."])
    result = workspace.doit("run", "job=first", "fresh=research")
    assert result.code == 0, result.out + result.err
    assert "first:research  a fresh sample was asked for" in result.out
    assert len(provider.requests) == 4
    (call,) = workspace.letter("first", "research")["calls"]
    assert call["sample"] == 1
    assert workspace.artifact("first", "research")["content"].startswith("Another text")
    assert run(workspace)["outcome"] == "up to date"
    assert run(workspace, "first", "fresh=research")["usage"]["calls"] == 1
    assert workspace.letter("first", "research")["calls"][0]["sample"] == 2
    assert len(provider.requests) == 5


def test_fresh_with_the_same_artifact_leaves_the_rest(
    workspace: Workspace, provider: Provider
) -> None:
    run(workspace)
    same = workspace.artifact("first", "research")["content"]
    provider.script([same])
    assert run(workspace, "first", "fresh=research")["built"] == ["research"]
    assert len(provider.requests) == 3
    assert run(workspace)["outcome"] == "up to date"


def test_fresh_names_a_task_that_is_there(workspace: Workspace, provider: Provider) -> None:
    run(workspace)
    result = workspace.popbuild("run", "first", "fresh=reserch")
    assert result.code == 3
    assert "did you mean  research" in result.err
    assert workspace.popbuild("run", "first", "fresh=").code == 3
    assert workspace.popbuild("run", "first:research", "fresh=analysis").code == 3
    assert workspace.doit("run", "job=first", "frsh=research").code == 3
    assert workspace.doit("list", "fresh=research").code == 3
    assert len(provider.requests) == 2


# --- freeze and thaw ---


def test_a_frozen_task_is_not_rebuilt_whatever_changes(
    workspace: Workspace, provider: Provider
) -> None:
    """And every report says so; what stands below it is built from what it is."""
    run(workspace)
    before = workspace.artifact("first", "research")
    assert ok(workspace, "freeze", "first", "research") == "first: frozen: research\n"
    assert run(workspace)["frozen"] == ["research"]
    workspace.task("research", prompt="Quite another prompt: {{ seed.data.tone }}.\n")
    changed = "file:tasks/research/prompt.md changed"
    assert "complete, frozen: research" in ok(workspace, "list")
    assert f"frozen, else stale: {changed}" in ok(workspace, "status", "first")
    assert "research: frozen, else stale\n" in ok(workspace, "explain", "first")
    assert "frozen, else stale: research" in ok(workspace, "plan", "first")
    assert "frozen" in workspace.doit("info", "first:research").out
    ok(workspace, "check")
    assert run(workspace)["outcome"] == "up to date"
    workspace.task("analysis", prompt="Sum up: {{ artifacts.research.content }}\n")
    out = ok(workspace, "run", "first")
    assert "complete" in out
    assert ", frozen: research" in out
    assert len(provider.requests) == 3
    assert workspace.artifact("first", "research") == before


def test_a_thawed_task_is_stale_again(workspace: Workspace, provider: Provider) -> None:
    run(workspace)
    ok(workspace, "freeze", "first", "research")
    workspace.task("research", prompt="Quite another prompt: {{ seed.data.tone }}.\n")
    assert ok(workspace, "thaw", "first", "research") == "first: frozen: nothing\n"
    ok(workspace, "check", code=1)
    assert run(workspace)["built"][0] == "research"
    assert not (workspace.root / ".popbuild/frozen/first.json").exists()
    assert run(workspace)["outcome"] == "up to date"
    assert len(provider.requests) == 4


def test_what_cannot_be_frozen_is_said(workspace: Workspace, provider: Provider) -> None:
    result = workspace.popbuild("freeze", "first", "research")
    assert result.code == 3
    assert "nothing to freeze" in result.err
    run(workspace)
    assert workspace.popbuild("freeze", "first", "reserch").code == 3
    assert workspace.popbuild("freeze", "nobody", "research").code == 3
    assert "the task is not frozen" in workspace.popbuild("thaw", "first", "research").err
    ok(workspace, "freeze", "first", "research")
    result = workspace.popbuild("run", "first", "fresh=research")
    assert result.code == 3
    assert "popbuild thaw first research" in result.err
    assert len(provider.requests) == 2


def test_freeze_and_thaw_by_a_pattern(workspace: Workspace, provider: Provider) -> None:
    """In every job that matches, and in none if one of them has nothing to freeze."""
    for job in ("second", "seventh"):
        workspace.seed(job, {"topic": job})
    ok(workspace, "run")
    calls = len(provider.requests)
    said = "second: frozen: research\nseventh: frozen: research\n"
    assert ok(workspace, "freeze", "s*", "research") == said
    for job in ("first", "second", "seventh"):
        workspace.seed(job, {"topic": f"another {job}"})
    ok(workspace, "run")
    assert len(provider.requests) == calls + 2  # both tasks of `first`
    assert workspace.popbuild("thaw", "f*", "research").code == 3
    body = json.loads(ok(workspace, "freeze", "*", "research", "--json"))
    assert body == [{"job": job, "frozen": ["research"]} for job in ("first", "second", "seventh")]
    ok(workspace, "thaw", "first", "research")
    assert ok(workspace, "thaw", "*", "research") == said.replace("research", "nothing")
    workspace.seed("third", {"topic": "third"})
    result = workspace.popbuild("freeze", "*", "research")
    assert result.code == 3
    assert "job   third" in result.err
    assert not list((workspace.root / ".popbuild/frozen").iterdir())
    for pattern in ("x*", "first:analysis", "f*:analysis"):
        assert workspace.popbuild("freeze", pattern, "research").code == 3
    assert workspace.popbuild("freeze", "s*", "reserch").code == 3
    ok(workspace, "run")
    ok(workspace, "run")
    assert len(provider.requests) == calls + 8


def changed(workspace: Workspace, provider: Provider) -> Any:
    """`first` with `research` frozen and then stale, and a provider that answers otherwise now;
    gives the artifact that stays."""
    run(workspace)
    ok(workspace, "freeze", "first", "research")
    workspace.seed("first", {"topic": "wind", "tone": "plain"})
    provider.answer = lambda request: Reply(f"Quite another answer, number {request.number}.")
    return workspace.artifact("first", "research")


def test_all_that_is_asked_for_leaves_a_frozen_task(
    workspace: Workspace, provider: Provider
) -> None:
    """-a builds the others, from the store or anew, and says what it left."""
    before = changed(workspace, provider)
    letter = workspace.letter("first", "research")
    out = ok(workspace, "run", "-a", "--store", "refresh")
    assert "first:research  frozen: left as it is\n" in out
    assert "complete" in out
    assert out.count("frozen: research") == 1
    assert workspace.runs()[-1]["built"] == ["analysis"]
    assert workspace.artifact("first", "research") == before
    assert run(workspace, "first", "-a")["built"] == ["analysis"]
    assert workspace.letter("first", "research") == letter
    assert len(provider.requests) == 3


def test_a_frozen_task_is_not_forgotten(workspace: Workspace, provider: Provider) -> None:
    """To name it is an error that says how; of all of a job's letters its own stays."""
    before = changed(workspace, provider)
    result = workspace.doit("forget", "first:research")
    assert result.code == 3
    assert "the task is frozen" in result.err
    assert "popbuild thaw first research" in result.err
    out = workspace.doit("forget", "first").out
    assert "keeping first:research: frozen\n" in out
    assert "forgetting first:analysis\n" in out
    assert run(workspace)["built"] == ["analysis"]
    assert workspace.artifact("first", "research") == before
    assert len(provider.requests) == 2


def test_every_report_names_a_frozen_task(workspace: Workspace, provider: Provider) -> None:
    """check, verify, trace, diff and show say so; and what the task was made from is shown beside
    what it would be made from, though the job's own seed went on."""
    changed(workspace, provider)
    workspace.task("analysis", prompt="Sum up: {{ artifacts.research.content }}\n")
    run(workspace)
    assert "first: frozen: research\n" in ok(workspace, "check")
    assert json.loads(ok(workspace, "check", "--json"))["frozen"] == {"first": ["research"]}
    assert "research is frozen" in ok(workspace, "verify")
    assert "frozen    not built again" in ok(workspace, "trace", "first/analysis")
    assert "research  kept, frozen\n" in ok(workspace, "diff", "first")
    assert "frozen: research\n" in ok(workspace, "show", "first")
    assert "frozen" not in ok(workspace, "show", "first", "analysis")
    for command in (["status", "first"], ["explain", "first"], ["plan", "first"]):
        assert "frozen" in ok(workspace, *command)
    assert "seed:/data/topic changed: grid batteries → wind" in ok(workspace, "explain", "first")


def test_a_frozen_artifact_edited_by_hand(workspace: Workspace, provider: Provider) -> None:
    """It is kept, under --discard-edits too, and is as stale as before once it is thawed."""
    changed(workspace, provider)
    name = "pipeline-data/complete/first/files/artifacts/research-output.json"
    workspace.write(name, {"content": "My own text about grid batteries."})
    assert run(workspace, "first", "--discard-edits")["built"] == ["analysis"]
    assert workspace.artifact("first", "research")["content"].startswith("My own")
    ok(workspace, "thaw", "first", "research")
    ok(workspace, "check", code=1)
    assert "seed:/data/topic changed" in ok(workspace, "explain", "first", "research")
    assert len(provider.requests) == 3
