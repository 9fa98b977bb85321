"""Fallbacks: where a model cannot be had, the next one is asked, and that is written down."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from provider import Provider, Reply, Request, default_answer, fail
from workspace import MODEL, Workspace

QUICK = {"POPBUILD_BACKOFF_S": "0.01", "POPBUILD_TRIES": "2", "POPBUILD_PATIENCE_S": "0.3"}
SECOND, THIRD = "openai/gpt-4o", "openai/gpt-4.1-mini"


def alone(workspace: Workspace, *fallbacks: str, model: str = MODEL, **settings: Any) -> None:
    """A pipeline of the one task `research`, with these fallbacks."""
    config = {**settings, **({"fallbacks": list(fallbacks)} if fallbacks else {})}
    workspace.pipeline(["research"], {"research": config}, model=model)


def run(workspace: Workspace, code: int = 0, *args: str, **env: str) -> str:
    result = workspace.popbuild("run", *(args or ["first"]), env=QUICK | env)
    assert result.code == code, result.out + result.err
    assert "Traceback" not in result.err
    return result.out + result.err


def without(*models: str, reply: Reply) -> Callable[[Request], Reply]:
    """A provider that answers for all but these models."""
    names = [model.removeprefix("openai/") for model in models]
    return lambda request: reply if request.model in names else default_answer(request)


def asked(provider: Provider) -> list[str]:
    return [f"openai/{request.model}" for request in provider.requests]


CANNOT_BE_HAD = {
    "errors": (fail(500), 2),
    "unknown": (fail(404, text="The model does not exist"), 1),
    "key": (fail(401), 1),
    "forbidden": (fail(403), 1),
    "tomorrow": (fail(429, retry_after=86400), 1),
    "too long": (fail(400, text="This model's maximum context length is 10 tokens"), 1),
    "policy": (
        fail(400, text="invalid_request_error content_policy_violation: rejected"),
        1,
    ),
}


@pytest.mark.parametrize("why", CANNOT_BE_HAD)
def test_a_model_that_cannot_be_had(why: str, workspace: Workspace, provider: Provider) -> None:
    """Errors to the last try, a name or a key that is refused, a wait that is too long, a prompt
    that this model does not take: the next model is asked. The letter says which answered, and
    why; the answer is stored under that one's name."""
    reply, tries = CANNOT_BE_HAD[why]
    alone(workspace, SECOND, THIRD)
    provider.answer = without(MODEL, reply=reply)
    run(workspace)
    assert asked(provider) == [MODEL] * tries + [SECOND]
    letter = workspace.letter("first", "research")
    (call,) = letter["calls"]
    assert call["model"] == SECOND
    (warning,) = call["warnings"]
    assert warning.startswith(f"{MODEL} could not be had (")
    assert warning.endswith(f"): {SECOND} was asked")
    assert letter["warnings"] == [warning]
    assert letter["configuration"] == {"model": MODEL, "fallbacks": [SECOND, THIRD]}
    digest = call["request"].removeprefix("sha256:")
    stored = workspace.read(f".popbuild/store/{digest[:2]}/{digest[2:]}.json")
    assert stored["request"]["model"] == SECOND
    assert stored["request"]["settings"] == {}
    assert workspace.popbuild("validate").code == 0
    assert workspace.popbuild("verify").code == 0
    assert "up to date" in run(workspace)
    assert len(provider.requests) == tries + 1


def test_refusals_without_end(workspace: Workspace, provider: Provider) -> None:
    """A model that answers 429 for longer than patience lasts cannot be had."""
    alone(workspace, SECOND)
    provider.answer = without(MODEL, reply=fail(429))
    run(workspace)
    assert asked(provider)[-1] == SECOND
    assert asked(provider).count(SECOND) == 1


def test_a_provider_that_is_down_is_waited_for_once(
    workspace: Workspace, provider: Provider
) -> None:
    """As long as patience lasts; after that, whatever has another model to ask asks that one."""
    names = [f"job-{number}" for number in range(10)]
    for name in names:
        workspace.seed(name, {"topic": name})
    with Provider() as other:
        alone(workspace, "deepseek/deepseek-chat")
        provider.answer = lambda request: fail(503)
        env = {"DEEPSEEK_API_KEY": "sk-other-not-a-key", "DEEPSEEK_API_BASE": other.base_url}
        said = run(workspace, 0, *names, **env, POPBUILD_PATIENCE_S="1")
        assert said.count("openai is down") == 1
        assert len(other.requests) == 10
        models = {workspace.letter(name, "research")["calls"][0]["model"] for name in names}
        assert models == {"deepseek/deepseek-chat"}


