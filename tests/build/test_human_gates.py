"""Human gates: a job waits until a person approves or rejects what a task made."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import Result
from patience import eventually
from provider import Provider
from workspace import Workspace, watching

from popbuild.base.paths import Root
from popbuild.build import session
from popbuild.build.nothing_to_do import Options
from popbuild.jobs import stop_requests
from popbuild.model.schema import gate, schemas
from popbuild.query import describe
from popbuild.upkeep import validate

QUESTION = "Is this fit to print?"
GATE: dict[str, Any] = {"gate": {"message": QUESTION}}


@pytest.fixture(autouse=True)
def _same_endpoint(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    """The looks in this process see what the commands see: the address is a dependency."""
    for key, value in provider.environment().items():
        monkeypatch.setenv(key, value)


@pytest.fixture
def gated(workspace: Workspace) -> Workspace:
    """`research` waits for a person, and `analysis` needs it; `aside` needs nothing."""
    workspace.task("research", task_yaml=GATE)
    workspace.task("analysis", task_yaml={"needs": ["research"]})
    workspace.task("aside", prompt="Aside: {{ seed.data.tone }}.\n", task_yaml={"needs": []})
    workspace.pipeline(["research", "analysis", "aside"])
    return workspace


def run(workspace: Workspace, code: int, *words: str, **options: Any) -> Result:
    result = workspace.popbuild(*(words or ("run", "first")), **options)
    assert result.code == code, result.out + result.err
    assert "Traceback" not in result.err
    return result


def status(workspace: Workspace) -> Any:
    """As `status first --json` shows it."""
    root = Root(workspace.root)
    return describe.describe_job(describe.find_job(root, "first"), root)


def planned(workspace: Workspace) -> tuple[dict[str, str], str | None]:
    """What `plan --json` says of the tasks of `first`, and its note."""
    (job,) = session.plan_run(Root(workspace.root), None, ["first"], Options())
    body = job.as_json()
    return {task["task"]: task["runs"] for task in body["tasks"]}, body["note"]


def decision(workspace: Workspace, task: str = "research", state: str = "current") -> Any:
    path = workspace.job("first", state) / f"tasks/{task}/decision.json"
    body = json.loads(path.read_bytes())
    assert gate.judge(body, schemas.for_format("decision")) == ()
    return body


def asked(provider: Provider) -> list[str]:
    return sorted(request.said("user").split(" ")[0].strip(":") for request in provider.requests)


def test_a_job_waits_and_goes_on_once_it_is_approved(gated: Workspace, provider: Provider) -> None:
    """What needs the gated task is not started, all else is; approved, only the rest is built."""
    said = run(gated, 4).out
    assert asked(provider) == ["Aside", "Research"]
    assert gated.states("first") == ["current"]
    assert gated.status("first", "current")["state"] == "waiting"
    assert f"research: {QUESTION}" in said
    assert "pipeline-data/current/first/files/artifacts/research-output.json" in said
    assert "popbuild approve first" in said
    assert "popbuild reject first" in said
    assert not list((gated.root / ".popbuild").glob("**/.tmp-*"))
    run(gated, 4)
    run(gated, 4)
    assert len(provider.requests) == 2

    said = run(gated, 0, "approve", "first", "--by", "Ada", "--note", "No typos.").out
    assert "first: research approved by Ada" in said
    assert "doit run job=first" in said
    body = decision(gated)
    assert (body["decision"], body["by"], body["note"]) == ("approved", "Ada", "No typos.")
    outputs = gated.letter("first", "research", "current")["outputs"]
    assert body["artifacts"] == outputs

    assert gated.doit("run", "job=first").code == 0
    assert asked(provider) == ["Analysis", "Aside", "Research"]
    assert gated.states("first") == ["complete"]
    assert decision(gated, state="complete") == body
    before = gated.tree("pipeline-data")
    run(gated, 0)
    assert len(provider.requests) == 3
    assert gated.tree("pipeline-data") == before
    assert run(gated, 0, "verify").out.count("proven") == 1
    run(gated, 0, "validate")
    run(gated, 0, "check")


def test_who_asks_is_told_what_waits(gated: Workspace, provider: Provider) -> None:
    """status, list, doit list, plan and check name the task and the question; plan's price is
    that of what a run would reach."""
    note = "waits for a person at research"
    assert planned(gated) == ({"research": "will", "aside": "will"}, note)
    run(gated, 4)
    body = status(gated)
    waiting = {
        "task": "research",
        "message": QUESTION,
        "artifacts": ["research-output.json"],
        "of": body["waiting"][0]["of"],
    }
    assert (body["state"], body["waiting"]) == ("waiting", [waiting])
    assert "decision" not in body["tasks"]["research"]
    for words in (("list",), ("status", "first"), ("check",)):
        said = gated.popbuild(*words).out
        assert f"waiting: research ({QUESTION})" in said
        assert "stale: analysis" not in said.splitlines()[0]
    assert f"waiting: research ({QUESTION})" in gated.doit("list").out
    assert planned(gated) == ({}, note)
    assert run(gated, 0, "plan").out == f"first: {note}\n"
    (result,) = json.loads(run(gated, 4, "run", "first", "--json").out)
    assert (result["outcome"], result["waiting"]) == ("waiting", [waiting])

    run(gated, 0, "approve", "first", "--by", "Ada")
    body = status(gated)
    assert body["tasks"]["research"]["decision"]["by"] == "Ada"
    assert "waiting" not in body
    assert planned(gated) == ({"analysis": "will"}, None)
    run(gated, 0)
    assert status(gated)["tasks"]["research"]["decision"]["decision"] == "approved"
    assert "approved by Ada" in run(gated, 0, "status", "first").out
    assert "approved by Ada" in run(gated, 0, "trace", "first/research").out
    assert '"by": "Ada"' in run(gated, 0, "show", "first", "research/decision.json").out
    assert planned(gated) == ({}, None)
    assert len(provider.requests) == 3


def test_a_rejected_job_stands_with_its_reason(gated: Workspace, provider: Provider) -> None:
    """The note is the problem; no run buys anything, `retry` draws another sample and asks anew."""
    run(gated, 4)
    assert "popbuild reject first says no" in run(gated, 3, "retry", "first").err
    said = run(gated, 0, "reject", "first", "--note", "Too long.", "--by", "Ada").out
    assert "-> pipeline-data/rejected/first" in said
    assert gated.states("first") == ["rejected"]
    body = gated.read("pipeline-data/rejected/first/rejection.json")
    assert gate.judge(body, schemas.for_format("rejection")) == ()
    assert (body["task"], body["stage"]) == ("research", "humanGate")
    assert body["problems"] == [{"message": "Too long.", "pointer": ""}]
    assert gated.status("first", "rejected")["state"] == "rejected"
    run(gated, 0, "validate")
    before = gated.tree("pipeline-data")
    for words in (("run", "first"), ("run",)):
        said = run(gated, 1, *words).out
        assert "nothing changed since: not bought again" in said
        assert "Too long." in said
    assert "rejected at research" in str(planned(gated)[1])
    assert gated.tree("pipeline-data") == before
    assert len(provider.requests) == 2

    provider.script(["Shorter."])
    said = run(gated, 4, "retry", "first").out
    assert QUESTION in said
    assert asked(provider) == ["Aside", "Research", "Research"]
    assert gated.states("first") == ["current"]
    run(gated, 0, "approve", "first")
    run(gated, 0)
    assert gated.states("first") == ["complete"]
    run(gated, 0)
    assert len(provider.requests) == 4


def test_a_rejection_can_be_taken_back(gated: Workspace, provider: Provider) -> None:
    """`approve` of a rejected job: the next run goes on, and asks only for what is missing."""
    run(gated, 4)
    run(gated, 0, "reject", "first")
    body = gated.read("pipeline-data/rejected/first/rejection.json")
    assert body["problems"][0]["message"].startswith("rejected by ")
    run(gated, 0, "approve", "first")
    run(gated, 0)
    assert gated.states("first") == ["complete"]
    run(gated, 0)
    assert len(provider.requests) == 3


def test_a_rejected_job_goes_on_when_its_inputs_change(
    gated: Workspace, provider: Provider
) -> None:
    """Another artifact is another question; the same one, made again, was decided already."""
    run(gated, 4)
    run(gated, 0, "reject", "first", "--note", "No.")
    gated.task("research", prompt="Research anew: {{ seed.data.topic }}.\n")
    provider.script([gated.artifact("first", "research", "rejected")["content"]])
    run(gated, 1)
    assert gated.states("first") == ["rejected"]
    assert len(provider.requests) == 3
    run(gated, 1)
    gated.task("research", prompt="Research otherwise: {{ seed.data.topic }}.\n")
    run(gated, 4)
    assert gated.states("first") == ["current"]
    assert len(provider.requests) == 4


def test_saying_it_again_changes_nothing(gated: Workspace) -> None:
    """A second approval, and a second rejection: said so, exit 0, nothing written."""
    run(gated, 4)
    for command, state in (("reject", "rejected"), ("approve", "rejected")):
        run(gated, 0, command, "first", "--by", "Ada")
        before = gated.tree("pipeline-data")
        result = run(gated, 0, command, "first", "--by", "Bert")
        assert f"first: research was {command}" in result.out
        assert "by Ada" in result.out
        body = json.loads(run(gated, 0, command, "first", "--json").out)
        assert (body["before"], body["by"]) == (True, "Ada")
        assert gated.tree("pipeline-data") == before
        assert gated.states("first") == [state]
    run(gated, 0)
    assert "was approved by Ada" in run(gated, 0, "approve", "first").out


def test_an_answer_is_about_what_was_asked(gated: Workspace, provider: Provider) -> None:
    """With the digest of a question: refused once the artifact is another, or the words of the
    question are, and nothing is written."""

    def asked_now() -> str:
        (question,) = status(gated)["waiting"]
        return str(question["of"])

    run(gated, 4)
    first = asked_now()
    gated.seed("first", {"topic": "wind", "tone": "dry"})
    run(gated, 4)
    second = asked_now()
    gated.task("research", task_yaml={"gate": {"message": "Is this wrong?"}})
    third = asked_now()
    assert len({first, second, third}) == 3
    before = gated.tree("pipeline-data")
    for of in (first, second, "nonsense"):
        for command in ("approve", "reject"):
            assert "look at it again" in run(gated, 4, command, "first", "--of", of).err
    assert gated.tree("pipeline-data") == before
    run(gated, 0, "approve", "first", "--of", third)
    assert decision(gated)["decision"] == "approved"
    assert "research was approved" in run(gated, 0, "approve", "first", "--of", third).out
    run(gated, 0)
    assert asked(provider) == ["Analysis", "Aside", "Aside", "Research", "Research"]


def test_an_answer_undoes_no_other(gated: Workspace) -> None:
    """Asked before another person decided: refused, with what was said; without the digest, a
    rejection is taken back."""
    run(gated, 4)
    (question,) = status(gated)["waiting"]
    words = ("first", "--of", question["of"])
    run(gated, 0, "reject", *words, "--by", "Ada", "--note", "Too long.")
    before = gated.tree("pipeline-data")
    said = run(gated, 4, "approve", *words, "--by", "Bert").err
    assert "decided otherwise" in said
    assert "rejected by Ada" in said
    assert "Too long." in said
    assert gated.tree("pipeline-data") == before
    run(gated, 0, "approve", "first")
    assert "decided otherwise" in run(gated, 4, "reject", *words).err


WRONG: list[tuple[list[str], str]] = [
    (["second"], "no such job"),
    (["first", "--task", "resaerch"], "did you mean"),
    (["first", "--task", "analysis"], "the task has no human gate"),
    (["first", "--by", " "], "--by must be a name"),
    (["first", "--by", "a\nb"], "--by must be a name"),
    (["first", "--note", "x" * 5000], "--note is too long"),
]


def test_what_cannot_be_decided_is_a_usage_error(gated: Workspace) -> None:
    """Nothing to decide yet, unknown names, an empty name: told in our words, nothing written."""
    for command in ("approve", "reject"):
        assert "does not wait for a person" in run(gated, 3, command, "first").err
    said = run(gated, 3, "approve", "first", "--task", "research").err
    assert "the task is to be built" in said
    run(gated, 4)
    before = gated.tree("pipeline-data")
    for words, found in WRONG:
        assert found in run(gated, 3, "approve", *words).err
    assert gated.tree("pipeline-data") == before
    run(gated, 0, "approve", "first")
    run(gated, 0)
    before = gated.tree("pipeline-data")
    assert "does not wait for a person" in run(gated, 3, "reject", "first").err
    assert gated.tree("pipeline-data") == before


def test_a_job_that_is_built_is_not_decided_about(gated: Workspace, provider: Provider) -> None:
    """While another command has its lock: exit 5, and nothing is written."""
    run(gated, 4)
    run(gated, 0, "approve", "first")
    provider.hold()
    with gated.start("popbuild", "run", "first") as running:
        provider.wait_for(3)
        said = run(gated, 5, "reject", "first", "--task", "research").err
        assert "another command builds this job" in said
        provider.release()
        assert running.wait().code == 0
    assert decision(gated, state="complete")["decision"] == "approved"


def test_an_edited_artifact_needs_a_new_decision(gated: Workspace, provider: Provider) -> None:
    """By hand, after it was approved: it is another artifact. Edited while it waits, it can be
    approved as it stands."""
    run(gated, 4)
    run(gated, 0, "approve", "first")
    edited = "pipeline-data/current/first/files/artifacts/research-output.json"
    gated.write(edited, {"content": "by hand"})
    assert QUESTION in run(gated, 4).out
    assert asked(provider) == ["Aside", "Research"]
    gated.write(edited, {"content": "by hand, once more"})
    run(gated, 0, "approve", "first")
    run(gated, 0)
    assert gated.artifact("first", "research") == {"content": "by hand, once more"}
    assert provider.requests[-1].said("user") == "Analysis of: by hand, once more"
    run(gated, 0)
    assert len(provider.requests) == 3
    run(gated, 0, "verify")


def test_a_rebuild_keeps_the_decision_about_the_same_value(
    gated: Workspace, provider: Provider
) -> None:
    """Rebuilt to the same value: no person is asked. To another one: the good result stands while
    the new one waits."""
    run(gated, 4)
    run(gated, 0, "approve", "first", "--by", "Ada")
    run(gated, 0)
    value = gated.artifact("first", "research")
    before = (gated.root / "pipeline-config/tasks/analysis/prompt.md").read_text()
    gated.task("research", prompt="Say again: {{ seed.data.topic }}.\n")
    for prompt in ("Of another: {{ artifacts.research.content }}\n", before):
        gated.task("analysis", prompt=prompt)
        assert planned(gated)[0] == {"research": "will", "analysis": "may"}
    provider.script([value["content"]])
    run(gated, 0)
    assert decision(gated, state="complete")["by"] == "Ada"
    assert len(provider.requests) == 4
    run(gated, 0, "verify")

    gated.task("research", prompt="Say otherwise: {{ seed.data.topic }}.\n")
    run(gated, 4)
    assert gated.states("first") == ["complete", "current"]
    assert gated.artifact("first", "research") == value
    assert len(provider.requests) == 5
    run(gated, 0, "approve", "first", "--by", "Bert")
    run(gated, 0)
    assert gated.states("first") == ["complete"]
    assert decision(gated, state="complete")["by"] == "Bert"
    assert gated.artifact("first", "research") != value
    assert len(provider.requests) == 6
    run(gated, 0)
    run(gated, 0, "verify")
    assert len(provider.requests) == 6


def test_a_gate_changes_no_answer(workspace: Workspace, provider: Provider) -> None:
    """Added to a complete job: it stays complete. Taken away while a job waits: it goes on."""
    run(workspace, 0)
    workspace.task("research", task_yaml=GATE)
    run(workspace, 0)
    run(workspace, 0, "check")
    assert "does not wait" in run(workspace, 3, "approve", "first").err
    assert len(provider.requests) == 2
    workspace.seed("first", {"topic": "wind", "tone": "plain"})
    run(workspace, 4)
    (workspace.root / "pipeline-config/tasks/research/task.yaml").unlink()
    run(workspace, 0)
    assert workspace.states("first") == ["complete"]
    assert len(provider.requests) == 4
    run(workspace, 0)
    assert len(provider.requests) == 4


def test_the_last_tasks_gate_holds_the_promotion_back(
    workspace: Workspace, provider: Provider
) -> None:
    workspace.task("analysis", task_yaml=GATE)
    run(workspace, 4)
    assert workspace.runs() == []
    assert len(provider.requests) == 2
    run(workspace, 0, "approve", "first")
    run(workspace, 0)
    assert workspace.states("first") == ["complete"]
    assert len(workspace.runs()) == 1
    assert len(provider.requests) == 2


def test_several_gates_are_decided_one_by_one(gated: Workspace, provider: Provider) -> None:
    """--task says which; what was approved goes on while the other waits."""
    gated.task("aside", task_yaml={"needs": [], "gate": {"message": "And this?"}})
    gated.task("last", prompt="Last: {{ artifacts.aside.content }}", task_yaml={"needs": ["aside"]})
    gated.pipeline(["research", "analysis", "aside", "last"])
    said = run(gated, 4).out
    assert "popbuild approve first --task research" in said
    assert [each["task"] for each in status(gated)["waiting"]] == ["research", "aside"]
    assert "several tasks wait" in run(gated, 3, "approve", "first").err
    run(gated, 0, "approve", "first", "--task", "aside")
    run(gated, 4)
    assert asked(provider) == ["Aside", "Last", "Research"]
    run(gated, 0, "approve", "first")
    run(gated, 0)
    assert gated.states("first") == ["complete"]
    assert len(provider.requests) == 4


def test_other_jobs_go_on_while_one_waits(gated: Workspace, provider: Provider) -> None:
    """A job that waits is no failure: without -c, all that can be built is."""
    gated.seed("second", {"topic": "wind", "tone": "dry"})
    gated.seed("third", {"topic": "rain", "tone": "wry"})
    run(gated, 4, "run", "-n", "1")
    assert len(provider.requests) == 6
    assert [gated.status(job, "current")["state"] for job in ("first", "second", "third")] == (
        ["waiting"] * 3
    )


def test_the_artifacts_to_look_at_are_those_that_count(
    workspace: Workspace, provider: Provider
) -> None:
    """Named ones are shown, and belong to the decision beside the main one."""
    workspace.task(
        "research",
        stages="def ingestion(context):\n    context.files.write_artifact('table.csv', 'a,b')\n",
        task_yaml={"gate": {"message": QUESTION, "artifacts": ["table.csv"]}},
    )
    assert "files/artifacts/table.csv" in run(workspace, 4).out
    run(workspace, 0, "approve", "first")
    assert sorted(decision(workspace)["artifacts"]) == ["research-output.json", "table.csv"]
    assert (
        decision(workspace)["artifacts"]
        == (workspace.letter("first", "research", "current")["outputs"])
    )
    table = workspace.job("first", "current") / "files/artifacts/table.csv"
    table.write_text("a,c")
    run(workspace, 4)
    assert len(provider.requests) == 1
    table.unlink()
    assert "missing" in run(workspace, 3, "approve", "first").err


BAD_GATES: list[tuple[Any, str]] = [
    ({"message": ""}, "too short"),
    ({"message": 3}, "must be a string"),
    ({"artifacts": ["x.json"]}, "message"),
    ({"message": "x", "artifacts": []}, "too few items"),
    ({"message": "x", "artifacts": ["../x"]}, "is not a valid name"),
    ({"messages": "x"}, "did you mean 'message'"),
    ({"message": "x", "artifacts": ["analysis-output.json"]}, "an artifact of another task"),
]


@pytest.mark.parametrize(("given", "found"), BAD_GATES)
def test_a_gate_is_read_strictly(
    given: Any, found: str, workspace: Workspace, provider: Provider
) -> None:
    workspace.task("research", task_yaml={"gate": given})
    said = run(workspace, 3).err
    assert found in said
    assert "pipeline-config/tasks/research/task.yaml" in said
    assert provider.requests == []


def test_a_command_can_have_a_gate(gated: Workspace, provider: Provider) -> None:
    registry = {
        "research": {"command": ["echo", "from a command"], "folder": "./research"},
        "analysis": "./analysis",
        "aside": "./aside",
    }
    gated.write("pipeline-config/tasks/index.yaml", yaml.safe_dump(registry))
    run(gated, 4)
    assert asked(provider) == ["Aside"]
    run(gated, 0, "approve", "first")
    run(gated, 0)
    assert provider.requests[-1].said("user") == "Analysis of: from a command"
    run(gated, 0)
    assert len(provider.requests) == 2


def test_a_partial_build_of_what_waits(gated: Workspace, provider: Provider) -> None:
    """Up to the gate it is built; beyond it, it waits."""
    run(gated, 0, "run", "first:research")
    assert gated.status("first", "current")["state"] == "stopped"
    assert f"stopped, waiting: research ({QUESTION})" in run(gated, 0, "list").out
    run(gated, 4, "run", "first:analysis")
    run(gated, 0, "approve", "first")
    run(gated, 0, "run", "first:analysis")
    assert asked(provider) == ["Analysis", "Research"]


def change(workspace: Workspace, **members: Any) -> None:
    """Alter the decision by hand."""
    body = decision(workspace) | members
    workspace.write("pipeline-data/current/first/tasks/research/decision.json", body)


@pytest.mark.parametrize(
    "alter",
    [
        lambda one: change(one, by="Somebody else"),
        lambda one: change(one, formatVersion=2),
        lambda one: one.write("pipeline-data/current/first/tasks/research/decision.json", "{"),
    ],
)
def test_a_decision_that_was_altered_is_none(
    alter: Callable[[Workspace], None], gated: Workspace
) -> None:
    run(gated, 4)
    run(gated, 0, "approve", "first")
    alter(gated)
    run(gated, 4)
    assert "decision.json" in run(gated, 1, "validate").out
    run(gated, 0, "approve", "first")
    run(gated, 0, "validate")
    run(gated, 0)


def test_an_altered_decision_of_a_complete_job_is_found(gated: Workspace) -> None:
    """The seal vouches for it."""
    run(gated, 4)
    run(gated, 0, "approve", "first")
    run(gated, 0)
    path = gated.job("first") / "tasks/research/decision.json"
    path.write_text(path.read_text().replace("approved", "rejected"))
    assert "decision.json: was altered" in run(gated, 1, "verify").out


# popbuild, killed before its n-th change of a file's name.
KILLED = """
import os, signal, sys
from popbuild.cli.main import main
from popbuild.base import tree
left = int(sys.argv[1])
def step(function):
    def stepping(*arguments, **keywords):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **keywords)
    return stepping
