"""A planted key is in no file, output or error, however a run ends, and whatever repeats it."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from commands import Result
from hypothesis import given, settings
from hypothesis import strategies as st
from provider import Provider, Reply, Request, fail
from workspace import Workspace

from popbuild.base.redact import _KEY_SHAPED, redact, secret_in, without_secrets

# It looks like no key, so only its variable tells; quoting it in any way makes another text of it.
CANARY = 'Canary/0123+456789=="~~~~???? def'
PASSWORD = "URL-password-of-a-proxy"
ENV = {
    "OPENAI_API_KEY": CANARY,
    "OTHER_API_KEY_2": "another/secret+value",
    "SOME_PROXY": f"http://user:{PASSWORD}@127.0.0.1:1",
    "POPBUILD_BACKOFF_S": "0.01",
    "POPBUILD_TRIES": "2",
    "POPBUILD_PATIENCE_S": "0",
}
BASIC = base64.b64encode(f"user:{CANARY}".encode()).decode()
FORMS = {
    "plain": CANARY,
    "as JSON": json.dumps(CANARY),
    "in a URL": f"http://x/?key={quote(CANARY, safe='')}&q={quote_plus(CANARY)}",
    "in base64": BASIC,
    "in base64, whole": base64.b64encode(CANARY.encode()).decode(),
    "of a proxy": f"cannot reach http://user:{PASSWORD}@127.0.0.1:1",
    "by another name": "another/secret+value",
}
# Pieces that stand nowhere else. Of base64 the middle: its ends depend on what is around it.
PIECES = [
    "Canary",
    "0123+456789",
    PASSWORD,
    "another/secret",
    *(base64.b64encode(b"\0" * n + CANARY.encode()).decode()[4:-4] for n in range(3)),
    quote(CANARY[6:18], safe=""),
]


def found_in(data: bytes) -> list[str]:
    return [piece for piece in PIECES if piece.encode() in data]


def nothing_leaked(workspace: Workspace, *results: Result) -> None:
    """No piece of a key in what was printed, or in any file below the root and the home."""
    for result in results:
        assert found_in((result.out + result.err).encode()) == [], result
    for path in workspace.root.parent.rglob("*"):
        if path.is_file() and path.name != ".env":
            assert found_in(path.read_bytes()) == [], path


SHOWN = [
    "list",
    "status first --json",
    "show first",
    "show first research-output.json",
    "show first research/execution-logs.json",
    "show first research/letter.json --json",
    "show first research-prompt-0.json",
    "show first research-answer-0.txt",
    "prompt first research",
    "plan --json",
    "explain first",
    "trace first",
    "verify --json",
    "validate",
    "check",
    "cache status",
]


def looked_at(workspace: Workspace) -> list[Result]:
    """Every command that shows something, whatever it says of this job."""
    return [workspace.popbuild(*each.split(), "--debug", env=ENV) for each in SHOWN]


def echo(text: str) -> Callable[[Request], Reply]:
    """A provider, or a proxy before it, that repeats a text wherever an answer has room for one."""
    body = {
        "id": text,
        "object": "chat.completion",
        "created": 1,
        "model": text,
        "system_fingerprint": text,
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": f"Here: {text}.", "refusal": text},
            }
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
    headers = {"x-request-id": text.replace("\n", " "), "retry-after": "soon"}
    return lambda _: Reply(body=json.dumps(body).encode(), headers=headers)


@pytest.mark.parametrize("form", FORMS)
def test_an_answer_that_repeats_the_key(
    form: str, workspace: Workspace, provider: Provider
) -> None:
    """Plain or encoded, in each member and header: the job is complete, and nothing has it."""
    provider.answer = echo(FORMS[form])
    results = [workspace.popbuild("run", "--debug", env=ENV) for _ in range(2)]
    assert [each.code for each in results] == [0, 0]
    assert len(provider.requests) == 2
    assert provider.requests[0].headers["authorization"] == f"Bearer {CANARY}"
    nothing_leaked(workspace, *results)


@pytest.mark.parametrize("status", [401, 500])
def test_an_error_that_repeats_the_key(
    status: int, workspace: Workspace, provider: Provider
) -> None:
    """In every form at once, in the text and in headers, also where it is cut off."""
    text = "; ".join(FORMS.values())
    provider.answer = lambda _: fail(status, text=f"{'y' * 300} {text} {text}")
    results = [workspace.popbuild("run", *more, env=ENV) for more in ((), ("--debug",))]
    results.append(workspace.popbuild("run", "--json", env=ENV))
    assert {each.code for each in results} == {2}
    nothing_leaked(workspace, *results)


STAGES = {
    "raises it": "def parsing(context):\n    raise ValueError(FOUND)\n",
    "rejects with it": "def parsing(context):\n    raise context.reject(FOUND)\n",
    "finds it as a problem": "def validate_quality(context):\n    return [FOUND]\n",
    "logs and prints it": (
        "import logging, sys, threading, warnings\n\n"
        "print('imported', FOUND)\n\n"
        "def say():\n"
        "    print(FOUND)\n"
        "    print('found:', FOUND, file=sys.stderr)\n"
        "    sys.stdout.write(FOUND[:9])\n"
        "    sys.stdout.write(FOUND[9:])\n"
        "    sys.stdout.buffer.write(FOUND.encode())\n"
        "    sys.stdout.flush()\n"
        "    logging.getLogger('mine').error(FOUND)\n"
        "    warnings.warn(FOUND)\n"
        "    raise ValueError(FOUND)\n\n"
        "async def ingestion(context):\n"
        "    thread = threading.Thread(target=say)\n"
        "    thread.start()\n"
        "    thread.join()\n"
        "    print(FOUND, end='')\n\n"
        "def parsing(context):\n"
        "    context.log.warning('%s', FOUND)\n"
        "    os.environ.pop('OPENAI_API_KEY', None)\n"
        "    print(KEYS)\n"
        "    context.files.write_log('own.log', FOUND)\n"
        "    context.files.write_tmp('own.bin', FOUND.encode())\n"
        "    return {'content': FOUND, FOUND: [FOUND]}\n"
    ),
    "returns the wrong thing": "def parsing(context):\n    return {FOUND}\n",
}


@pytest.mark.parametrize("kind", STAGES)
def test_code_that_spills_the_key(kind: str, workspace: Workspace, provider: Provider) -> None:
    """A stage that raises, rejects, logs, writes or returns every key: masked everywhere."""
    workspace.task(
        "research",
        stages="import json, os\nfrom base64 import b64encode\n\n"
        "KEYS = [v for k, v in sorted(os.environ.items()) if k.endswith(('KEY', '_2', 'PROXY'))]\n"
        "FOUND = ' '.join(KEYS + [b64encode(('x:' + v).encode()).decode() for v in KEYS])\n\n"
        + STAGES[kind],
    )
    results = [workspace.popbuild("run", "--debug", env=ENV) for _ in range(2)]
    results.append(workspace.popbuild("retry", "first", env=ENV))
    if kind == "logs and prints it":
        results.append(workspace.popbuild("run", "-a", "--json", env=ENV))
        assert json.loads(results[-1].out)[0]["outcome"] == "complete"
        assert results[-1].err.count("found: [OPENAI_API_KEY]") == 1, results[-1]
        results += looked_at(workspace)
    nothing_leaked(workspace, *results)


PRIVATE = "-----BEGIN SOME KEY-----\nRECOGNISABLE\nMIIEow\n-----END SOME KEY-----"
PRINTED = """
import os, sys
from popbuild.api import Popbuild
from popbuild.build.events import Events