@pytest.mark.parametrize("status", [400, 422])
def test_a_wrong_request_is_wrong_for_every_model(
    status: int, workspace: Workspace, provider: Provider
) -> None:
    alone(workspace, SECOND)
    provider.answer = without(MODEL, reply=fail(status, text="this is why"))
    assert "this is why" in run(workspace, 2)
    assert asked(provider) == [MODEL]


def test_when_no_model_can_be_had(workspace: Workspace, provider: Provider) -> None:
    """The first one's error is told, with what became of the others."""
    alone(workspace, SECOND, THIRD)
    provider.answer = lambda request: fail(403, text=f"not for you: {request.model}")
    said = run(workspace, 2)
    assert asked(provider) == [MODEL, SECOND, THIRD]
    for model in (MODEL, SECOND, THIRD):
        assert f"not for you: {model.removeprefix('openai/')}" in said
    assert f"then {SECOND}" in said


def test_a_refusal_before_an_outage(workspace: Workspace, provider: Provider) -> None:
    """The refusal is what the task has, and its log says that the other model could not be had."""
    alone(workspace, SECOND)
    replies = {MODEL: Reply(finish_reason="content_filter"), SECOND: fail(403)}
    provider.answer = lambda request: replies[f"openai/{request.model}"]
    assert "content filter" in run(workspace, 1)
    assert asked(provider) == [MODEL, SECOND]
    lines = workspace.read("pipeline-data/rejected/first/tasks/research/execution-logs.json")
    (warning,) = [each["message"] for each in lines if "was asked" in each["message"]]
    assert warning.startswith(f"{SECOND} could not be had (")
    assert warning.endswith(f"): {MODEL} was asked")


def test_a_key_that_is_missing(workspace: Workspace, provider: Provider) -> None:
    """Of the first model's provider: nothing is sent there."""
    alone(workspace, MODEL, model="anthropic/claude-3-5-haiku-20241022")
    run(workspace)
    assert asked(provider) == [MODEL]
    (warning,) = workspace.letter("first", "research")["warnings"]
    assert "the key of the model's provider is missing" in warning


# --- staleness ---


def test_an_answer_of_the_first_model_does_not_hang_on_fallbacks(
    workspace: Workspace, provider: Provider
) -> None:
    """They may come, go and change: nothing is stale."""
    alone(workspace)
    run(workspace)
    for fallbacks in ([SECOND], [THIRD, SECOND], []):
        alone(workspace, *fallbacks)
        assert "up to date" in run(workspace)
    assert asked(provider) == [MODEL]


def test_an_answer_of_a_fallback_hangs_on_that_it_is_listed(
    workspace: Workspace, provider: Provider
) -> None:
    """Another order, or another model beside it, changes nothing; without it the task is stale,
    and says why."""
    alone(workspace, SECOND)
    provider.answer = without(MODEL, reply=fail(404))
    run(workspace)
    alone(workspace, THIRD, SECOND)
    assert "up to date" in run(workspace)
    alone(workspace, THIRD)
    listed = workspace.popbuild("status", "first")
    assert f"fallback:{SECOND} removed" in listed.out
    provider.answer = default_answer
    run(workspace)
    assert asked(provider) == [MODEL, SECOND, MODEL]
    assert workspace.letter("first", "research")["calls"][0]["model"] == MODEL


def test_the_one_model_of_the_environment_has_no_fallbacks(
    workspace: Workspace, provider: Provider
) -> None:
    alone(workspace, SECOND)
    provider.answer = without(THIRD, reply=fail(404))
    run(workspace, 2, POPBUILD_MODEL=THIRD)
    assert asked(provider) == [THIRD]


# --- again ---


def test_a_replay_that_may_send_nothing_finds_the_one_that_answered(
    workspace: Workspace, provider: Provider
) -> None:
    """`--store only`: what the first model would have said was never bought."""
    alone(workspace, SECOND)
    provider.answer = without(MODEL, reply=fail(404))
    run(workspace)
    said = run(workspace, 0, "first", "-a", "--store", "only")
    assert "from the store" in said
    assert workspace.letter("first", "research")["calls"][0]["model"] == SECOND
    assert len(provider.requests) == 2
    workspace.task("research", prompt="Anew.")
    assert "not in the store" in run(workspace, 2, "first", "--store", "only")
    assert len(provider.requests) == 2


