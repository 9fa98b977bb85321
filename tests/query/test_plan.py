"""plan, explain and check: what a run would do, why, and for how much; before it does."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest
from provider import Provider, Reply, default_answer
from workspace import MODEL, Workspace

TITLED = {
    "type": "object",
    "properties": {"title": {"type": "string", "minLength": 3}},
    "required": ["title"],
}
LONG = "Write about {{ seed.data.topic }} in a tone that is {{ seed.data.tone }}.\n"


def ok(workspace: Workspace, *args: str, code: int = 0, **options: Any) -> str:
    result = workspace.popbuild(*args, **options)
    assert result.code == code, result.out + result.err
    return result.out


def plan(workspace: Workspace, *args: str, **options: Any) -> Any:
    """`plan --json` of one job: its tasks by name. Nothing is called, nothing is written."""
    assert workspace.provider is not None
    calls, before = len(workspace.provider.requests), tree(workspace)
    body = json.loads(ok(workspace, "plan", "--json", *(args or ["first"]), **options))
    assert len(workspace.provider.requests) == calls
    assert tree(workspace) == before
    return body


def tree(workspace: Workspace) -> list[tuple[str, str]]:
    """Every file, but the index, which may be deleted at any time."""
    return [each for each in workspace.tree() if not each[0].startswith(".popbuild/index/")]


def tasks(workspace: Workspace, **options: Any) -> dict[str, Any]:
    (job,) = plan(workspace, **options)["jobs"]
    return {task["task"]: task for task in job["tasks"]}


def built(workspace: Workspace, *jobs: str) -> Any:
    return json.loads(ok(workspace, "run", "--json", *(jobs or ["first"])))


# --- plan ---


def test_a_new_job_is_planned_with_the_most_that_it_may_cost(workspace: Workspace) -> None:
    """Input is counted where the prompt can be rendered; an answer ends at maxTokens."""
    settings = {"maxTokens": 100}
    workspace.pipeline(["research", "analysis"], {"research": settings, "analysis": settings})
    research, analysis = tasks(workspace).values()
    assert research["runs"] == analysis["runs"] == "will"
    assert research["reasons"] == analysis["reasons"] == ["never built"]
    assert (research["storedCalls"], analysis["storedCalls"]) == (0, None)
    assert research["calls"] == {"low": 1, "high": 3}
    assert research["outputTokens"] == {"low": 0, "high": 300}  # an answer may be empty
    assert research["inputTokens"]["low"] < 10 < research["inputTokens"]["high"]
    assert 0 < research["cost"]["low"] < research["cost"]["high"] < 0.01
    assert research["basis"] == "input counted, output at most"
    assert analysis["basis"] == "at most"
    out = ok(workspace, "plan")
    assert "first: 2 will run" in out
    assert "1 to 3 calls, 0 stored; " in out
    assert "stored unknown" in out


def test_an_up_to_date_job_has_nothing_to_plan(workspace: Workspace) -> None:
    built(workspace)
    assert plan(workspace)["jobs"][0]["tasks"] == []
    assert ok(workspace, "plan") == "1 job up to date: nothing to do\n"


def test_a_change_is_planned_with_its_values_and_what_may_follow(
    workspace: Workspace, provider: Provider
) -> None:
    """The task that reads the field will run; the one below it only may: it runs if the new
    artifact differs."""
    built(workspace)
    workspace.seed("first", {"topic": "heat pumps", "tone": "plain"})
    research, analysis = tasks(workspace).values()
    assert research["runs"] == "will"
    assert research["reasons"] == ["seed:/data/topic changed: grid batteries → heat pumps"]
    assert analysis["runs"] == "may"
    assert analysis["reasons"] == ["upstream research is stale"]
    assert analysis["calls"]["low"] == analysis["cost"]["low"] == 0
    assert analysis["storedCalls"] is None
    out = ok(workspace, "plan", "first")
    assert "first: 1 will run, 1 may run" in out
    assert "  will  research  seed:/data/topic changed: grid batteries → heat pumps\n" in out
    # doit and status say the same.
    reason = "seed:/data/topic changed: grid batteries → heat pumps"
    assert reason in workspace.doit("list", "-s", "--all").out
    assert reason in workspace.doit("info", "first:research").out
    assert reason in ok(workspace, "status", "first")
    built(workspace)
    assert len(provider.requests) == 4
    assert plan(workspace)["jobs"][0]["tasks"] == []


def test_what_it_cost_lies_in_the_planned_range(workspace: Workspace) -> None:
    """Both on the first build and on one that the history is known of."""
    for number, tone in enumerate(["plain", "warm", "dry"]):
        workspace.task("research", prompt=LONG)
        workspace.seed("first", {"topic": "grid batteries", "tone": tone})
        total = plan(workspace)["total"]
        (result,) = built(workspace)
        assert result["usage"]["calls"] == 2
        assert total["cost"]["low"] <= result["usage"]["cost"] <= total["cost"]["high"], number
        used = result["usage"]["inputTokens"] + result["usage"]["outputTokens"]
        tokens = [total["inputTokens"][end] + total["outputTokens"][end] for end in ("low", "high")]
        assert tokens[0] <= used <= tokens[1]


def test_history_makes_the_range_narrow(workspace: Workspace, provider: Provider) -> None:
    """Reasoning tokens included: what the task really took, not what its prompt looks like."""
    provider.answer = lambda request: Reply(
        default_answer(request).text, completion_tokens=4_000, reasoning_tokens=3_900
    )
    at_most = tasks(workspace)["research"]["outputTokens"]
    assert at_most["high"] > 40_000  # the model's own limit, three times
    for number in range(30):
        workspace.seed(f"job-{number}", {"topic": f"topic {number}"})
    ok(workspace, "run")
    workspace.seed("first", {"topic": "heat pumps", "tone": "plain"})
    research = tasks(workspace)["research"]
    assert research["basis"] == "input counted, the rest from 31 builds"
    assert research["calls"] == {"low": 1, "high": 2}
    assert 3_500 < research["outputTokens"]["low"] < 4_000
    assert 8_000 < research["outputTokens"]["high"] < 9_000


@pytest.mark.parametrize("builds", [6, 24])
def test_there_is_always_room_for_a_refinement(
    workspace: Workspace, provider: Provider, builds: int
) -> None:
    """That none of the builds so far was refined does not say that the next will not be; after a
    few builds it may be refined as often as a task may be."""
    workspace.pipeline(["research"])
    workspace.task("research", schema=TITLED)
    for number in range(builds):
        workspace.seed(f"job-{number:02}", {"topic": f"topic {number}"})
    ok(workspace, "run", "job-*")
    assert len(provider.requests) == builds
    provider.answer = lambda request: (
        default_answer(request) if "problems" in request.said("user") else Reply("no form at all")
    )
    total = plan(workspace)["total"]
    usage = built(workspace)[0]["usage"]
    assert usage["calls"] == 2
    assert total["calls"] == {"low": 1, "high": 3 if builds < 20 else 2}
    for name in ("inputTokens", "outputTokens", "cost"):
        assert total[name]["low"] <= usage[name] <= total[name]["high"], name


ASKING = """
def inference(context):
    parts = context.read("/data/parts")
    return " ".join(context.llm(f"Of {part} ({context.cycle})").text for part in parts)