class Mine(Events):
    def job_started(self, job, run, reasons):
        print("told of", job, os.environ["DEPLOY_KEY"])

before = sys.stdout, sys.stderr
print([each.outcome for each in Popbuild(".").build(events=Mine())])
assert (sys.stdout, sys.stderr) == before
"""


def test_what_a_program_prints_stays_on_its_stdout(
    workspace: Workspace, provider: Provider
) -> None:
    """Its own events', during a build too; what stages print goes to stderr, whole lines of each
    thread. No key is in either, not one of several lines, and its streams are its own again."""
    workspace.task(
        "research",
        stages="import os, threading\n\n"
        "def say(name):\n"
        "    for _ in range(50):\n"
        "        print(name, 'says', end=' ')\n"
        "        print(os.environ['DEPLOY_KEY'])\n\n"
        "def ingestion(context):\n"
        "    threads = [threading.Thread(target=say, args=(each,)) for each in 'abcd']\n"
        "    [each.start() for each in threads]\n"
        "    [each.join() for each in threads]\n",
    )
    result = workspace.run("python", "-c", PRINTED, env={"DEPLOY_KEY": PRIVATE})
    assert result.code == 0, result
    assert result.out.splitlines() == ["told of first [DEPLOY_KEY]", "['complete']"]
    said = [f"{name} says [DEPLOY_KEY]" for name in "abcd"]
    assert sorted(result.err.splitlines()) == sorted(said * 50)


@pytest.mark.parametrize("code", [0, 3])
def test_a_command_that_spills_the_key(code: int, workspace: Workspace, provider: Provider) -> None:
    """On its output and its errors, and with whatever exit code."""
    workspace.write(
        "pipeline-config/tasks/index.yaml",
        'research:\n  command: [sh, -c, \'cat >/dev/null; echo "$OPENAI_API_KEY";'
        f' echo "$SOME_PROXY" >&2; exit {code}\']\n' + "analysis: ./analysis\n",
    )
    workspace.task("research", task_yaml="config: {}\n")
    result = workspace.popbuild("run", "--debug", env=ENV)
    assert result.code == (2 if code else 0), result
    nothing_leaked(workspace, result)


def test_a_run_that_is_killed(workspace: Workspace, provider: Provider) -> None:
    """While it waits for an answer, and taken up again: temporary files have it no more."""
    provider.answer = echo(CANARY)
    provider.kill_at(2, lambda: running.pid)
    running = workspace.start("popbuild", "run", env=ENV)
    killed = running.wait()
    assert killed.code == -9
    nothing_leaked(workspace, killed)
    result = workspace.popbuild("run", env=ENV)
    assert result.code == 0
    assert len(provider.requests) == 3
    nothing_leaked(workspace, result)


# --- what is not sent ---

SPILLING = {
    "a template": {"prompt": f"Use {CANARY}."},
    "code": {
        "stages": "import os\n\n\ndef prompt_templating(context):\n"
        "    return 'Use ' + os.environ['OPENAI_API_KEY']\n"
    },
    "code, in base64": {
        "stages": "import base64, os\n\n\ndef prompt_templating(context):\n"
        "    key = base64.b64encode(b'me:' + os.environ['OPENAI_API_KEY'].encode())\n"
        "    return 'Use ' + key.decode()\n"
    },
    "a setting": {
        "stages": "import os\n\n\ndef parsing(context):\n"
        "    return context.llm('x', stop=os.environ['OPENAI_API_KEY']).text\n"
    },
}


@pytest.mark.parametrize("kind", SPILLING)
def test_a_prompt_with_a_key_is_not_sent(
    kind: str, workspace: Workspace, provider: Provider
) -> None:
    """A model's provider need not know it, and the store keeps what was sent."""
    workspace.task("research", **SPILLING[kind])
    result = workspace.popbuild("run", env=ENV)
    assert result.code == 2
    assert "a prompt holds a key, so it is not sent" in result.err
    assert "OPENAI_API_KEY" in result.err
    assert len(provider.requests) == (kind == "a setting")
    files = [path for path in (workspace.root / "pipeline-data").rglob("*") if path.is_file()]
    files += [path for path in (workspace.root / ".popbuild/store").rglob("*") if path.is_file()]
    assert [path for path in files if found_in(path.read_bytes())] == []