def test_a_rebuild_asks_the_first_model_again(workspace: Workspace, provider: Provider) -> None:
    """It may be there again; where it is not, the fallback's answer comes from the store."""
    alone(workspace, SECOND)
    provider.answer = without(MODEL, reply=fail(404))
    run(workspace)
    run(workspace, 0, "first", "-a")
    assert asked(provider) == [MODEL, SECOND, MODEL]
    provider.answer = default_answer
    run(workspace, 0, "first", "-a")
    assert asked(provider) == [MODEL, SECOND, MODEL, MODEL]
    letter = workspace.letter("first", "research")
    assert (letter["calls"][0]["model"], letter["warnings"]) == (MODEL, [])


def test_each_refinement_asks_in_order(workspace: Workspace, provider: Provider) -> None:
    """A fallback's answer passes the same gate."""
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    workspace.task("research", schema=schema)
    alone(workspace, SECOND)
    answers = iter(["{}", '{"a": 1}'])
    provider.answer = lambda request: (
        fail(404) if request.model == "gpt-4o-mini" else Reply(next(answers))
    )
    run(workspace)
    assert asked(provider) == [MODEL, SECOND, MODEL, SECOND]
    assert workspace.artifact("first", "research") == {"a": 1}
    assert len(workspace.letter("first", "research")["calls"]) == 2


# --- code, configuration ---


def test_code_that_names_a_model_means_that_one(workspace: Workspace, provider: Provider) -> None:
    """Unless it names others too."""
    workspace.task(
        "research",
        stages="def inference(context):\n"
        f"    return context.llm('Named.', model='{THIRD}', **context.read('/data/more'))\n",
    )
    alone(workspace, SECOND)
    provider.answer = without(THIRD, reply=fail(404))
    workspace.task("research", prompt="Unused.")
    workspace.seed("first", {"more": {}})
    run(workspace, 2)
    assert asked(provider) == [THIRD]
    workspace.seed("first", {"more": {"fallbacks": [SECOND]}})
    run(workspace)
    assert asked(provider) == [THIRD, THIRD, SECOND]
    assert "up to date" in run(workspace)


def test_fallbacks_in_task_yaml(workspace: Workspace, provider: Provider) -> None:
    """As every setting; the pipeline's own win."""
    workspace.task("research", task_yaml={"config": {"fallbacks": [SECOND]}})
    alone(workspace)
    provider.answer = without(MODEL, reply=fail(404))
    run(workspace)
    assert asked(provider) == [MODEL, SECOND]
    workspace.seed("second", {"topic": "another"})
    alone(workspace, THIRD)
    run(workspace, 0, "second")
    assert asked(provider) == [MODEL, SECOND, MODEL, THIRD]


@pytest.mark.parametrize("value", [SECOND, 3, [3], [""], [SECOND, SECOND], [{"model": SECOND}]])
def test_fallbacks_are_a_list_of_models(
    value: Any, workspace: Workspace, provider: Provider
) -> None:
    workspace.pipeline(["research"], {"research": {"fallbacks": value}})
    said = run(workspace, 3)
    assert "/taskConfig/research/fallbacks" in said
    assert "pipeline-config/pipeline.json" in said
    assert provider.requests == []


def test_a_task_that_failed_often_is_tried_again_with_a_fallback(
    workspace: Workspace, provider: Provider
) -> None:
    """Three equal failures stop it until something changes, and a new fallback is a change."""
    alone(workspace)
    provider.answer = without(MODEL, reply=fail(500))
    for _ in range(3):
        run(workspace, 2)
    run(workspace, 4)
    before = len(provider.requests)
    alone(workspace, SECOND)
    run(workspace)
    assert asked(provider)[before:] == [MODEL, MODEL, SECOND]


def test_prompts_and_code_do_not_see_them(workspace: Workspace, provider: Provider) -> None:
    """They would be read without being a dependency."""
    workspace.task("research", prompt="{{ config | tojson }}")
    alone(workspace, SECOND, temperature=0.5)
    run(workspace)
    assert json.loads(provider.requests[0].said("user")) == {"model": MODEL, "temperature": 0.5}
