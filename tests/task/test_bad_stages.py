"""Bad templates, stages and commands: the task fails with one error; the next run goes on."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from provider import Provider
from refusals import KEY, RUNS, nothing_leaked, refused
from workspace import Workspace

from popbuild.base.errors import TaskError
from popbuild.task.read_trace import ReadTrace
from popbuild.task.templates.render import Templates

PROMPT = "pipeline-config/tasks/research/prompt.md"
STAGES = "pipeline-config/tasks/research/stages.py"


def failed(workspace: Workspace, command: str, phrases: list[str], **options: Any) -> str:
    """Run a job whose task `research` crashes: it stays in current/ with the task in `error`."""
    said = refused(workspace, RUNS[command], 2, phrases, **options)
    assert "first: failed at research" in said.out
    assert workspace.states("first") == ["current"]
    status = workspace.status("first", "current")
    assert status["state"] == "failed"
    assert status["tasks"]["research"]["state"] == "error"
    assert status["tasks"]["analysis"]["state"] == "pending"
    assert status["tasks"]["research"]["error"].splitlines()[0] in said.err
    return said.err


def mended(workspace: Workspace) -> None:
    """The same job once the task is right: it completes, and a second run calls nothing."""
    assert workspace.provider is not None
    for name in ("stages.py", "task.yaml"):
        (workspace.root / "pipeline-config/tasks/research" / name).unlink(missing_ok=True)
    workspace.task("research", prompt="Research: {{ seed.data.topic }}.\n")
    assert workspace.popbuild("run").code == 0
    before = len(workspace.provider.requests)
    assert "up to date" in workspace.popbuild("run").out
    assert len(workspace.provider.requests) == before


# --- templates ---

LARGE = ["a template makes too large a prompt", "4,000,000 characters", f"{PROMPT}, line 1"]
SANDBOX = ["a template tried to leave the sandbox", f"{PROMPT}, line 1"]
# A list that holds a list twice, which holds a list twice, …: small in memory, 2**60 as a text.
TWICE = (
    "{% set n = namespace(l=[1]) %}{% for i in range(60) %}{% set n.l = [n.l, n.l] %}{% endfor %}"
)
FORTY = "a" * 40
LOOPS = (
    "{% for i in range(99999) %}{% for j in range(99999) %}" + FORTY + "{% endfor %}{% endfor %}"
)

TEMPLATES: dict[str, tuple[str, list[str]]] = {
    "an undefined name": (
        "One.\n{{ sede.data }}",
        ["a template uses an undefined name", f"{PROMPT}, line 2", "did you mean 'seed'?"],
    ),
    "another undefined name": ("{{ nothing }}", ["there is no 'nothing'; known: seed, artifacts"]),
    "an undefined field": ("{{ seed.data.topik }}", ["seed.data has no 'topik', did you mean 't"]),
    "a field below nothing": ("{{ seed.data.x.y }}", ["seed.data has no 'x'; known: tone, topic"]),
    "a field of a text": ("{{ seed.name.first }}", ["'first' has no 'first'", "`is defined`"]),
    "a number for a key": ("{{ seed.data[0] }}", ["seed.data has no key 0: keys are texts, '0'"]),
    "a method of ours": ("{{ seed.data._whole }}", SANDBOX),
    "no such field of a list": ("{{ [1].whole }}", ["has no 'whole'"]),
    "a random choice by map": ("{{ [[1]]|map('random')|list }}", ["No filter named 'random'"]),
    "a function": (
        "One.\n{{ seed.data.keys }}",
        ["has no text of its own", "bound method", f"{PROMPT}, line 2", "called with ()"],
    ),
    "a generator": ("{{ [1]|map('string') }}", ["no text of its own", "generator", "`| list`"]),
    "a task that is not needed": ("{{ artifacts.analysis }}", ["there is no 'analysis'"]),
    "an undefined setting": ("{{ config.modle }}", ["there is no 'modle', did you mean 'model'?"]),
    "a missing include": ("{% include 'x.md' %}", ["includes one that is not there", "x.md"]),
    "an include of itself": ("{% include 'prompt.md' %}", ["calls itself without end", PROMPT]),
    "a macro of itself": ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", ["without end"]),
    "division by zero": ("{{ 1 / 0 }}", ["a template failed", "line 1", "division by zero"]),
    "a class": ("{{ ''.__class__.__mro__ }}", SANDBOX),
    "a class by a filter": ("{{ ''|attr('__class__') }}", SANDBOX),
    "globals of a method": ("{{ seed.get.__globals__ }}", SANDBOX),
    "globals of a class": ("{{ cycler.__init__.__globals__.os.popen('id') }}", SANDBOX),
    "a private name": ("{{ seed._value }}", SANDBOX),
    "a format that reads": ("{{ '{0.__class__}'.format(seed) }}", SANDBOX),
    "times": ("{{ 'a' * 1000000000 }}", LARGE),
    "times a list": ("{{ ([1] * 1000000000)|length }}", LARGE),
    "times a tuple": ("{{ ((1,) * 1000000000)|length }}", LARGE),
    "times bytes": ("{{ ('a'.encode() * 1000000000)|length }}", LARGE),
    "to the power": ("{{ 10 ** 1000000000 }}", LARGE),
    "squared and squared": (
        "{% set n = namespace(x=10) %}{% for i in range(60) %}{% set n.x = n.x * n.x %}"
        "{% endfor %}",
        LARGE,
    ),
    "doubled with +": (
        "{% set n = namespace(s='a') %}{% for i in range(40) %}{% set n.s = n.s + n.s %}"
        "{% endfor %}",
        LARGE,
    ),
    "doubled with ~": (
        "{% set n = namespace(s='a') %}{% for i in range(40) %}{% set n.s = n.s ~ n.s %}"
        "{% endfor %}",
        LARGE,
    ),
    "a doubled list": (
        "{% set n = namespace(s=[1]) %}{% for i in range(40) %}{% set n.s = n.s + n.s %}"
        "{% endfor %}",
        LARGE,
    ),
    "an extended list": (
        "{% set l = [1] %}{% for i in range(40) %}{{ l.extend(l) }}{% endfor %}",
        LARGE,
    ),
    "a list in itself": ("{% set l = [1] %}{{ l.append(l) }}{{ l }}", LARGE),
    "lists of lists printed": (TWICE + "{{ n.l }}", LARGE),
    "lists of lists as JSON": (TWICE + "{{ n.l|tojson }}", LARGE),
    "lists of lists formatted": (TWICE + "{{ '%s' % [n.l] }}", LARGE),
    "lists of lists joined": (TWICE + "{{ n.l ~ 'x' }}", LARGE),
    "lists of lists as a text": (TWICE + "{{ (n.l|string)|length }}", LARGE),
    "ljust": ("{{ 'a'.ljust(1000000000) }}", LARGE),
    "zfill": ("{{ 'a'.zfill(1000000000) }}", LARGE),
    "expandtabs": ("{{ '\t'.expandtabs(1000000000) }}", LARGE),
    "the method join": ("{{ ('a' * 100000).join(['b'] * 90000) }}", LARGE),
    "the method replace": ("{{ ('a' * 100000).replace('a', 'b' * 100000) }}", LARGE),
    "the method translate": ("{{ ('a' * 100000).translate({97: 'b' * 100000}) }}", LARGE),
    "a width": ("{{ '%1000000000d' % 1 }}", LARGE),
    "a width by a star": ("{{ '%*d' % (1000000000, 1) }}", LARGE),
    "a width in a filter": ("{{ '%1000000000d'|format(1) }}", LARGE),
    "a star in a filter": ("{{ '%*d'|format(1000000000, 1) }}", LARGE),
    "a width in braces": ("{{ '{:1000000000}'.format(1) }}", LARGE),
    "a width within a width": ("{{ '{:{w}}'.format(1, w=1000000000) }}", LARGE),
    "a width as a text": ("{{ '{:{w}}'.format(1, w='1000000000') }}", LARGE),
    "format_map": ("{{ '{x:1000000000}'.format_map({'x': 1}) }}", LARGE),
    "one text many times": ("{{ ('{0}' * 10000).format('a' * 100000) }}", LARGE),
    "center": ("{{ 'a'|center(1000000000) }}", LARGE),
    "indent": ("{{ 'a\\nb'|indent(1000000000) }}", LARGE),
    "join": ("{{ range(99999)|join('a' * 100000) }}", LARGE),
    "replace": ("{{ ('a' * 100000)|replace('a', 'b' * 100000) }}", LARGE),
    "wordwrap of a word": ("{{ ('a' * 900000)|wordwrap(1) }}", LARGE),
    "wordwrap": ("{{ ('a' * 1000000)|wordwrap(1, wrapstring='b' * 100000) }}", LARGE),
    "batch": ("{{ [1]|batch(1000000000, 'x')|list }}", LARGE),
    "batch by name": ("{{ [1]|batch(fill_with='x', linecount=1000000000)|list }}", LARGE),
    "slice": ("{{ [1]|slice(1000000000, 'x')|list }}", LARGE),
    "slice by name": ("{{ [1]|slice(slices=1000000000)|list }}", LARGE),
    "a width of nothing": ("{{ '{:3000000000}'.format('') }}", LARGE),
    "a width from a field": ("{{ '{:>{w}}'.format('a', w=3000000000) }}", LARGE),
    "a width from the seed": (
        "{{ '{:>{s[topic]}}'.format('a', s={'topic': 3000000000}) }}",
        LARGE,
    ),
    "a precision": ("{{ '{:,.1000000000f}'.format(1.0) }}", LARGE),
    "many widths in braces": ("{{ ('{0:99999}' * 40000).format('') }}", LARGE),
    "many widths by percent": ("{{ ('%(a)99999d' * 40000) % {'a': 1} }}", LARGE),
    "an indent of JSON": (
        "{{ seed|tojson(indent=1000000000) }}",
        ["a template indents JSON too far", "1,000", f"{PROMPT}, line 1"],
    ),
    "a text to indent JSON with": (
        "{{ seed|tojson(indent=' ' * 3000000) }}",
        ["a template indents JSON too far", f"{PROMPT}, line 1"],
    ),
    "a rounding": ("{{ 1.5|round(1000000000, 'ceil') }}", LARGE),
    "a rounding of a whole number": ("{{ 5|round(-1000000000) }}", LARGE),
    "a number as bytes": ("{{ (5).to_bytes(1000000000, 'big')|length }}", LARGE),
    "a number of many digits": ("{{ ('f' * 1000000)|int(0, 16) // 3 > 1 }}", LARGE),
    "tojson with an indent": ("{{ ([1] * 1000000)|tojson(indent=1000) }}", LARGE),
    "map": ("{{ range(99999)|map('center', 100000)|list }}", LARGE),
    "loops": (LOOPS, [LARGE[0], PROMPT]),
    "loops into a name": ("{% set x %}" + LOOPS + "{% endset %}", LARGE),
    "loops into a filter": ("{% filter upper %}" + LOOPS + "{% endfilter %}", LARGE),
    "loops in a macro": ("{% macro m() %}" + LOOPS + "{% endmacro %}{{ m()|length }}", LARGE),
    "loops in a caller": (
        "{% macro m() %}{% for i in range(9999) %}{{ caller() }}{% endfor %}{% endmacro %}"
        "{% call m() %}{% for i in range(9999) %}aaaaaaaaaa{% endfor %}{% endcall %}",
        [PROMPT, "template"],
    ),
    "empty loops": (
        LOOPS.replace(FORTY, "{% for k in range(99999) %}{% endfor %}"),
        ["a template loops too often", "1,000,000 turns", f"{PROMPT}, line 1"],
    ),
    "an include in a loop": (
        "{% set x %}{% for i in range(99999) %}{% include 'large.md' %}{% endfor %}{% endset %}",
        LARGE,
    ),
    "a range": ("{{ range(10000000000)|list }}", ["a template failed", "Range too big"]),
}


@pytest.mark.parametrize("kind", TEMPLATES)
def test_a_bad_template_fails_its_task(kind: str, workspace: Workspace, provider: Provider) -> None:
    """File and line, what was found, what is allowed; no memory is spent on what is too large;
    nothing is called."""
    template, phrases = TEMPLATES[kind]
    workspace.write("pipeline-config/tasks/research/large.md", "a" * 1_000_000)
    workspace.task("research", prompt="Say: " + template)
    said = failed(workspace, "popbuild", phrases)
    assert "stage  " in said
    assert "promptTemplating" in said
    assert provider.requests == []


EARLY = [
    "a width of nothing",
    "a width from a field",
    "a width from the seed",
    "a precision",
    "many widths in braces",
    "many widths by percent",
    "an indent of JSON",
    "a rounding",
    "a rounding of a whole number",
    "a number as bytes",
]


@pytest.mark.parametrize("kind", EARLY)
def test_a_bound_acts_before_the_memory_is_spent(kind: str) -> None:
    """A field's width and precision, and an indent, are known before the text is made."""
    templates = Templates(lambda path: TEMPLATES[kind][0], {})
    trace = ReadTrace(templates.budget)
    tracemalloc.start()
    try:
        with pytest.raises(TaskError, match=TEMPLATES[kind][1][0]):
            templates.render("prompt.md", {"seed": {"topic": "x"}}, trace)
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()