def validate_quality(context):
    return [] if context.cycle >= context.read("/data/cycles") else ["again"]
"""


def test_how_often_code_asks_is_unknown_before_it_did(
    workspace: Workspace, provider: Provider
) -> None:
    """No upper end is named for it, and a run that is to ask above a price asks. Once it was
    built, other builds may still ask more, or less."""
    workspace.pipeline(["research"])
    workspace.task("research", prompt="Ask.\n", stages=ASKING)
    workspace.seed("first", {"parts": ["a", "b", "c", "d"], "cycles": 2})
    (research,) = tasks(workspace).values()
    assert [research[each]["high"] for each in ("calls", "inputTokens", "outputTokens")] == [
        None
    ] * 3
    assert research["cost"] == {"low": 0, "high": None}
    assert research["basis"].startswith("unknown: ")
    out = ok(workspace, "plan")
    assert "0 or more calls, stored unknown; 0 or more tokens; unknown cost\n" in out
    assert workspace.popbuild("run", "--ask-above", "100").code == 4
    assert built(workspace)[0]["usage"]["calls"] == 12
    for parts, cycles in (("efgh", 0), ("ijklmnopqr", 1), ("stu", 2)):
        workspace.seed("first", {"parts": list(parts), "cycles": cycles})
        total, usage = plan(workspace)["total"], built(workspace)[0]["usage"]
        for name in ("calls", "inputTokens", "outputTokens", "cost"):
            assert total[name]["low"] <= usage[name] <= total[name]["high"], (parts, name)


def test_code_that_asks_beside_the_prompt_is_seen(workspace: Workspace) -> None:
    """Also where it is a module that stages.py imports that asks."""
    workspace.pipeline(["research"])
    workspace.write("pipeline-config/judge.py", "def verdict(c):\n    return c.llm('Good?').text\n")
    workspace.task(
        "research",
        stages="import judge\n\ndef validate_quality(context):\n    judge.verdict(context)\n",
    )
    (research,) = tasks(workspace).values()
    assert (research["storedCalls"], research["calls"]) == (0, {"low": 1, "high": None})
    total, usage = plan(workspace)["total"], built(workspace)[0]["usage"]
    assert usage["calls"] == 2
    assert 0 < total["cost"]["low"] <= usage["cost"]


def test_a_task_learns_nothing_from_its_namesake(workspace: Workspace, provider: Provider) -> None:
    """Another pipeline's task of the same name is another task."""
    folder = "pipeline-config/pipelines/long"
    workspace.write(f"{folder}/tasks/research/prompt.md", "All of {{ seed.data.topic }}.\n")
    workspace.write(f"{folder}/tasks/index.yaml", "research: ./research\n")
    settings = {"research": {"model": MODEL}}
    workspace.write(
        f"{folder}/pipeline.json", {"name": "long", "tasks": ["research"], "taskConfig": settings}
    )
    workspace.write("seeds/long.json", {"name": "l", "pipeline": "long", "data": {"topic": "x"}})
    built(workspace, "long")
    assert tasks(workspace)["research"]["basis"] == "input counted, output at most"
    workspace.write("seeds/long.json", {"name": "l", "pipeline": "long", "data": {"topic": "y"}})
    (job,) = plan(workspace, "long")["jobs"]
    assert job["tasks"][0]["basis"] == "input counted, the rest from 1 build"


