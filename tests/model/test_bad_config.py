"""Bad command lines and bad configuration: named with file, place and way out; nothing built."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from provider import Provider
from refusals import KEY, RUNS, refused
from workspace import Workspace

from popbuild.base.redact import names_secret

Arrange = Callable[[Workspace], Any]
CONFIG = "pipeline-config"


def nothing_built(workspace: Workspace, provider: Provider) -> None:
    assert provider.requests == []
    assert list(workspace.root.glob("pipeline-data/*/*")) == []


# --- the command line ---

USAGE: dict[str, tuple[list[str], list[str]]] = {
    "job= empty": (["job="], ["job= names no job", "known  first", "hint: job=<id>"]),
    "job= with a comma": (["job=first,"], ["job= names no job"]),
    "job= unknown": (["job=nothing"], ["no such job", "known  first", "seeds/<id>.json"]),
    "job= misspelt": (["job=frist"], ["no such job", "frist", "did you mean  first"]),
    "one of two unknown": (["job=first,frist"], ["no such job", "did you mean  first"]),
    "a glob that fits none": (["job=x*"], ["no such job", "x*"]),
    "a task misspelt": (["first:reserch"], ["no such task", "did you mean  research"]),
    "an empty task": (["first:"], ["no such task", "known  analysis, research"]),
    "another variable": (["jbo=first"], ["no such variable", "did you mean  job", "job, root"]),
    "a root that is none": (["root=seeds"], ["not a popbuild root", "pipeline-config/"]),
    "-n 0": (["-n", "0"], ["-n must be a whole number, at least 1", "found  0", "in flight"]),
    "-n -1": (["-n", "-1"], ["-n must be a whole number, at least 1", "found  -1"]),
    "-n x": (["-n", "x"], ["-n must be a whole number, at least 1", "found  x"]),
    "-n 1.5": (["-n", "1.5"], ["-n must be a whole number, at least 1", "found  1.5"]),
    "-n of 5,000 digits": (["-n", "9" * 5000], ["-n must be a whole number, at least 1"]),
}


@pytest.mark.parametrize("command", RUNS)
@pytest.mark.parametrize("kind", USAGE)
def test_a_wrong_command_builds_nothing(
    kind: str, command: str, workspace: Workspace, provider: Provider
) -> None:
    """What was found, what is known, the nearest name; exit code 3."""
    arguments, phrases = USAGE[kind]
    refused(workspace, (*RUNS[command], *arguments), 3, phrases)
    nothing_built(workspace, provider)


@pytest.mark.parametrize("argv", [("doit", "list", "jbo=x"), ("doit", "jbo=x")])
def test_an_unknown_variable_is_refused_everywhere(
    argv: tuple[str, ...], workspace: Workspace, provider: Provider
) -> None:
    """Not only by run; also below the root, where there is no dodo.py."""
    for cwd in (".", "seeds"):
        refused(workspace, argv, 3, ["no such variable", "did you mean  job"], cwd=cwd)
    (workspace.root / "dodo.py").unlink()
    (workspace.root / "seeds/dodo.py").unlink(missing_ok=True)
    result = workspace.run("python", "-c", f"import os; os.execvp('doit', {argv!r})")
    assert result.code == 3
    assert "no such variable" in result.err
    nothing_built(workspace, provider)


@pytest.mark.parametrize("command", RUNS)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("POPBUILD_TRIES", "many"),
        ("POPBUILD_TRIES", "0"),
        ("POPBUILD_BACKOFF_S", "-1"),
        ("POPBUILD_TIMEOUT_S", "nan"),
        ("POPBUILD_FILE_MODE", "999"),
    ],
)
def test_a_variable_of_ours_with_a_wrong_value(
    name: str, value: str, command: str, workspace: Workspace, provider: Provider
) -> None:
    """The variable, what was found, what is allowed; nothing is called."""
    refused(workspace, RUNS[command], 3, [name, value, "allowed"], env={name: value})
    assert provider.requests == []


# --- files ---


def write(path: str, content: object) -> Arrange:
    return lambda workspace: workspace.write(f"{CONFIG}/{path}", content)


def referenced(schema: object) -> Arrange:
    """A schema that the first task's schema refers to."""

    def arrange(workspace: Workspace) -> None:
        workspace.write(f"{CONFIG}/{SCHEMA}", {"$ref": "../../shared/item.json"})
        workspace.write(f"{CONFIG}/shared/item.json", schema)

    return arrange