def test_a_mended_template_lets_the_job_go_on(workspace: Workspace, provider: Provider) -> None:
    """The failed job stands in current/ and is completed from there."""
    workspace.task("research", prompt="{{ seed.data.topik }}")
    failed(workspace, "doit", ["did you mean 'topic'?"])
    mended(workspace)
    assert len(provider.requests) == 2


def test_a_view_is_what_it_shows(workspace: Workspace, provider: Provider) -> None:
    """A template sees an object or a list of the seed as the plain one: no name of ours, a number
    is no key, and keys, values and items print as what they are."""
    workspace.seed("first", {"list": ["a", "b"], "object": {"0": "z", "n": {"m": 1}}})
    workspace.task(
        "research",
        prompt="{{ seed.data.list[true] }} {{ seed.data.object['0'] }}"
        "{% for key in (0, '0', 'x') %} {{ key in seed.data.object }}{% endfor %}"
        " {{ seed.data.object[0] is defined }} {{ seed.data.whole is defined }}"
        " {{ seed.data.list.whole is defined }} {{ seed.data.object.get('n') }}"
        " {{ seed.data.object.keys() }} {{ seed.data.object.values() }}"
        " {{ seed.data.object.items() }}",
    )
    workspace.task("analysis", prompt="{{ artifacts.keys() }} {{ artifacts.values() }}")
    provider.script(["Text.", "Text."])
    assert workspace.popbuild("run").code == 0
    assert provider.requests[0].said("user") == (
        "b z False True False False False False {'m': 1}"
        " ['0', 'n'] ['z', {'m': 1}] [('0', 'z'), ('n', {'m': 1})]"
    )
    assert provider.requests[1].said("user") == "['research'] [{'content': 'Text.'}]"
    assert workspace.popbuild("run").out == "-- first  up to date\n"


