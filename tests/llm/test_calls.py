"""Calls: what is sent, what is tried again, what is paid for, what is remembered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from commands import Result
from patience import eventually
from provider import Provider, Reply, fail
from workspace import MODEL, Workspace

from popbuild.base import jsonio
from popbuild.model.letter import seal

QUICK = {"POPBUILD_BACKOFF_S": "0.01"}
TITLED = {
    "type": "object",
    "properties": {"title": {"type": "string", "minLength": 3}},
    "required": ["title"],
}
GOOD = '{"title": "Batteries"}'


def alone(workspace: Workspace, model: str = MODEL, **settings: Any) -> None:
    """A pipeline of the one task `research`, with these model settings."""
    workspace.pipeline(["research"], {"research": settings}, model=model)


def run(workspace: Workspace, code: int = 0, *args: str, **options: Any) -> str:
    """Run the job `first`; gives what was said."""
    result = workspace.popbuild("run", *(args or ["first"]), **options)
    assert result.code == code, result.out + result.err
    assert "Traceback" not in result.err
    return result.out + result.err


def ledger(workspace: Workspace) -> list[Any]:
    path = workspace.root / ".popbuild/ledger.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def events(workspace: Workspace) -> list[str]:
    return [each["event"] for each in ledger(workspace)]


def stored(workspace: Workspace) -> list[Path]:
    return sorted((workspace.root / ".popbuild/store").glob("*/*.json"))


# --- what is sent ---


def test_settings_reach_the_provider_by_its_names(workspace: Workspace, provider: Provider) -> None:
    """temperature, maxTokens and any further parameter of litellm; nothing else."""
    alone(
        workspace,
        temperature=0.25,
        maxTokens=77,
        top_p=0.5,
        stop=["END"],
        presence_penalty=0.1,
        seed=5,
        extra_headers={"x-team": "blue"},
    )
    run(workspace)
    (request,) = provider.requests
    assert request.body == {
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": "Research: grid batteries."}],
        "temperature": 0.25,
        "max_tokens": 77,
        "top_p": 0.5,
        "stop": ["END"],
        "presence_penalty": 0.1,
        "seed": 5,
    }
    assert request.headers["x-team"] == "blue"
    assert request.headers["authorization"] == "Bearer sk-test-not-a-real-key"
    letter = workspace.letter("first", "research")
    assert letter["configuration"]["maxTokens"] == 77
    assert letter["warnings"] == []
    run(workspace)
    assert len(provider.requests) == 1


def test_a_request_has_only_what_is_configured(workspace: Workspace, provider: Provider) -> None:
    """Without settings: model and messages. With a schema, also the response format."""
    alone(workspace)
    run(workspace)
    assert sorted(provider.requests[0].body) == ["messages", "model"]
    workspace.task("research", schema=TITLED)
    run(workspace)
    assert sorted(provider.requests[1].body) == ["messages", "model", "response_format"]
    assert provider.requests[1].schema == TITLED
    assert not provider.requests[1].body.get("stream")


def test_parameters_that_a_model_does_not_take_are_dropped_with_a_warning(
    workspace: Workspace, provider: Provider
) -> None:
    """gpt-5-nano with temperature 0.7, as in the storage format's example: the call is made, and
    letter and log say what was dropped."""
    alone(workspace, model="openai/gpt-5-nano", temperature=0.7, maxTokens=2000)
    run(workspace)
    (request,) = provider.requests
    assert "temperature" not in request.body
    assert request.body["max_completion_tokens"] == 2000
    letter = workspace.letter("first", "research")
    warning = "openai/gpt-5-nano does not support temperature=0.7: dropped"
    assert letter["warnings"] == [warning]
    assert letter["calls"][0]["warnings"] == [warning]
    assert letter["configuration"]["temperature"] == 0.7
    log = workspace.read("pipeline-data/complete/first/tasks/research/execution-logs.json")
    said = [each for each in log if each["level"] == "warning"]
    assert [(each["stage"], each["message"]) for each in said] == [("inference", warning)]
    # From the store, the warning is still there.
    run(workspace, 0, "first", "-a")
    assert workspace.letter("first", "research")["warnings"] == [warning]
    assert len(provider.requests) == 1


def test_the_samplers_seed_moves_with_the_sample(workspace: Workspace, provider: Provider) -> None:
    """A refinement that asks the same again draws with seed + 1: not the same answer."""
    workspace.task(
        "research",
        schema=TITLED,
        stages="def prompt_templating(context):\n    return 'Title.'\n",
    )
    alone(workspace, seed=40)
    provider.script(["{}", "{}", GOOD])
    run(workspace)
    assert [each.body["seed"] for each in provider.requests] == [40, 41, 42]
    calls = workspace.letter("first", "research")["calls"]
    assert [each["sample"] for each in calls] == [0, 1, 2]
    assert len({each["request"] for each in calls}) == 3


@pytest.mark.parametrize("name", ["max_retries", "num_retries", "stream", "messages"])
def test_settings_that_are_popbuilds_own_are_refused(
    name: str, workspace: Workspace, provider: Provider
) -> None:
    """What would clash with how calls are made is one clear error, before anything is sent."""
    values: dict[str, Any] = {"stream": True, "messages": []}
    alone(workspace, **{name: values.get(name, 3)})
    said = run(workspace, 3)
    assert name in said
    assert "pipeline-config/pipeline.json" in said
    assert provider.requests == []
    assert workspace.states("first") == []


def test_a_timeout_among_the_settings_is_the_calls(
    workspace: Workspace, provider: Provider
) -> None:
    """litellm's own parameter: it bounds each call, and nothing of it is sent."""
    alone(workspace, timeout=2)
    provider.script([Reply("too late", delay_s=60), "Prose."])
    assert "did not answer in time" in run(workspace, env=QUICK)
    assert "timeout" not in provider.requests[0].body
    assert workspace.artifact("first", "research") == {"content": "Prose."}


