"""filters.py: filters and tests of one's own, a dependency of the templates that use them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from provider import Provider
from workspace import Workspace

FILTERS = """\
import re

from lib.words import WORDS


def shout(text, times=1):
    return text.upper() + "!" * times


def first_words(text, most=WORDS):
    return " ".join(re.findall(r"\\w+", text)[:most])


def is_urgent(ticket):
    return ticket["priority"] > 7


def _helper():
    raise AssertionError
"""
DATA = {"text": "It broke down today.", "ticket": {"priority": 9}, "words": ["a", "b"]}


@pytest.fixture
def root(tmp_path: Path, provider: Provider) -> Iterator[Workspace]:
    """`loud`, `short` and `tested` use filters.py, the last in its condition; `plain` does not."""
    with Workspace(tmp_path, provider) as workspace:
        workspace.seed("first", DATA)
        workspace.write("pipeline-config/filters.py", FILTERS)
        workspace.write("pipeline-config/lib/words.py", "WORDS = 2\n")
        workspace.write("pipeline-config/shared/short.md", "{{ seed.data.text | first_words }}")
        workspace.task("loud", prompt="loud: {{ seed.data.text | shout(2) }}")
        workspace.task("short", prompt='short: {% include "shared/short.md" %}')
        workspace.task(
            "tested",
            prompt="tested: {{ seed.data.ticket.priority }}",
            task_yaml={"when": "seed.data.ticket is urgent"},
        )
        workspace.task("plain", prompt="plain: {{ seed.data.text | upper }}")
        workspace.pipeline(["loud", "short", "tested", "plain"])
        for task in ("loud", "short", "plain"):
            workspace.task(task, task_yaml={"needs": []})
        yield workspace


def run(workspace: Workspace, *argv: str, code: int = 0) -> str:
    result = workspace.popbuild(*argv)
    assert result.code == code, result
    return result.out + result.err


def asked(provider: Provider, since: int = 0) -> list[str]:
    return sorted(each.said("user") for each in provider.requests[since:])


def stale(workspace: Workspace) -> dict[str, list[str]]:
    (job,) = json.loads(run(workspace, "status", "--json", "first"))
    return {name: task["reasons"] for name, task in job["tasks"].items() if task["stale"]}


def test_what_templates_say(root: Workspace, provider: Provider) -> None:
    """Filters with arguments, in included files, tests, and in conditions; a second run sends
    nothing."""
    run(root, "run", "first")
    assert asked(provider) == [
        "loud: IT BROKE DOWN TODAY.!!",
        "plain: IT BROKE DOWN TODAY.",
        "short: It broke",
        "tested: 9",
    ]
    assert "first  up to date" in run(root, "run", "first")
    assert len(provider.requests) == 4
    run(root, "verify")
    run(root, "validate")


def test_who_depends_on_it(root: Workspace, provider: Provider) -> None:
    """A change of filters.py, or of what it imports, makes those stale that use a name of it, and
    no other; the same prompts are not bought again."""
    run(root, "run", "first")
    files = {"file:filters.py", "file:lib/words.py"}
    for task in ("loud", "short", "tested"):
        assert files <= root.letter("first", task)["fingerprint"].keys()
    assert not files & root.letter("first", "plain")["fingerprint"].keys()
    root.write("pipeline-config/lib/words.py", "WORDS = 3\n")
    users = {name: ["file:lib/words.py changed"] for name in ("loud", "short", "tested")}
    assert without_upstream(stale(root)) == users
    before = len(provider.requests)
    run(root, "run", "first")
    assert asked(provider, before) == ["short: It broke down"]
    assert "first  up to date" in run(root, "run", "first")
    root.write("pipeline-config/filters.py", FILTERS + "\n\nfrom lib import more\n")
    assert set(stale(root)) == set(users)
    run(root, "run", "first", code=2)  # lib.more is not there
    root.write("pipeline-config/lib/more.py", "")
    run(root, "run", "first")
    root.write("pipeline-config/lib/more.py", "X = 1\n")
    assert without_upstream(stale(root))["loud"] == ["file:lib/more.py changed"]
    assert "@@" in run(root, "explain", "first")


def without_upstream(found: dict[str, list[str]]) -> dict[str, list[str]]:
    return {
        name: [each for each in reasons if not each.startswith("upstream ")]
        for name, reasons in found.items()
    }


def test_a_skipped_task_depends_on_the_test_that_decided(root: Workspace) -> None:
    root.seed("first", {**DATA, "ticket": {"priority": 1}})
    run(root, "run", "first")
    assert root.status("first")["tasks"]["tested"]["skipped"]
    assert root.letter("first", "tested")["fingerprint"].keys() == {
        "when",
        "output",
        "seed:/data/ticket",
        "file:filters.py",
        "file:lib/words.py",
    }
    root.write("pipeline-config/filters.py", FILTERS.replace("> 7", "> 0"))
    assert without_upstream(stale(root))["tested"] == ["file:filters.py changed"]
    run(root, "run", "first")
    assert "skipped" not in root.status("first")["tasks"]["tested"]


@pytest.mark.parametrize(
    "prompt",
    [
        "{{ seed.data.words | map('shout') | join }}",
        "{{ [seed.data.ticket] | select('urgent') | list | length }}",
        "{% set name = 'shout' %}{{ seed.data.words | map(name) | join }}",
        "{% filter shout %}a{% endfilter %}",
        "{% macro m(x) %}{{ x | shout }}{% endmacro %}{{ m('a') }}",
        "x{% if seed.data.words is none %}{{ seed.data.text | shout }}{% endif %}",
        "{{ 'a' | shout }}",
    ],
)
def test_every_way_to_use_a_name_is_a_dependency(root: Workspace, prompt: str) -> None:
    root.task("loud", prompt=prompt)
    run(root, "run", "first")
    assert "file:filters.py" in root.letter("first", "loud")["fingerprint"]
    assert "first  up to date" in run(root, "run", "first")


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("def shout(text, times=1):\n    return 1 / 0\n", "ZeroDivisionError"),
        ("def shout(text, times=1):\n    raise SystemExit(0)\n", "SystemExit"),
        ("def shout(text, times=1):\n    return object()\n", "is no value"),
        ("def shout(text, times=1):\n    return shout\n", "is no value"),
        ("def shout(text):\n    return text\n", "TypeError"),
        (
            "import sys\nsys.exit(0)\ndef shout(text, times=1):\n    return 1\n",
            "cannot be imported",
        ),
        ("if 0:\n    def shout(text, times=1):\n        return 1\n", "not a function of a value"),
        (
            "import jinja2\n@jinja2.pass_context\ndef shout(it, text, times=1):\n    return 1\n",
            "not a function of a value",
        ),
    ],
)
def test_code_that_fails(root: Workspace, provider: Provider, code: str, found: str) -> None:
    """One error of the task, with the filter's name or place and the template's; nothing is sent
    for it, in a build and where nothing is built."""
    root.pipeline(["loud"])
    root.write("pipeline-config/filters.py", code)
    out = run(root, "run", "first", code=2)
    assert found in out
    assert "pipeline-config/tasks/loud/prompt.md" in out
    assert "filters.py" in out
    assert "Traceback" not in out
    assert not provider.requests
    assert found in run(root, "prompt", "first", "loud", code=3)
    run(root, "plan", "first")
    root.write("pipeline-config/filters.py", FILTERS)
    run(root, "run", "first")


def test_code_that_never_returns(root: Workspace, provider: Provider) -> None:
    """It ends with the task's timeout."""
    root.pipeline(["loud"])
    root.task("loud", task_yaml={"timeout": 0.5})
    code = "import threading\ndef shout(text, times=1):\n    threading.Event().wait()\n"
    root.write("pipeline-config/filters.py", code)
    out = run(root, "run", "first", code=2)
    assert "took too long" in out
    assert "0.5 s" in out
    assert not provider.requests