os.replace = step(os.replace)
tree._renameat2 = step(tree._renameat2)
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize("command", ["approve", "reject"])
def test_a_decision_survives_a_kill_at_every_step(
    command: str, gated: Workspace, provider: Provider, tmp_path: Path
) -> None:
    """Wherever it is killed, it was said or it was not: said again, it holds; no more is asked of a
    model than without, and no job is torn or in two places."""
    run(gated, 4)
    kept = tmp_path / "kept"
    shutil.copytree(gated.root, kept)
    for step in range(1, 9):
        result = gated.run("python", "-c", KILLED, str(step), command, "first", "--by", "Ada")
        if result.code == 0:
            break
        assert result.code == -9
        sent = len(provider.requests)
        assert len(gated.states("first")) == 1
        assert status(gated)["state"] in ("waiting", "stopped", "rejected")
        assert validate.validate(Root(gated.root)).findings == []
        run(gated, 0, command, "first", "--by", "Ada")
        assert gated.states("first") == ["current" if command == "approve" else "rejected"]
        run(gated, 0 if command == "approve" else 1)
        assert gated.states("first") == ["complete" if command == "approve" else "rejected"]
        assert len(provider.requests) == sent + (command == "approve")
        shutil.rmtree(gated.root)
        shutil.copytree(kept, gated.root)
    assert step > 2