def test_a_short_password_is_a_word_like_any_other(
    workspace: Workspace, provider: Provider
) -> None:
    """`DB_PASSWORD=batteries` in an environment does not stop prompts on batteries."""
    assert workspace.popbuild("run", env={"DB_PASSWORD": "batteries"}).code == 0
    assert "grid batteries" in provider.requests[0].said("user")


# --- .env ---


def test_only_the_roots_own_env_is_read(workspace: Workspace, provider: Provider) -> None:
    """Never one of a job, of the configuration, of the working directory or of the home."""
    trap = "OPENAI_API_KEY=from-a-trap\nOPENAI_BASE_URL=http://127.0.0.1:1\n"
    places = ["seeds", "pipeline-config", "pipeline-config/tasks/research", "below", "../home"]
    places += ["pipeline-data", "pipeline-data/current", "pipeline-data/complete/first"]
    for place in places:
        workspace.write(f"{place}/.env", trap)
    workspace.write(".env", "OPENAI_API_KEY=the-roots-own-key\n")
    for folder in ("pipeline-data", "pipeline-data/current", "pipeline-data/complete"):
        (workspace.root / folder).chmod(0o700)
    for cwd in ("below", "pipeline-config/tasks/research", "pipeline-data/complete/first"):
        workspace.seed("first", {"topic": cwd, "tone": "plain"})
        result = workspace.popbuild("run", cwd=cwd, env={"OPENAI_API_KEY": ""})
        assert result.code == 0, result
        sent = {each.headers["authorization"] for each in provider.requests}
        assert sent == {"Bearer the-roots-own-key"}