def task_yaml(text: str, task: str = "research") -> Arrange:
    return write(f"tasks/{task}/task.yaml", text)


def unlink(path: str) -> Arrange:
    return lambda workspace: (workspace.root / CONFIG / path).unlink()


def both(*parts: Arrange) -> Arrange:
    return lambda workspace: [part(workspace) for part in parts]


def link(path: str) -> Arrange:
    def make(workspace: Workspace) -> None:
        target = workspace.root / CONFIG / path
        target.rename(workspace.root / "elsewhere")
        target.symlink_to(workspace.root / "elsewhere")

    return make


def folder(path: str) -> Arrange:
    return lambda workspace: (workspace.root / CONFIG / path).mkdir()


def registry(**entries: object) -> Arrange:
    return write("tasks/index.yaml", json.dumps({"analysis": "./analysis", **entries}))


def pipeline(**more: Any) -> Arrange:
    return lambda workspace: workspace.pipeline(["research", "analysis"], **more)


# 306 bytes that are a million nodes, and a few more: a billion.
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
TASK_YAML = f"{CONFIG}/tasks/research/task.yaml"
SCHEMA = "tasks/research/output.schema.json"

FILES: dict[str, tuple[Arrange, list[str]]] = {
    "two pipelines": (
        write("pipeline.yaml", "name: x\ntasks: [research]\n"),
        ["two files say the same thing", "pipeline.json", "pipeline.yaml", "keep one of them"],
    ),
    "no pipeline": (unlink("pipeline.json"), ["there is no pipeline", "pipeline.json"]),
    "a folder for a pipeline": (
        both(unlink("pipeline.json"), folder("pipeline.json")),
        ["there is no pipeline", "pipeline.json"],
    ),
    "index.js": (
        both(unlink("tasks/index.yaml"), write("tasks/index.js", "export default {}")),
        ["a task is not in the registry", "tasks/index.js", "research"],
    ),
    "a registry that is a program": (
        both(unlink("tasks/index.yaml"), write("tasks/index.js", "export default load();")),
        ["JavaScript that is not a plain map", "tasks/index.js", "`research: ./research`"],
    ),
    "no registry": (unlink("tasks/index.yaml"), ["there is no task registry", "index.yaml"]),
    "a module in the registry": (
        registry(research="./research/index.js"),
        ["the registry names a folder, not a module", "index.js", "stages.py"],
    ),
    "a folder outside": (
        registry(research="../../../../etc"),
        ["a task's folder lies outside pipeline-config/", "index.yaml", "research"],
    ),
    "an absolute folder": (registry(research="/etc"), ["outside pipeline-config/", "/etc"]),
    "a folder misspelt": (
        registry(research="./reserch"),
        ["a task's folder is empty or missing", "./reserch", "research"],
    ),
    "a task not in the registry": (
        registry(reserch="./research"),
        ["a task is not in the registry", "pipeline.json", "index.yaml", "reserch", "add it"],
    ),
    "a cycle": (
        both(task_yaml("needs: [analysis]\n"), task_yaml("needs: [research]\n", "analysis")),
        ["tasks need each other in a circle", "research -> analysis -> research"],
    ),
    "a task that needs itself": (
        task_yaml("needs: [research]\n"),
        ["tasks need each other in a circle", "research -> research"],
    ),
    "an unknown need": (
        task_yaml("needs: [reserch]\n", "analysis"),
        ["a task needs one that the pipeline does not have", "analysis/task.yaml", "research"],
    ),
    "an unknown key": (
        task_yaml("# a comment\n\nneds: []\n"),
        [TASK_YAML, "line 3", "unknown key 'neds', did you mean 'needs'?"],
    ),
    "wrong values": (
        task_yaml("config:\n  temperature: hot\n  maxTokens: 0\ngate:\n  refinements: 3\n"),
        [
            "line 2, /config/temperature: must be a number, found 'hot'",
            "line 3, /config/maxTokens: 0 is outside the limit: at least 1",
            "line 5, /gate/refinements: 3 is outside the limit: at most 2",
        ],
    ),
    "aliases a billion deep": (task_yaml(BOMB), [TASK_YAML, "line 2, column 8", "the alias *a"]),
    "a pipeline of aliases": (
        both(unlink("pipeline.json"), write("pipeline.yaml", BOMB)),
        ["pipeline-config/pipeline.yaml", "the alias *a", "write its value out"],
    ),
    "a registry of aliases": (write("tasks/index.yaml", BOMB), ["index.yaml", "the alias *a"]),
    "an alias of itself": (task_yaml("config: &a\n  x: *a\n"), ["line 2", "the alias *a"]),
    "YAML 100,000 deep": (
        task_yaml("x: " + "[" * 100_000),
        [TASK_YAML, "line 1, column 203", "more than 200 levels"],
    ),
    "YAML objects 100,000 deep": (task_yaml("- " * 100_000), ["more than 200 levels"]),
    "a YAML tag": (
        task_yaml("x: !!python/object/apply:os.system [touch owned]\n"),
        ["line 1, column 4", "the unknown tag", "python/object"],
    ),
    "a duplicate key": (task_yaml("timeout: 1\ntimeout: 2\n"), ["line 2", "duplicate key"]),
    "a key that is not text": (task_yaml("1: 2\n"), ["a key must be text, found 1"]),
    "NaN in YAML": (task_yaml("timeout: .nan\n"), [TASK_YAML, "YAML says what JSON cannot"]),
    "a tab": (task_yaml("config:\n\tx: 1\n"), ["line 2, column 1", "cannot start any token"]),
    "not UTF-8": (write("tasks/research/task.yaml", b"a: \xff\n"), ["not UTF-8", "byte 3"]),
    "a list for settings": (task_yaml("- 1\n"), ["must be an object, found [1]"]),
    "an artifact against the rule": (
        task_yaml("artifact: a b.json\n"),
        ["'a b.json' is not a valid name: letters, digits, -, _ and ."],
    ),
    "an artifact outside": (task_yaml("artifact: ../x\n"), ["'../x' is not a valid name"]),
    "an artifact that is a device": (
        task_yaml("artifact: con.json\n"),
        ["not a valid file name for an artifact", "device name of Windows"],
    ),
    "an artifact with a newline": (
        task_yaml('artifact: "x.json\\n"\n'),
        ["'x.json\\n' is not a valid name"],
    ),
    "artifacts that differ by case": (
        task_yaml("artifact: Analysis-output.JSON\n"),
        ["two tasks make the same artifact", "research, analysis"],
    ),
    "tasks that differ by case": (
        lambda workspace: workspace.pipeline(["research", "Research"]),
        ["two tasks have the same name", "research, Research", "upper and lower case"],
    ),
    "a task that is a device": (
        lambda workspace: workspace.pipeline(["research", "nul"]),
        ["not a valid name for a task", "'nul'", "device name of Windows"],
    ),
    "a comma too many": (
        write("pipeline.json", '{"name": "x",\n "tasks": ["research",]}'),
        ["not valid JSON", "pipeline.json", "line 2, column 23"],
    ),
    "a duplicate key in JSON": (
        write("pipeline.json", '{"name": "x",\n "name": "y", "tasks": ["research"]}'),
        ["not valid JSON", "line 2, column 2", "duplicate key 'name'"],
    ),
    "unknown keys of a pipeline": (
        write("pipeline.json", {"nme": "x", "taks": ["research"]}),
        ["missing 'name', 'tasks'", "did you mean 'name'?", "did you mean 'tasks'?"],
    ),
    "no task": (write("pipeline.json", {"name": "x", "tasks": []}), ["/tasks: too few items: 0"]),
    "taskConfig of another task": (
        pipeline(taskConfig={"reserch": {}}),
        ["taskConfig names a task that the pipeline does not have", "/taskConfig/reserch"],
    ),
    "a further file that is not there": (
        write("tasks/research/task.yaml", "files: [shred/x.txt]\n"),
        ["a task names a file that is not there", "shred/x.txt", "tasks/research/task.yaml"],
    ),
    "a further file outside": (
        write("tasks/research/task.yaml", "files: [../seeds/first.json]\n"),
        ["a task names a file that is not there", "a path below pipeline-config/"],
    ),
    "no model": (pipeline(model=None), ["a task has no model", "defaults", "POPBUILD_MODEL"]),
    "a prompt misspelt": (
        lambda workspace: (workspace.root / CONFIG / "tasks/research/prompt.md").rename(
            workspace.root / CONFIG / "tasks/research/promt.md"
        ),
        ["a task has neither a prompt nor stages", "prompt.md", "promt.md"],
    ),
    "a link for a pipeline": (
        link("pipeline.json"),
        ["not a regular file", "pipeline-config/pipeline.json", "a symbolic link"],
    ),
    "a link for a prompt": (link("tasks/research/prompt.md"), ["prompt.md", "a symbolic link"]),
    "a link for a task": (
        link("tasks/research"),
        ["pipeline-config/tasks/research", "a symbolic link", "follows no links"],
    ),
    "a syntax error in a template": (
        write("tasks/analysis/prompt.md", "One.\n{% if %}\n"),
        ["a template has a syntax error", "tasks/analysis/prompt.md, line 2"],
    ),
    "a name with a dash": (
        write("tasks/analysis/prompt.md", "One.\n{{ artifacts.market-analysis }}"),
        ["analysis/prompt.md, line 2", "written in brackets: artifacts['market-analysis']"],
    ),
    "a filter that is none": (
        write("tasks/analysis/prompt.md", "{{ seed|uper }}"),
        [
            "a template has a syntax error",
            "analysis/prompt.md, line 1",
            "there is no filter 'uper'",
        ],
    ),
    "a filter that is another each time": (
        write("tasks/analysis/prompt.md", "One.\n{{ seed.data.list|random }}"),
        ["analysis/prompt.md, line 2", "the filter 'random' is left out", "the same text each"],
    ),
    "a template that is not UTF-8": (
        write("tasks/analysis/prompt.md", b"\xff"),
        ["file is not UTF-8", "tasks/analysis/prompt.md", "byte 0"],
    ),
    "a syntax error in code": (
        write("tasks/analysis/stages.py", "def parsing(context:\n"),
        ["Python cannot read this", "tasks/analysis/stages.py", "line 1", "never closed"],
    ),
    "a NUL in code": (write("tasks/analysis/stages.py", "x = 1\0"), ["tasks/analysis/stages.py"]),
    "a schema that is not JSON": (write(SCHEMA, "{"), ["not valid JSON", SCHEMA, "line 1"]),
    "a schema that is an array": (write(SCHEMA, [1]), ["not a valid JSON Schema", SCHEMA]),
    "an unknown type in a schema": (
        write(SCHEMA, {"properties": {"a": {"type": "strnig"}}}),
        ["not a valid JSON Schema", "#/properties/a/type", "strnig", "string"],
    ),
    "a pattern that is none": (
        write(SCHEMA, {"properties": {"a": {"pattern": "["}}}),
        ["#/properties/a/pattern", "'[', which is not a valid regex"],
    ),
    "a reference to nothing": (
        write(SCHEMA, {"$ref": "#/$defs/x"}),
        ["a schema refers to something that is not here", "#/$defs/x"],
    ),
    "a reference to a file that is not there": (write(SCHEMA, {"$ref": "x.json"}), ["x.json"]),
    "an unknown type in a referenced schema": (
        referenced({"items": {"type": "strnig"}}),
        ["not a valid JSON Schema", "shared/item.json", "#/items/type", "strnig", "string"],
    ),
    "a reference to nothing in a referenced schema": (
        referenced({"$ref": "#/$defs/x"}),
        ["a schema refers to something that is not here", "shared/item.json", "#/$defs/x"],
    ),
    "a reference to a file that is not there in a referenced schema": (
        referenced({"$ref": "x.json"}),
        ["a schema refers to something that is not here", "shared/item.json", "x.json"],
    ),
}


