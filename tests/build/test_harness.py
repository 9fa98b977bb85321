"""The harness keeps its promises: the tests that lean on it can blame popbuild."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import commands
import jsonschema
import pytest
from commands import Result
from patience import PATIENCE_S
from provider import Provider, Reply, Request, Words, fail, instance
from workspace import Workspace

EMPTY = {"PATH": os.defpath}
CALL = """
import litellm, sys
litellm.suppress_debug_info = True
try:
    answer = litellm.completion(
        "openai/gpt-4o-mini", [{"role": "user", "content": sys.argv[1]}], max_retries=0
    )
    print(answer.choices[0].message.content)
except Exception as error:
    print(type(error).__name__)
"""


def post(
    connection: http.client.HTTPConnection, content: str = "hi", **more: Any
) -> tuple[int, dict[str, str], Any]:
    body = {"model": "m", "messages": [{"role": "user", "content": content}], **more}
    connection.request("POST", "/v1/chat/completions", json.dumps(body))
    response = connection.getresponse()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return response.status, headers, json.loads(response.read())


def text(answer: tuple[int, dict[str, str], Any]) -> str:
    return str(answer[2]["choices"][0]["message"]["content"])


class Client(http.client.HTTPConnection):
    """A connection that closes at the end of a `with` block."""

    def __init__(self, provider: Provider) -> None:
        super().__init__("127.0.0.1", provider.port, timeout=PATIENCE_S)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# --- provider ---


def test_one_connection_carries_many_requests_fast(provider: Provider) -> None:
    """Keep-alive: one socket, every request recorded in order, several hundred a second."""
    with Client(provider) as client:
        post(client)
        socket = client.sock
        start = time.monotonic()
        for number in range(300):
            post(client, str(number))
        assert time.monotonic() - start < 3
        assert client.sock is socket
    assert [request.said("user") for request in provider.requests][1:] == list(map(str, range(300)))
    assert all(request.answered for request in provider.requests)
    assert provider.peak_in_flight == 1


def test_default_answer_is_prose_and_follows_the_request(provider: Provider) -> None:
    """Same request, same three sentences; another request, others; no word sequence repeats."""
    with Client(provider) as client:
        first, again, other = (text(post(client, one)) for one in ("a", "a", "b"))
    assert first == again != other
    for answer in (first, other):
        assert answer.count(".") == 3
        words = answer.replace(".", "").replace(",", "").lower().split()
        runs = list(zip(words, words[1:], words[2:], words[3:], strict=False))
        assert len(set(runs)) == len(runs)


def test_usage_and_finish_reason_are_as_scripted(provider: Provider) -> None:
    """Scripted replies come first and in order, then the default answers again."""
    provider.script(
        [Reply("cut", "length", prompt_tokens=7, completion_tokens=9, reasoning_tokens=4), "two"]
    )
    with Client(provider) as client:
        _, _, first = post(client)
        assert first["choices"][0]["finish_reason"] == "length"
        assert first["usage"]["total_tokens"] == 16
        assert first["usage"]["completion_tokens_details"] == {"reasoning_tokens": 4}
        assert text(post(client)) == "two"
        assert text(post(client)) not in ("cut", "two")


def test_failures_carry_status_and_retry_after(provider: Provider) -> None:
    """A scripted failure has OpenAI's error document and the header; the next call works."""
    provider.script([fail(429, retry_after=1.5), fail(503)])
    with Client(provider) as client:
        status, headers, body = post(client)
        assert (status, headers["retry-after"]) == (429, "1.5")
        assert body["error"]["code"] == "rate_limit_exceeded"
        status, headers, _ = post(client)
        assert status == 503
        assert "retry-after" not in headers
        assert post(client)[0] == 200


def test_raw_bodies_and_dropped_connections(provider: Provider) -> None:
    """A body goes out as it is; `drop` ends the connection before the answer or within it."""
    provider.script([Reply(body=b"[1]"), Reply(drop=True), Reply(drop=True, body=b"{")])
    with Client(provider) as client:
        assert post(client)[2] == [1]
        with pytest.raises(http.client.RemoteDisconnected):
            post(client)
        client.close()
        with pytest.raises(http.client.IncompleteRead):
            post(client)
    assert [request.answered for request in provider.requests] == [True, False, False]