def test_a_stored_answer_is_planned_as_free(workspace: Workspace, provider: Provider) -> None:
    """Whose answer is known costs nothing, whatever became of the job."""
    built(workspace)
    shutil.rmtree(workspace.root / "pipeline-data")
    research = tasks(workspace)["research"]
    assert research["storedCalls"] == 1
    assert research["cost"]["low"] == 0
    assert research["calls"]["low"] == 0
    built(workspace)
    assert len(provider.requests) == 2


def test_what_may_all_be_stored_is_not_planned_at_a_price(
    workspace: Workspace, provider: Provider
) -> None:
    """Below a task that is not built, and where code makes the prompt, no plan can say what the
    store has: the least is nothing, and no total says that none is stored."""
    built(workspace)
    shutil.rmtree(workspace.root / "pipeline-data")
    body = plan(workspace)
    assert body["jobs"][0]["tasks"][1]["storedCalls"] is None
    for each in (body["total"], *body["jobs"][0]["tasks"]):
        assert each["calls"]["low"] == each["inputTokens"]["low"] == each["cost"]["low"] == 0
    assert body["total"]["storedCalls"] is None
    assert ", stored unknown; 0 to " in ok(workspace, "plan").splitlines()[-1]
    ok(workspace, "run", "--store", "only")
    assert len(provider.requests) == 2