def test_a_timeout_of_a_call_changes_no_request(workspace: Workspace, provider: Provider) -> None:
    """Whoever sets or changes it, in the configuration or in code, finds the answers that are
    stored, and nothing is stale: not even by a letter of before, which names it."""
    code = "def refine(context):\n    return {'timeout': 7}\n\n"
    code += "def inference(context):\n    return context.llm(context.messages, timeout=9)\n"
    code += "\ndef validate_quality(context):\n    return [] if context.cycle else ['no']\n"
    workspace.task("research", stages=code)
    alone(workspace)
    run(workspace)
    calls = workspace.letter("first", "research")["calls"]
    alone(workspace, timeout=50)
    assert workspace.popbuild("run").out == "-- first  up to date\n"
    letter = workspace.job("first") / "tasks/research/letter.json"
    body = json.loads(letter.read_bytes())
    assert "timeout" not in body["configuration"]
    body["fingerprint"]["setting:timeout"] = jsonio.digest(51)
    letter.write_bytes(jsonio.dumps(seal(body), sort=False))
    assert workspace.popbuild("run").out == "-- first  up to date\n"
    letter.unlink()
    run(workspace)
    again = workspace.letter("first", "research")["calls"]
    assert [each["request"] for each in again] == [each["request"] for each in calls]
    assert all(each["stored"] for each in again)
    assert len(provider.requests) == len(calls) == 2


def test_what_a_request_is_known_by(workspace: Workspace, provider: Provider) -> None:
    """The digest of a request is that of these members: with another one, whatever was bought so
    far would be bought again."""
    alone(workspace, temperature=0.5, timeout=50)
    run(workspace)
    (call,) = workspace.letter("first", "research")["calls"]
    digest = call["request"].removeprefix("sha256:")
    stored = workspace.read(f".popbuild/store/{digest[:2]}/{digest[2:]}.json")
    known_by = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Research: grid batteries."}],
        "settings": {"temperature": 0.5},
        "schema": None,
        "sample": 0,
        "endpoint": stored["request"]["endpoint"],
        "weights": None,
    }
    assert stored["request"] == known_by
    assert call["request"] == jsonio.digest(known_by)