def test_only_whole_requests_to_the_one_endpoint_are_answered(provider: Provider) -> None:
    """Another path, another method or a stream is an error that a test will see."""
    with Client(provider) as client:
        assert post(client, stream=True)[0] == 400
        client.request("GET", "/v1/models")
        response = client.getresponse()
        assert response.status == 404
        response.read()


def test_hold_lets_some_pass_and_counts_what_waits(provider: Provider) -> None:
    """Requests after the allowed ones wait for `release`; all of them were in flight."""

    def ask(content: str) -> str:
        with Client(provider) as client:
            return text(post(client, content))

    provider.hold(after=1)
    with ThreadPoolExecutor() as pool:
        assert ask("passes")
        waiting = [pool.submit(ask, str(number)) for number in range(5)]
        provider.wait_for(6)
        assert [request.answered for request in provider.requests] == [True] + [False] * 5
        provider.release()
        assert all(one.result() for one in waiting)
    assert provider.peak_in_flight == 5
    assert ask("not held any more")


def test_delay_and_hook_come_before_the_answer(provider: Provider) -> None:
    """A hook sees its request unanswered; a delay passes before the answer."""
    seen: list[tuple[int, bool]] = []
    provider.at(2, lambda request: seen.append((request.number, request.answered)))
    provider.script(["at once", Reply("late", delay_s=0.2)])
    with Client(provider) as client:
        post(client)
        start = time.monotonic()
        assert text(post(client)) == "late"
        assert time.monotonic() - start >= 0.2
    assert seen == [(2, False)]


def test_a_mistake_in_the_tests_own_answer_is_not_lost() -> None:
    """The command sees a 500; the test sees the exception when it leaves the block."""

    def wrong(request: Request) -> Reply:
        raise KeyError(request.model)

    def use() -> None:
        with Provider() as provider, Client(provider) as client:
            provider.answer = wrong
            assert post(client)[0] == 500

    with pytest.raises(KeyError, match="m"):
        use()


def test_provider_leaves_nothing_behind() -> None:
    """After the block, its thread and sockets are gone, held requests included."""
    threads, files = threading.enumerate(), os.listdir("/proc/self/fd")  # noqa: PTH208 - a count
    with Client(provider := Provider()) as client:
        with provider:
            client.port = provider.port
            provider.hold()
            client.request("POST", "/v1/chat/completions", '{"model": "m", "messages": []}')
            provider.wait_for(1)
        with pytest.raises(ConnectionError):
            client.getresponse()
    assert threading.enumerate() == threads
    assert len(os.listdir("/proc/self/fd")) == len(files)  # noqa: PTH208