def test_a_prompt_from_code_may_be_stored(workspace: Workspace, provider: Provider) -> None:
    """The code depends on all that it was handed, and asks the same when another part changed."""
    whole = "def prompt_templating(context):\n    return str(context.read('/data')['topic'])\n"
    workspace.task("research", stages=whole)
    built(workspace)
    workspace.seed("first", {"topic": "grid batteries", "tone": "warm"})
    research, _ = tasks(workspace).values()
    assert (research["runs"], research["storedCalls"]) == ("will", None)
    assert research["calls"]["low"] == research["cost"]["low"] == 0
    assert built(workspace)[0]["usage"]["calls"] == 0
    assert len(provider.requests) == 2


def test_one_request_of_two_jobs_is_planned_once(workspace: Workspace, provider: Provider) -> None:
    """It is sent once, so the least is one call for both. Each may be refined by itself."""
    workspace.pipeline(["research"])
    workspace.seed("second", {"topic": "grid batteries", "tone": "warm"})
    body = plan(workspace, "first", "second")
    first, second = (job["tasks"][0] for job in body["jobs"])
    assert (first["calls"], second["calls"]) == ({"low": 1, "high": 3}, {"low": 0, "high": 3})
    assert second["basis"] == "input counted, output at most; asks as first:research does, once"
    assert body["total"]["calls"]["low"] == 1
    assert body["total"]["cost"]["low"] == first["cost"]["low"]
    built(workspace, "first", "second")
    assert len(provider.requests) == 1


def test_a_damaged_answer_is_planned_as_bought(workspace: Workspace, provider: Provider) -> None:
    """A run sets it aside and asks anew; a plan sees the same, and sets nothing aside."""
    workspace.pipeline(["research"])
    built(workspace)
    (entry,) = (workspace.root / ".popbuild/store").glob("*/*.json")
    entry.write_bytes(entry.read_bytes().replace(b'"stop"', b'"stoq"'))
    shutil.rmtree(workspace.root / "pipeline-data")
    research = tasks(workspace)["research"]
    assert (research["storedCalls"], research["calls"]["low"]) == (0, 1)
    built(workspace)
    assert len(provider.requests) == 2


def test_a_prompt_changed_back_is_planned_as_stored(workspace: Workspace) -> None:
    built(workspace)
    workspace.task("analysis", prompt="Another: {{ artifacts.research.content }}\n")
    assert tasks(workspace)["analysis"]["storedCalls"] == 0
    built(workspace)
    workspace.task("analysis", prompt="Analysis of: {{ artifacts.research.content }}\n")
    (analysis,) = tasks(workspace).values()
    assert (analysis["task"], analysis["storedCalls"]) == ("analysis", 1)


FORCED: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "all, from the store": (("-a",), {"research": "asked for", "analysis": "asked for"}),
    "all, anew": (("-a", "--store", "refresh"), {"research": "asked for", "analysis": "asked for"}),
    "a fresh sample": (
        ("fresh=analysis", "job=first"),
        {"analysis": "a fresh sample was asked for"},
    ),
    "an edit is discarded": (
        ("--discard-edits",),
        {
            "research": "its edit by hand is discarded",
            "analysis": "artifact:research:/content changed",
        },
    ),
    "an edit is kept": (("--keep-edits",), {"analysis": "artifact:research:/content changed"}),
}


@pytest.mark.parametrize("kind", FORCED)
def test_what_is_asked_for_is_planned_and_asked_about(
    kind: str, workspace: Workspace, provider: Provider
) -> None:
    """A plan with the options of a run says what that run does, and --ask-above asks by it: nothing
    is bought unasked that a bare run would not have built."""
    args, reasons = FORCED[kind]
    built(workspace)
    if "edit" in kind:
        path = workspace.job("first") / "files/artifacts/research-output.json"
        path.write_text('{"content": "mine"}')
    (job,) = plan(workspace, *args)["jobs"]
    may = {"analysis"} if kind == "an edit is discarded" else set()  # it may come out as it was
    assert {task["task"]: task["runs"] for task in job["tasks"]} == {
        task: "may" if task in may else "will" for task in reasons
    }
    for task in job["tasks"]:
        assert task["reasons"][0].startswith(reasons[task["task"]])
    costs = job["total"]["cost"]["high"] > 0
    assert costs
    result = workspace.popbuild("run", *args, "--ask-above", "0")
    assert result.code == 4
    assert "ask above  $0" in result.err
    calls = len(provider.requests)
    (done,) = json.loads(ok(workspace, "run", *args, "--json"))
    assert set(done["built"]) == set(reasons) - may
    assert len(provider.requests) - calls <= job["total"]["calls"]["high"]
    assert plan(workspace)["jobs"][0]["tasks"] == []