def test_templates_may_do_what_is_useful(workspace: Workspace, provider: Provider) -> None:
    """The bounds allow honest work: large numbers, loops, macros, filters, long texts."""
    workspace.seed("first", {"topic": "grid", "tags": ["a", "b"], "people": 1_400_000_000})
    workspace.task(
        "research",
        prompt="{% macro m(t) %}<{{ t|upper }}>{% endmacro %}"
        "{% set l = [] %}{% for t in seed.data.tags %}{{ l.append(m(t)) or '' }}{% endfor %}"
        "{{ l|join('; ') }} {{ '{:,}'.format(seed.data.people) }}"
        "{{ ('<{:{w}}>'|e).format('&', w=3) }}{{ '{a}'.format_map({'a': 1}) }}"
        " {{ '%d' % seed.data.people }}"
        " {{ seed.data.people|string }} {{ seed.data.nothing|default(5000000) }}"
        " {{ seed.data.tags|tojson(indent=1) }} {{ 'a' ~ 1 ~ [2] }} {{ [1, 2]|sum }}"
        " {{ [1, 2, 3]|batch(linecount=2, fill_with=0)|list }}"
        " {{ 'x y'|replace(' ', '-')|center(5) }}{% set x %}z{% endset %}{{ x * 3 }}\n"
        "{{ 'long ' * 100000 }}",
    )
    for _ in range(2):
        assert workspace.popbuild("run").code == 0
    text = provider.requests[0].said("user")
    assert text.startswith(
        "<A>; <B> 1,400,000,000&lt;&amp;  &gt;1 1400000000 1400000000 5000000 [\n"
    )
    assert "] a1[2] 3 [[1, 2], [3, 0]]  x-y zzz\nlong " in text
    assert len(text) > 500_000
    assert len(provider.requests) == 2


