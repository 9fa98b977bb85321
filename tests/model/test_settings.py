"""Settings of a model: those that no call can have are refused before anything is read or bought;
`strict` and a response format by hand are what is sent, and what the letter says."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from provider import Provider
from refusals import refused
from workspace import Workspace

from popbuild.model.config.settings import refusals

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
TOOL = {"type": "function", "function": {"name": "look"}}

REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "tools": ({"tools": [TOOL]}, "/tools", "tools are not supported"),
    "no tools": ({"tools": []}, "/tools", "tools are not supported"),
    "a choice of tools": ({"tool_choice": "required"}, "/tool_choice", "tools are not supported"),
    "tools at once": ({"parallel_tool_calls": False}, "/parallel_tool_calls", "not supported yet"),
    "functions": ({"functions": [{"name": "look"}]}, "/functions", "tools are not supported"),
    "a function's call": ({"function_call": "auto"}, "/function_call", "tools are not supported"),
    "tools in the body": (
        {"extra_body": {"tools": [TOOL]}},
        "/extra_body/tools",
        "not supported yet",
    ),
    "a stream": ({"stream_options": {}}, "/stream_options", "popbuild decides this"),
    "a stream in the body": ({"extra_body": {"stream": True}}, "/extra_body/stream", "decides"),
    "messages in the body": ({"extra_body": {"messages": []}}, "/extra_body/messages", "decides"),
    "a model in the body": ({"extra_body": {"model": "x"}}, "/extra_body/model", "of its own"),
    "several answers": ({"n": 2}, "/n", "an answer is one"),
    "several candidates": ({"candidate_count": 3}, "/candidate_count", "an answer is one"),
    "an answer made up": ({"mock_response": "x"}, "/mock_response", "no provider would be asked"),
    "another model": (
        {"context_window_fallback_dict": {"a": "b"}},
        "/context_window_fallback_dict",
        "see `fallbacks`",
    ),
    "several models": ({"model_list": ["a"]}, "/model_list", "ask again by itself"),
    "retries": ({"retry_policy": {}}, "/retry_policy", "POPBUILD_TRIES"),
    "speech": ({"audio": {"voice": "x"}}, "/audio", "an answer is a text"),
    "pictures": ({"modalities": ["text", "image"]}, "/modalities", "an answer is a text"),
}
ALLOWED: tuple[dict[str, Any], ...] = (
    {"n": 1},
    {"n": None},
    {"candidate_count": 1},
    {"modalities": ["text"]},
    {"web_search_options": {"search_context_size": "low"}},
    {"extra_body": {"top_k": 5, "options": {"tools": 1}}},
    {"extra_body": "text"},
    {"logprobs": True, "store": False, "response_format": {"type": "json_object"}},
)


@pytest.mark.parametrize("kind", REFUSED)
def test_a_refused_setting_is_told_with_its_place_and_the_reason(kind: str) -> None:
    """Below the place that the settings have in their file."""
    settings, pointer, reason = REFUSED[kind]
    (problem,) = refusals({**settings, "temperature": 1}, "/config")
    assert problem.pointer == f"/config{pointer}"
    assert reason in problem.message


@pytest.mark.parametrize("settings", ALLOWED)
def test_what_asks_for_one_whole_text_stays_allowed(settings: dict[str, Any]) -> None:
    assert list(refusals(settings)) == []


def in_task_yaml(workspace: Workspace, settings: dict[str, Any]) -> str:
    workspace.task("research", task_yaml={"config": settings})
    return "pipeline-config/tasks/research/task.yaml: not a valid task.yaml at line 2, /config/"


def in_task_config(workspace: Workspace, settings: dict[str, Any]) -> str:
    workspace.pipeline(["research", "analysis"], {"analysis": settings})
    return "pipeline-config/pipeline.json: not a valid pipeline at /taskConfig/analysis/"


def in_an_object(workspace: Workspace, settings: dict[str, Any]) -> str:
    tasks = [{"id": "research"}, {"id": "analysis", "config": settings}]
    workspace.write("pipeline-config/pipeline.json", {"name": "x", "tasks": tasks})
    return "pipeline-config/pipeline.json: not a valid pipeline at /tasks/1/config/"


@pytest.mark.parametrize("arrange", [in_task_yaml, in_task_config, in_an_object])
@pytest.mark.parametrize("name", ["tools", "functions"])
def test_a_refused_setting_stops_the_pipeline_before_anything_is_bought(
    name: str, arrange: Any, workspace: Workspace, provider: Provider
) -> None:
    """In each place where settings stand; told with file, place and reason."""
    start = arrange(workspace, {name: [TOOL]})
    options = {"env": {"POPBUILD_MODEL": "openai/gpt-4o-mini"}}
    refused(workspace, ("popbuild", "run"), 3, [f"/{name}", "not supported yet"], **options)
    said = refused(workspace, ("popbuild", "validate"), 1, [], **options).out
    assert said.startswith(start + name), said
    assert provider.requests == []


def test_a_commands_settings_are_its_own_affair(workspace: Workspace, provider: Provider) -> None:
    """A command may call its settings as it likes: it gets them as they are."""
    command = ["python3", "-c", "import sys, json; print(json.load(sys.stdin)['config']['tools'])"]
    workspace.task("count", task_yaml={"needs": [], "config": {"tools": "[1]", "n": 3}})
    workspace.pipeline(["count"], model=None)
    registry = {"count": {"folder": "./count", "command": command}}
    workspace.write("pipeline-config/tasks/index.yaml", yaml.safe_dump(registry))
    for _ in range(2):
        assert workspace.popbuild("run").code == 0
    assert workspace.artifact("first", "count") == {"content": "[1]"}


BY_CODE = {
    "llm": "def inference(context):\n    return context.llm('Hello', tools=[])\n",
    "several": "def inference(context):\n    return context.llm('Hello', n=2)\n",
    "a format beside a schema": (
        "def inference(context):\n"
        "    form = {'type': 'json_object'}\n"
        "    return context.llm('Hello', schema={}, response_format=form)\n"
    ),
}


@pytest.mark.parametrize("kind", BY_CODE)
def test_code_is_refused_the_same_settings(
    kind: str, workspace: Workspace, provider: Provider
) -> None:
    """The task fails, and nothing is sent."""
    workspace.task("research", stages=BY_CODE[kind])
    refused(workspace, ("popbuild", "run"), 2, ["a call has a setting that it cannot have"])
    assert provider.requests == []


def test_refine_is_refused_the_same_settings(workspace: Workspace, provider: Provider) -> None:
    stages = (
        "def validate_quality(context):\n    return ['no']\n\n\n"
        "def refine(context):\n    return {'functions': []}\n"
    )
    workspace.task("research", stages=stages)
    refused(workspace, ("popbuild", "run"), 2, ["/functions", "not supported yet", "refine"])
    assert len(provider.requests) == 1


# --- a response format by hand ---

FORM = {"type": "json_object"}


@pytest.mark.parametrize(
    "settings", [{"response_format": FORM}, {"extra_body": {"response_format": FORM}}]
)
def test_a_format_beside_a_schema_is_refused(
    settings: dict[str, Any], workspace: Workspace, provider: Provider
) -> None:
    """The schema is what is sent; what would be put in its place in silence is refused."""
    workspace.task("research", schema=SCHEMA, task_yaml={"config": settings})
    phrases = ["a response format stands beside the schema", "response_format", "strict: true"]
    refused(workspace, ("popbuild", "run"), 3, phrases)
    refused(workspace, ("popbuild", "validate"), 1, phrases)
    assert provider.requests == []


@pytest.mark.parametrize("more", [{}, {"schema": SCHEMA, "answer": "text"}])
def test_a_format_without_a_schema_is_sent_and_told(
    more: dict[str, Any], workspace: Workspace, provider: Provider
) -> None:
    """Where no schema is sent, it is what the request has and what the letter says."""
    config = {"config": {"response_format": FORM}}
    answer = {"answer": more.pop("answer")} if "answer" in more else {}
    if answer:
        more["schema"] = {"type": "object"}
    workspace.task("research", task_yaml={**config, **answer}, **more)
    workspace.pipeline(["research"])
    for _ in range(2):
        assert workspace.popbuild("run").code == 0
    (request,) = provider.requests
    assert request.body["response_format"] == FORM
    assert "setting:response_format" in workspace.letter("first", "research")["fingerprint"]


# --- strict ---


@pytest.mark.parametrize("strict", [True, False, None])
def test_strict_is_sent_with_the_schema_and_is_a_dependency_where_it_is_set(
    strict: bool | None, workspace: Workspace, provider: Provider
) -> None:
    """Beside the schema's name, not as a parameter of its own."""
    config = {} if strict is None else {"config": {"strict": strict}}
    workspace.task("research", schema=SCHEMA, task_yaml=config)
    workspace.pipeline(["research"])
    for _ in range(2):
        assert workspace.popbuild("run").code == 0
    (request,) = provider.requests
    expected = {"name": "artifact", "schema": SCHEMA} | ({"strict": True} if strict else {})
    assert request.body["response_format"]["json_schema"] == expected
    assert "strict" not in request.body
    fingerprint = workspace.letter("first", "research")["fingerprint"]
    assert ("setting:strict" in fingerprint) == (strict is True)


def test_strict_false_buys_nothing_again(workspace: Workspace, provider: Provider) -> None:
    """It says what is so anyway, in the configuration and in code; true asks anew."""
    workspace.task("research", schema=SCHEMA)
    workspace.pipeline(["research"])
    assert workspace.popbuild("run").code == 0
    workspace.task("research", task_yaml={"config": {"strict": False}})
    assert "up to date" in workspace.popbuild("run").out
    workspace.task("research", task_yaml={"config": {"strict": True}})
    for _ in range(2):
        assert workspace.popbuild("run").code == 0
    assert len(provider.requests) == 2
    code = (
        "def inference(context):\n    return context.llm(context.messages, {SCHEMA}, strict=False)"
    )
    workspace.task("research", stages=code.replace("{SCHEMA}", repr(SCHEMA)))
    for _ in range(2):
        assert workspace.popbuild("run").code == 0
    assert len(provider.requests) == 2


def test_strict_is_a_boolean(workspace: Workspace, provider: Provider) -> None:
    workspace.task("research", schema=SCHEMA, task_yaml={"config": {"strict": "yes"}})
    refused(workspace, ("popbuild", "run"), 3, ["/config/strict: must be a boolean, found 'yes'"])
    assert provider.requests == []