def test_what_is_frozen_is_not_planned_on_demand(workspace: Workspace) -> None:
    built(workspace)
    ok(workspace, "freeze", "first", "research")
    (job,) = plan(workspace, "-a")["jobs"]
    assert [task["task"] for task in job["tasks"]] == ["analysis"]


@pytest.mark.parametrize("mode", ["refresh", "off"])
def test_nothing_counts_as_stored_that_is_not_served(
    mode: str, workspace: Workspace, provider: Provider
) -> None:
    """By the option as by the variable; the price is that of asking, and run asks before it."""
    built(workspace)
    shutil.rmtree(workspace.root / "pipeline-data")
    assert tasks(workspace)["research"]["storedCalls"] == 1
    env = {"POPBUILD_STORE": mode}
    by_option = plan(workspace, "first", "--store", mode)
    assert by_option == plan(workspace, env=env)
    assert by_option == plan(workspace, "first", "--store", mode, env={"POPBUILD_STORE": "only"})
    (job,) = by_option["jobs"]
    assert [task["storedCalls"] for task in job["tasks"]] == [0, 0]
    assert [task["calls"]["low"] for task in job["tasks"]] == [1, 1]
    assert by_option["total"]["cost"]["low"] > 0
    args = ("run", "first", "--ask-above", "0")
    ok(workspace, *args, "--store", mode, code=4)
    assert len(provider.requests) == 2
    ok(workspace, "run", "--store", mode)
    assert len(provider.requests) == 4
    assert plan(workspace, env=env)["jobs"][0]["tasks"] == []


def test_what_only_lacks_is_told_beforehand(workspace: Workspace, provider: Provider) -> None:
    """The tasks whose answers are not stored, with the exit code that the run would have; where
    none is known to be lacking nothing is sent and nothing costs."""
    built(workspace)
    shutil.rmtree(workspace.root / "pipeline-data")
    body = plan(workspace, "first", "--store", "only")
    assert body["total"]["calls"] == {"low": 0, "high": 0}
    assert body["total"]["cost"] == {"low": 0, "high": 0}
    assert [task["lacking"] for task in body["jobs"][0]["tasks"]] == [False, False]
    ok(workspace, "run", "--store", "only", "--ask-above", "0")
    workspace.seed("second", {"topic": "wind"})
    workspace.seed("first", {"topic": "heat pumps"})
    out = ok(workspace, "plan", "--store", "only", code=2)
    assert "first: fails at research: not stored\n" in out
    assert "second: fails at research: not stored\n" in out
    body = json.loads(ok(workspace, "plan", "--json", env={"POPBUILD_STORE": "only"}, code=2))
    assert [job["tasks"][0]["lacking"] for job in body["jobs"]] == [True, True]
    assert [job["tasks"][1]["lacking"] for job in body["jobs"]] == [False, False]
    ok(workspace, "plan", "--store", "use")
    ok(workspace, "run", "--store", "only", code=2)
    assert workspace.popbuild("plan", "--store", "sometimes").code == 3
    assert len(provider.requests) == 2


def test_an_unknown_price_is_never_0(workspace: Workspace) -> None:
    workspace.pipeline(["research", "analysis"], model="openai/nobody-knows-this")
    body = plan(workspace)
    assert [task["cost"] for task in body["jobs"][0]["tasks"]] == [None, None]
    assert body["total"]["cost"] is None
    assert body["total"]["unknownCost"] == ["research", "analysis"]
    assert "an unknown cost of research, analysis" in ok(workspace, "plan")