# --- stages ---


def returns(function: str, value: str) -> str:
    return f"def {function}(context):\n    return {value}\n"


def wrong(stage: str, found: str, allowed: str) -> list[str]:
    return ["a stage returned the wrong thing", stage, found, allowed]


DEEP = "def parsing(context):\n    a = []\n    for _ in range(100000): a = [a]\n    return a\n"
NO = "def validate_quality(context):\n    return ['no']\n"
PROBLEMS = "a list of problems: texts, or objects with message"
RAISED = ["a stage raised an exception", "research", "parsing"]
SETTING = ["a call has a setting that it cannot have", "research", "`config` of task.yaml"]


def raises(what: str) -> str:
    return f"import asyncio, os\n\n\ndef parsing(context):\n    raise {what}\n"


CODE: dict[str, tuple[str, list[str]]] = {
    "raises": (raises("ValueError('boom')"), [*RAISED, f"{STAGES}, line 5", "ValueError: boom"]),
    "raises a key": (
        raises("ValueError(os.environ['OPENAI_API_KEY'])"),
        [*RAISED, "ValueError: [OPENAI_API_KEY]"],
    ),
    "exits": (raises("SystemExit(0)"), [*RAISED, "line 5", "SystemExit: 0"]),
    "interrupts": (raises("KeyboardInterrupt"), [*RAISED, "line 5", "KeyboardInterrupt"]),
    "cancels": (raises("asyncio.CancelledError"), [*RAISED, "line 5", "CancelledError"]),
    "stops an iteration": (raises("StopIteration(3)"), [*RAISED, "line 5", "StopIteration: 3"]),
    "raises half a character": (raises(r"ValueError('\ud800')"), [*RAISED, r"\ud800"]),
    "raises a long text": (raises("ValueError('x' * 10**7)"), [*RAISED, "xxx…"]),
    "raises what has no text": (
        "class X(Exception):\n    def __str__(self):\n        return 1\n\n\n"
        "def parsing(context):\n    raise X\n",
        [*RAISED, "line 7", "X: (its text cannot be had)"],
    ),
    "cancels in async code": (
        "import asyncio\n\n\nasync def parsing(context):\n    raise asyncio.CancelledError\n",
        [*RAISED, "CancelledError"],
    ),
    "reads what is not there": (returns("parsing", "context.read('/x')"), ["no such value", "/x"]),
    "reads a wrong pointer": (returns("parsing", "context.read('x')"), [*RAISED, "begins with /"]),
    "reads what it does not need": (
        returns("parsing", "context.artifacts['analysis']"),
        [*RAISED, "analysis is not among the needed tasks"],
    ),
    "a document that is None": (returns("parsing", "None"), wrong("parsing", "None", "a document")),
    "a set": (returns("parsing", "{1}"), wrong("parsing", "set {1}", "a JSON document")),
    "NaN": (returns("parsing", "{'x': float('nan')}"), wrong("parsing", "nan", "a JSON document")),
    "half a character": (
        returns("parsing", r"{'x': '\ud800'}"),
        wrong("parsing", r"\ud800", "a JSON document"),
    ),
    "nested 100,000 deep": (DEEP, wrong("parsing", "list [[[", "a JSON document")),
    "a list in itself": (
        "def parsing(context):\n    a = []\n    a.append(a)\n    return a\n",
        wrong("parsing", "list [[[", "a JSON document"),
    ),
    "what cannot be shown": (
        "class X:\n    def __repr__(self):\n        raise ValueError\n\n\n"
        + returns("parsing", "X()"),
        wrong("parsing", "X <X instance", "a JSON document"),
    ),
    "an async generator": (
        "async def parsing(context):\n    yield 1\n",
        wrong("parsing", "async_generator", "a JSON document"),
    ),
    "infinity from integration": (
        returns("integration", "{'x': float('inf')}"),
        wrong("integration", "inf", "a JSON document"),
    ),
    "a text for problems": (
        returns("validate_quality", "'bad'"),
        wrong("validateQuality", "str 'bad'", PROBLEMS),
    ),
    "true for problems": (
        returns("validate_structure", "True"),
        wrong("validateStructure", "bool True", PROBLEMS),
    ),
    "numbers for problems": (
        returns("final_validation", "[1]"),
        wrong("finalValidation", "list [1]", PROBLEMS),
    ),
    "a number for a pointer": (
        returns("validate_quality", "[{'message': 'x', 'pointer': 5}]"),
        wrong("validateQuality", "'pointer': 5", PROBLEMS),
    ),
    "a list for variables": (
        returns("pre_processing", "[1]"),
        wrong("preProcessing", "list [1]", "an object"),
    ),
    "no messages": (
        returns("prompt_templating", "None"),
        ["not a conversation", "found    None", "promptTemplating"],
    ),
    "an empty conversation": (returns("prompt_templating", "[]"), ["not a conversation", "[]"]),
    "a message without content": (
        returns("prompt_templating", "[{'role': 'user'}]"),
        ["not a conversation", "[{'role': 'user'}]"],
    ),
    "a role that is no text": (
        returns("prompt_templating", "[{'role': 5, 'content': 'x'}]"),
        ["not a conversation", "'role': 5"],
    ),
    "a content that is no text": (
        returns("prompt_templating", "[{'role': 'user', 'content': 5}]"),
        ["not a conversation", "'content': 5"],
    ),
    "half a character to ask": (
        returns("prompt_templating", r"'x \ud800'"),
        ["messages must be JSON", "half a surrogate pair", "promptTemplating"],
    ),
    "a number for an answer": (returns("inference", "5"), wrong("inference", "int 5", "a text")),
    "a list of settings": (NO + returns("refine", "[1]"), wrong("refine", "list", "an object")),
    "settings that are no JSON": (
        NO + returns("refine", "{'temperature': object()}"),
        ["a call's settings and schema must be JSON", "refine"],
    ),
    "a model that is no text": (
        NO + returns("refine", "{'model': 5}"),
        [*SETTING, "refine", "/model: must be a string"],
    ),
    "a secret in a refinement": (
        NO + returns("refine", "{'extra_headers': {'X-Api-Key': 'x'}}"),
        [*SETTING, "refine", "/extra_headers/X-Api-Key: not allowed here: a secret", ".env"],
    ),
    "a secret in a call": (
        returns("parsing", "context.llm('x', extra_body=[{'password': 'x'}])"),
        [*SETTING, "parsing", "/extra_body/0/password: not allowed here: a secret", ".env"],
    ),
    "retries in a call": (
        returns("parsing", "context.llm('x', max_retries=5)"),
        [*SETTING, "/max_retries: not allowed here: popbuild decides this for every call"],
    ),
    "several settings in an async call": (
        "async def parsing(context):\n"
        "    await context.llm_async('x', stream=True, temperature=5)\n",
        [*SETTING, "/stream: not allowed here", "/temperature: 5 is outside the limit: at most 2"],
    ),
    "a number for a critique": (NO + returns("critique", "5"), wrong("critique", "int", "a text")),
    "a call with no messages": (
        returns("parsing", "context.llm(None)"),
        ["not a conversation", "parsing"],
    ),
    "a call with a schema that is no JSON": (
        returns("parsing", "context.llm('x', schema=object())"),
        ["a call's settings and schema must be JSON", "parsing"],
    ),
    "the main artifact": (
        returns("parsing", "context.files.write_artifact('research-output.json', {})"),
        ["the main artifact is written from the task's output", "parsing or integration"],
    ),
    "a file outside": (
        returns("parsing", "context.files.write_artifact('../x', {})"),
        ["not a valid file name", "'../x'", "letters, digits"],
    ),
    "a file that is a device": (
        returns("parsing", "context.files.write_log('NUL.txt', 'x')"),
        ["not a valid file name", "'NUL.txt'", "device name of Windows"],
    ),
    "a file of another task": (
        returns("parsing", "context.files.write_artifact('analysis-output.json', {})"),
        ["this file belongs to another task", "analysis-output.json", "belongs to"],
    ),
    "the file of a kept answer": (
        returns("parsing", "context.files.write_log('research-answer-0.txt', 'x')"),
        ["popbuild keeps prompts and answers", "files/logs/research-answer-0.txt"],
    ),
    "the file of another task's kept prompt": (
        returns("ingestion", "context.files.write_log('Analysis-Prompt-2-1.JSON', 'x', 'replace')"),
        ["popbuild keeps prompts and answers", "files/logs/Analysis-Prompt-2-1.JSON"],
    ),
    "files that differ by case": (
        "def parsing(context):\n"
        "    context.files.write_artifact('a.txt', '1')\n"
        "    context.files.write_artifact('A.txt', '2')\n",
        ["two files have the same name", "a.txt, A.txt", "upper and lower case"],
    ),
    "a file that is no JSON": (
        returns("parsing", "context.files.write_artifact('x.json', object())"),
        ["not a JSON value", "x.json"],
    ),
    "a file that is not there": (
        returns("parsing", "context.files.read_artifact('x.json')"),
        ["no such file", "files/artifacts/x.json"],
    ),
    "raises at import": ("raise RuntimeError('boom')\n", [f"{STAGES}, line 1", "Error: boom"]),
    "exits at import": ("import sys\nsys.exit(0)\n", [f"{STAGES}, line 2", "SystemExit: 0"]),
    "a stage that is not a function": (
        "from math import pi as parsing\n",
        ["a stage must be a function", "parsing = 3.14"],
    ),
}