def test_watch_heeds_people(gated: Workspace, provider: Provider) -> None:
    """It takes up what was approved while no orchestrator lived, and while one does; a job that
    waits keeps neither a lock nor a worker; one that is stopped is not taken up again."""
    gated.seed("second", {"topic": "wind", "tone": "dry"})
    run(gated, 4, "run")
    assert len(provider.requests) == 4
    run(gated, 0, "approve", "first")
    with watching(gated, "-n", "1") as orchestrator:
        eventually(lambda: gated.states("first") == ["complete"])
        assert gated.status("second", "current")["state"] == "waiting"
        provider.hold()
        seed = {"name": "third", "data": {"topic": "rain", "tone": "wry"}}
        gated.write("pipeline-data/pending/third-seed.json", seed)
        provider.wait_for(6)
        run(gated, 0, "stop", "third")
        assert gated.status("third", "current")["state"] == "stopped"
        assert stop_requests.Stops(Root(gated.root)).asked() == set()
        provider.release()
        run(gated, 0, "approve", "second")
        eventually(lambda: gated.states("second") == ["complete"])  # found by a look at everything
        orchestrator.kill()
    assert gated.status("third", "current")["state"] == "stopped"
    assert len(provider.requests) == 7
    run(gated, 4, "run")
    assert gated.status("third", "current")["state"] == "waiting"
    assert len(provider.requests) == 9


def test_an_archive_keeps_the_decision(gated: Workspace, provider: Provider) -> None:
    run(gated, 4)
    run(gated, 0, "approve", "first", "--by", "Ada")
    run(gated, 0)
    before = gated.tree("pipeline-data/complete/first")
    run(gated, 0, "archive", "first", "-o", "../first.tar.zst", "--remove")
    assert gated.states("first") == []
    run(gated, 0, "restore", "../first.tar.zst")
    assert gated.tree("pipeline-data/complete/first") == before
    assert decision(gated, state="complete")["by"] == "Ada"
    run(gated, 0, "verify")
    run(gated, 0)
    assert len(provider.requests) == 3