def test_a_local_model_is_free(workspace: Workspace) -> None:
    body = plan(workspace, env={"POPBUILD_MODEL": "local/smollm2-135m"})
    assert body["total"]["cost"] == {"low": 0, "high": 0}


def test_a_command_makes_no_call_of_ours(workspace: Workspace) -> None:
    registry = "research: ./research\nanalysis: {command: [cat]}\n"
    workspace.write("pipeline-config/tasks/index.yaml", registry)
    analysis = tasks(workspace)["analysis"]
    assert analysis["cost"] == {"low": 0, "high": 0}
    assert analysis["basis"] == "a command: its calls are its own"


def test_a_rejection_that_stands_is_not_planned(workspace: Workspace, provider: Provider) -> None:
    workspace.task("research", schema={"type": "object", "required": ["title"]})
    provider.answer = lambda request: Reply("{}")
    ok(workspace, "run", "first", code=1)
    (job,) = plan(workspace)["jobs"]
    assert job["tasks"] == []
    assert job["note"].startswith("rejected at research, unchanged since")
    workspace.seed("first", {"topic": "heat pumps"})
    assert set(tasks(workspace)) == {"research", "analysis"}


def test_an_edit_that_stops_the_build_is_said(workspace: Workspace) -> None:
    built(workspace)
    path = workspace.job("first") / "files/artifacts/research-output.json"
    path.write_text('{"content": "mine"}')
    workspace.seed("first", {"topic": "heat pumps"})
    (job,) = plan(workspace)["jobs"]
    assert job["note"] == "stops at research: edited by hand and stale"
    assert job["total"]["calls"]["low"] == job["total"]["cost"]["low"] == 0
    assert "first: stops at research" in ok(workspace, "plan")


def test_a_bad_seed_is_said(workspace: Workspace) -> None:
    workspace.write("seeds/first.json", "{")
    (job,) = plan(workspace)["jobs"]
    assert job["note"].startswith("bad seed: not valid JSON")


def test_a_bad_name_is_a_problem(workspace: Workspace, provider: Provider) -> None:
    """What a run refuses for its name, or for another that differs only by case, is planned at no
    price, and the reason is said."""
    before = plan(workspace)["total"]
    for name in ("bad name", "LIKE", "like"):
        workspace.seed(name, {"topic": "a", "tone": "b"})
    body = plan(workspace, "first", "bad name", "like", "LIKE")
    notes = {job["id"]: job["note"] for job in body["jobs"]}
    assert notes["first"] is None
    assert notes["bad name"].startswith("bad name: ")
    assert notes["like"] == "bad name: differs from LIKE only by upper and lower case"
    assert notes["LIKE"] == "bad name: differs from like only by upper and lower case"
    assert [job["id"] for job in body["jobs"] if job["tasks"]] == ["first"]
    assert body["total"] == before
    assert workspace.popbuild("run", "-c").code == 1
    assert len(provider.requests) == 2


def test_code_that_decides_the_messages_is_not_run(workspace: Workspace) -> None:
    """Its prompt is not known, so neither is whether its answer is stored."""
    workspace.task(
        "research",
        stages="def prompt_templating(context):\n    raise SystemExit('called')\n",
    )
    research = tasks(workspace)["research"]
    assert research["storedCalls"] is None
    assert research["basis"] == "at most"


def test_only_named_tasks_are_planned(workspace: Workspace) -> None:
    """Those named and what they need; a name that is unknown is told."""
    (job,) = plan(workspace, "first:research")["jobs"]
    assert [task["task"] for task in job["tasks"]] == ["research"]
    result = workspace.popbuild("plan", "first:reserch")
    assert result.code == 3
    assert "did you mean  research" in result.err
    assert workspace.popbuild("plan", "frist").code == 3