@pytest.mark.parametrize("timeout", [0, -1, "long", True])
def test_a_timeout_that_is_none(workspace: Workspace, provider: Provider, timeout: object) -> None:
    """It is a number of seconds above 0: an error before anything is sent."""
    alone(workspace, timeout=timeout)
    assert "timeout" in run(workspace, 3)
    assert provider.requests == []


# --- answers that are none ---


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (
            Reply("", "length", completion_tokens=1984, reasoning_tokens=1984),
            "the answer is empty: 1984 tokens went into reasoning (finish reason: length); "
            "raise maxTokens",
        ),
        (Reply("", "stop", completion_tokens=0), "the answer is empty (finish reason: stop)"),
        (Reply(" \n ", "stop"), "the answer is empty (finish reason: stop)"),
        (
            Reply(GOOD, "length", completion_tokens=64),
            "the answer is cut off at the length limit after 64 tokens",
        ),
    ],
)
def test_an_empty_or_cut_off_answer_is_a_gate_failure(
    reply: Reply, problem: str, workspace: Workspace, provider: Provider
) -> None:
    """Never a success, even if it happens to be valid; the problem says what happened."""
    workspace.task("research", schema=TITLED)
    alone(workspace)
    provider.script([reply, reply, reply])
    assert problem in run(workspace, 1)
    assert workspace.states("first") == ["rejected"]
    rejection = workspace.read("pipeline-data/rejected/first/rejection.json")
    assert rejection["problems"] == [{"message": problem, "pointer": ""}]
    assert (rejection["task"], rejection["stage"]) == ("research", "inference")
    assert f"- {problem}" in provider.requests[1].said("user")
    assert len(provider.requests) == 3
    assert len(stored(workspace)) == 3
    assert events(workspace) == ["reserved", "settled"] * 3
    assert workspace.popbuild("validate").code == 0


def test_an_empty_answer_is_refined(workspace: Workspace, provider: Provider) -> None:
    """The next draw may be better: the conversation has no empty message in it."""
    alone(workspace)
    provider.script([Reply("", "length", completion_tokens=9, reasoning_tokens=9), "Prose."])
    run(workspace)
    assert [each["role"] for each in provider.requests[1].messages] == ["user", "user"]
    assert workspace.artifact("first", "research") == {"content": "Prose."}
    call = workspace.letter("first", "research")["calls"][0]
    assert (call["finishReason"], call["outputTokens"], call["reasoningTokens"]) == ("length", 9, 9)
    run(workspace)
    assert len(provider.requests) == 2


def test_a_huge_answer_is_a_gate_failure(workspace: Workspace, provider: Provider) -> None:
    """20 MB are more than any artifact: refined, not parsed."""
    alone(workspace)
    provider.script(["x" * 20_000_000, "Prose."])
    run(workspace)
    assert workspace.artifact("first", "research") == {"content": "Prose."}
    problems = workspace.letter("first", "research")["validation"][0]["problems"]
    assert "the answer is too large: 20,000,000 characters" in problems[0]["message"]


@pytest.mark.parametrize("body", [b"<html>busy</html>", b"[1]", b"{}", b""])
def test_an_answer_that_is_no_completion_is_a_provider_error(
    body: bytes, workspace: Workspace, provider: Provider
) -> None:
    """The job stays in current/, nothing is stored, and the next run asks again."""
    alone(workspace)
    provider.answer = lambda request: Reply(body=body)
    said = run(workspace, 2, env=QUICK | {"POPBUILD_TRIES": "2"})
    assert "error: the provider" in said
    assert workspace.states("first") == ["current"]
    assert stored(workspace) == []
    provider.script(["Prose."])
    run(workspace)
    assert workspace.artifact("first", "research") == {"content": "Prose."}


# --- retries ---


