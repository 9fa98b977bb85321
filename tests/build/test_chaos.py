"""A provider that fails in every way llmock knows: a valid artifact, a rejection or an error.

Never a bad artifact in complete/, and our ledger agrees with the server's own journal. Each fault
is a model of its own, so that one command meets many of them, side by side.
"""

from __future__ import annotations

import collections
import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import patience
import pytest
from commands import Result
from workspace import Workspace

# A number here is how many jobs the random faults meet.
JOBS = int(os.environ.get("POPBUILD_TEST_EXAMPLES", "4"))

SCHEMA = {
    "type": "object",
    "properties": {"title": {"type": "string", "minLength": 3}, "score": {"type": "integer"}},
    "required": ["title", "score"],
    "additionalProperties": False,
}
GOOD = json.dumps({"title": "Grid batteries", "score": 7})
COMPLETE, REJECTED, FAILED = "complete", "rejected", "current"


class Mock:
    """llmock as a process beside the test, on a port that the test has bound already."""

    def __init__(self, **environment: object) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self.url = f"http://{self._address}"
        words = ["uvicorn", "llmock.main:create_app", "--factory", "--log-level", "critical"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", *words, "--fd", str(self._socket.fileno())],
            pass_fds=[self._socket.fileno()],
            env={"PATH": os.defpath} | {name: str(value) for name, value in environment.items()},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def close(self) -> None:
        self._process.kill()
        self._process.wait(patience.PATIENCE_S)
        self._socket.close()

    def ask(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        connection = http.client.HTTPConnection(self._address, timeout=patience.PATIENCE_S)
        connection.request(method, f"/_llmock/{path}", data)
        answer = json.loads(connection.getresponse().read())
        connection.close()
        return answer

    def requests(self) -> list[dict[str, Any]]:
        """Every request that came to its end, or was given up."""
        found: list[dict[str, Any]] = self.ask("GET", "requests")["requests"]
        return found


@pytest.fixture(scope="module")
def one_mock() -> Iterator[Mock]:
    mock = Mock()
    try:
        yield mock
    finally:
        mock.close()


@pytest.fixture
def mock(one_mock: Mock) -> Mock:
    one_mock.ask("POST", "reset")
    return one_mock


@dataclass(frozen=True)
class Fault:
    """What the server does, the folder in which the job ends, how often the server is asked, and
    what the person is told."""

    behaviors: tuple[dict[str, Any], ...]
    ends: str
    asked: int
    said: str = ""


def fails(status: int, **more: Any) -> dict[str, Any]:
    return {"type": "fail", "status": status, **more}


def replies(text: str | None = None, **more: Any) -> dict[str, Any]:
    return {"type": "reply", "text": text, **more}


ALWAYS: dict[str, Any] = {"times": None}
# With two refinements, a gate that always says no is asked three times.
GATED = 3
TOOL = [{"name": "get_weather", "arguments": {"city": "Paris"}}]
# No tool is ever offered: these faults wait for a request that offers one, unless told otherwise.
ANYWAY: dict[str, Any] = {"match": {}}

STATUSES = (400, 401, 402, 403, 404, 405, 409, 410, 413, 415, 418, 422, 423, 424, 428, 451)
BROKEN = (408, 500, 502, 504)
FAULTS: dict[str, Fault] = {
    "no fault": Fault((), COMPLETE, 1),
    **{
        f"{status}": Fault((fails(status, **ALWAYS),), FAILED, 1, "provider") for status in STATUSES
    },
    "429 once": Fault((fails(429),), COMPLETE, 2),
    "429 once, with a wait": Fault((fails(429, retry_after=0.2),), COMPLETE, 2),
    "429 of another text": Fault((fails(429, message="quota", code="x"),), COMPLETE, 2),
    "a policy": Fault((fails(400, code="content_policy_violation"),), REJECTED, 1, "policy"),
    "too long": Fault((fails(400, code="context_length_exceeded"),), REJECTED, 1, "too long"),
    "a short delay": Fault(({"type": "delay", "seconds": 0.1},), COMPLETE, 1),
    "prose": Fault(
        (replies("I would rather not.", **ALWAYS),), REJECTED, GATED, "no JSON document"
    ),
    "nothing": Fault((replies("", **ALWAYS),), REJECTED, GATED, "the answer is empty"),
    "half": Fault((replies(GOOD[:-4], **ALWAYS),), REJECTED, GATED, "no JSON document"),
    "NaN": Fault((replies('{"title": "abc", "score": NaN}', **ALWAYS),), REJECTED, GATED, "NaN"),
    "another type": Fault((replies("[1]", **ALWAYS),), REJECTED, GATED, "must be an object"),
    "a number too large": Fault(
        (replies("1e999e9", **ALWAYS),), REJECTED, GATED, "no JSON document"
    ),
    "a wrong field": Fault(
        (replies('{"title": 5}', **ALWAYS),), REJECTED, GATED, "missing 'score'"
    ),
    "deep": Fault((replies("[" * 50_000, **ALWAYS),), REJECTED, GATED, "nested too deeply"),
    "prose once": Fault((replies("Well."), replies(GOOD)), COMPLETE, 2),
    "prose twice": Fault((replies("Well.", times=2), replies(GOOD)), COMPLETE, 3),
    "a fence": Fault((replies(f"Here:\n```json\n{GOOD}\n```"),), COMPLETE, 1),
    "cut off": Fault(
        (replies(GOOD, finish_reason="length", **ALWAYS),), REJECTED, GATED, "cut off"
    ),
    "filtered": Fault(
        (replies(GOOD, finish_reason="content_filter", **ALWAYS),), REJECTED, 1, "filter"
    ),
    "a reason that is none": Fault((replies(GOOD, finish_reason="banana"),), COMPLETE, 1),
    "a tool": Fault((replies(tool_calls=TOOL, **ALWAYS),), REJECTED, GATED, "get_weather"),
    "text and a tool": Fault(
        (replies(GOOD, tool_calls=TOOL, **ALWAYS),), REJECTED, GATED, "get_weather"
    ),
    **{
        f"a tool with {kind}": Fault(
            (replies("", **ALWAYS), {"type": "tool_fault", "kind": kind, **ANYWAY, **ALWAYS}),
            REJECTED,
            GATED,
            "a call of a tool",
        )
        for kind in ("malformed_arguments", "unknown_tool")
    },
    # Nothing that a gate must judge is streamed: these have nothing to break.
    **{
        f"a stream's {kind}": Fault(({"type": "stream_fault", "kind": kind},), COMPLETE, 1)
        for kind in ("disconnect", "truncate", "stall", "malformed")
    },
    "a slow first token": Fault(({"type": "slow_first_token", "seconds": 60},), COMPLETE, 1),
}
# The breaker is the provider's, so these meet no other test; how often one that is down is asked
# hangs on when it opens.
ONCE = {f"{status} once": Fault((fails(status),), COMPLETE, 2) for status in (500, 502, 503, 529)}
DOWN: dict[str, Fault] = {
    **{f"{status}": Fault((fails(status, **ALWAYS),), FAILED, -1, "provider") for status in BROKEN},
    "429": Fault((fails(429, **ALWAYS),), FAILED, -1, "provider"),
}
SILENT = {"a long delay": Fault(({"type": "delay", "seconds": 2, **ALWAYS},), FAILED, 2, "in time")}
GROUPS = {"answers": FAULTS, "down once": ONCE, "down": DOWN, "silent": SILENT}
PATIENCE_S = {"down once": "20"}
TIMEOUT_S = {"silent": "1"}


def name_of(fault: str) -> str:
    return "".join(each if each.isalnum() else "-" for each in fault)


def prepare(workspace: Workspace, faults: Mapping[str, Fault], mock: Mock) -> None:
    """A pipeline, a model and a job for each fault."""
    (workspace.root / "seeds/first.json").unlink()
    behaviors = []
    for fault, told in faults.items():
        name = name_of(fault)
        folder = f"pipeline-config/pipelines/{name}"
        document = {
            "name": name,
            "tasks": ["made"],
            "taskConfig": {"made": {"model": MODEL + name}},
        }
        workspace.write(f"{folder}/pipeline.json", document)
        workspace.write(f"{folder}/tasks/index.yaml", "made: ./made\n")
        workspace.write(f"{folder}/tasks/made/prompt.md", f"On {{{{ seed.data.x }}}}: {name}.\n")
        workspace.write(f"{folder}/tasks/made/output.schema.json", SCHEMA)
        workspace.write(f"seeds/{name}.json", {"name": name, "data": {"x": 1}, "pipeline": name})
        for behavior in told.behaviors:
            match = {"model": name, **behavior.get("match", {})}
            if behavior["type"] in ("stream_fault", "slow_first_token"):
                match["stream"] = True
            behaviors.append({**behavior, "match": match})
    if behaviors:
        mock.ask("POST", "scenario", {"behaviors": behaviors})


MODEL = "openai/"
# Two tries of everything, and no waiting for a provider that is down.
ENV = {
    "POPBUILD_TRIES": "2",
    "POPBUILD_BACKOFF_S": "0.01",
    "POPBUILD_PATIENCE_S": "1",
    "POPBUILD_TIMEOUT_S": "30",  # on a busy machine an answer takes its time
}


def run(workspace: Workspace, mock: Mock, **more: str) -> Result:
    env = ENV | {"OPENAI_BASE_URL": f"{mock.url}/v1"} | more
    return workspace.popbuild("run", "-c", "-n", "8", env=env)


def whole(workspace: Workspace) -> dict[str, str]:
    """Where each job stands, after what must hold wherever it does: what is complete is valid, by
    the test's own eyes and popbuild's."""
    states = {}
    for path in sorted(workspace.root.glob("seeds/*.json")):
        (states[path.stem],) = workspace.states(path.stem)
        if states[path.stem] == COMPLETE:
            made = workspace.artifact(path.stem, "made")
            assert sorted(made) == ["score", "title"]
            assert isinstance(made["title"], str)
            assert len(made["title"]) >= 3
            assert type(made["score"]) is int
    for command in ("verify", "validate"):
        result = workspace.popbuild(command)
        assert result.code == 0, result
    return states


def accounted(workspace: Workspace, mock: Mock) -> collections.Counter[str]:
    """The ledger has a reservation for each request that the server saw, of the same model: settled
    where it was answered, released where it was refused, and unknown spend where the server broke
    down or no job waited for it. Gives how often each model was asked."""
    path = workspace.root / ".popbuild/ledger.jsonl"
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    ledger = {name: collections.Counter[str]() for name in ("settled", "released", "unknown")}
    ended = {each["entry"]: each["event"] for each in entries if each["event"] != "reserved"}
    reserved = [each for each in entries if each["event"] == "reserved"]
    assert len(entries) == len(reserved) + len(ended)
    for each in reserved:
        ledger[ended.pop(each["entry"], "unknown")][each["model"].removeprefix(MODEL)] += 1
    assert ended == {}
    seen = mock.requests()
    answered = collections.Counter(each["model"] for each in seen if each["status"] == 200)
    broken = collections.Counter(
        each["model"] for each in seen if each["status"] >= 500 or each["status"] == 408
    )
    asked = collections.Counter(each["model"] for each in seen)
    for model, count in asked.items():
        abandoned = answered[model] - ledger["settled"][model]
        assert abandoned >= 0, model
        assert ledger["unknown"][model] == broken[model] + abandoned, model
        assert ledger["released"][model] == count - answered[model] - broken[model], model
    assert sum(ledger.values(), collections.Counter()).keys() == asked.keys()
    return asked


@pytest.mark.parametrize("group", GROUPS)
def test_every_fault_ends_well(group: str, workspace: Workspace, mock: Mock) -> None:
    """Each job ends where its fault says, the person is told why, and no request is uncounted. The
    second time nothing that was bought is asked for again."""
    faults = GROUPS[group]
    prepare(workspace, faults, mock)
    env = {"POPBUILD_PATIENCE_S": PATIENCE_S.get(group, "1")}
    env["POPBUILD_TIMEOUT_S"] = TIMEOUT_S.get(group, "30")
    result = run(workspace, mock, **env)
    said = result.out + result.err
    assert "Traceback" not in said
    assert "mistake in popbuild" not in said
    asked = accounted(workspace, mock)
    assert whole(workspace) == {name_of(name): fault.ends for name, fault in faults.items()}, said
    listed = (workspace.popbuild("list").out + said).splitlines()
    for name, fault in faults.items():
        own = [each for each in listed if name_of(name) in each.replace(":", " ").split()]
        assert fault.said in "\n".join(own), name
        assert fault.asked in (-1, asked[name_of(name)]), name
    run(workspace, mock, **env)
    again = accounted(workspace, mock)
    whole(workspace)
    for name, fault in faults.items():
        if fault.ends != FAILED:
            assert again[name_of(name)] == fault.asked, name


def test_what_failed_goes_on_when_the_provider_is_back(workspace: Workspace, mock: Mock) -> None:
    """Every job of a provider that was down is complete after one more run, each bought once."""
    faults = {f"job {number}": Fault((), COMPLETE, 1) for number in range(3)}
    prepare(workspace, faults, mock)
    mock.ask("POST", "scenario", {"behaviors": [fails(503, **ALWAYS)]})
    assert run(workspace, mock, POPBUILD_PATIENCE_S="0").code == 2
    assert set(whole(workspace).values()) == {FAILED}
    mock.ask("DELETE", "scenario")
    before = len(mock.requests())
    assert run(workspace, mock, POPBUILD_PATIENCE_S="20").code == 0
    assert set(whole(workspace).values()) == {COMPLETE}
    accounted(workspace, mock)
    assert sum(each["status"] == 200 for each in mock.requests()[before:]) == len(faults)
    assert run(workspace, mock).code == 0
    assert sum(each["status"] == 200 for each in mock.requests()) == len(faults)


def test_random_faults(workspace: Workspace) -> None:
    """Errors by chance, a limit of requests and tokens a minute, and a small window, all at once:
    runs converge, and no answer is bought twice."""
    rates = {429: 0.1, 500: 0.1, 502: 0.05, 503: 0.1, 529: 0.05, 400: 0.02, 401: 0.02}
    mock = Mock(
        LLMOCK_RPM=3000,
        LLMOCK_TPM=1_000_000,
        LLMOCK_LATENCY_MS=5,
        LLMOCK_CONTEXT_WINDOW=8000,
        **{f"LLMOCK_ERROR_RATE_{status}": rate for status, rate in rates.items()},
    )
    try:
        prepare(workspace, {f"job {n}": Fault((), COMPLETE, 1) for n in range(JOBS)}, mock)
        for _ in range(20):
            result = run(workspace, mock, POPBUILD_TRIES="4", POPBUILD_PATIENCE_S="5")
            assert "Traceback" not in result.out + result.err
            whole(workspace)
            accounted(workspace, mock)
            if result.code == 0:
                break
        assert set(whole(workspace).values()) == {COMPLETE}
        bought = collections.Counter(
            each["model"] for each in mock.requests() if each["status"] == 200
        )
        assert set(bought.values()) == {1}
        assert len(bought) == JOBS
    finally:
        mock.close()