@pytest.mark.parametrize("kind", CODE)
def test_a_bad_stage_fails_its_task(kind: str, workspace: Workspace, provider: Provider) -> None:
    """Task, stage, place, what was found, what is allowed; exit code 2; the answers that were
    paid for are kept; mended, the job goes on."""
    code, phrases = CODE[kind]
    workspace.task("research", stages=code)
    failed(workspace, "popbuild", phrases)
    assert len(provider.requests) <= 1
    mended(workspace)
    assert len(provider.requests) == 2


@pytest.mark.parametrize("kind", ["raises", "interrupts", "a set", "exits at import"])
def test_doit_says_the_same_of_a_bad_stage(kind: str, workspace: Workspace) -> None:
    """The same error and exit code through doit, and no word of doit's own."""
    code, phrases = CODE[kind]
    workspace.task("research", stages=code)
    failed(workspace, "doit", phrases)


def test_half_a_character_in_a_log_or_a_problem(workspace: Workspace, provider: Provider) -> None:
    """What UTF-8 cannot say is shown by its number: neither loses the job."""
    workspace.task(
        "research",
        stages="def validate_quality(context):\n"
        "    context.log.info('log \\ud800')\n"
        "    return ['problem \\udfff'] if context.cycle == 0 else []\n",
    )
    for _ in range(2):
        assert workspace.popbuild("run").code == 0
    folder = workspace.job("first") / "tasks/research"
    assert "log \\\\ud800" in (folder / "execution-logs.json").read_text()
    assert "problem \\\\udfff" in (folder / "letter.json").read_text()
    assert len(provider.requests) == 3
    assert "all valid" in workspace.popbuild("validate").out


