"""Bad answers and a provider that misbehaves: rejected or failed, never taken for a success."""

from __future__ import annotations

import json
from typing import Any

import pytest
from provider import Provider, Reply, fail
from refusals import KEY, RUNS, nothing_leaked, refused, rejection
from workspace import Workspace

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}


@pytest.fixture
def judged(workspace: Workspace) -> Workspace:
    """`research` answers in JSON, by a schema; `analysis` reads it."""
    workspace.task("research", schema=SCHEMA)
    workspace.task("analysis", prompt="Analysis of {{ artifacts.research.a }}\n")
    return workspace


def body(**message: Any) -> bytes:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", **message}}
    return json.dumps(
        {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    ).encode()


ANSWERS: dict[str, tuple[Reply, list[str]]] = {
    "empty": (Reply(""), ["the answer is empty (finish reason: stop)"]),
    "blank": (Reply(" \n\t"), ["the answer is empty"]),
    "null": (Reply(body=body(content=None)), ["the answer is empty"]),
    "no choices": (
        Reply(body=b'{"id": "x", "object": "chat.completion", "model": "m", "choices": []}'),
        ["the answer is empty (finish reason: unknown)"],
    ),
    "all reasoning": (
        Reply("", "length", completion_tokens=200, reasoning_tokens=200),
        ["the answer is empty: 200 tokens went into reasoning", "raise maxTokens"],
    ),
    "cut off": (
        Reply('{"a": "x', "length", completion_tokens=7),
        ["the answer is cut off at the length limit after 7 tokens"],
    ),
    "cut off, but whole JSON": (Reply('{"a": "x"}', "length"), ["the answer is cut off"]),
    "filtered": (Reply('{"a": "x"}', "content_filter"), ["content filter cut the answer off"]),
    "prose": (
        Reply("I cannot do that."),
        ["no JSON document in the answer: there is only prose; its schema takes object"],
    ),
    "half JSON": (Reply('{"a": "x'), ["no JSON document in the answer: Unterminated string"]),
    "a number too large, and more": (
        Reply('{"a": 1e999e9}'),
        ["no JSON document in the answer: 1e999, which is too large a number"],
    ),
    "NaN": (Reply('{"a": NaN}'), ["no JSON document in the answer: NaN", "line 1, column 7"]),
    "duplicate keys": (Reply('{"a": "x", "a": "y"}'), ["duplicate key 'a'", "column 12"]),
    "half a character": (Reply('{"a": "\\ud800"}'), ["half a surrogate pair"]),
    "half a character on the wire": (
        Reply(body=body(content="\ud800 no")),
        ["the answer has half a surrogate pair"],
    ),
    "nested 100,000 deep": (
        Reply('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}"),
        ["no JSON document in the answer: JSON is nested too deeply"],
    ),
    "opened 100,000 times": (Reply('{"a":' * 100_000), ["JSON is nested too deeply"]),
    "300,000 braces": (Reply("{" * 300_000), ["no JSON document in the answer"]),
    "5 MB of JSON": (
        Reply('{"a": "' + "x" * 5_000_000 + '"}'),
        ["the answer is too large: 5,000,009 characters, at most 4,194,304"],
    ),
    "5 MB of prose": (Reply("word " * 1_000_000), ["the answer is too large: 5,000,000"]),
    "another type": (Reply("[1]"), ["must be an object, found [1]"]),
    "a missing field": (Reply("{}"), ["missing 'a'"]),
    "a wrong field": (Reply('{"a": 5}'), ["/a: must be a string, found 5"]),
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_a_bad_answer_rejects_the_job(kind: str, judged: Workspace, provider: Provider) -> None:
    """Two refinements, then rejected/ with the problem and the raw answer; exit code 1; the
    second run says so, and buys nothing."""
    reply, phrases = ANSWERS[kind]
    provider.answer = lambda _: reply
    refused(judged, RUNS["popbuild"], 1, ["first: rejected at research", *phrases])
    assert judged.states("first") == ["rejected"]
    problems = "\n".join(rejection(judged))
    assert all(phrase in problems for phrase in phrases), problems
    folder = judged.job("first", "rejected")
    answer = json.loads((folder / "rejection.json").read_bytes())["answer"]
    if reply.body is None:
        assert (folder / answer).read_text(encoding="utf-8") == reply.text
    tries = 1 if kind == "filtered" else 3  # a filter says the same again
    assert len(provider.requests) == tries
    refused(judged, RUNS["doit"], 1, ["nothing changed since: not bought again", *phrases])
    assert len(provider.requests) == tries
    assert "all valid" in judged.popbuild("validate").out


@pytest.mark.parametrize("prompt", ["Go.", "Go. {{ previous }}"])
def test_a_large_answer_is_not_sent_back_whole(
    prompt: str, judged: Workspace, provider: Provider
) -> None:
    """A refinement has the first 200,000 characters of it and a mark, whether the conversation
    goes on or a template prints it; stages.py has all of it."""
    stages = "def critique(context):\n    return f'{len(context.previous)} were too many.'\n"
    judged.task("research", prompt=prompt, stages=stages)
    answers = ["x" * 5_000_000, "q" * 200_000, '{"a": "z"}']
    provider.script([*answers, "Analysis."])
    for _ in range(2):
        assert judged.popbuild("run").code == 0
    said = ["".join(message["content"] for message in each.messages) for each in provider.requests]
    assert len(said) == 4
    assert said[1].count("x") == 200_000
    assert "x\n[… 4,800,000 characters cut off]" in said[1]
    assert len(said[1]) < 201_000
    assert said[2].count("q") == 200_000
    assert "cut off" not in said[2]
    if "previous" not in prompt:
        assert "5000000 were too many." in said[1]


BODIES = {
    "nothing": b"",
    "HTML": b"<html><body>Bad gateway</body></html>",
    "an array": b"[]",
    "an empty object": b"{}",
    "null": b"null",
    "half": body(content='{"a": "x"}')[:-30],
    "a dropped connection": None,
}


@pytest.mark.parametrize("kind", BODIES)
def test_a_response_that_is_none_is_a_provider_error(
    kind: str, judged: Workspace, provider: Provider
) -> None:
    """Told with the model and how it begins, and not sent again unchanged; where the connection
    broke, tried again. The job waits in current/ and goes on by itself."""
    sent = BODIES[kind]
    provider.answer = lambda _: Reply(body=sent, drop=sent is None)
    if sent is None:
        phrases = ["the connection to the provider failed", "tries  3", "hint: run it again"]
    else:
        phrases = ["answer cannot be read", "application/json", sent.decode()[:90] or "nothing"]
    phrases += ["openai/gpt-4o-mini", "research"]
    result = refused(judged, RUNS["popbuild"], 2, phrases, env={"POPBUILD_TRIES": "3"})
    assert "500" not in result.err
    assert "InternalServerError" not in result.err
    assert judged.states("first") == ["current"]
    provider.answer = lambda _: Reply('{"a": "x"}')
    for _ in range(2):
        assert judged.popbuild("run").code == 0
    assert len(provider.requests) == (5 if sent is None else 3)


# --- hostile patterns ---

HOSTILE = "^(a|a)*$"
TEXT = "a" * 40 + "!"
PATTERNS: dict[str, tuple[dict[str, Any], Any]] = {
    "of a value": ({"properties": {"a": {"pattern": HOSTILE}}}, {"a": TEXT}),
    "of fifty values": ({"items": {"pattern": HOSTILE}}, [f"{TEXT}{n}" for n in range(50)]),
    "of a key": ({"patternProperties": {HOSTILE: {}}}, {TEXT: 1}),
    "of an additional key": (
        {"patternProperties": {HOSTILE: {}}, "additionalProperties": False},
        {TEXT: 1},
    ),
    "of all keys": ({"propertyNames": {"pattern": HOSTILE}}, {TEXT: 1}),
}


@pytest.mark.parametrize("kind", PATTERNS)
def test_a_hostile_pattern_is_stopped(kind: str, judged: Workspace, provider: Provider) -> None:
    """A pattern that would run for years on the model's text is a problem after a second."""
    schema, document = PATTERNS[kind]
    judged.task("research", schema=schema, task_yaml="gate:\n  refinements: 0\n")
    provider.answer = lambda _: Reply(json.dumps(document))
    phrases = ["rejected at research", f"matching '{HOSTILE}' took longer than 1 s"]
    refused(judged, RUNS["popbuild"], 1, phrases)
    assert len(rejection(judged)) == 1


def test_a_pattern_means_what_json_schema_says(judged: Workspace, provider: Provider) -> None:
    """`$` is the end, not the place before a last newline, as it is in Python."""
    judged.task("research", schema={"properties": {"a": {"pattern": "^[a-z$]+$"}}})
    provider.script(['{"a": "x\\n"}', '{"a": "x$"}'])
    for _ in range(2):
        assert judged.popbuild("run").code == 0
    assert judged.letter("first", "research")["refinementAttempts"] == 1
    assert len(provider.requests) == 3


def test_a_price_of_400_digits(judged: Workspace, provider: Provider) -> None:
    """A number that no float can hold is judged like any other one."""
    judged.task("research", schema={"properties": {"a": {"multipleOf": 0.01, "maximum": 1e6}}})
    provider.script(['{"a": 1' + "0" * 400 + "}", '{"a": 12.35}'])
    for _ in range(2):
        result = judged.popbuild("run")
        assert result.code == 0, result
    assert "is outside the limit: at most" in provider.requests[1].said("user")
    assert judged.artifact("first", "research") == {"a": 12.35}
    assert len(provider.requests) == 3


# --- keys ---

ECHOES = {
    "401": fail(401, text=f"Incorrect API key provided: {KEY}. See the docs."),
    "400": fail(400, text=f"bad request with {KEY}"),
    "429": fail(429, text=f"{KEY} has reached its limit"),
    "500": fail(500, text=f"could not serve {KEY}"),
    **{f"cut at {n}": fail(400, text="y" * n + f"{KEY} " * 9) for n in (350, 365, 380, 395)},
}


@pytest.mark.parametrize("command", RUNS)
@pytest.mark.parametrize("kind", ECHOES)
def test_a_key_in_an_error_is_taken_out(
    kind: str, command: str, judged: Workspace, provider: Provider
) -> None:
    """A provider that repeats the key: it stands in no file, log, error or traceback, whole or
    cut."""
    provider.answer = lambda _: ECHOES[kind]
    env = {"POPBUILD_TRIES": "2", "POPBUILD_PATIENCE_S": "0", "POPBUILD_BACKOFF_S": "0.01"}
    marks = [] if kind.startswith("cut") else ["[OPENAI_API_KEY]"]
    said = refused(judged, RUNS[command], 2, ["the provider", *marks], env=env)
    assert provider.requests[0].headers["authorization"] == f"Bearer {KEY}"
    error = judged.status("first", "current")["tasks"]["research"]["error"]
    assert all(mark in error for mark in marks)
    for arguments in (("--debug",), ("--json",)):
        more = judged.run(*RUNS[command], *arguments, env=env | {"OPENAI_API_KEY": KEY})
        assert more.code == 2
        nothing_leaked(judged, more.out + more.err + said.out)


def test_a_key_in_an_answer_is_taken_out(judged: Workspace, provider: Provider) -> None:
    """A proxy that repeats the key in an answer: neither the store nor an artifact has it."""
    provider.answer = lambda _: Reply(json.dumps({"a": f"your key is {KEY}"}))
    for _ in range(2):
        result = judged.popbuild("run", env={"OPENAI_API_KEY": KEY})
        assert result.code == 0
        nothing_leaked(judged, result.out + result.err)
    assert judged.artifact("first", "research") == {"a": "your key is [OPENAI_API_KEY]"}
    assert len(provider.requests) == 2


def test_a_key_from_env_is_taken_out(judged: Workspace, provider: Provider) -> None:
    """Any secret of the root's `.env`, by its name; `.env` itself is the only file with it."""
    judged.write(".env", "SOME_SERVICE_TOKEN=a-very-secret-value\n").chmod(0o600)
    provider.answer = lambda _: fail(400, text="wrong: a-very-secret-value")
    for command in RUNS.values():
        result = judged.run(*command)
        assert result.code == 2
        assert "wrong: [SOME_SERVICE_TOKEN]" in result.err
    holders = [
        path.name
        for path in judged.root.rglob("*")
        if path.is_file() and b"a-very-secret-value" in path.read_bytes()
    ]
    assert holders == [".env"]


@pytest.mark.parametrize("command", RUNS)
def test_a_model_without_a_provider(command: str, workspace: Workspace, provider: Provider) -> None:
    """A name that litellm knows no provider for: said so, at once, with the way out."""
    workspace.pipeline(["research", "analysis"], model="nobody/nothing")
    phrases = ["nobody/nothing", "litellm knows no provider", "name the provider too"]
    refused(workspace, RUNS[command], 2, phrases)
    assert provider.requests == []
