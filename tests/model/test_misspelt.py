"""`validate` finds what is misspelt: stages, templates, artifacts, names and settings."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from typing import Any

import pytest
from commands import in_python
from provider import Provider
from refusals import refused
from workspace import Workspace

from popbuild.llm import known
from popbuild.task.user_code import near_stages, wrong_stages

CONFIG = "pipeline-config/tasks"

WRONG: dict[str, tuple[str, str]] = {
    "no parameter": ("def parsing():\n    pass\n", "parsing()"),
    "two parameters": ("def parsing(context, other):\n    pass\n", "parsing(context, other)"),
    "by name only": ("def parsing(*, context):\n    pass\n", "parsing(*, context)"),
    "one more by name": ("def parsing(c, *, other):\n    pass\n", "parsing(c, *, other)"),
    "async": ("async def critique():\n    pass\n", "critique()"),
    "a lambda": ("refine = lambda: {}\n", "refine()"),
    "under a condition": ("if True:\n    def parsing():\n        pass\n", "parsing()"),
    "otherwise": ("try:\n    x = 1\nexcept E:\n    def parsing():\n        pass\n", "parsing()"),
    "a value": ("parsing = 5\n", "parsing = 5"),
    "a value with a type": ("parsing: int = 5\n", "parsing = 5"),
    "a list": ("parsing = []\n", "parsing = []"),
    "a class": ("class parsing:\n    pass\n", "a class or module parsing"),
    "a module": ("import parsing\n", "a class or module parsing"),
}
RIGHT = (
    "def parsing(context):\n    pass\n",
    "def parsing(context, /):\n    pass\n",
    "def parsing(context, more=None):\n    pass\n",
    "def parsing(*args):\n    pass\n",
    "def parsing(context, *, more=1):\n    pass\n",
    "@decorator\ndef parsing():\n    pass\n",
    "parsing = make()\n",
    "from helpers import parsing\n",
    "def helper():\n    pass\n",
    "def outer(context):\n    def parsing():\n        pass\n",
    "class X:\n    def parsing(self, a, b):\n        pass\n",
)


@pytest.mark.parametrize("kind", WRONG)
def test_a_stage_that_cannot_be_called_is_found_in_its_source(kind: str) -> None:
    source, found = WRONG[kind]
    (error,) = wrong_stages(ast.parse(source), "x/stages.py")
    assert error.values["found"] == found
    assert error.values["at"].startswith("line ")


@pytest.mark.parametrize("source", RIGHT)
def test_a_stage_that_can_be_called_is_none(source: str) -> None:
    assert list(wrong_stages(ast.parse(source), "x/stages.py")) == []


NEAR = {
    "validate_strucure": "validate_structure",
    "preprocessing": "pre_processing",
    "preProcessing": "pre_processing",
    "prompt_template": "prompt_templating",
    "inferance": "inference",
    "Parsing": "parsing",
    "critic": "critique",
    "validate_qualtiy": "validate_quality",
    "finalvalidation": "final_validation",
    "ingest": "ingestion",
}


@pytest.mark.parametrize("name", NEAR)
def test_a_function_that_is_nearly_a_stage_is_named_with_it(name: str) -> None:
    for source in (f"def {name}(context):\n    pass\n", f"{name} = lambda context: 1\n"):
        (error,) = near_stages(ast.parse(source), "x/stages.py", lambda _: False)
        assert error.values["did you mean"] == NEAR[name]


HELPERS = (
    "def _parsin(text):\n    pass\n",
    "def words_in(text):\n    pass\n",
    "def parse(text):\n    pass\n\n\ndef parsing(context):\n    return parse('')\n",
    "from helpers import inferance\n",
    "class Inferance:\n    pass\n",
    "inferance = 5\n",
    "def parsing(context):\n    return TABLE['critic']\n\n\ndef critic():\n    pass\n",
)


@pytest.mark.parametrize("source", HELPERS)
def test_a_helper_is_none(source: str) -> None:
    """One that is used, private, or not near any stage."""
    assert list(near_stages(ast.parse(source), "x/stages.py", lambda _: False)) == []


def test_a_helper_that_another_file_uses_is_none() -> None:
    tree = ast.parse("def parse(text):\n    pass\n")
    assert list(near_stages(tree, "x/stages.py", lambda name: name == "parse")) == []


# --- the command ---

Arrange = Callable[[Workspace], Any]


def prompt(text: str) -> Arrange:
    return lambda workspace: workspace.task("analysis", prompt=text)


def config(**settings: Any) -> Arrange:
    return lambda workspace: workspace.task("analysis", task_yaml={"config": settings})


def code(text: str) -> Arrange:
    return lambda workspace: workspace.task("analysis", stages=text)


def included(text: str) -> Arrange:
    def arrange(workspace: Workspace) -> None:
        workspace.task("analysis", prompt="x{% include 'shared/tone.md' %}")
        workspace.write("pipeline-config/shared/tone.md", text)

    return arrange


PROBLEMS: dict[str, tuple[Arrange, list[str]]] = {
    "a stage": (code("def inferance(c):\n    pass\n"), ["nearly a stage at line 1", "inference"]),
    "an artifact": (prompt("{{ artifacts.reserch }}"), ["prompt.md", "line 1", "mean: research"]),
    "an artifact by its key": (prompt("\n{{ artifacts['reserch'].content }}"), ["at line 2"]),
    "an artifact in a loop": (
        prompt("{% for x in artifacts.reserch %}{{ x }}{% endfor %}"),
        ["did you mean: research"],
    ),
    "its own artifact": (prompt("{{ artifacts.analysis }}"), ["the task does not get"]),
    "an artifact in an include": (included("{{ artifacts.reserch }}"), ["shared/tone.md: a temp"]),
    "an include": (prompt("x{% include 'x.md' %}"), ["one that is not there at line 1", "x.md"]),
    "one of two includes": (prompt("x{% include ['x.md', 'y.md'] %}"), ["x.md or y.md"]),
    "an import": (prompt("x{% import 'x.md' as x %}"), ["includes one that is not there"]),
    "a name imported": (prompt("x{% from 'x.md' import y %}"), ["one that is not there"]),
    "a parent": (prompt("{% extends 'x.md' %}"), ["includes one that is not there"]),
    "an include in an include": (included("{% include 'y.md' %}"), ["shared/tone.md: a template"]),
    "a name": (prompt("x{{ sede.data.topic }}"), ["a name that nothing gives", "mean: seed"]),
    "a setting": (config(temprature=1), ["line 2", "temprature", "did you mean: temperature"]),
    "a limit": (config(max_token=5), ["/config/max_token: ", "did you mean 'maxTokens'?"]),
    "a limit of ours": (config(maxtokens=5), ["did you mean: max"]),
    "a penalty": (config(presence_penality=1), ["did you mean: presence_penalty"]),
    "a gate's artifact": (
        lambda w: w.task("analysis", task_yaml={"gate": {"message": "?", "artifacts": ["t.csv"]}}),
        ["a human gate names an artifact that the task does not make", "analysis-output.json"],
    ),
}
FINE: dict[str, Arrange] = {
    "an artifact that may be missing": prompt("x{{ artifacts.reserch|default('') }}"),
    "one that is tested": prompt(
        "x{% if artifacts.later is defined %}{{ artifacts.later.content }}{% endif %}"
    ),
    "one that is looked for": prompt("x{% if 'l' in artifacts %}{{ artifacts.l }}{% endif %}"),
    "one that is computed": prompt("x{{ artifacts[seed.data.topic]|default('') }}"),
    "artifacts of its own": prompt("{% set artifacts = {'l': 1} %}x{{ artifacts.l }}"),
    "methods": prompt("x{% for a, b in artifacts.items() %}{{ a }}{% endfor %}"),
    "a name that is tested": prompt("x{{ nothing|default('') }}"),
    "jinja's names": prompt("x{% for i in range(2) %}{{ loop.index }}{% endfor %}"),
    "a macro's": prompt(
        "{% macro m(a) %}{{ a }}{{ caller() }}{% endmacro %}x{% call m(1) %}{% endcall %}"
    ),
    "an include that may be missing": prompt("x{% include 'x.md' ignore missing %}"),
    "an include that is computed": prompt("x{% if false %}{% include seed.name %}{% endif %}"),
    "a name of the including one": included("{{ tone }}"),
    "settings of a provider": config(top_p=0.5, reasoning_effort="low", extra_body={"x": 1}),
}


@pytest.mark.parametrize("kind", PROBLEMS)
def test_validate_finds_what_is_misspelt(
    kind: str, workspace: Workspace, provider: Provider
) -> None:
    """One problem, with its file and the near name; exit code 1; nothing is run."""
    arrange, phrases = PROBLEMS[kind]
    arrange(workspace)
    result = workspace.popbuild("validate")
    assert result.code == 1, result.out
    (line, summary) = result.out.splitlines()
    assert line.startswith("pipeline-config/"), line
    assert all(phrase in line for phrase in phrases), line
    assert "warning" not in line
    assert summary.endswith("1 problem")
    assert provider.requests == []


@pytest.mark.parametrize("kind", FINE)
def test_validate_says_nothing_of_what_may_be_meant(kind: str, workspace: Workspace) -> None:
    if kind == "a name of the including one":
        workspace.task("analysis", prompt="{% set tone = 'x' %}x{% include 'shared/tone.md' %}")
        workspace.write("pipeline-config/shared/tone.md", "{{ tone }}")
    else:
        FINE[kind](workspace)
    result = workspace.popbuild("validate")
    assert result.code == 0, result.out
    assert result.out.splitlines() == [result.out.splitlines()[-1]]
    assert "all valid" in result.out


WARNINGS: dict[str, tuple[Arrange, str]] = {
    "an unknown setting": (config(qqqq=1), "neither litellm nor openai"),
    "another provider's": (config(num_ctx=4096), "openai is not known to take"),
    "a server's": (config(min_p=0.1), "openai is not known to take"),
    "an empty system message": (
        lambda workspace: workspace.task("analysis", system="\n"),
        "a system message that says nothing",
    ),
    "a schema that is not strict": (
        lambda workspace: workspace.task(
            "analysis",
            schema={"type": "object", "properties": {"n": {"type": "integer"}}},
            task_yaml={"config": {"strict": True}},
        ),
        "strict mode may refuse the schema at #: not required: n",
    ),
}


@pytest.mark.parametrize("setting", ["tools", "response_format"])
def test_a_task_that_cannot_be_read_makes_no_other_one_wrong(
    setting: str, workspace: Workspace
) -> None:
    """The template of `analysis` reads what `research` would make."""
    workspace.task("research", schema={"type": "object"})
    workspace.pipeline(["research", "analysis"], {"research": {setting: {}}})
    (line, summary) = refused(workspace, ("popbuild", "validate"), 1, [setting]).out.splitlines()
    assert summary.endswith(": 1 problem")
    assert line.startswith("pipeline-config/")


@pytest.mark.parametrize("kind", WARNINGS)
def test_a_warning_changes_no_exit_code(
    kind: str, workspace: Workspace, provider: Provider
) -> None:
    """A run does as it did."""
    arrange, said = WARNINGS[kind]
    arrange(workspace)
    result = workspace.popbuild("validate")
    assert result.code == 0, result.out
    (line, summary) = result.out.splitlines()
    assert ": warning: " in line
    assert said in line
    assert summary.endswith("all valid, 1 warning")
    body = json.loads(workspace.popbuild("validate", "--json").out)
    assert (len(body["problems"]), len(body["warnings"])) == (0, 1)


def test_a_run_sends_a_setting_that_validate_only_doubts(
    workspace: Workspace, provider: Provider
) -> None:
    config(min_p=0.1)(workspace)
    for _ in range(2):
        assert workspace.popbuild("run").code == 0
    assert provider.requests[1].body["min_p"] == 0.1


KNOWN_SETTINGS = """
import json, sys
from popbuild.llm.client import known_settings
print(json.dumps([sorted(known_settings(model)) for model in json.loads(sys.argv[1])]))
"""


def test_the_names_that_are_known_without_litellm_are_its_own() -> None:
    """A new version that drops one is noticed here."""
    models = ["openai/gpt-4o-mini", "anthropic/claude-3-5-sonnet-20241022", "ollama/llama3", None]
    openai, anthropic, ollama, every = in_python(KNOWN_SETTINGS, json.dumps(models))
    assert set(openai) >= known.COMMON
    assert "top_k" in anthropic
    assert "num_ctx" in ollama
    assert "num_ctx" not in openai
    assert "num_ctx" in every


@pytest.mark.parametrize("name", sorted(known.OF_SERVERS | known.COMMON))
def test_no_known_setting_is_taken_for_a_slip_of_the_pen(name: str) -> None:
    assert known.meant(name, known.OF_SERVERS | known.COMMON)[0] == name