@pytest.mark.parametrize("command", RUNS)
@pytest.mark.parametrize("kind", FILES)
def test_a_wrong_file_builds_nothing(
    kind: str, command: str, workspace: Workspace, provider: Provider
) -> None:
    """File, line or pointer, what was found, what is allowed; exit code 3; no task is paid for,
    not even one that stands before the wrong one."""
    arrange, phrases = FILES[kind]
    arrange(workspace)
    refused(workspace, RUNS[command], 3, phrases)
    nothing_built(workspace, provider)


@pytest.mark.parametrize("kind", FILES)
def test_validate_finds_the_wrong_file(kind: str, workspace: Workspace, provider: Provider) -> None:
    """The same error as a line that begins with the file; exit code 1."""
    arrange, phrases = FILES[kind]
    arrange(workspace)
    said = refused(workspace, ("popbuild", "validate"), 1, phrases).out
    lines = said.splitlines()[:-1]
    assert lines
    assert all(line.startswith("pipeline-config/") for line in lines), said
    nothing_built(workspace, provider)


def test_validate_prints_every_problem(workspace: Workspace) -> None:
    """Of each file, each task and each seed, not the first; a line for each, with its file."""
    workspace.task("research", task_yaml="neds: []\ntimeout: -1\n")
    workspace.task("analysis", prompt="{% if %}", stages="def x(:\n", schema={"type": "text"})
    workspace.task("third", prompt="Third.\n", task_yaml="config:\n  temperature: hot\n")
    workspace.task("fourth", prompt="Fourth.\n", task_yaml="- 1\n")
    workspace.pipeline(["research", "analysis", "third", "fourth"])
    workspace.write(f"{CONFIG}/pipelines/other/pipeline.json", "{")
    workspace.write("seeds/one.json", '{"name": 1, "data": 2}')
    workspace.write("seeds/two.json", "{")
    workspace.write("seeds/a b.json", {"name": "x", "data": {}})
    said = refused(workspace, ("popbuild", "validate"), 1, []).out
    for start in (
        "pipeline-config/tasks/research/task.yaml: line 1, /: unknown key 'neds'",
        "pipeline-config/tasks/research/task.yaml: line 2, /timeout: -1 is outside the limit",
        "pipeline-config/tasks/analysis/prompt.md, line 1: a template has a syntax error",
        "pipeline-config/tasks/analysis/stages.py: Python cannot read this at line 1",
        "pipeline-config/tasks/analysis/output.schema.json: not a valid JSON Schema at #/type",
        "pipeline-config/tasks/third/task.yaml: not a valid task.yaml at line 2, /config/temp",
        "pipeline-config/tasks/fourth/task.yaml: not a valid task.yaml",
        "pipeline-config/pipelines/other/pipeline.json: not valid JSON",
        "seeds/one.json: /name: must be a string",
        "seeds/one.json: /data: must be an object",
        "seeds/two.json: not valid JSON at line 1",
        "seeds/a b.json: not a valid name for a job",
    ):
        assert [line for line in said.splitlines() if line.startswith(start)], start + "\n" + said
    assert said.splitlines()[-1].endswith("12 problems")