def test_lines_fit_80_columns(workspace: Workspace, provider: Provider) -> None:
    """Of plan, run, list and status, with many reasons and long ones: listings have the first of
    them, and say how many there are; plan and status have all."""
    names = ["topic", "tone", *(f"a-field-with-a-long-name-{number}" for number in range(3))]
    prompt = "".join(f"{{{{ seed.data['{name}'] }}}} " for name in names)
    task = "research-in-depth"
    workspace.task(task, prompt=prompt)
    workspace.pipeline([task, "analysis"], {task: {"maxTokens": 4000}})
    workspace.task("analysis", prompt=f"{{{{ artifacts['{task}'].content }}}}")
    for topic in ("x" * 60, "y" * 60):
        workspace.seed("content-generation", dict.fromkeys(names, f"{topic} {topic}"))
        (workspace.root / "seeds/first.json").unlink(missing_ok=True)
        planned = ok(workspace, "plan")
        listed, status = ok(workspace, "list", "--tasks"), ok(workspace, "status", "*")
        doit = workspace.doit("list", "-s", "--all").out
        said = ok(workspace, "run")
        lines = [*planned.splitlines(), *listed.splitlines(), *status.splitlines()]
        lines += [each for each in said.splitlines() if each.startswith(".")]
        assert [each for each in lines if len(each) > 80] == []
    for text in (listed, doit, said):
        assert "5 reasons, seed:" in text
    for name in names:
        assert f"seed:/data/{name} changed" in planned
        assert f"seed:/data/{name} changed" in status
    assert len(provider.requests) == 4


# --- explain ---


def test_explain_shows_what_changed_in_a_prompt(workspace: Workspace) -> None:
    """As it was when the artifact was made, beside as it is now."""
    workspace.task("research", prompt="One.\nResearch: {{ seed.data.topic }}.\nThree.\n")
    built(workspace)
    workspace.task("research", prompt="One.\nFind out: {{ seed.data.topic }}.\nThree.\n")
    out = ok(workspace, "explain", "first", "research")
    assert out.startswith("research: stale\n  file:tasks/research/prompt.md changed\n")
    assert "    -Research: {{ seed.data.topic }}.\n    +Find out: {{ seed.data.topic }}.\n" in out
    assert "seed:/data/topic  sha256:" in out
    (body,) = json.loads(ok(workspace, "explain", "first", "research", "--json"))
    assert body["reasons"][0]["difference"][1:] == [
        " One.",
        "-Research: {{ seed.data.topic }}.",
        "+Find out: {{ seed.data.topic }}.",
        " Three.",
    ]
    assert body["dependencies"]["answer"] == "text"


@pytest.mark.parametrize("end", ["killed", "failed", "rejected"])
def test_a_rebuild_that_came_to_no_end_keeps_its_reasons(
    workspace: Workspace, provider: Provider, end: str
) -> None:
    """The letter is dropped before a task starts. That of the last good result says why it was
    to be built, wherever the reason is shown."""
    workspace.task("research", schema=TITLED)
    workspace.task("analysis", prompt="{{ artifacts.research.title }}\n")
    built(workspace)
    workspace.seed("first", {"topic": "heat pumps"})
    if end == "killed":
        provider.hold()
        running = workspace.start("popbuild", "run", "first", real=True)
        provider.wait_for(3)
        running.kill()
        provider.release()
    else:
        provider.answer = lambda _: Reply("no form", status=500 if end == "failed" else 200)
        ok(workspace, "run", "first", code=2 if end == "failed" else 1, env={"POPBUILD_TRIES": "1"})
    assert workspace.states("first") == sorted(
        ["complete", "rejected" if end == "rejected" else "current"]
    )
    workspace.task("research", prompt="About: {{ seed.data.topic }}.\n")
    changed = "seed:/data/topic changed: grid batteries → heat pumps"
    reasons = ["file:tasks/research/prompt.md changed", changed, "was not finished"]
    research, analysis = tasks(workspace).values()
    assert research["reasons"] == reasons
    assert (research["runs"], analysis["runs"]) == ("will", "may")
    body = json.loads(ok(workspace, "explain", "first", "--json"))[0]
    assert [each["reason"] for each in body["reasons"]] == reasons
    assert "+About: {{ seed.data.topic }}." in body["reasons"][0]["difference"]
    assert body["built"]["pipelineId"] == workspace.runs()[0]["pipelineId"]
    assert changed in ok(workspace, "status", "first")
    provider.answer = default_answer
    assert f"3 reasons, {reasons[0]}" in ok(workspace, "run", "first")
    assert plan(workspace)["jobs"][0]["tasks"] == []