@pytest.mark.parametrize("command", RUNS)
def test_a_traceback_holds_no_key(command: str, workspace: Workspace) -> None:
    """--debug shows the stage's traceback, with the key taken out; the exit code stays."""
    workspace.task("research", stages=raises("ValueError(os.environ['OPENAI_API_KEY'])"))
    result = workspace.run(*RUNS[command], "--debug", env={"OPENAI_API_KEY": KEY})
    assert result.code == 2
    assert "Traceback" in result.err
    assert "raise ValueError(os.environ['OPENAI_API_KEY'])" in result.err
    assert "ValueError: [OPENAI_API_KEY]" in result.err
    assert KEY not in result.err + result.out


# --- never returns ---

ENDLESS = {
    "a loop": "def parsing(context):\n    while True:\n        pass\n",
    "a sleep": "import time\n\n\ndef parsing(context):\n    time.sleep(1e6)\n",
    "an async loop": "async def parsing(context):\n    while True:\n        pass\n",
    "an async sleep": (
        "import asyncio\n\n\nasync def parsing(context):\n    await asyncio.sleep(1e6)\n"
    ),
    "a thread of an executor": (
        "import asyncio, time\n\n\n"
        "async def parsing(context):\n    await asyncio.to_thread(time.sleep, 1e6)\n"
    ),
    "a pool": (
        "import time\nfrom concurrent.futures import ThreadPoolExecutor\n\n\n"
        "def parsing(context):\n    with ThreadPoolExecutor() as pool:\n"
        "        pool.submit(time.sleep, 1e6).result()\n"
    ),
    "a loop that logs": "def parsing(context):\n    while True:\n        context.log.info('x')\n",
    "an import": "while True:\n    pass\n",
}