def test_every_wrong_need_is_told(workspace: Workspace) -> None:
    """Two needs that are not there, and two artifacts of one name: all in one validate."""
    workspace.task("analysis", task_yaml="needs: [reserch, nothing]\nartifact: x.json\n")
    workspace.task("research", task_yaml="artifact: X.json\n")
    said = refused(workspace, ("popbuild", "validate"), 1, ["reserch", "nothing", "same artifact"])
    assert said.out.splitlines()[-1].endswith("3 problems")


# --- the network, keys, .env ---

REMOTE: list[dict[str, Any]] = [
    {"$ref": "http://127.0.0.1:{port}/x.json"},
    {"$dynamicRef": "http://127.0.0.1:{port}/x.json"},
    {"properties": {"a": {"items": {"$ref": "http://127.0.0.1:{port}/x.json#/a"}}}},
    {"$id": "http://127.0.0.1:{port}/a.json", "$ref": "x.json"},
]


@pytest.mark.parametrize("command", RUNS)
@pytest.mark.parametrize("number", range(len(REMOTE)))
def test_a_schema_is_never_fetched(
    number: int, command: str, workspace: Workspace, provider: Provider
) -> None:
    """A reference to the network is an error that says so; the server named hears nothing."""
    text = json.dumps(REMOTE[number]).replace("{port}", str(provider.port))
    workspace.write(f"{CONFIG}/{SCHEMA}", text)
    phrases = ["a schema refers to something that is not here", "x.json", "from the network"]
    refused(workspace, RUNS[command], 3, phrases)
    refused(workspace, ("popbuild", "validate"), 1, phrases)
    nothing_built(workspace, provider)