@pytest.mark.parametrize(
    "reply",
    [
        fail(429),
        fail(500),
        fail(502),
        fail(503),
        fail(504),
        fail(529),
        Reply(drop=True),
        Reply(drop=True, body=b"{"),
    ],
)
def test_what_may_pass_is_tried_again(
    reply: Reply, workspace: Workspace, provider: Provider
) -> None:
    """Rate limits, server errors and dropped connections: two failures, then the answer."""
    alone(workspace)
    provider.script([reply, reply, "Prose."])
    said = run(workspace, env=QUICK)
    assert said.count("trying again in") == 2
    assert workspace.artifact("first", "research") == {"content": "Prose."}
    assert len(provider.requests) == 3
    assert len({each.digest for each in provider.requests}) == 1
    assert events(workspace).count("reserved") == 3
    assert events(workspace).count("settled") == 1
    letter = workspace.letter("first", "research")
    assert letter["usage"]["calls"] == 1
    run(workspace)
    assert len(provider.requests) == 3


def test_a_provider_that_falls_silent_is_asked_again(
    workspace: Workspace, provider: Provider
) -> None:
    """After POPBUILD_TIMEOUT_S; what the silent try cost stays unknown spend in the ledger."""
    alone(workspace)
    provider.script([Reply("too late", delay_s=60), "Prose."])
    said = run(workspace, env=QUICK | {"POPBUILD_TIMEOUT_S": "2"})
    assert "the provider did not answer in time: trying again" in said
    assert workspace.artifact("first", "research") == {"content": "Prose."}
    assert [each.answered for each in provider.requests] == [False, True]
    assert events(workspace) == ["reserved", "reserved", "settled"]


def test_a_refusal_costs_nothing(workspace: Workspace, provider: Provider) -> None:
    """A 429 releases what was reserved; a server error leaves it open."""
    alone(workspace)
    provider.script([fail(429), fail(503), "Prose."])
    run(workspace, env=QUICK)
    assert events(workspace) == ["reserved", "released", "reserved", "reserved", "settled"]


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_heeded(status: int, workspace: Workspace, provider: Provider) -> None:
    """However small the backoff, the wait is at least what the provider asks for."""
    alone(workspace)
    provider.script([fail(status, retry_after=0.3), "Prose."])
    assert "trying again in 0.3 s" in run(workspace, env=QUICK)
    assert len(provider.requests) == 2


def test_a_wait_that_is_too_long_ends_the_tries(workspace: Workspace, provider: Provider) -> None:
    """Asked to come back in an hour, the job fails at once and says so."""
    alone(workspace)
    provider.script([fail(429, retry_after=3600)])
    said = run(workspace, 2, env=QUICK)
    assert "rate limit" in said
    assert "3600 s" in said
    assert len(provider.requests) == 1


def test_the_number_of_tries_is_bounded(workspace: Workspace, provider: Provider) -> None:
    """POPBUILD_TRIES requests, litellm's own retries none; then the job waits in current/."""
    alone(workspace)
    provider.answer = lambda request: fail(503)
    said = run(workspace, 2, env=QUICK | {"POPBUILD_TRIES": "3"})
    assert len(provider.requests) == 3
    assert "tries" in said
    assert "503" in said
    assert workspace.states("first") == ["current"]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_a_refused_request_is_not_tried_again(
    status: int, workspace: Workspace, provider: Provider
) -> None:
    """It would be refused again: one request, one clear error, nothing spent."""
    alone(workspace)
    provider.script([fail(status, text="this is why")])
    said = run(workspace, 2, env=QUICK)
    assert "this is why" in said
    assert str(status) in said
    assert len(provider.requests) == 1
    assert events(workspace) == ["reserved", "released"]
    status_of = workspace.status("first", "current")
    assert status_of["tasks"]["research"]["state"] == "error"
    assert "this is why" in status_of["tasks"]["research"]["error"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("POPBUILD_TRIES", "many"),
        ("POPBUILD_TRIES", "0"),
        ("POPBUILD_BACKOFF_S", "-1"),
        ("POPBUILD_TIMEOUT_S", "nan"),
    ],
)
def test_a_wrong_limit_is_a_usage_error(
    name: str, value: str, workspace: Workspace, provider: Provider
) -> None:
    """It names the variable and what was found; nothing is built."""
    said = run(workspace, 3, env={name: value})
    assert name in said
    assert value in said
    assert provider.requests == []


# --- keys ---