# --- names ---


NAMED = {
    "a variable's value": "Canary-0123456789-def",
    "an OpenAI key": "sk-proj-aB3dE5gH7jK9mN1pQ3",
    "a GitHub key": "ghp_" + "a1B2" * 9,
}


@pytest.mark.parametrize("kind", NAMED)
def test_no_job_is_named_for_a_key(kind: str, workspace: Workspace, provider: Provider) -> None:
    """In a seed's name: a bad seed. In an ID: refused. By every way in, before it stands anywhere
    but in the seed, and not shown. A job without one is built all the same."""
    key = NAMED[kind]
    env = {"MY_API_KEY": NAMED["a variable's value"]}
    workspace.seed("named", {"topic": "x"}, name=f"On {key}.")
    given = workspace.write("../given.json", {"name": f"On {key}.", "data": {"topic": "x"}})
    good = workspace.write("../good.json", {"name": "On rain", "data": {"topic": "x"}})
    results = [
        workspace.popbuild("submit", str(given), env=env),
        workspace.popbuild("submit", str(good), "--id", key, env=env),
        workspace.popbuild("run", "named", env=env),
        workspace.popbuild("validate", env=env),
    ]
    assert [each.code for each in results] == [3, 3, 1, 1], results
    (workspace.root / "seeds/named.json").unlink()
    shutil.rmtree(workspace.job("named", "rejected"))
    workspace.seed(key, {"topic": "x"}, name="On rain")
    results.append(workspace.popbuild("run", key, env=env))
    assert results[-1].code == 3
    (workspace.root / f"seeds/{key}.json").rename(
        workspace.root / f"pipeline-data/pending/{key}-seed.json"
    )
    results.append(workspace.popbuild("watch", "--once", "--workers", "1", env=env))
    results.append(workspace.popbuild("run", "-c", env=env))
    results.append(workspace.popbuild("list", env=env))
    assert workspace.states("first") == ["complete"]
    assert len(provider.requests) == 2
    assert [each for each in results if key in each.out + each.err] == []
    for path in (workspace.root / "pipeline-data", workspace.root / ".popbuild"):
        for file in path.rglob("*"):
            assert key not in file.name or file.parent.name == "pending", file
            assert not file.is_file() or key.encode() not in file.read_bytes(), file