def test_a_foreign_metaschema_is_not_fetched(workspace: Workspace, provider: Provider) -> None:
    """`$schema` is a name: nothing is asked for it, and one that is not known is refused by it."""
    address = f"http://127.0.0.1:{provider.port}/meta"
    workspace.task("research", schema={"$schema": address, "type": "object"})
    workspace.task("analysis", prompt="{{ artifacts.research.a }}")
    for command, code in (("run", 3), ("validate", 1)):
        result = workspace.popbuild(command)
        assert result.code == code
        assert address in result.out + result.err
        assert "draft-07" in result.out + result.err
    assert provider.requests == []


@pytest.mark.parametrize("command", RUNS)
@pytest.mark.parametrize(
    ("where", "settings"),
    [
        ("pipeline.json", {"api_key": KEY}),
        ("pipeline.json", {"extra_headers": {"authorization": f"Bearer {KEY}"}}),
        ("task.yaml", {"api_key": KEY}),
        ("task.yaml", {"extra_body": {"token": "sk-another-key-0123456789"}}),
    ],
)
def test_a_key_in_the_configuration_is_refused(
    where: str,
    settings: dict[str, Any],
    command: str,
    workspace: Workspace,
    provider: Provider,
) -> None:
    """It would go into letters and the store: named by its line, never repeated."""
    if where == "pipeline.json":
        path = workspace.pipeline(["research", "analysis"], {"research": settings})
    else:
        path = workspace.task("research", task_yaml={"config": settings}) / "task.yaml"
    for argv, code in ((RUNS[command], 3), (("popbuild", "validate"), 1)):
        result = workspace.run(*argv, env={"OPENAI_API_KEY": KEY})
        assert result.code == code
        said = result.out + result.err
        for phrase in ("a key stands in the configuration", where, "line", ".env"):
            assert phrase in said
        assert "sk-" not in said
    holders = [p for p in workspace.root.rglob("*") if p.is_file() and b"sk-" in p.read_bytes()]
    assert holders == [path]
    nothing_built(workspace, provider)