def test_keys_come_from_the_environment_file(workspace: Workspace, provider: Provider) -> None:
    """`.env` at the root serves; a variable of the process wins over it."""
    workspace.provider = None
    workspace.write(
        ".env", f"OPENAI_API_KEY=sk-from-the-file-0123\nOPENAI_BASE_URL={provider.base_url}\n"
    )
    alone(workspace)
    run(workspace)
    assert provider.requests[0].headers["authorization"] == "Bearer sk-from-the-file-0123"
    workspace.task("research", prompt="Anew.")
    run(workspace, env={"OPENAI_API_KEY": "sk-from-the-process"})
    assert provider.requests[1].headers["authorization"] == "Bearer sk-from-the-process"
    # A key is no dependency, and never written down.
    assert "up to date" in run(workspace)
    for path in workspace.root.rglob("*"):
        if path.is_file() and path.name != ".env":
            assert b"sk-from" not in path.read_bytes(), path


def test_a_missing_key_is_one_error_that_names_the_way_out(
    workspace: Workspace, provider: Provider
) -> None:
    """The variable, `.env`, and the embedded model; nothing is sent, nothing is lost."""
    workspace.provider = None
    alone(workspace, model="gpt-5-nano")
    said = run(workspace, 2, env={"OPENAI_BASE_URL": provider.base_url})
    assert "OPENAI_API_KEY" in said
    assert ".env" in said
    assert "POPBUILD_MODEL=local/smollm2-135m" in said
    assert provider.requests == []
    assert workspace.states("first") == ["current"]


def test_a_key_that_a_provider_repeats_is_never_shown(
    workspace: Workspace, provider: Provider
) -> None:
    """Not in what is said, not in any file."""
    key = "a-key-of-no-known-shape-77"
    provider.script([fail(401, text=f"Incorrect API key provided: {key}")])
    result = workspace.popbuild("run", "first", "--json", env={"OPENAI_API_KEY": key})
    assert result.code == 2
    assert "[OPENAI_API_KEY]" in result.out
    assert key not in result.out + result.err
    for path in workspace.root.rglob("*"):
        assert not path.is_file() or key.encode() not in path.read_bytes(), path


def test_a_key_in_the_configuration_is_refused(workspace: Workspace, provider: Provider) -> None:
    """It would end in letters and in version control."""
    alone(workspace, api_key="sk-in-the-configuration")
    said = run(workspace, 3)
    assert "api_key" in said
    assert "sk-in-the-configuration" not in said
    assert provider.requests == []


# --- the store ---


def twins(workspace: Workspace) -> None:
    """Two jobs that will ask the same."""
    workspace.seed("second", {"topic": "grid batteries", "tone": "plain"})
    alone(workspace)


def test_equal_requests_of_one_command_are_sent_once(
    workspace: Workspace, provider: Provider
) -> None:
    """Two jobs that ask the same at the same time share one call; it is counted once."""
    twins(workspace)
    run(workspace, 0, "first", "second")
    assert len(provider.requests) == 1
    assert workspace.artifact("first", "research") == workspace.artifact("second", "research")
    letters = [workspace.letter(job, "research") for job in ("first", "second")]
    assert sorted(each["calls"][0]["stored"] for each in letters) == [False, True]
    assert sorted(each["usage"]["calls"] for each in letters) == [0, 1]
    assert events(workspace) == ["reserved", "settled"]
    costs = [each["usage"]["cost"] for each in letters]
    assert min(costs) == 0 < max(costs)
    run(workspace, 0, "first", "second")
    assert len(provider.requests) == 1


def test_equal_requests_of_two_commands_are_sent_once(
    workspace: Workspace, provider: Provider
) -> None:
    """The second waits for the first one's answer and takes it from the store."""
    twins(workspace)
    provider.hold()
    commands = [workspace.start("popbuild", "run", job) for job in ("first", "second")]
    for command, job in zip(commands, ("first", "second"), strict=True):
        command.wait_for(f".  {job}:research")
    provider.wait_for(1)
    provider.release()
    assert [command.wait().code for command in commands] == [0, 0]
    assert len(provider.requests) == 1
    assert workspace.artifact("first", "research") == workspace.artifact("second", "research")
    assert events(workspace) == ["reserved", "settled"]