@pytest.mark.parametrize("command", RUNS)
@pytest.mark.parametrize("kind", ENDLESS)
def test_a_stage_that_never_returns(kind: str, command: str, workspace: Workspace) -> None:
    """Ended by the task's timeout; the command itself ends too, whatever still hangs."""
    workspace.task("research", stages=ENDLESS[kind], task_yaml="timeout: 0.3\n")
    failed(workspace, command, ["a stage took too long", "0.3 s", "timeout in task.yaml"])
    mended(workspace)


def test_a_stage_that_took_too_long_can_do_nothing_more(
    workspace: Workspace, provider: Provider
) -> None:
    """Whatever it catches: after its timeout it writes no file, no log, and calls no model, even
    while another job is built."""
    workspace.seed("second", {"topic": "x"})
    provider.hold(after=2)  # the third request is the other job's: it keeps the command alive
    workspace.task(
        "research",
        task_yaml="timeout: 0.3\n",
        stages="import threading\n\n\ndef validate_quality(context):\n"
        "    if context.job != 'first':\n        return []\n"
        "    while not context.is_revoked:\n        pass\n"
        "    for act in (\n"
        "        lambda: context.files.write_artifact('late.txt', 'x'),\n"
        "        lambda: context.log.info('late'),\n"
        "        lambda: context.llm('late'),\n"
        "        lambda: context.seed,\n"
        "    ):\n"
        "        try:\n            act()\n        except BaseException:\n            continue\n"
        "        open('slipped', 'w').close()\n"
        "    print('tried all', flush=True)\n",
    )
    running = workspace.start("popbuild", "run", "-c", "-n", "2")
    running.wait_for("tried all")
    provider.release()
    assert running.wait().code == 2
    assert workspace.states("first") == ["current"]
    assert workspace.states("second") == ["complete"]
    assert not (workspace.root / "slipped").exists()
    assert "late" not in "".join(path for path, _ in workspace.tree("pipeline-data/current"))
    assert all(request.said("user") != "late" for request in provider.requests)


# --- commands ---


def command_task(workspace: Workspace, argv: list[str], timeout_s: float = 20) -> None:
    entries = {"research": {"command": argv, "folder": "./research"}, "analysis": "./analysis"}
    workspace.write("pipeline-config/tasks/index.yaml", json.dumps(entries))
    workspace.task("research", task_yaml=f"timeout: {timeout_s}\n")


PROGRAMS: dict[str, tuple[list[str], float, list[str]]] = {
    "is not there": (["no-such-program"], 20, ["cannot be started", "no-such-program", "No such"]),
    "fails": (
        ["sh", "-c", "echo trouble >&2; exit 3"],
        20,
        ["a task's command failed", "exit code  3", "trouble"],
    ),
    "is killed": (["sh", "-c", "kill -9 $$"], 20, ["a task's command failed", "exit code  -9"]),
    "shows the key": (
        ["sh", "-c", "echo $OPENAI_API_KEY >&2; exit 1"],
        20,
        ["a task's command failed", "[OPENAI_API_KEY]"],
    ),
    "never ends": (["sleep", "1000000"], 0.3, ["a task's command took too long", "0.3 s"]),
    "leaves a child behind": (
        ["sh", "-c", "sleep 1000000 & echo $! > child"],
        0.5,
        ["a task's command took too long"],
    ),
    "complains without end": (["sh", "-c", "yes >&2"], 0.5, ["a task's command took too long"]),
    "writes without end": (["yes"], 60, ["a task's command wrote too much", "67,108,864 bytes"]),
    "is not UTF-8": (["printf", "\\377"], 20, ["text that is not UTF-8", "byte 0"]),
}


@pytest.mark.parametrize("kind", PROGRAMS)
def test_a_command_that_misbehaves(kind: str, workspace: Workspace, provider: Provider) -> None:
    """Named with its task, told apart, ended with all that it started; nothing is called."""
    argv, timeout_s, phrases = PROGRAMS[kind]
    command_task(workspace, argv, timeout_s)
    failed(workspace, "popbuild", phrases)
    assert provider.requests == []
    child = workspace.root / "pipeline-config/tasks/research/child"
    if kind == "leaves a child behind":
        state = Path(f"/proc/{child.read_text().strip()}/stat")
        assert not state.exists() or state.read_text().split()[2] == "Z"


