"""The gate: what a rejected job leaves, what holds it back, and how it goes on; failed jobs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from provider import Provider, Reply, fail
from workspace import Workspace

SCHEMA = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "minLength": 3},
        "points": {"type": "array", "items": {"type": "integer"}, "minItems": 1},
    },
    "required": ["title", "points"],
    "additionalProperties": False,
}
GOOD = '{"title": "Batteries", "points": [1, 2]}'
BAD = '{"title": "B", "points": [1, "two"], "pints": 3}'


@pytest.fixture
def gated(workspace: Workspace) -> Workspace:
    """`analysis` has a schema; `research` before it writes further files."""
    workspace.task(
        "research",
        stages="def ingestion(context):\n"
        "    context.files.write_artifact('table.json', [1])\n"
        "    context.files.write_log('work.log', 'worked')\n",
    )
    workspace.task("analysis", schema=SCHEMA)
    return workspace


def run(workspace: Workspace, code: int = 0, *args: str, **options: Any) -> str:
    result = workspace.popbuild("run", *(args or ["first"]), **options)
    assert result.code == code, result.out + result.err
    assert "Traceback" not in result.err
    return result.out + result.err


def rejection(workspace: Workspace, job: str = "first") -> Any:
    return json.loads((workspace.job(job, "rejected") / "rejection.json").read_bytes())


def reject(workspace: Workspace, provider: Provider) -> None:
    """Run `first` with an analysis that fails three times."""
    provider.script(["Research.", BAD, BAD, BAD])
    run(workspace, 1)
    assert workspace.states("first") == ["rejected"]


def test_a_rejected_job_has_everything_that_was_made(gated: Workspace, provider: Provider) -> None:
    """Seed, status, files, letters, logs and raw answers stand in rejected/<id>/."""
    reject(gated, provider)
    folder = gated.job("first", "rejected")
    made = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert made == {
        "seed.json",
        "tasks-status.json",
        "rejection.json",
        "files/artifacts/research-output.json",
        "files/artifacts/table.json",
        "files/logs/work.log",
        "files/logs/research-prompt-0.json",
        "files/logs/research-answer-0.txt",
        *(f"files/logs/analysis-prompt-{cycle}.json" for cycle in range(3)),
        *(f"files/logs/analysis-answer-{cycle}.txt" for cycle in range(3)),
        "tasks/research/output.json",
        "tasks/research/letter.json",
        "tasks/research/execution-logs.json",
        "tasks/analysis/execution-logs.json",
    }
    status = gated.status("first", "rejected")
    assert status["state"] == "rejected"
    assert [each["state"] for each in status["tasks"].values()] == ["done", "error"]
    assert status["tasks"]["analysis"]["refinementAttempts"] == 2
    assert len(status["tasks"]["analysis"]["files"]["logs"]) == 6
    assert gated.runs() == []
    assert len(provider.requests) == 4


def test_the_rejection_says_what_where_and_by_which_rule(
    gated: Workspace, provider: Provider
) -> None:
    """Task, stage, every problem with JSON Pointer and schema path, the raw answer's file."""
    reject(gated, provider)
    body = rejection(gated)
    assert body["id"] == "first"
    assert body["pipelineId"] == gated.status("first", "rejected")["pipelineId"]
    assert (body["task"], body["stage"]) == ("analysis", "validateStructure")
    assert body["refinementAttempts"] == 2
    assert body["problems"] == [
        {
            "message": "unknown key 'pints', did you mean 'points'?",
            "pointer": "",
            "schemaPath": "/additionalProperties",
        },
        {
            "message": "must be an integer, found 'two'",
            "pointer": "/points/1",
            "schemaPath": "/properties/points/items/type",
        },
        {
            "message": "too short: 1 characters, at least 3",
            "pointer": "/title",
            "schemaPath": "/properties/title/minLength",
        },
    ]
    assert body["answer"] == "files/logs/analysis-answer-2.txt"
    assert (gated.job("first", "rejected") / body["answer"]).read_text() == BAD
    assert [each["sample"] for each in body["calls"]] == [0, 0, 1]
    assert body["usage"]["calls"] == 4
    assert gated.popbuild("validate").code == 0


def test_what_is_said_of_a_rejection(gated: Workspace, provider: Provider) -> None:
    """The task, each problem, where the job stands, and how it can go on."""
    provider.script(["Research.", BAD, BAD, BAD])
    said = run(gated, 1)
    assert "first: rejected at analysis" in said
    assert "/points/1: must be an integer, found 'two'" in said
    assert "pipeline-data/rejected/first" in said
    assert "popbuild retry first" in said