SECRET_PLACES: dict[str, Any] = {
    "api_key": "x",
    "apiKey": "x",
    "aws_session_token": "x",
    "vertex_credentials": {"type": "service_account"},
    "extra_headers/x-api-key": {"x-api-key": "x"},
    "extra_body/routes/0/Authorization": {"routes": [{"Authorization": "x"}]},
}


@pytest.mark.parametrize("place", SECRET_PLACES)
def test_a_setting_for_keys_is_refused(
    place: str, workspace: Workspace, provider: Provider
) -> None:
    """By its name, at any depth, whatever stands in it: the pointer, where keys belong; and it
    stands in no file of ours."""
    settings = {place.split("/", maxsplit=1)[0]: SECRET_PLACES[place]}
    phrases = ["not allowed here: a secret", "environment", ".env"]
    workspace.pipeline(["research", "analysis"], {"research": settings})
    refused(workspace, RUNS["popbuild"], 3, [f"/taskConfig/research/{place}", *phrases])
    objects = [{"id": "research", "config": settings}]
    workspace.write("pipeline-config/pipeline.json", {"name": "p", "tasks": objects})
    refused(workspace, RUNS["popbuild"], 3, [f"/tasks/0/config/{place}", *phrases])
    workspace.pipeline(["research", "analysis"])
    workspace.task("research", task_yaml={"config": settings})
    refused(workspace, RUNS["doit"], 3, [f"/config/{place}", "task.yaml", *phrases])
    refused(workspace, ("popbuild", "validate"), 1, [f"/config/{place}", *phrases])
    name = place.rsplit("/", maxsplit=1)[-1].encode()
    ours = (path for path in (workspace.root / ".popbuild").rglob("*") if path.is_file())
    assert not [path for path in ours if name in path.read_bytes()]
    nothing_built(workspace, provider)