def test_what_it_prints(root: Workspace) -> None:
    """Goes to stderr, in a build and in a plan: the output of a command is its own."""
    code = FILTERS.replace("    return text.upper()", "    print('hello')\n    return text.upper()")
    root.write("pipeline-config/filters.py", code)
    for argv in (["prompt", "--json", "first", "loud"], ["plan", "--json", "first"]):
        result = root.popbuild(*argv)
        assert result.code == 0, result
        json.loads(result.out)
        assert "hello" in result.err
    result = root.popbuild("run", "--json", "first")
    json.loads(result.out)
    assert "hello" in result.err


def test_values_are_copies(root: Workspace, provider: Provider) -> None:
    """What a filter does to its value no other place of the template sees."""
    code = "def popped(words):\n    words.pop()\n    return [*words, {1: (2, 3)}]\n"
    root.write("pipeline-config/filters.py", code)
    root.pipeline(["loud"])
    root.task("loud", prompt="{{ seed.data.words | popped | tojson }} {{ seed.data.words }}")
    run(root, "run", "first")
    assert asked(provider) == ["""["a", {"1": [2, 3]}] ['a', 'b']"""]


@pytest.mark.parametrize(
    ("prompt", "code", "found"),
    [
        ("{{ seed.name | shot }}", FILTERS, "there is no filter 'shot': did you mean 'shout'?"),
        ("{{ seed.name is urgnt }}", FILTERS, "there is no test 'urgnt': did you mean 'urgent'?"),
        ("{{ seed.name | uper }}", FILTERS, "there is no filter 'uper': did you mean 'upper'?"),
        ("x{% if seed.name %}{{ seed.name | shot }}{% endif %}", FILTERS, "did you mean: shout"),
        ("{{ seed.name | _helper }}", FILTERS, "there is no filter '_helper'"),
        ("{{ seed.name | sub }}", "from re import sub\n", "there is no filter 'sub'"),
        ("{{ seed.name | now }}", "def now():\n    return 1\n", "it takes no value"),
        ("{{ seed.name | later }}", "async def later(x):\n    return 1\n", "it is async"),
        ("{{ seed.name | shout }}", "def shout(:\n", "filters.py cannot be read, line 1"),
    ],
)
def test_validate_names_unknown_filters(
    root: Workspace, provider: Provider, prompt: str, code: str, found: str
) -> None:
    """With the nearest known one, or why it is none; a run finds it before it sends anything."""
    root.pipeline(["plain"])
    root.task("plain", prompt=prompt)
    root.write("pipeline-config/filters.py", code)
    assert found in run(root, "validate", code=1)
    if "{% if" not in prompt:
        assert found in run(root, "run", "first", code=3)
    assert not provider.requests