SCHEMAS: list[Mapping[str, Any]] = [
    {
        "type": "object",
        "properties": {"a": {"type": "string", "minLength": 200}, "b": {"type": "null"}},
        "required": ["a"],
        "additionalProperties": False,
    },
    {"properties": {"kind": {"const": 3}, "size": {"enum": ["s", "m"]}, "on": {"type": "boolean"}}},
    {"type": "array", "minItems": 3, "uniqueItems": True, "items": {"type": "string"}},
    {"type": "integer", "minimum": 2.5},
    {"type": "integer", "exclusiveMinimum": 4},
    {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    {"type": "number", "maximum": -3},
    {"anyOf": [{"type": "string", "maxLength": 5}, {"type": "null"}]},
    {"type": ["string", "null"], "format": "date"},
    {
        "$ref": "#/$defs/x",
        "$defs": {"x": {"items": {"$ref": "#/$defs/y"}, "type": "array"}, "y": {}},
    },
]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_instances_are_valid(schema: Mapping[str, Any], provider: Provider) -> None:
    """A request with a schema gets an instance of it, from the function and over the wire."""
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(instance(schema, Words("seed")), schema)
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    with Client(provider) as client:
        jsonschema.validate(json.loads(text(post(client, response_format=form))), schema)


# --- commands ---

forked_only = pytest.mark.skipif(commands.ALL_REAL, reason="says what a fork is like")


def python(code: str, *args: str, cwd: Path | str = "/", **options: Any) -> Result:
    return commands.run(["python", "-c", code, *args], cwd=cwd, **({"env": EMPTY} | options))


@forked_only
def test_the_environment_is_exact(tmp_path: Path) -> None:
    """Nothing of the tests' environment, arguments, folder or open files reaches a command."""
    code = """
import os, sys
print(sorted(os.environ), sys.argv, os.getcwd(), os.getsid(0) == os.getpid())
print(sorted(os.listdir("/proc/self/fd"))[:-1], sys.stdin.read())
print(len(os.listdir(f"/proc/{os.getppid()}/task")), "pytest" in sys.modules)
"""
    result = python(code, "x", cwd=tmp_path, env={"A": "1"}, stdin="hello")
    assert result == Result(
        0,
        f"['A'] ['-c', 'x'] {tmp_path} True\n['0', '1', '2'] hello\n1 False\n",
        "",
    )


ENDINGS = [
    "import sys; print('out'); sys.exit(3)",
    "import sys; sys.exit('a text')",
    "import sys; sys.exit(300)",
    "raise KeyboardInterrupt",
    "raise ValueError('x')",
    "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "import os, signal; print(signal.getsignal(signal.SIGCHLD), signal.getsignal(signal.SIGPIPE))",
    "import atexit; atexit.register(print, 'bye')",
    "import threading, time; threading.Thread(target=lambda: time.sleep(.1) or print(1)).start()",
    "import logging; logging.warning('to standard error')",
]


@pytest.mark.parametrize("code", ENDINGS)
def test_a_forked_command_ends_as_a_real_one(code: str) -> None:
    """Same exit code and output, same last line of a traceback."""
    forked, real = python(code), python(code, real=True)
    assert (forked.code, forked.out) == (real.code, real.out)
    assert forked.err.splitlines()[-1:] == real.err.splitlines()[-1:]


def test_doit_is_the_same_forked_and_real(tmp_path: Path) -> None:
    """A dodo file runs; what doit says of its own name does not give the fork server away."""
    (tmp_path / "dodo.py").write_text(
        "DOIT_CONFIG = {'backend': 'json'}\n"
        "def task_x():\n    return {'actions': ['echo hello'], 'verbosity': 2}\n"
    )
    for argv in (["doit"], ["doit", "help"], ["doit", "nonsense"]):
        forked, real = (commands.run(argv, cwd=tmp_path, env=EMPTY, real=r) for r in (False, True))
        assert forked == real
    assert "doit" in forked.err


SHARED = """
import os, sys
import helper

def parsing(context):
    said = [helper.NAME, os.environ.get("ONLY"), os.getcwd(), len(sys.path)]
    sys.path.append("/elsewhere")
    os.umask(0)
    print(*said)
    return {"said": said}
"""


def test_a_process_runs_commands_that_do_not_meet(tmp_path: Path, provider: Provider) -> None:
    """One after the other: nothing of what a root's code did in it is left for the next one."""
    said = []
    for name in ("one", "two"):
        with Workspace(tmp_path / name, provider) as root:
            root.seed("first", {"topic": name})
            root.task("research", prompt="Research: {{ seed.data.topic }}.\n", stages=SHARED)
            root.write("pipeline-config/helper.py", f"NAME = {name!r}\n")
            root.pipeline(["research"])
            result = root.popbuild("run", env={"ONLY": "1"} if name == "one" else {})
            assert result.code == 0, result.out + result.err
            mode = (root.root / "pipeline-data").stat().st_mode  # made before the code's umask
            said.append([*root.artifact("first", "research")["said"], mode])
            shutil.rmtree(root.root)  # a process that stood in it, or held its files, goes on
    (*first, places, mode), (*second, places_then, mode_then) = said
    assert first == ["one", "1", str(tmp_path / "one/root")]
    assert second == ["two", None, str(tmp_path / "two/root")]
    assert (places_then, mode_then) == (places, mode)


@pytest.mark.parametrize(
    ("stage", "code"),
    [
        ("os._exit(9)", 9),
        ("os.kill(os.getpid(), 9)", -9),
        ("subprocess.Popen(['sleep', '600']); raise ValueError('x')", 2),
    ],
)
def test_a_command_that_ends_its_process_is_the_last_there(
    stage: str, code: int, workspace: Workspace
) -> None:
    """Its exit code is its own, what it started is gone, and the next command runs in another."""
    stages = f"import os, subprocess\ndef parsing(context):\n    {stage}\n"
    assert workspace.popbuild("list").code == 0
    workspace.task("research", stages=stages)
    assert workspace.popbuild("run", "first").code == code
    assert workspace.popbuild("list").code == 0
    left = [
        path for path in Path("/proc").glob("[0-9]*/cmdline") if _reads(path, b"sleep\x00600\x00")
    ]
    assert left == []


def _reads(path: Path, text: bytes) -> bool:
    try:
        return path.read_bytes() == text
    except OSError:
        return False


@forked_only
def test_a_command_starts_in_a_fraction_of_litellms_import() -> None:
    """Once the fork server is up, a command that imports litellm is cheap."""
    python("pass")
    start = time.monotonic()
    for _ in range(5):
        assert python("import litellm").code == 0
    assert time.monotonic() - start < 2.5


def test_settings_of_the_interpreter_get_a_fresh_one() -> None:
    """A fork cannot honour PYTHON… or LITELLM_…: such a command starts for real."""
    code = "import sys; print(sys.flags.utf8_mode, 'litellm' in sys.modules)"
    assert python(code, env=EMPTY | {"PYTHONUTF8": "1"}).out == "1 False\n"


def test_a_command_that_hangs_is_killed_and_shown() -> None:
    """The timeout names the command and what it had said; its children die too."""
    code = "import subprocess; print('so far'); subprocess.run(['sleep', '60'])"
    start = time.monotonic()
    with pytest.raises(TimeoutError, match="so far"):
        python(code, timeout_s=0.5)
    assert time.monotonic() - start < 45  # the sleep did not end by itself


def test_kill_in_the_middle_of_a_call(provider: Provider, workspace: Workspace) -> None:
    """A command killed while the model thinks: the request stands, unanswered; then again."""
    provider.hold()
    running = workspace.start("python", "-c", CALL, "hello")
    provider.wait_for(1)
    running.kill()
    assert running.wait().code == -9
    provider.release()
    assert workspace.run("python", "-c", CALL, "hello").code == 0
    assert [request.answered for request in provider.requests] == [False, True]


def test_kill_at_the_second_call(provider: Provider, workspace: Workspace) -> None:
    """`kill_at` strikes when the request arrives."""
    running = workspace.start("python", "-c", f"for _ in range(9):\n exec({CALL!r})", "hello")
    provider.kill_at(2, lambda: running.pid)
    assert running.wait().code == -9
    assert len(provider.requests) == 2


def test_interrupt_and_output_so_far(workspace: Workspace) -> None:
    """Output can be read while the command runs; an interrupt is a KeyboardInterrupt."""
    code = """
import time
try:
    print("ready", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    print("!")
"""
    running = workspace.start("python", "-c", code)
    running.wait_for("ready")
    running.interrupt()
    assert running.wait() == Result(0, "ready\n!\n", "")


def test_litellm_speaks_to_the_provider(provider: Provider, workspace: Workspace) -> None:
    """litellm finds the provider by its environment and knows its failures apart."""
    provider.script(["an answer", fail(429), fail(401), fail(500), Reply(drop=True)])
    said = [workspace.run("python", "-c", CALL, "hello").out.strip() for _ in range(5)]
    assert said[:3] == ["an answer", "RateLimitError", "AuthenticationError"]
    assert said[3:] == ["InternalServerError", "InternalServerError"]
    assert len(provider.requests) == 5
    assert provider.requests[0].headers["authorization"].startswith("Bearer sk-test-")


# --- workspace ---


def test_workspace_has_two_tasks_and_a_seed(workspace: Workspace) -> None:
    """The fixture writes the files of the storage format, and the digest list sees every edit."""
    assert workspace.read("seeds/first.json")["name"] == "first"
    pipeline = workspace.read("pipeline-config/pipeline.json")
    assert pipeline["tasks"] == ["research", "analysis"]
    assert pipeline["taskConfig"]["analysis"] == {"model": "openai/gpt-4o-mini"}
    before = workspace.tree()
    assert workspace.tree() == before
    workspace.task("research", system="Be brief.")
    changed = dict(workspace.tree()).items() - dict(before).items()
    assert [path for path, _ in changed] == ["pipeline-config/tasks/research/system.md"]
    assert workspace.runs() == []
    assert workspace.states("first") == []


def test_workspace_commands_see_only_the_provider(
    workspace: Workspace, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys of the person who runs the tests never reach a command; home is a temporary one."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "a person's own")
    code = "import os, json; print(json.dumps([os.getcwd(), dict(os.environ)]))"
    cwd, env = json.loads(workspace.run("python", "-c", code, env={"X": "1"}).out)
    assert cwd == str(workspace.root)
    assert sorted(env) == ["HOME", "LANG", "OPENAI_API_KEY", "OPENAI_BASE_URL", "PATH", "X"]
    assert env["OPENAI_BASE_URL"] == provider.base_url
    assert Path(env["HOME"]) == workspace.home