@pytest.mark.parametrize("name", ["sk-market-analysis-2024", "rk-grid", "on-sk-learn-pipelines"])
def test_a_name_may_begin_as_a_key_does(
    name: str, workspace: Workspace, provider: Provider
) -> None:
    """Country codes and initials; texts may mask them."""
    workspace.seed(name, {"topic": "x"}, name=f"{name} and more")
    assert workspace.popbuild("run", name).code == 0
    assert workspace.popbuild("run", name).code == 0
    assert len(provider.requests) == 2


# --- what looks like a key ---

SHAPES = [
    "sk-abcdefghijklmnop",
    "AKIAABCDEFGHIJKLMNOP",
    "AIza" + "a1_-" * 8 + "abc",
    "ghp_" + "a1B2" * 9,
    "github_pat_" + "a1B2_" * 9,
    "glpat-" + "a1B2-" * 4,
    "xoxb-1234567890-abcdef",
    "hf_" + "aB1" * 11,
    "gsk_" + "aB1c" * 11,
    "npm_" + "a1B2" * 9,
    "AGE-SECRET-KEY-1" + "QPZRY" * 11,
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmN",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nIBAAKC\n-----END RSA PRIVATE KEY-----",
]
NO_KEYS = [
    "sk-learn",
    "a task-by-task list",
    "http://127.0.0.1:8123/v1",
    "mail me@example.org",
    "sha256:" + "0" * 64,
    "pl-2025-10-02T06-37-29-980Z-0d57ec",
    "-----BEGIN CERTIFICATE-----\nMIIEow\n-----END CERTIFICATE-----",
    "eyJ is how base64 of an object begins",
]


def test_what_looks_like_a_key() -> None:
    """Of the kinds that providers give out, amid other text; what merely begins so is left."""
    for key in SHAPES:
        assert redact(f"found {key}, no?", {}) == "found [key], no?", key
    for text in NO_KEYS:
        assert redact(text, {}) == text
    assert redact("at postgres://me:secret@db/x", {}) == "at postgres://[key]@db/x"


def test_show_masks_what_looks_like_a_key(workspace: Workspace, provider: Provider) -> None:
    """A seed with real keys: shown without them, as text and as JSON; its logs too."""
    keys = [each for each in SHAPES if "\n" not in each]
    workspace.seed("first", {"topic": " ".join(keys), "tone": "plain"})
    for _ in range(2):
        result = workspace.popbuild("run")
        assert result.code == 0
    assert len(provider.requests) == 2
    for each in [each for each in SHOWN if each.split()[0] in ("show", "prompt", "explain")]:
        shown = workspace.popbuild(*each.split())
        assert [key for key in keys if key in shown.out + shown.err] == [], each
    assert "[key] [key]" in workspace.popbuild("prompt", "first", "research").out
    edited = workspace.job("first") / "files/artifacts/research-output.json"
    edited.write_text(json.dumps({"content": f"by hand: {SHAPES[0]}"}))
    shown = workspace.popbuild("show", "first", "research-output.json")
    assert json.loads(shown.out) == {"content": "by hand: [key]"}
    logs = [path.read_text() for path in (workspace.job("first") / "files/logs").iterdir()]
    assert logs
    assert [key for key in keys if any(key in log for log in logs)] == []


def test_show_leaves_everything_else_as_it_is(workspace: Workspace, provider: Provider) -> None:
    """Bytes that are no text come out as they are."""
    workspace.task(
        "research",
        stages="def ingestion(context):\n"
        "    context.files.write_artifact('a.bin', bytes(range(256)))\n",
    )
    code = (
        "import subprocess, sys\n"
        "out = subprocess.run(['popbuild', 'show', 'first', 'a.bin'], stdout=-1, check=True)\n"
        "sys.exit(0 if out.stdout == bytes(range(256)) else repr(out.stdout))\n"
    )
    assert workspace.popbuild("run").code == 0
    result = workspace.run("python", "-c", code, real=True)
    assert result.code == 0, result


