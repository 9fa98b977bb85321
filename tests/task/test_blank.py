"""What says nothing is not asked: prompts that are empty or render to nothing, and code's own."""

from __future__ import annotations

import tracemalloc

import pytest
from provider import Provider
from refusals import refused
from workspace import Workspace

from popbuild.base.texts import is_blank
from popbuild.task.templates.syntax import template_source

INVISIBLE = ("", " \t\r\n\v\f", "\u00a0\u2003\u3000", "\u200b\u200c\u200d\u2060\ufeff", "\x00\x1b")
INVISIBLE += ("\u00ad", "\u2028\u2029", "\ufe0f", "\u3164\uffa0\u115f", "\u2800", "\U000e0020")
VISIBLE = ("x", "\u200bx", ".", "0", "\u0301", "\u4e00", "\U0001f600", "\u061f", "{", "\ue000")


@pytest.mark.parametrize("text", INVISIBLE)
def test_invisible_characters_say_nothing(text: str) -> None:
    assert is_blank(text)
    assert is_blank(text * 3)


@pytest.mark.parametrize("text", VISIBLE)
def test_one_visible_character_says_something(text: str) -> None:
    assert not is_blank(text)
    assert not is_blank(f" \u200b{text}\n")


BLANK = (
    "",
    " \n",
    "\u200b",
    "{# only a comment #}\n",
    "{% set x = seed.data %}",
    "{% macro m() %}text{% endmacro %}",
    "{% if seed.data.x %} {% else %}\n{% endif %}",
    "{% for each in seed.data %} {% endfor %}",
    "{{ '' }}{{ ' ' }}",
    "{% set x %}text{% endset %}",
)
NOT_BLANK = (
    "x",
    "{{ seed.data.x }}",
    "{% include 'x.md' %}",
    "{% extends 'x.md' %}",
    "{% if seed.data.x %}x{% endif %}",
    "{% macro m() %}text{% endmacro %}{{ m() }}",
    "{% for each in seed.data %}{% else %}none{% endfor %}",
    "{% filter upper %}x{% endfilter %}",
    "{% block b %}x{% endblock %}",
    "{% with x = 1 %}{{ x }}{% endwith %}",
    "{% broken",
)


@pytest.mark.parametrize("text", BLANK)
def test_a_template_that_renders_to_nothing_is_known_by_its_source(text: str) -> None:
    assert template_source(text).blank


CONSTANTS = (
    "{{ 'a' * 50000000 }}",
    "{{ 'a'|center(50000000) }}",
    "{{ ('a' * 50000000)|length }}",
    "{% set x = [1] * 50000000 %}x",
    "{% if 'a' * 50000000 %}x{% endif %}",
)


@pytest.mark.parametrize("text", CONSTANTS)
def test_looking_at_a_template_computes_nothing(text: str) -> None:
    """jinja2 would work out what is constant, with none of the bounds that rendering has."""
    tracemalloc.start()
    try:
        assert not template_source(text).blank
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("text", NOT_BLANK)
def test_a_template_that_may_say_something_is_not_blank(text: str) -> None:
    assert not template_source(text).blank


@pytest.mark.parametrize("prompt", ["", "{# nothing yet #}\n", "\u200b\n"])
def test_an_empty_prompt_is_refused_before_any_task_is_paid(
    prompt: str, workspace: Workspace, provider: Provider
) -> None:
    """Of whatever task: not after those above it were bought."""
    workspace.task("analysis", prompt=prompt)
    phrases = ["a prompt renders to nothing", "tasks/analysis/prompt.md"]
    refused(workspace, ("popbuild", "run"), 3, phrases)
    assert refused(workspace, ("popbuild", "validate"), 1, phrases).out.startswith(
        "pipeline-config/tasks/analysis/prompt.md: a prompt renders to nothing"
    )
    assert provider.requests == []


def test_a_prompt_that_renders_to_nothing_is_told_with_what_it_read(
    workspace: Workspace, provider: Provider
) -> None:
    """The template and the values; nothing is sent, whatever system.md says; mended, it goes on."""
    workspace.task("research", prompt="{{ seed.data.topic }}\n{{ seed.data.tone }}", system="Hi.\n")
    workspace.seed("first", {"topic": " \u200b", "tone": ""})
    phrases = ["a prompt renders to nothing", "research/prompt.md", "seed:/data/tone", "topic"]
    for argv, code in ((("run",), 2), (("prompt", "first", "research"), 3)):
        refused(workspace, ("popbuild", *argv), code, phrases)
    assert provider.requests == []
    workspace.seed("first", {"topic": "x", "tone": ""})
    for _ in range(2):
        assert workspace.popbuild("run").code == 0
    assert len(provider.requests) == 2


BY_CODE = {
    "an empty text": "return ''",
    "an invisible text": "return '\\u200b\\n'",
    "an empty message": "return [{'role': 'user', 'content': ''}]",
    "nothing behind a system message": (
        "return [{'role': 'system', 'content': 'x'}, {'role': 'user', 'content': ' '}]"
    ),
    "empty parts": "return [{'role': 'user', 'content': [{'type': 'text', 'text': ''}]}]",
    "no parts": "return [{'role': 'user', 'content': []}]",
    "no content": "return [{'role': 'user', 'content': None}]",
}


@pytest.mark.parametrize("kind", BY_CODE)
def test_messages_of_code_that_say_nothing_are_refused(
    kind: str, workspace: Workspace, provider: Provider
) -> None:
    """From prompt_templating; nothing is sent."""
    code = f"def prompt_templating(context):\n    {BY_CODE[kind]}\n"
    workspace.task("research", prompt="", stages=code)
    phrases = ["a conversation that says nothing", "research", "promptTemplating"]
    refused(workspace, ("popbuild", "run"), 2, phrases)
    assert provider.requests == []


def test_a_call_of_code_that_says_nothing_is_refused(
    workspace: Workspace, provider: Provider
) -> None:
    code = "def inference(context):\n    return context.llm(context.render('prompt.md'))\n"
    workspace.task("research", prompt="{{ seed.data.tone }}", stages=code)
    workspace.seed("first", {"tone": ""})
    refused(workspace, ("popbuild", "run"), 2, ["a conversation that says nothing", "inference"])
    assert provider.requests == []


def test_a_picture_is_something(workspace: Workspace, provider: Provider) -> None:
    """A message without words may show one; an empty prompt.md that nothing renders is none."""
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    message = {"role": "user", "content": [{"type": "text", "text": ""}, picture]}
    code = f"def prompt_templating(context):\n    return [{message!r}]\n"
    workspace.task("research", prompt="", stages=code)
    for _ in range(2):
        assert workspace.popbuild("run").code == 0
    assert provider.requests[0].messages == [message]
    assert len(provider.requests) == 2