def test_a_waiting_command_takes_over_when_the_first_is_killed(
    workspace: Workspace, provider: Provider
) -> None:
    """The lock of a request dies with its process; the other sends it then."""
    twins(workspace)
    provider.hold()
    one = workspace.start("popbuild", "run", "first")
    provider.wait_for(1)
    other = workspace.start("popbuild", "run", "second")
    other.wait_for(".  second:research")
    one.kill()
    provider.wait_for(2)
    provider.release()
    assert other.wait().code == 0
    assert len(provider.requests) == 2


def asks(workspace: Workspace, job: str) -> bool:
    """Whether a job's task is at its call, or waits for an equal one."""
    path = workspace.root / f"pipeline-data/current/{job}/tasks-status.json"
    return path.exists() and json.loads(path.read_text()).get("currentStage") == "inference"


def test_a_failure_of_a_shared_call_is_each_jobs_own(
    workspace: Workspace, provider: Provider
) -> None:
    """Both fail with the provider's error, each under its own name, after one request."""
    twins(workspace)
    provider.script([fail(400, text="this is why")])
    provider.hold()
    running = workspace.start("popbuild", "run", "-c", "--json")
    eventually(lambda: all(asks(workspace, job) for job in ("first", "second")))
    provider.release()
    result = running.wait()
    assert result.code == 2
    for body in json.loads(result.out):
        assert body["outcome"] == "failed"
        assert "this is why" in body["error"]["values"]["found"]
    assert result.err.count("this is why") == 2
    assert len(provider.requests) == 1


def test_the_store_serves_every_answer_again(workspace: Workspace, provider: Provider) -> None:
    """Also one that failed its gate: a replay takes the same way and costs nothing."""
    workspace.task("research", schema=TITLED)
    alone(workspace)
    provider.script(["{}", GOOD])
    run(workspace)
    before = workspace.letter("first", "research")
    said = run(workspace, 0, "first", "-a")
    assert "from the store" in said
    after = workspace.letter("first", "research")
    assert [each["stored"] for each in after["calls"]] == [True, True]
    assert [each["request"] for each in after["calls"]] == [
        each["request"] for each in before["calls"]
    ]
    assert after["refinementAttempts"] == 1
    assert after["usage"] == {
        "calls": 0,
        "storedCalls": 2,
        "inputTokens": 0,
        "outputTokens": 0,
        "cost": 0,
    }
    assert len(provider.requests) == 2


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def _alter(path: Path) -> None:
    path.write_text(path.read_text().replace("Prose.", "Forged."))


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _list(path: Path) -> None:
    path.write_bytes(b"[]")


@pytest.mark.parametrize("damage", [_cut, _alter, _empty, _list])
def test_a_damaged_entry_is_set_aside_and_asked_again(
    damage: Any, workspace: Workspace, provider: Provider
) -> None:
    """A truncated or altered answer is never served; it is kept for a person to look at."""
    alone(workspace)
    provider.script(["Prose.", "Anew."])
    run(workspace)
    (entry,) = stored(workspace)
    damage(entry)
    run(workspace, 0, "first", "-a")
    assert len(provider.requests) == 2
    assert workspace.artifact("first", "research") == {"content": "Anew."}
    assert entry.with_suffix(".damaged").exists()
    assert stored(workspace) == [entry]
    run(workspace, 0, "first", "-a")
    assert len(provider.requests) == 2