def test_a_secret_is_known_in_every_form() -> None:
    """Longer texts around it change base64, and nothing else."""
    for before in ("", "a", "ab", "abc"):
        encoded = base64.b64encode(f"{before}{CANARY} and more".encode()).decode()
        assert found_in(without_secrets(encoded, ENV).encode()) == []
        assert secret_in(f"x {encoded}", ENV) == "OPENAI_API_KEY"
    assert secret_in("nothing here", ENV) is None
    assert without_secrets("12345678", {"A_KEY": ""}) == "12345678"
    assert redact("/usr/bin", dict(os.environ) | {"SSH_KEY_PATH": "/usr/bin"}) == "/usr/bin"


def test_keys_follow_nobody_elsewhere(workspace: Workspace, provider: Provider) -> None:
    """A provider that redirects to another address: the key is not sent there."""
    with Provider() as other:
        target = f"{other.base_url}/chat/completions"
        provider.answer = lambda _: Reply(status=307, headers={"location": target}, text="go")
        workspace.popbuild("run", env=ENV)
        assert [each.headers.get("authorization") for each in other.requests] == [None] * 2


OPEN = """
import os, sys
from popbuild.cli.main import entry
os.umask(0)
sys.argv = ["popbuild", "run"]
sys.exit(entry())
"""


def test_what_a_run_makes_is_its_owners_alone(workspace: Workspace) -> None:
    """Whatever the umask says: no other user of the machine can read or enter it."""
    result = workspace.run("python", "-c", OPEN)
    assert result.code == 0, result
    for top in ("pipeline-data", ".popbuild"):
        for path in [workspace.root / top, *(workspace.root / top).rglob("*")]:
            assert path.stat().st_mode & 0o077 == 0, path


ARCHIVES = ("archive", "backup")  # which replace no file


@pytest.mark.parametrize(
    "words",
    [
        ("report", "-o"),
        ("graph", "first", "-o"),
        ("summary", "-o"),
        ("export", "first"),
        ("archive", "first", "-o"),
        ("backup", "-o"),
    ],
    ids=lambda words: words[0],
)
def test_what_a_command_writes_is_its_owners_alone(
    workspace: Workspace, tmp_path: Path, words: tuple[str, ...]
) -> None:
    """Wherever it is put, and in the place of what was open to all; POPBUILD_FILE_MODE opens it."""
    assert workspace.popbuild("run", "first").code == 0
    for mode in (0o600, 0o640):
        target = tmp_path / f"{mode:o}.tar.zst" if words[0] in ARCHIVES else tmp_path / f"{mode:o}"
        if words[0] not in (*ARCHIVES, "summary"):
            target.touch()
            target.chmod(0o666)
        shared = {"POPBUILD_FILE_MODE": f"{mode:o}"}
        result = workspace.popbuild(*words, str(target), env=shared)
        assert result.code == 0, result
        assert target.stat().st_mode & 0o777 == mode
    assert list(tmp_path.glob(".*")) == []


@given(st.from_regex(_KEY_SHAPED))
@settings(max_examples=60)
def test_no_key_is_without_a_sign(text: str) -> None:
    """What is looked for at first stands in everything that the pattern would take out."""
    assert redact(text, {}) == _KEY_SHAPED.sub("[key]", text)


@pytest.mark.parametrize("name", ["ACMEKEY", "acmetoken", "DB_PASSWORD_PROD", "xApiKeyOfAcme"])
def test_either_rule_finds_a_secret_variable(name: str) -> None:
    """The end of a name tells, and so does a word in it."""
    assert redact("the 0123456789abcdef", {name: "0123456789abcdef"}) == f"the [{name}]"


@pytest.mark.parametrize("name", ["HOME", "MONKEYS_OF_ACME", "CACHE_KEY_PATH", "TOKENIZER"])
def test_what_is_no_secret_variable(name: str) -> None:
    assert redact("the 0123456789abcdef", {name: "0123456789abcdef"}) == "the 0123456789abcdef"