def test_explain_shows_values_large_and_small(workspace: Workspace) -> None:
    workspace.task("research", prompt="{{ seed.data | tojson }}\n")
    workspace.pipeline(["research", "analysis"], {"analysis": {"temperature": 0.1}})
    built(workspace)
    workspace.seed("first", {"topic": "grid batteries", "tone": "formal"})
    workspace.pipeline(["research", "analysis"], {"analysis": {"temperature": 0.9}})
    research, analysis = json.loads(ok(workspace, "explain", "first", "--json"))
    (reason,) = research["reasons"]
    assert reason["reason"].startswith("seed:/data changed: ")
    assert '-  "tone": "plain",' in reason["difference"]
    assert "setting:temperature changed: 0.1 → 0.9" in [
        each["reason"] for each in analysis["reasons"]
    ]


@pytest.mark.parametrize("change", ["schema", "stages", "added file"])
def test_explain_shows_every_file(workspace: Workspace, change: str) -> None:
    workspace.task(
        "research",
        schema=TITLED,
        stages="def validate_quality(context):\n    return []\n",
    )
    workspace.task("analysis", prompt="{{ artifacts.research.title }}\n")
    built(workspace)
    if change == "schema":
        workspace.task("research", schema=TITLED | {"maxProperties": 9})
        expected = '+  "maxProperties": 9'
    elif change == "stages":
        workspace.task("research", stages="def validate_quality(context):\n    return None\n")
        expected = "+    return None"
    else:
        workspace.write("pipeline-config/tasks/research/words.txt", "fresh words\n")
        expected = "+fresh words"
    assert f"    {expected}\n" in ok(workspace, "explain", "first")


def test_explain_shows_json_without_its_formatting(workspace: Workspace) -> None:
    """A schema on one line, of which a number changed: that number is the difference."""
    workspace.task("research", schema=TITLED)
    workspace.task("analysis", prompt="{{ artifacts.research.title }}\n")
    built(workspace)
    line = json.dumps(TITLED).replace("3", "4")
    workspace.write("pipeline-config/tasks/research/output.schema.json", line)
    (body, _) = json.loads(ok(workspace, "explain", "first", "--json"))
    (reason,) = body["reasons"]
    changed = [each for each in reason["difference"] if each[0] in "+-"]
    assert [each.split() for each in changed] == [
        ["-", '"minLength":', "3"],
        ["+", '"minLength":', "4"],
    ]


def test_explain_of_what_is_up_to_date_or_unknown(workspace: Workspace) -> None:
    assert ok(workspace, "explain", "first").startswith("research: stale\n  never built\n")
    built(workspace)
    out = ok(workspace, "explain", "first")
    assert out.startswith("research: up to date\n  built 20")
    assert workspace.popbuild("explain", "first", "reserch").code == 3
    assert workspace.popbuild("explain", "nobody").code == 3


# --- check ---


def test_check_says_by_its_exit_code_whether_all_is_well(
    workspace: Workspace, provider: Provider
) -> None:
    assert "1 of 1 job not up to date" in ok(workspace, "check", code=1)
    built(workspace)
    calls = len(provider.requests)
    out = ok(workspace, "check")
    assert out.startswith("1 job up to date, ")
    assert out.endswith(" files valid\n")
    workspace.write("seeds/second.json", "{")
    assert "seeds/second.json: not valid JSON" in ok(workspace, "check", code=1)
    assert "up to date" in ok(workspace, "check", "first")
    body = json.loads(ok(workspace, "check", "--json", code=1))
    assert not body["passed"]
    assert [each["file"] for each in body["problems"]] == ["seeds/second.json"]
    (workspace.root / "seeds/second.json").unlink()
    status = workspace.job("first") / "tasks-status.json"
    status.write_text(status.read_text().replace('"done"', '"finished"', 1))
    ok(workspace, "check", "first", code=1)
    assert len(provider.requests) == calls