def test_an_answer_with_half_a_character_is_no_crash(
    workspace: Workspace, provider: Provider
) -> None:
    """A lone surrogate is valid JSON on the wire, and no character: the answer is stored, and fails
    the gate."""
    alone(workspace)
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": "Half \ud800."},
        "finish_reason": "stop",
    }
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    body = {"id": "x", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini"}
    whole = json.dumps(body | {"choices": [choice], "usage": usage})
    provider.script([Reply(body=whole.encode()), "Whole."])
    run(workspace)
    assert workspace.artifact("first", "research") == {"content": "Whole."}
    assert "half a surrogate pair" in provider.requests[1].said("user")
    run(workspace, 0, "first", "-a")
    assert len(provider.requests) == 2


@pytest.mark.parametrize(
    "change",
    [{"model": "openai/gpt-4o"}, {"temperature": 0.1}, {"maxTokens": 9}, {"seed": 1}],
)
def test_a_different_request_is_another_entry(
    change: dict[str, Any], workspace: Workspace, provider: Provider
) -> None:
    """Model and settings are part of a request; going back finds the old answer."""
    alone(workspace)
    run(workspace)
    workspace.pipeline(["research"], {"research": change})
    run(workspace)
    assert len(provider.requests) == 2
    assert len(stored(workspace)) == 2
    alone(workspace)
    run(workspace)
    assert len(provider.requests) == 2


def test_another_endpoint_is_another_answer(workspace: Workspace, provider: Provider) -> None:
    """The same model elsewhere is asked anew, and its answer kept apart."""
    alone(workspace)
    run(workspace)
    with Provider() as other:
        run(workspace, env=other.environment())
        assert len(other.requests) == 1
    assert "up to date" not in run(workspace)
    assert len(provider.requests) == 1
    assert len(stored(workspace)) == 2


# --- the ledger ---


def test_a_call_is_reserved_before_and_settled_after(
    workspace: Workspace, provider: Provider
) -> None:
    """When the request arrives its reservation is on disk, at the most that it may cost."""
    alone(workspace, maxTokens=1000)
    before: list[Any] = []
    provider.at(1, lambda _: before.extend(ledger(workspace)))
    provider.script([Reply("Prose.", prompt_tokens=100, completion_tokens=200)])
    run(workspace)
    (reserved,) = before
    assert reserved["event"] == "reserved"
    assert (reserved["job"], reserved["task"]) == ("first", "research")
    assert reserved["run"] == workspace.status("first")["pipelineId"]
    assert reserved["request"] == workspace.letter("first", "research")["calls"][0]["request"]
    settled = ledger(workspace)[1]
    assert (settled["event"], settled["entry"]) == ("settled", reserved["entry"])
    # gpt-4o-mini: 0.15 and 0.60 dollars a million tokens.
    assert settled["cost"] == pytest.approx(100 * 0.15e-6 + 200 * 0.60e-6)
    assert reserved["cost"] >= 1000 * 0.60e-6
    assert len(ledger(workspace)) == 2


def test_a_kill_leaves_unknown_spend(workspace: Workspace, provider: Provider) -> None:
    """Killed while the model thinks: the reservation stands unsettled, the call is made again."""
    alone(workspace)
    running = workspace.start("popbuild", "run", "first")
    provider.kill_at(1, lambda: running.pid)
    assert running.wait().code == -9
    assert events(workspace) == ["reserved"]
    run(workspace)
    assert events(workspace) == ["reserved", "reserved", "settled"]
    open_entry, _, settled = ledger(workspace)
    assert open_entry["entry"] != settled["entry"]
    assert len(provider.requests) == 2


def test_a_kill_between_refinements_buys_nothing_twice(
    workspace: Workspace, provider: Provider
) -> None:
    """The first draw comes from the store; only the one under way is asked again."""
    workspace.task("research", schema=TITLED)
    alone(workspace)
    provider.script(["{}", "unread", GOOD])
    running = workspace.start("popbuild", "run", "first")
    provider.kill_at(2, lambda: running.pid)
    assert running.wait().code == -9
    run(workspace)
    first, second, third = provider.requests
    assert second.body == third.body != first.body
    calls = workspace.letter("first", "research")["calls"]
    assert [each["stored"] for each in calls] == [True, False]


# --- tokens and cost ---


def test_tokens_and_cost_are_counted_everywhere(workspace: Workspace, provider: Provider) -> None:
    """Per call and task in the letter, per task and job in the status, per run in runs.jsonl."""
    provider.script(
        [
            Reply("One.", prompt_tokens=1000, completion_tokens=500),
            Reply("Two.", prompt_tokens=2000, completion_tokens=100),
        ]
    )
    run(workspace)
    cost = {"research": 0.00015 + 0.0003, "analysis": 0.0003 + 0.00006}
    tokens = {"research": (1000, 500), "analysis": (2000, 100)}
    status = workspace.status("first")
    for task in ("research", "analysis"):
        letter = workspace.letter("first", task)
        (call,) = letter["calls"]
        assert (call["inputTokens"], call["outputTokens"]) == tokens[task]
        assert call["cost"] == pytest.approx(cost[task])
        expected = {
            "calls": 1,
            "storedCalls": 0,
            "inputTokens": tokens[task][0],
            "outputTokens": tokens[task][1],
            "cachedTokens": 0,
            "reasoningTokens": 0,
            "cost": pytest.approx(cost[task]),
        }
        assert letter["usage"] == expected
        assert status["tasks"][task]["usage"] == expected
    total = {
        "calls": 2,
        "storedCalls": 0,
        "inputTokens": 3000,
        "outputTokens": 600,
        "cachedTokens": 0,
        "reasoningTokens": 0,
        "cost": pytest.approx(sum(cost.values())),
    }
    assert status["usage"] == total
    assert workspace.runs()[0]["usage"] == total
    run(workspace)
    assert len(provider.requests) == 2


def test_totals_of_a_run_are_its_own(workspace: Workspace, provider: Provider) -> None:
    """A second run that builds one task again has that task's tokens and no others."""
    run(workspace)
    workspace.task("analysis", prompt="Briefly: {{ artifacts.research.content }}")
    provider.script([Reply("Brief.", prompt_tokens=10, completion_tokens=20)])
    run(workspace)
    usage = workspace.runs()[1]["usage"]
    assert (usage["calls"], usage["inputTokens"], usage["outputTokens"]) == (1, 10, 20)
    assert workspace.runs()[1]["built"] == ["analysis"]


def test_an_unknown_price_is_null_and_never_zero(workspace: Workspace, provider: Provider) -> None:
    """In ledger, letter, status, runs.jsonl and in what is said."""
    alone(workspace, model="openai/a-model-without-a-price")
    said = run(workspace)
    assert "unknown cost" in said
    assert "$0" not in said
    letter = workspace.letter("first", "research")
    assert letter["calls"][0]["cost"] is None
    assert letter["usage"]["cost"] is None
    status = workspace.status("first")
    assert status["usage"]["cost"] is None
    assert status["tasks"]["research"]["usage"]["cost"] is None
    assert workspace.runs()[0]["usage"]["cost"] is None
    assert [each["cost"] for each in ledger(workspace)] == [None, None]
    assert letter["usage"]["inputTokens"] > 0
    assert workspace.popbuild("validate").code == 0


def test_one_unknown_price_makes_the_sum_unknown(workspace: Workspace) -> None:
    """A known price beside an unknown one: the job's cost is null, the task's is known."""
    workspace.pipeline(
        ["research", "analysis"], {"analysis": {"model": "openai/a-model-without-a-price"}}
    )
    run(workspace)
    assert workspace.letter("first", "research")["usage"]["cost"] > 0
    assert workspace.status("first")["usage"]["cost"] is None
    assert workspace.runs()[0]["usage"]["cost"] is None


# --- how many at a time ---


def test_in_flight_is_bounded(workspace: Workspace, provider: Provider) -> None:
    """`-n 2`: of five jobs, two calls wait at a time; all are made."""
    alone(workspace)
    for number in range(4):
        workspace.seed(f"more-{number}", {"topic": f"topic {number}", "tone": "plain"})
    provider.answer = lambda request: Reply("Prose.", delay_s=0.1)
    run(workspace, 0, "*", "-n", "2")
    assert len(provider.requests) == 5
    assert provider.peak_in_flight == 2


def test_json_results_name_calls_and_cost(workspace: Workspace) -> None:
    """`run --json` prints nothing but JSON on stdout; progress goes to stderr."""
    result: Result = workspace.popbuild("run", "first", "--json")
    (body,) = json.loads(result.out)
    assert (body["id"], body["outcome"]) == ("first", "complete")
    assert body["usage"]["calls"] == 2
    assert body["usage"]["cost"] > 0
    assert "first:research" in result.err