def test_a_command_that_says_nothing_is_rejected(workspace: Workspace, provider: Provider) -> None:
    """An empty answer is no success, from a program either."""
    command_task(workspace, ["true"])
    refused(workspace, RUNS["popbuild"], 1, ["rejected at research", "the answer is empty"])
    assert provider.requests == []


@pytest.mark.slow
def test_a_stage_that_never_gives_the_interpreter_away(
    workspace: Workspace, provider: Provider
) -> None:
    """No timeout and no signal reaches it: the process ends itself, says where it hung, and the
    next run goes on without a call."""
    workspace.task("research", stages=_REGULAR, task_yaml={"timeout": 1})
    workspace.task("analysis", task_yaml={"timeout": 1})
    result = workspace.popbuild("run", "first", real=True)
    assert result.code == 1
    assert "Timeout (0:00:06)!" in result.err
    assert "in parsing" in result.err
    assert len(provider.requests) == 1
    (workspace.root / "pipeline-config/tasks/research/stages.py").unlink()
    assert workspace.popbuild("run", "first").code == 0
    assert len(provider.requests) == 2


_REGULAR = """
import re

def parsing(context):
    re.match("(a+)+$", "a" * 60 + "b")
"""


@pytest.mark.parametrize("stage", ["parsing", "integration"])
def test_a_key_in_the_document_of_a_stage_is_taken_out(
    stage: str, workspace: Workspace, provider: Provider
) -> None:
    """As in every other file: values and names of fields, keys of the environment and what looks
    like one. The gate judges what then stands on disk, and nothing is edited by hand."""
    looks_like_one = "sk-nobody-knows-this-one"
    workspace.task("analysis", prompt="Analysis of: {{ artifacts.research }}")
    workspace.task(
        "research",
        schema={"properties": {"at": {"const": "[OPENAI_API_KEY]"}}},
        stages="import os\n\n\n"
        f"def {stage}(context):\n"
        "    key = os.environ['OPENAI_API_KEY']\n"
        f"    return {{'at': key, key: [1, {{'a': 'b\\n{looks_like_one}'}}], 'n': None}}\n",
    )
    for _ in range(2):
        result = workspace.popbuild("run", env={"OPENAI_API_KEY": KEY})
        assert result.code == 0, result.err
        nothing_leaked(workspace, result.out + result.err)
    assert result.out == "-- first  up to date\n"
    assert workspace.artifact("first", "research") == {
        "at": "[OPENAI_API_KEY]",
        "[OPENAI_API_KEY]": [1, {"a": "b\n[key]"}],
        "n": None,
    }
    assert len(provider.requests) == 2


def test_a_key_in_a_file_of_a_stage_is_taken_out(workspace: Workspace, provider: Provider) -> None:
    """Artifacts, logs and temporary files, as text, JSON or bytes, a key of several lines too;
    bytes that are no text stay as they are."""
    lines = "-----BEGIN KEY-----\nRECOGNISABLE=\n-----END KEY-----"
    env = {"OPENAI_API_KEY": KEY, "VERTEX_PRIVATE_KEY": lines}
    workspace.task(
        "research",
        stages="import os\n\n\n"
        "def ingestion(context):\n"
        "    files, found = context.files, dict(os.environ)\n"
        "    files.write_log('env.log', str(found))\n"
        "    files.write_log('env.log', found['VERTEX_PRIVATE_KEY'])\n"
        "    files.write_artifact('env.json', found)\n"
        "    files.write_tmp('env.bin', b'\\xff\\x00' + found['OPENAI_API_KEY'].encode())\n",
    )
    for _ in range(2):
        result = workspace.popbuild("run", env=env)
        assert result.code == 0, result.err
    files = workspace.job("first") / "files"
    log = (files / "logs/env.log").read_text()
    assert "'OPENAI_API_KEY': '[OPENAI_API_KEY]'" in log
    assert "'VERTEX_PRIVATE_KEY': '[VERTEX_PRIVATE_KEY]'" in log
    assert log.endswith("}[VERTEX_PRIVATE_KEY]")
    assert workspace.artifact("first", "env.json")["VERTEX_PRIVATE_KEY"] == "[VERTEX_PRIVATE_KEY]"
    assert (files / "tmp/env.bin").read_bytes() == b"\xff\x00[OPENAI_API_KEY]"
    nothing_leaked(workspace, result.out + result.err)
    holders = [p for p in workspace.root.rglob("*") if p.is_file() and b"RECOGN" in p.read_bytes()]
    assert holders == []
    assert len(provider.requests) == 2