def test_a_name_of_jinja_stays_jinjas(root: Workspace, provider: Provider) -> None:
    """It is an error of validate, and templates mean what they meant."""
    more = "\n\ndef upper(text):\n    return 'mine'\n\n\ndef is_defined(value):\n    return False\n"
    root.write("pipeline-config/filters.py", FILTERS + more)
    out = run(root, "validate", code=1)
    assert out.count("has the name of a filter or a test of Jinja") == 2
    assert "upper" in out
    assert "is_defined" in out
    run(root, "run", "first")
    assert "plain: IT BROKE DOWN TODAY." in asked(provider)
    assert "file:filters.py" not in root.letter("first", "plain")["fingerprint"]


def test_a_helper_of_stages_of_that_name(root: Workspace, provider: Provider) -> None:
    """A root that has a module filters.py for its stages keeps its fingerprints: it is a module
    of the stages as before, and templates that use none of it have nothing to do with it."""
    root.task("plain", stages="import filters\n\n\ndef pre_processing(context):\n    return {}\n")
    run(root, "run", "first")
    fingerprint = root.letter("first", "plain")["fingerprint"]
    assert {"file:filters.py", "file:lib/words.py"} <= fingerprint.keys()
    assert "file:filters.py" not in fingerprint_without(root, "filters.py")


def fingerprint_without(root: Workspace, name: str) -> dict[str, Any]:
    """Of `plain` once its stages do not import that file."""
    root.task("plain", stages="def pre_processing(context):\n    return {}\n")
    run(root, "run", "first")
    found: dict[str, Any] = root.letter("first", "plain")["fingerprint"]
    return found


def test_a_plan_bounds_what_a_filter_makes(root: Workspace) -> None:
    """The size of a prompt is known once it is rendered; before, a filter may make anything."""
    found = []
    for with_filter in ("", " | shout"):
        prompt = "tested: {{ artifacts.loud.content" + with_filter + " }}"
        root.task("tested", prompt=prompt, task_yaml="")
        (job,) = json.loads(run(root, "plan", "first", "--json"))["jobs"]
        tasks = {task["task"]: task for task in job["tasks"]}
        assert tasks["loud"]["basis"] == "input counted, output at most"
        found.append(tasks["tested"]["inputTokens"]["high"])
    assert found[0] < found[1]