def test_an_unchanged_rejected_job_is_not_bought_again(
    gated: Workspace, provider: Provider
) -> None:
    """It says so, and the exit code is 1; nothing is called, nothing is changed."""
    reject(gated, provider)
    before = gated.tree("pipeline-data")
    for _ in range(2):
        said = run(gated, 1)
        assert "nothing changed since: not bought again" in said
        assert "popbuild retry first" in said
    result = gated.popbuild("run", "first", "--json")
    (body,) = json.loads(result.out)
    assert (body["outcome"], body["task"], len(body["problems"])) == ("unchanged", "analysis", 3)
    assert gated.doit("run", "job=first").code == 1
    assert gated.tree("pipeline-data") == before
    assert len(provider.requests) == 4


CHANGES: dict[str, Any] = {
    "prompt": lambda one: one.task("analysis", prompt="Other: {{ artifacts.research.content }}"),
    "schema": lambda one: one.task("analysis", schema=SCHEMA | {"title": "Mild"}),
    "setting": lambda one: one.pipeline(["research", "analysis"], {"analysis": {"seed": 1}}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_worth_a_run_of_what_it_touches(
    change: str, gated: Workspace, provider: Provider
) -> None:
    """Only the failed task is built again; the job moves on from rejected/ to complete/."""
    reject(gated, provider)
    CHANGES[change](gated)
    provider.script([GOOD])
    run(gated)
    assert gated.states("first") == ["complete"]
    assert not (gated.job("first") / "rejection.json").exists()
    assert len(provider.requests) == 5
    assert gated.runs()[0]["built"] == ["analysis"]
    assert "up to date" in run(gated)
    assert len(provider.requests) == 5


def test_a_changed_seed_rebuilds_what_read_it(gated: Workspace, provider: Provider) -> None:
    """A field that a prompt reads: both tasks anew. One that no prompt reads: nothing is bought."""
    reject(gated, provider)
    gated.seed("first", {"topic": "grid batteries", "tone": "lively"})
    assert "not bought again" in run(gated, 1)
    assert len(provider.requests) == 4
    gated.seed("first", {"topic": "wind", "tone": "lively"})
    provider.script(["On wind.", GOOD])
    run(gated)
    assert len(provider.requests) == 6
    assert gated.states("first") == ["complete"]
    assert gated.read("pipeline-data/complete/first/seed.json")["data"]["topic"] == "wind"


def test_one_more_refinement_allowed_is_worth_a_run(gated: Workspace, provider: Provider) -> None:
    """What was drawn before comes from the store; only the further try is bought."""
    gated.task("analysis", task_yaml={"gate": {"refinements": 1}})
    provider.script(["Research.", BAD, BAD])
    run(gated, 1)
    assert len(provider.requests) == 3
    gated.task("analysis", task_yaml={"gate": {"refinements": 2}})
    provider.script([GOOD])
    run(gated)
    assert len(provider.requests) == 4
    stored = [each["stored"] for each in gated.letter("first", "analysis")["calls"]]
    assert stored == [True, True, False]


# --- retry ---


def test_retry_draws_another_sample_and_builds(gated: Workspace, provider: Provider) -> None:
    """Only the task that failed asks again, with a sample that was never drawn."""
    reject(gated, provider)
    provider.script([GOOD])
    result = gated.popbuild("retry", "first")
    assert result.code == 0, result.out + result.err
    assert "analysis draws another sample" in result.err
    assert gated.states("first") == ["complete"]
    assert len(provider.requests) == 5
    assert provider.requests[4].messages == provider.requests[1].messages
    (call,) = gated.letter("first", "analysis")["calls"]
    assert call["sample"] == 2
    assert gated.artifact("first", "analysis") == json.loads(GOOD)
    assert "up to date" in run(gated)
    assert len(provider.requests) == 5


def test_retry_moves_the_samplers_seed(gated: Workspace, provider: Provider) -> None:
    """With a fixed seed another sample is another seed: not the same answer for more money."""
    gated.pipeline(["research", "analysis"], {"analysis": {"seed": 100}})
    gated.task("analysis", task_yaml={"gate": {"refinements": 0}})
    provider.script(["Research.", BAD])
    run(gated, 1)
    for answer, code in ((BAD, 1), (GOOD, 0)):
        provider.script([answer])
        assert gated.popbuild("retry", "first").code == code
    assert [each.body.get("seed") for each in provider.requests] == [None, 100, 101, 102]
    assert gated.states("first") == ["complete"]


def test_a_retry_that_fails_again_is_a_rejection_again(
    gated: Workspace, provider: Provider
) -> None:
    """With the same rules: not bought again unasked, and a further retry draws on."""
    reject(gated, provider)
    provider.script([BAD, BAD, BAD])
    assert gated.popbuild("retry", "first").code == 1
    assert gated.states("first") == ["rejected"]
    assert len(provider.requests) == 7
    assert "not bought again" in run(gated, 1)
    assert len(provider.requests) == 7
    provider.script([GOOD])
    assert gated.popbuild("retry", "first").code == 0
    assert len(provider.requests) == 8


def test_a_retry_that_is_killed_goes_on_as_a_run(gated: Workspace, provider: Provider) -> None:
    """The sample drawn for it stays drawn: `run` finishes what `retry` began."""
    reject(gated, provider)
    provider.script([BAD, "unread", GOOD])
    running = gated.start("popbuild", "retry", "first")
    provider.kill_at(6, lambda: running.pid)
    assert running.wait().code == -9
    run(gated)
    assert gated.states("first") == ["complete"]
    assert len(provider.requests) == 7
    stored = [each["stored"] for each in gated.letter("first", "analysis")["calls"]]
    assert stored == [True, False]


@pytest.mark.parametrize("state", ["complete", "failed", "new", "unknown"])
def test_retry_is_for_rejected_jobs(state: str, workspace: Workspace, provider: Provider) -> None:
    """Of any other job it says what that is and what to do; nothing is called."""
    if state == "complete":
        run(workspace)
    elif state == "failed":
        provider.script([fail(400)])
        run(workspace, 2)
    before = len(provider.requests)
    result = workspace.popbuild("retry", "nobody" if state == "unknown" else "first")
    assert result.code == 3
    assert "error:" in result.err
    assert "first" in result.err
    assert len(provider.requests) == before


# --- the last good result ---


def test_a_rejected_rebuild_leaves_the_good_job(gated: Workspace, provider: Provider) -> None:
    """complete/<id>/ stands byte for byte; rejected/<id>/ says what was wrong with the rebuild."""
    provider.script(["Research.", GOOD])
    run(gated)
    good = gated.tree("pipeline-data/complete")
    gated.task("analysis", prompt="Otherwise: {{ artifacts.research.content }}")
    provider.script([BAD, BAD, BAD])
    run(gated, 1)
    assert gated.states("first") == ["complete", "rejected"]
    assert gated.tree("pipeline-data/complete") == good
    assert rejection(gated)["task"] == "analysis"
    assert len(gated.runs()) == 1
    assert gated.popbuild("list").out.split("  ", 1)[1].startswith("rejected")
    assert "not bought again" in run(gated, 1)
    assert len(provider.requests) == 5
    assert gated.tree("pipeline-data/complete") == good


def test_going_back_makes_the_good_job_answer_again(gated: Workspace, provider: Provider) -> None:
    """The old prompt again: complete/ matches, the rejection is dropped, nothing is called."""
    provider.script(["Research.", GOOD])
    run(gated)
    prompt = (gated.root / "pipeline-config/tasks/analysis/prompt.md").read_text()
    gated.task("analysis", prompt="Otherwise: {{ artifacts.research.content }}")
    provider.script([BAD, BAD, BAD])
    run(gated, 1)
    gated.task("analysis", prompt=prompt)
    assert "up to date" in run(gated)
    assert gated.states("first") == ["complete"]
    assert len(provider.requests) == 5


def test_a_retried_rebuild_replaces_the_good_job(gated: Workspace, provider: Provider) -> None:
    """Once it passes every gate, and the old result is kept aside."""
    provider.script(["Research.", GOOD])
    run(gated)
    gated.task("analysis", prompt="Otherwise: {{ artifacts.research.content }}")
    provider.script([BAD, BAD, BAD])
    run(gated, 1)
    better = '{"title": "Better", "points": [3]}'
    provider.script([better])
    assert gated.popbuild("retry", "first").code == 0
    assert gated.states("first") == ["complete"]
    assert gated.artifact("first", "analysis") == json.loads(better)
    assert len(gated.runs()) == 2
    kept = list((gated.root / ".popbuild/previous/first").glob("*/files/artifacts/analysis*"))
    assert [json.loads(path.read_bytes()) for path in kept] == [json.loads(GOOD)]


def test_other_jobs_do_not_wait_for_a_rejected_one(gated: Workspace, provider: Provider) -> None:
    """With -c the rest is built; the exit code still tells of the rejection."""
    gated.seed("second", {"topic": "wind", "tone": "plain"})

    def answer(request: Any) -> Reply:
        if request.schema is None:
            return Reply(f"About {request.said('user')}")
        return Reply(GOOD if "wind" in request.messages[0]["content"] else BAD)

    provider.answer = answer
    run(gated, 1, "-c")
    assert gated.states("first") == ["rejected"]
    assert gated.states("second") == ["complete"]
    assert len(provider.requests) == 6
    run(gated, 1, "-c")
    assert len(provider.requests) == 6


# --- a failure is no rejection ---


def test_a_provider_error_leaves_the_job_in_current(
    workspace: Workspace, provider: Provider
) -> None:
    """The task is in state error, and the next run buys only what is missing."""
    provider.script(["Research.", fail(400, text="no such luck")])
    said = run(workspace, 2)
    assert "no such luck" in said
    assert workspace.states("first") == ["current"]
    status = workspace.status("first", "current")
    assert status["state"] == "failed"
    assert status["tasks"]["research"]["state"] == "done"
    assert status["tasks"]["analysis"]["state"] == "error"
    assert "no such luck" in status["tasks"]["analysis"]["error"]
    assert not (workspace.job("first", "current") / "rejection.json").exists()
    assert "failed" in workspace.popbuild("list").out
    assert workspace.popbuild("validate").code == 0
    provider.script(["Analysis."])
    run(workspace)
    assert workspace.states("first") == ["complete"]
    assert len(provider.requests) == 3
    status = workspace.status("first")
    assert status["tasks"]["analysis"]["attempts"] == 2
    assert "error" not in status["tasks"]["analysis"]
    assert "error" not in status
    run(workspace)
    assert len(provider.requests) == 3


def test_a_provider_error_between_refinements_buys_nothing_twice(
    gated: Workspace, provider: Provider
) -> None:
    """The answers that failed the gate come from the store."""
    provider.script(["Research.", BAD, fail(400)])
    run(gated, 2)
    provider.script([GOOD])
    run(gated)
    assert len(provider.requests) == 4
    calls = gated.letter("first", "analysis")["calls"]
    assert [each["stored"] for each in calls] == [True, False]


def test_an_exception_in_a_stage_leaves_the_job_in_current(
    gated: Workspace, provider: Provider
) -> None:
    """A crash of the user's code is no verdict on the answer: mended, it costs nothing."""
    gated.task("analysis", stages="def integration(context):\n    return 1 / 0\n")
    provider.script(["Research.", GOOD])
    said = run(gated, 2)
    assert "ZeroDivisionError" in said
    assert gated.states("first") == ["current"]
    gated.task("analysis", stages="# mended\n")
    run(gated)
    assert gated.states("first") == ["complete"]
    assert len(provider.requests) == 2


def test_a_failure_beside_a_rejection_leaves_the_job_in_current(
    workspace: Workspace, provider: Provider
) -> None:
    """Of two parallel tasks one is rejected, one fails: the failure is to be mended first."""
    workspace.task("analysis", prompt="No.", task_yaml={"needs": [], "gate": {"refinements": 0}})
    workspace.task("analysis", schema=SCHEMA)

    def answer(request: Any) -> Reply:
        return Reply(BAD) if request.schema else fail(400)

    provider.answer = answer
    run(workspace, 2)
    assert workspace.states("first") == ["current"]
    provider.script(["Research."])
    run(workspace, 1)
    assert workspace.states("first") == ["rejected"]
    assert len(provider.requests) == 3


def test_a_run_says_what_changed_in_the_seed_of_a_rejected_job(
    gated: Workspace, provider: Provider
) -> None:
    """With both values, as plan did before, though the job's own copy is replaced by then."""
    reject(gated, provider)
    gated.seed("first", {"topic": "wind", "tone": "plain"})
    reason = "research  seed:/data/topic changed: grid batteries → wind\n"
    assert reason in gated.popbuild("plan").out
    provider.script(["Other research.", GOOD])
    assert reason in run(gated)
    run(gated)
    assert len(provider.requests) == 6