def test_settings_may_say_token_or_key(workspace: Workspace, provider: Provider) -> None:
    """Counts, prices and the fields of a document that is asked for are no secrets."""
    fields = {"token": {"type": "string"}, "api_key": {"type": "string"}}
    schema = {"name": "x", "schema": {"type": "object", "properties": fields}}
    settings = {
        "max_tokens": 50,
        "logit_bias": {"50256": -100},
        "prompt_cache_key": "a",
        "response_format": {"type": "json_schema", "json_schema": schema},
    }
    workspace.pipeline(["research"], {"research": settings})
    for _ in range(2):
        assert workspace.popbuild("run").code == 0
    (request,) = provider.requests
    assert request.body["max_tokens"] == 50
    assert request.body["response_format"]["json_schema"] == schema


SECRET_NAMES = """
    api_key apiKey APIKey apikey x-api-key X-Api-Key api_keys azure_api_key oci_key private_key
    private_key_id aws_access_key_id aws_secret_access_key aws_session_token awsSessionToken token
    aws_web_identity_token azure_ad_token access_token client_secret clientSecret langfuse_secret
    password azure_password passphrase vertex_credentials vertex_ai_credentials credential
    authorization Authorization Proxy-Authorization cookie bearer secret_key_2 signing_key_ref
"""
HARMLESS_NAMES = """
    max_tokens maxTokens MAX_TOKENS max_completion_tokens maxOutputTokens budget_tokens min_tokens
    logit_bias logprobs top_logprobs keywords keyword keyboard monkey tokenizer tokenize secretary
    prompt_cache_key preset_cache_key public_key bos_token eos_token stop_token_ids
    input_cost_per_token cache_read_input_token_cost_above_128k_tokens token_limit oci_key_file
    anthropic_identity_token_file token_url keep_alive author authority model seed stop
    skip_special_tokens reasoning_effort
"""


def test_which_names_say_secret() -> None:
    """By whole words; what counts tokens, prices them or names a file is no secret."""
    assert [name for name in SECRET_NAMES.split() if not names_secret(name)] == []
    assert [name for name in HARMLESS_NAMES.split() if names_secret(name)] == []


@pytest.mark.parametrize("command", RUNS)
def test_an_env_file_that_cannot_be_read(
    command: str, workspace: Workspace, provider: Provider
) -> None:
    """Named, with the byte."""
    workspace.write(".env", b"A=\xff\n")
    refused(workspace, RUNS[command], 3, ["file is not UTF-8", ".env", "byte 2"])
    nothing_built(workspace, provider)


def test_an_empty_key_is_none(workspace: Workspace, provider: Provider) -> None:
    """CI sets a missing secret to nothing: told as missing, at once; `.env` fills it."""
    for argv in RUNS.values():
        result = workspace.run(*argv, env={"OPENAI_API_KEY": ""})
        assert result.code == 2
        for phrase in ("key of the model's provider is missing", "OPENAI_API_KEY", ".env"):
            assert phrase in result.err, result.err
    assert provider.requests == []
    workspace.write(".env", f"OPENAI_API_KEY={KEY}\n")
    assert workspace.run("popbuild", "run", env={"OPENAI_API_KEY": ""}).code == 0
    assert provider.requests[0].headers["authorization"] == f"Bearer {KEY}"


# --- a folder's place taken ---


@pytest.mark.parametrize("command", RUNS)
@pytest.mark.parametrize("path", ["seeds", "pipeline-data", "pipeline-data/complete", ".popbuild"])
def test_a_file_in_a_folders_place(
    path: str, command: str, workspace: Workspace, provider: Provider
) -> None:
    """Named, not replaced; nothing is called."""
    place = workspace.root / path
    if place.is_dir():
        place.rename(workspace.root / "aside")
    place.parent.mkdir(exist_ok=True, mode=0o700)
    place.write_text("mine")
    place.chmod(0o600)
    place.parent.chmod(0o700)
    refused(workspace, RUNS[command], 3, ["the disk said no", "Not a directory", path])
    assert place.read_text() == "mine"
    assert provider.requests == []
