"""The eleven stages: their log, stages.py, refinements, commands, files, imports, parsing."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest
import yaml
from provider import Provider, Reply
from workspace import Workspace

STAGES = (
    "ingestion preProcessing promptTemplating inference parsing validateStructure "
    "validateQuality critique refine finalValidation integration"
).split()

TITLED = {
    "type": "object",
    "properties": {"title": {"type": "string", "minLength": 3}},
    "required": ["title"],
    "additionalProperties": False,
}
GOOD, SHORT = '{"title": "Batteries"}', '{"title": "B"}'


def alone(workspace: Workspace, **files: Any) -> None:
    """A pipeline of the one task `research`, with these files."""
    workspace.task("research", **files)
    workspace.pipeline(["research"])


def log(workspace: Workspace, task: str = "research", state: str = "complete") -> list[Any]:
    path = workspace.job("first", state) / "tasks" / task / "execution-logs.json"
    entries: list[Any] = json.loads(path.read_bytes())
    return entries


def outcomes(entries: list[Any], cycle: int) -> list[tuple[str, str]]:
    """What became of each stage in a cycle, in the order of the log."""
    found = [each for each in entries if "outcome" in each and each["cycle"] == cycle]
    assert all(each["message"] for each in found)
    return [(each["stage"], each["outcome"]) for each in found]


def run(workspace: Workspace, code: int = 0, **options: Any) -> str:
    """Run the job `first`; gives what was said."""
    result = workspace.popbuild("run", "first", **options)
    assert result.code == code, result.out + result.err
    assert "Traceback" not in result.err
    return result.out + result.err


def test_the_log_has_every_stage_of_a_task_that_passed(
    workspace: Workspace, provider: Provider
) -> None:
    """All eleven stages in order; critique and refine skipped, with the reason."""
    run(workspace)
    for task in ("research", "analysis"):
        entries = log(workspace, task)
        skipped = {"critique": "skipped", "refine": "skipped"}
        assert outcomes(entries, 0) == [(stage, skipped.get(stage, "done")) for stage in STAGES]
        reasons = [each["message"] for each in entries if each["outcome"] == "skipped"]
        assert reasons == ["the gates passed"] * 2
    run(workspace)
    assert len(provider.requests) == 2


def test_the_log_has_every_stage_of_every_cycle(workspace: Workspace, provider: Provider) -> None:
    """A refinement starts again at promptTemplating; what was left out says why."""
    alone(workspace, schema=TITLED)
    provider.script([SHORT, GOOD])
    run(workspace)
    entries = log(workspace)
    assert outcomes(entries, 0) == [
        *[(stage, "done") for stage in STAGES[:5]],
        ("validateStructure", "failed"),
        ("validateQuality", "skipped"),
        ("critique", "done"),
        ("refine", "done"),
        ("finalValidation", "skipped"),
        ("integration", "skipped"),
    ]
    left_out = {"ingestion", "preProcessing", "critique", "refine"}
    assert outcomes(entries, 1) == [
        (stage, "skipped" if stage in left_out else "done") for stage in STAGES
    ]
    (failed,) = [each for each in entries if each.get("outcome") == "failed"]
    assert failed["problems"] == [
        {
            "message": "too short: 1 characters, at least 3",
            "pointer": "/title",
            "schemaPath": "/properties/title/minLength",
        }
    ]
    assert workspace.status("first")["tasks"]["research"]["refinementAttempts"] == 1
    assert workspace.letter("first", "research")["refinementAttempts"] == 1
    run(workspace)
    assert len(provider.requests) == 2


ONCE = "return ['not yet'] if context.cycle == 0 else []"
FAILURES: dict[str, tuple[str, str | Reply]] = {
    "inference": ("", Reply("", "stop")),
    "parsing": ("", "no document here"),
    "validateStructure": ("", SHORT),
    "validateQuality": (f"def validate_quality(context): {ONCE}", GOOD),
    "finalValidation": (f"def final_validation(context): {ONCE}", GOOD),
    "integration": (
        "def integration(context): return {'title': 'B'} if context.cycle == 0 else None",
        GOOD,
    ),
}


@pytest.mark.parametrize("stage", FAILURES)
def test_wherever_a_gate_fails_each_stage_has_one_entry_a_cycle(
    stage: str, workspace: Workspace, provider: Provider
) -> None:
    """The stage that failed says so, with its problems; every other is there once."""
    code, first = FAILURES[stage]
    alone(workspace, schema=TITLED, stages=code or "# nothing\n")
    provider.script([first, GOOD])
    run(workspace)
    entries = log(workspace)
    for cycle in (0, 1):
        found = outcomes(entries, cycle)
        assert sorted(name for name, _ in found) == sorted(STAGES)
    first_cycle = dict(outcomes(entries, 0))
    assert [name for name, outcome in first_cycle.items() if outcome == "failed"] == [stage]
    assert (first_cycle["critique"], first_cycle["refine"]) == ("done", "done")
    (failed,) = [each for each in entries if each.get("outcome") == "failed"]
    assert failed["problems"]
    letter = workspace.letter("first", "research")
    assert [each["stage"] for each in letter["validation"] if each["problems"]] == [stage]
    assert workspace.popbuild("validate").out.endswith("all valid\n")
    run(workspace)
    assert len(provider.requests) == 2


@pytest.mark.parametrize("stage", FAILURES)
def test_a_rejected_jobs_log_is_whole_too(
    stage: str, workspace: Workspace, provider: Provider
) -> None:
    """Without a refinement left, what comes behind the failed stage is skipped, with the reason."""
    code, first = FAILURES[stage]
    alone(workspace, schema=TITLED, stages=code or "# nothing\n")
    workspace.task("research", task_yaml={"gate": {"refinements": 0}})
    provider.script([first])
    run(workspace, code=1)
    found = outcomes(log(workspace, state="rejected"), 0)
    assert sorted(name for name, _ in found) == sorted(STAGES)
    assert [name for name, outcome in found if outcome == "failed"] == [stage]
    assert len(provider.requests) == 1


# --- stages.py ---

PROMPT = "Say {{ variables.word | default('nothing') }}."
FAIL_ONCE = f"def validate_quality(context): {ONCE}\n"
INPUT = "def integration(context): return {'content': str(context.input['n'])}\n"

# The function's body, further code, the last request's last message, the artifact's content.
OWN: dict[str, tuple[str, str, str | None, str]] = {
    "ingestion": ("return {'n': 3}", INPUT, "Say nothing.", "3"),
    "pre_processing": ("return {'word': 'hello'}", "", "Say hello.", "one"),
    "prompt_templating": ("return [{'role': 'user', 'content': 'Mine.'}]", "", "Mine.", "one"),
    "inference": ("return 'my own'", "", None, "my own"),
    "parsing": ("return {'content': context.answer.upper()}", "", "Say nothing.", "ONE"),
    "validate_structure": (ONCE, "", "- not yet", "two"),
    "validate_quality": (ONCE, "", "- not yet", "two"),
    "critique": ("return f'Bad: {context.problems[0]}'", FAIL_ONCE, "Bad: {'message'", "two"),
    "refine": ("return {'temperature': 0.125}", FAIL_ONCE, "- not yet", "two"),
    "final_validation": (ONCE, "", "- not yet", "two"),
    "integration": ("return {'content': context.output['content'] + '!'}", "", None, "one!"),
}


@pytest.mark.parametrize("keyword", ["def", "async def"])
@pytest.mark.parametrize("function", OWN)
def test_any_single_stage_may_be_a_function(
    function: str, keyword: str, workspace: Workspace, provider: Provider
) -> None:
    """Plain or async, its result is what the next stage works with; the others stay as they are."""
    body, more, asked, content = OWN[function]
    alone(workspace, prompt=PROMPT, stages=f"{keyword} {function}(context):\n    {body}\n{more}")
    provider.script(["one", "two"])
    run(workspace)
    assert workspace.artifact("first", "research") == {"content": content}
    if function == "inference":
        assert provider.requests == []
    if asked is not None:
        assert asked in provider.requests[-1].said("user")
    if function == "refine":
        assert [each.body.get("temperature") for each in provider.requests] == [None, 0.125]
    own = [each["stage"] for each in log(workspace) if each["message"] == "done (stages.py)"]
    stage = STAGES[list(OWN).index(function)]
    assert stage in own or function.startswith(("validate", "final"))
    before = len(provider.requests)
    assert "up to date" in run(workspace)
    assert len(provider.requests) == before


@pytest.mark.parametrize(
    "call",
    [
        "def inference(context):\n    ask = context.llm\n    first = ask('Draft.')\n"
        "    return ask(f'Better: {first.text}', temperature=0.25)",
        "async def inference(context):\n    ask = context.llm_async\n"
        "    first = await ask('Draft.')\n"
        "    return await ask(f'Better: {first.text}', temperature=0.25)",
    ],
)
def test_a_stage_calls_the_model_itself(
    call: str, workspace: Workspace, provider: Provider
) -> None:
    """Every call of a stage is paid for once, kept in the store and recorded in the letter."""
    alone(workspace, stages=call)
    provider.script(["one", "two"])
    run(workspace)
    assert [each.said("user") for each in provider.requests] == ["Draft.", "Better: one"]
    assert provider.requests[1].body["temperature"] == 0.25
    assert workspace.artifact("first", "research") == {"content": "two"}
    calls = workspace.letter("first", "research")["calls"]
    assert [(each["stage"], each["stored"]) for each in calls] == [("inference", False)] * 2
    workspace.popbuild("run", "first", "-a")
    assert len(provider.requests) == 2


WRONG = {
    "pre_processing": "return 3",
    "prompt_templating": "return [{'role': 'user'}]",
    "inference": "return {'content': 'x'}",
    "parsing": "return None",
    "validate_structure": "return 'a text'",
    "validate_quality": "return [3]",
    "critique": "return None",
    "refine": "return 'hotter'",
    "final_validation": "return True",
    "integration": "return {1, 2}",
}


@pytest.mark.parametrize("function", WRONG)
def test_a_stage_that_returns_the_wrong_thing_is_an_error(
    function: str, workspace: Workspace, provider: Provider
) -> None:
    """It names task and stage, the job stays in current/, the log shows where it ended."""
    more = FAIL_ONCE if function in ("critique", "refine") else ""
    alone(workspace, stages=f"def {function}(context):\n    {WRONG[function]}\n{more}")
    said = run(workspace, code=2)
    stage = STAGES[list(OWN).index(function)]
    assert stage in said
    assert workspace.states("first") == ["current"]
    status = workspace.status("first", "current")
    assert status["state"] == "failed"
    assert status["tasks"]["research"]["state"] == "error"
    found = outcomes(log(workspace, state="current"), 0)
    assert [name for name, outcome in found if outcome == "error"] == [stage]
    assert sorted(name for name, _ in found) == sorted(STAGES)
    sent = len(provider.requests)
    workspace.task("research", stages="# mended\n")
    run(workspace)
    assert len(provider.requests) == max(sent, 1)


def test_a_stage_that_raises_is_named_with_file_and_line(
    workspace: Workspace, provider: Provider
) -> None:
    """A crash is exit code 2, without a traceback unless asked for; what was paid for is kept."""
    alone(workspace, stages="def parsing(context):\n    return {}['x']\n")
    said = run(workspace, code=2)
    assert "tasks/research/stages.py, line 2" in said
    assert "KeyError: 'x'" in said
    for debug in (["--debug"], []):
        result = workspace.popbuild("run", "first", *debug, env={} if debug else DEBUG)
        assert result.code == 2
        assert "Traceback" in result.err
        assert 'stages.py", line 2, in parsing' in result.err
    assert len(provider.requests) == 1
    workspace.task("research", stages="def parsing(context):\n    return {'content': 'ok'}\n")
    run(workspace)
    assert len(provider.requests) == 1


DEBUG = {"POPBUILD_DEBUG": "1"}


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("def validateQuality(context):\n    return []\n", "validate_quality"),
        ("import nothing_of_this_name\n", "nothing_of_this_name"),
    ],
)
def test_code_that_cannot_be_used_is_an_error(
    code: str, found: str, workspace: Workspace, provider: Provider
) -> None:
    """A stage's misspelt name, a missing import: named, and nothing is called."""
    alone(workspace, stages=code)
    assert found in run(workspace, code=2)
    assert provider.requests == []
    assert workspace.status("first", "current")["tasks"]["research"]["state"] == "error"
    found_stages = outcomes(log(workspace, state="current"), 0)
    assert found_stages == [(stage, "skipped") for stage in STAGES]


def test_code_that_is_not_python_is_found_before_anything_is_built(
    workspace: Workspace, provider: Provider
) -> None:
    """A syntax error in a later task's code costs no call of an earlier task."""
    workspace.task("analysis", stages="def parsing(context:\n")
    said = run(workspace, code=3)
    assert "tasks/analysis/stages.py" in said
    assert provider.requests == []
    assert workspace.states("first") == []


def test_what_a_stage_logs_stands_in_its_log_without_keys(workspace: Workspace) -> None:
    """The logger's lines are in execution-logs.json with stage and level; a key never is."""
    alone(
        workspace,
        stages="import os\n\n\ndef ingestion(context):\n"
        "    context.log.warning('key %s', os.environ['OPENAI_API_KEY'])\n"
        "    context.flags['seen'] = True\n\n\n"
        "def integration(context):\n    context.log.info('flag %s', context.flags['seen'])\n",
    )
    run(workspace)
    lines = [each for each in log(workspace) if "outcome" not in each]
    assert [(each["stage"], each["level"], each["message"]) for each in lines] == [
        ("ingestion", "warning", "key [OPENAI_API_KEY]"),
        ("integration", "info", "flag True"),
    ]


# --- refinements ---


def test_a_refinement_continues_the_conversation(workspace: Workspace, provider: Provider) -> None:
    """Templates that ignore the problems: the failed answer and the problems are appended."""
    alone(workspace, system="Be brief.", schema=TITLED)
    provider.script(['{"title": "A"}', '{"name": "B"}', GOOD])
    run(workspace)
    first, second, third = (each.messages for each in provider.requests)
    assert [each["role"] for each in first] == ["system", "user"]
    assert second[:2] == first
    assert third[:2] == first
    assert second[2] == {"role": "assistant", "content": '{"title": "A"}'}
    assert "- /title: too short: 1 characters, at least 3" in second[3]["content"]
    assert [each["role"] for each in third] == ["system", "user", "assistant", "user"]
    assert third[2]["content"] == '{"name": "B"}'
    assert "missing 'title'" in third[3]["content"]
    run(workspace)
    assert len(provider.requests) == 3


@pytest.mark.parametrize(
    ("template", "asked"),
    [
        (
            "Title.{% for p in problems %} Mend {{ p.pointer }}: {{ p.message }}.{% endfor %}",
            "Title. Mend /title: too short: 1 characters, at least 3.",
        ),
        ("Title.{% if previous %} Not {{ previous }}.{% endif %}", f"Title. Not {SHORT}."),
        ("Title.{% include 'mend.md' %}", "Title.1 problems"),
    ],
)
def test_a_template_may_put_the_problems_itself(
    template: str, asked: str, workspace: Workspace, provider: Provider
) -> None:
    """A template, or one that it includes, that uses them gets no appended messages."""
    alone(workspace, prompt=template, schema=TITLED)
    part = "{% if problems %}{{ problems | length }} problems{% endif %}"
    workspace.write("pipeline-config/tasks/research/mend.md", part)
    provider.script([SHORT, GOOD])
    run(workspace)
    assert [each.messages for each in provider.requests] == [
        [{"role": "user", "content": "Title."}],
        [{"role": "user", "content": asked}],
    ]
    run(workspace)
    assert len(provider.requests) == 2


@pytest.mark.parametrize("refinements", [0, 1, 2])
def test_no_more_refinements_than_configured(
    refinements: int, workspace: Workspace, provider: Provider
) -> None:
    """After the last one the job is rejected: 1 + refinements calls, never more."""
    alone(workspace, schema=TITLED, task_yaml={"gate": {"refinements": refinements}})
    provider.answer = lambda request: Reply(SHORT)
    run(workspace, code=1)
    assert len(provider.requests) == 1 + refinements
    assert workspace.states("first") == ["rejected"]
    status = workspace.status("first", "rejected")
    assert status["tasks"]["research"]["refinementAttempts"] == refinements
    entries = log(workspace, state="rejected")
    assert {each["cycle"] for each in entries} == set(range(refinements + 1))


def test_a_draw_that_repeats_its_request_is_another_sample(
    workspace: Workspace, provider: Provider
) -> None:
    """A template without a word on the problems, and a critique that changes nothing: the
    second request is another draw, not the stored answer again."""
    alone(
        workspace,
        schema=TITLED,
        stages="def prompt_templating(context):\n    return 'Title.'\n",
    )
    provider.script([SHORT, GOOD])
    run(workspace)
    one, two = provider.requests
    assert one.messages == two.messages
    calls = workspace.letter("first", "research")["calls"]
    assert [each["sample"] for each in calls] == [0, 1]


def test_every_prompt_and_raw_answer_is_kept(workspace: Workspace, provider: Provider) -> None:
    """Each cycle's prompt and answer stand among the task's logs, and in its index."""
    alone(workspace, schema=TITLED)
    provider.script([SHORT, GOOD])
    run(workspace)
    logs = workspace.job("first") / "files/logs"
    names = [f"research-{what}" for what in ("prompt-0.json", "answer-0.txt")]
    names += [f"research-{what}" for what in ("prompt-1.json", "answer-1.txt")]
    assert workspace.status("first")["tasks"]["research"]["files"]["logs"] == names
    assert (logs / "research-answer-0.txt").read_text() == SHORT
    assert json.loads((logs / "research-prompt-1.json").read_bytes()) == (
        provider.requests[1].messages
    )


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_every_call_of_code_is_kept(kind: str, workspace: Workspace, provider: Provider) -> None:
    """What stages.py asks with other messages than the kept prompt is kept beside it, in order,
    in each cycle; what it asks with those is not kept twice."""
    call, how = (
        ("await context.llm_async", "async def") if kind == "async" else ("context.llm", "def")
    )
    code = (
        f"{how} inference(context):\n"
        f"    first = {call}('Draft.')\n"
        f"    {call}([*context.messages, {{'role': 'user', 'content': first.text}}])\n"
        f"    return {call}(context.messages)\n"
    )
    alone(workspace, schema=TITLED, stages=code)
    provider.script(["one", "two", SHORT, "three", "four", GOOD])
    run(workspace)
    logs = workspace.job("first") / "files/logs"
    names = workspace.status("first")["tasks"]["research"]["files"]["logs"]
    sent = provider.requests
    kept = {"0-1": 0, "0-2": 1, "0": 2, "1-1": 3, "1-2": 4, "1": 5}
    assert sorted(names) == sorted(
        [f"research-prompt-{each}.json" for each in kept]
        + [f"research-answer-{each}.txt" for each in kept]
    )
    for each, number in kept.items():
        prompt = json.loads((logs / f"research-prompt-{each}.json").read_bytes())
        assert prompt == sent[number].messages
    answers = [(logs / f"research-answer-{each}.txt").read_text() for each in kept]
    assert answers == ["one", "two", SHORT, "three", "four", GOOD]
    before = len(sent)
    run(workspace)
    assert len(provider.requests) == before


def test_tasks_with_long_names_that_begin_alike_do_not_share_files(
    workspace: Workspace, provider: Provider
) -> None:
    """The names of kept prompts and answers are the task's own, however long its name is."""
    names = ["x" * 50 + "a", "x" * 50 + "b"]
    for name in names:
        workspace.task(name, prompt=f"Say {name[-1]}.")
    workspace.pipeline(names)
    run(workspace)
    files = [workspace.status("first")["tasks"][name]["files"]["logs"] for name in names]
    assert [len(each) for each in files] == [2, 2]
    assert not set(files[0]) & set(files[1])


# --- commands ---


def commanded(workspace: Workspace, *command: str, **files: Any) -> None:
    """The task `research` is this command; `analysis` stays a prompt about it."""
    workspace.pipeline(["research", "analysis"], {"research": {"temperature": 0.5}})
    registry = {"research": {"command": list(command)}, "analysis": "./analysis"}
    workspace.write("pipeline-config/tasks/index.yaml", yaml.safe_dump(registry))
    for name, content in files.items():
        workspace.write(f"pipeline-config/tasks/research/{name.replace('_py', '.py')}", content)


def test_a_task_may_be_a_shell_script(workspace: Workspace, provider: Provider) -> None:
    """It gets JSON on stdin, and what it prints is the answer; its stderr stands in the log."""
    script = 'topic=$(sed -n \'s/.*"topic": "\\(.*\\)".*/\\1/p\')\necho "On $topic"\necho odd >&2\n'
    commanded(workspace, "sh", "work.sh", **{"work.sh": script})
    (workspace.root / "pipeline-config/tasks/research/prompt.md").unlink()
    run(workspace)
    assert workspace.artifact("first", "research") == {"content": "On grid batteries"}
    assert [each.said("user") for each in provider.requests] == ["Analysis of: On grid batteries"]
    entries = log(workspace)
    assert ("promptTemplating", "skipped") in outcomes(entries, 0)
    assert [each["message"] for each in entries if "outcome" not in each] == ["odd"]
    assert "up to date" in run(workspace)
    workspace.write("pipeline-config/tasks/research/work.sh", script + "# an edit\n")
    assert "work.sh changed" in run(workspace)


def test_a_command_gets_everything_as_json_and_is_refined(
    workspace: Workspace, provider: Provider
) -> None:
    """Job, task, seed, artifacts, config; in a refinement the problems and the answer before."""
    workspace.task("research", schema={"type": "object", "required": ["good"]})
    code = (
        "import json, sys\ngiven = json.load(sys.stdin)\n"
        "print(json.dumps({'given': given} | ({'good': 1} if given['problems'] else {})))\n"
    )
    commanded(workspace, "python3", "work.py", work_py=code)
    workspace.task("analysis", prompt="Go on.")
    run(workspace)
    given = workspace.artifact("first", "research")["given"]
    assert given["job"] == "first"
    assert given["task"] == "research"
    assert given["seed"] == workspace.read("seeds/first.json")
    assert given["artifacts"] == {}
    assert given["config"] == {"model": "openai/gpt-4o-mini", "temperature": 0.5}
    assert given["cycle"] == 1
    assert [each["message"] for each in given["problems"]] == ["missing 'good'"]
    previous = json.loads(given["previous"])
    assert (previous["given"]["cycle"], previous["given"]["previous"]) == (0, "")
    assert len(provider.requests) == 1
    run(workspace)
    assert len(provider.requests) == 1


def test_a_command_sees_the_artifacts_that_it_needs(
    workspace: Workspace, provider: Provider
) -> None:
    """A command behind another task gets its artifact, and is stale when that changes."""
    workspace.pipeline(["research", "analysis"])
    code = "import json, sys\ngiven = json.load(sys.stdin)\nprint(given['artifacts']['research'])\n"
    registry = {"research": "./research", "analysis": {"command": ["python3", "work.py"]}}
    workspace.write("pipeline-config/tasks/index.yaml", yaml.safe_dump(registry))
    workspace.write("pipeline-config/tasks/analysis/work.py", code)
    provider.script(["one", "two"])
    for said in ("one", "two"):
        run(workspace)
        assert workspace.artifact("first", "analysis") == {"content": str({"content": said})}
        workspace.task("research", prompt="Otherwise: {{ seed.data.topic }}")


def test_a_command_is_run_without_a_shell(workspace: Workspace) -> None:
    """Its arguments arrive as they are written."""
    commanded(workspace, "echo", "$HOME; `ls` *", **{"x.txt": "x"})
    run(workspace)
    assert workspace.artifact("first", "research") == {"content": "$HOME; `ls` *"}


@pytest.mark.parametrize(
    ("command", "found"),
    [
        (["sh", "-c", "echo broken >&2; exit 3"], ["exit code  3", "broken"]),
        (["no-such-program-anywhere"], ["cannot be started", "No such file"]),
        (["sh", "-c", "printf '\\377'"], ["not UTF-8"]),
        (["sh", "-c", "kill -9 $$"], ["exit code  -9"]),
    ],
)
def test_a_command_that_fails_is_an_error(
    command: list[str], found: list[str], workspace: Workspace, provider: Provider
) -> None:
    """The job stays in current/ with the task in error, and the next run goes on from there."""
    commanded(workspace, *command, **{"x.txt": "x"})
    said = run(workspace, code=2)
    for text in found:
        assert text in said
    assert workspace.status("first", "current")["tasks"]["research"]["state"] == "error"
    assert workspace.status("first", "current")["tasks"]["analysis"]["state"] == "pending"
    assert provider.requests == []
    commanded(workspace, "echo", "mended")
    run(workspace)
    assert len(provider.requests) == 1


def test_a_command_that_prints_nothing_fails_its_gate(
    workspace: Workspace, provider: Provider
) -> None:
    """An empty answer fails, whether a model or code gave it."""
    commanded(workspace, "true", **{"x.txt": "x"})
    assert "the answer is empty" in run(workspace, code=1)
    assert workspace.states("first") == ["rejected"]
    assert provider.requests == []


def test_a_command_that_never_ends_is_killed_with_its_children(workspace: Workspace) -> None:
    """The timeout ends the whole process group: nothing holds on to the command's output."""
    code = "import subprocess\nsubprocess.run(['sleep', '600'])\n"
    workspace.task("research", task_yaml={"timeout": 0.5})
    commanded(workspace, "python3", "work.py", work_py=code)
    said = run(workspace, code=2)
    assert "too long" in said
    assert "0.5 s" in said


# --- timeouts ---

FOREVER = "    import threading\n    threading.Event().wait()\n"


@pytest.mark.parametrize("stage", ["ingestion", "parsing", "validate_quality"])
def test_a_stage_that_never_returns_is_an_error(
    stage: str, workspace: Workspace, provider: Provider
) -> None:
    """After its timeout the job stays in current/; the answer that was paid for is not lost."""
    alone(
        workspace,
        stages=f"def {stage}(context):\n{FOREVER}",
        task_yaml={"timeout": 0.3},
    )
    said = run(workspace, code=2)
    assert "a stage took too long" in said
    assert "0.3 s" in said
    assert workspace.status("first", "current")["tasks"]["research"]["state"] == "error"
    workspace.task("research", stages="# mended\n")
    run(workspace)
    assert len(provider.requests) == 1


def test_an_async_stage_that_never_returns_is_an_error(workspace: Workspace) -> None:
    """Its own event loop is left to itself."""
    code = "import asyncio\n\n\nasync def parsing(context):\n    await asyncio.Event().wait()\n"
    alone(workspace, stages=code, task_yaml={"timeout": 0.3})
    assert "a stage took too long" in run(workspace, code=2)


def test_waiting_for_the_model_does_not_count_as_the_stages_time(
    workspace: Workspace, provider: Provider
) -> None:
    """A timeout shorter than the model's answer lets a stage that calls it pass."""
    alone(
        workspace,
        stages="def inference(context):\n    return context.llm('Slowly.')\n",
        task_yaml={"timeout": 0.5},
    )
    provider.script([Reply("late", delay_s=1.2)])
    run(workspace)
    assert workspace.artifact("first", "research") == {"content": "late"}


LATE = """
import os
import urllib.request


def ingestion(context):
    if context.job != "first":
        return
    try:
        while True:
            context.read("/name")
    except Exception:
        pass
    for act in (
        lambda: context.files.write_artifact("late.txt", "late"),
        lambda: context.files.write_log("late.log", "late"),
        lambda: context.llm("late"),
        lambda: context.render("prompt.md"),
    ):
        try:
            act()
        except Exception:
            continue
        return
    mark = urllib.request.Request(os.environ["OPENAI_BASE_URL"] + "/mark", method="PUT")
    try:
        urllib.request.urlopen(mark)
    except OSError:
        pass
"""


def test_a_stage_that_outlives_its_timeout_writes_nothing_more(
    workspace: Workspace, provider: Provider
) -> None:
    """Its context is revoked: no file, no read, no call, while other jobs go on."""
    alone(workspace, stages=LATE, task_yaml={"timeout": 0.3})
    workspace.seed("other", {"topic": "wind", "tone": "plain"})
    provider.hold()
    running = workspace.start("popbuild", "run", "-c")
    provider.wait_for(2)
    provider.release()
    result = running.wait()
    assert result.code == 2, result.out + result.err
    assert sorted(each.path for each in provider.requests) == ["/v1/chat/completions", "/v1/mark"]
    assert workspace.states("other") == ["complete"]
    assert workspace.states("first") == ["current"]
    assert list(workspace.job("first", "current").glob("files/*/*")) == []


# --- files ---

WRITES = """
def ingestion(context):
    files = context.files
    files.write_artifact("table.json", {"b": 1, "a": [1, 2]})
    files.write_artifact("notes.txt", "draft")
    files.write_artifact("notes.txt", "final")
    files.write_artifact("notes.txt", ", more", mode="append")
    files.write_log("work.log", "one\\n")
    files.write_log("work.log", "two\\n")
    files.write_log("only.log", "first", mode="replace")
    files.write_log("only.log", "last", mode="replace")
    files.write_tmp("raw.bin", b"\\x00\\xff")
    assert files.read_log("work.log") == "one\\ntwo\\n"
    assert files.read_artifact("notes.txt") == "final, more"
    assert "raw.bin" in files.names("tmp")
"""


def test_files_are_written_read_appended_and_indexed(workspace: Workspace) -> None:
    """Every write lands in the job's and the task's index; a new attempt begins its logs anew."""
    workspace.task("research", stages=WRITES)
    workspace.task(
        "analysis",
        stages="def ingestion(context):\n"
        "    context.files.write_tmp('seen.txt', context.files.read_artifact('notes.txt'))\n",
    )
    run(workspace)
    files = workspace.job("first") / "files"

    def check() -> None:
        assert workspace.artifact("first", "table.json") == {"a": [1, 2], "b": 1}
        assert (files / "artifacts/notes.txt").read_text() == "final, more"
        assert (files / "logs/work.log").read_text() == "one\ntwo\n"
        assert (files / "logs/only.log").read_text() == "last"
        assert (files / "tmp/raw.bin").read_bytes() == b"\x00\xff"
        assert (files / "tmp/seen.txt").read_text() == "final, more"

    check()
    status = workspace.status("first")
    own = status["tasks"]["research"]["files"]
    assert own["artifacts"] == ["table.json", "notes.txt", "research-output.json"]
    assert own["logs"][:2] == ["work.log", "only.log"]
    assert own["tmp"] == ["raw.bin"]
    assert status["tasks"]["analysis"]["files"]["tmp"] == ["seen.txt"]
    for kind in ("artifacts", "logs", "tmp"):
        together = [name for task in status["tasks"].values() for name in task["files"][kind]]
        assert sorted(status["files"][kind]) == sorted(together)
        assert sorted(path.name for path in (files / kind).iterdir()) == sorted(together)
    workspace.task("research", prompt="Anew: {{ seed.data.topic }}.\n")
    run(workspace)
    check()


def test_a_file_that_the_last_build_did_not_write_is_gone(workspace: Workspace) -> None:
    """A rebuilt task leaves nothing of an earlier attempt, on disk or in the index."""
    workspace.task("research", stages=WRITES)
    run(workspace)
    workspace.task("research", stages="# writes nothing\n")
    run(workspace)
    status = workspace.status("first")
    assert status["tasks"]["research"]["files"]["artifacts"] == ["research-output.json"]
    assert status["files"]["tmp"] == []
    assert list((workspace.job("first") / "files/tmp").iterdir()) == []
    assert workspace.popbuild("validate", "pipeline-data/complete/first").code == 0


@pytest.mark.parametrize(
    ("write", "found"),
    [
        ("write_artifact('notes.txt', 'mine')", "belongs to another task"),
        ("write_artifact('NOTES.txt', 'mine')", "belongs to another task"),
        ("write_log('work.log', 'mine')", "belongs to another task"),
        ("write_artifact('analysis-output.json', {})", "the main artifact is written from"),
        ("write_artifact('synthesis-output.json', {})", "belongs to another task"),
        ("write_artifact('research-output.json', {})", "belongs to another task"),
        ("write_artifact('../escape.txt', 'x')", "not a valid file name"),
        ("write_artifact('.hidden', 'x')", "not a valid file name"),
        ("write_artifact('con.txt', 'x')", "not a valid file name"),
        ("write_artifact('a/b.txt', 'x')", "not a valid file name"),
        ("write_artifact('x.json', {1, 2})", "not a JSON value"),
        ("write_log('x.log', 'x', mode='add')", "no such mode"),
        ("read_artifact('absent.txt')", "no such file"),
        ("names('logos')", "no such kind of file"),
    ],
)
def test_a_write_against_the_rules_is_an_error(
    write: str, found: str, workspace: Workspace, provider: Provider
) -> None:
    """A file belongs to one task, names follow one rule; the job stops there, in state error."""
    workspace.task("research", stages=WRITES)
    workspace.task("analysis", stages=f"def ingestion(context):\n    context.files.{write}\n")
    workspace.task("synthesis", prompt="Sum up.")
    workspace.pipeline(["research", "analysis", "synthesis"])
    said = run(workspace, code=2)
    assert found in said
    status = workspace.status("first", "current")
    assert [each["state"] for each in status["tasks"].values()] == ["done", "error", "pending"]
    assert (workspace.job("first", "current") / "files/artifacts/notes.txt").read_text() == (
        "final, more"
    )
    assert len(provider.requests) == 1


# --- imports ---


def test_stages_import_what_lies_in_pipeline_config(
    workspace: Workspace, provider: Provider
) -> None:
    """Absolute and relative imports work, and an edited module makes its users stale."""
    workspace.write("pipeline-config/shared.py", "from lib.words import WORD\n")
    workspace.write("pipeline-config/lib/words.py", "WORD = 'blue'\n")
    workspace.write("pipeline-config/lib/unused.py", "WORD = 'none'\n")
    workspace.write("pipeline-config/tasks/common.py", "def end(text):\n    return text + '!'\n")
    workspace.write("pipeline-config/tasks/research/_own.py", "OWN = 'own'\n")
    workspace.task(
        "research",
        prompt="Say {{ variables.word }}.",
        stages="import shared\n\nfrom ..common import end\nfrom . import _own\n\n\n"
        "def pre_processing(context):\n"
        "    return {'word': end(f'{shared.WORD} {_own.OWN}')}\n",
    )
    run(workspace)
    assert provider.requests[0].said("user") == "Say blue own!."
    run(workspace)
    workspace.write("pipeline-config/lib/unused.py", "WORD = 'edited'\n")
    assert "up to date" in run(workspace)
    assert len(provider.requests) == 2
    workspace.write("pipeline-config/lib/words.py", "WORD = 'red'\n")
    assert "file:lib/words.py changed" in run(workspace)
    assert provider.requests[2].said("user") == "Say red own!."
    workspace.write("pipeline-config/tasks/common.py", "def end(text):\n    return text + '?'\n")
    assert "file:tasks/common.py changed" in run(workspace)
    assert provider.requests[4].said("user") == "Say red own?."


# --- parsing ---

FOUND = {
    "bare": GOOD,
    "with space around": f"\n\n  {GOOD}\n\n",
    "fenced": f"```json\n{GOOD}\n```",
    "fenced without a language": f"```\n{GOOD}\n```",
    "fenced in text": f"Here it is:\n\n```json\n{GOOD}\n```\nAnything else? {{see}}",
    "prefixed": f"Sure! Here is your title: {GOOD}",
    "with text behind": f"{GOOD}\n\nI hope that this helps (it is {{short}}).",
    "between": f"The answer: {GOOD}. Regards [1].",
    "the longest of several": f'Not {{"a": 1}}, but {GOOD}, or [1, 2].',
    "behind braces that are none": f"{{title}} is {GOOD}",
    "an open fence": f"```json\n{GOOD}",
}


@pytest.mark.parametrize("kind", FOUND)
def test_parsing_finds_the_json_in_an_answer(
    kind: str, workspace: Workspace, provider: Provider
) -> None:
    """However it is wrapped, one call suffices."""
    alone(workspace, schema=TITLED)
    provider.script([FOUND[kind]])
    run(workspace)
    assert workspace.artifact("first", "research") == {"title": "Batteries"}
    assert len(provider.requests) == 1


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("I cannot do that.", "no JSON document in the answer"),
        ('{"title": "Bat', "no JSON document in the answer"),
        ('{"title": "Bat", "title": "Wind"}', "duplicate key 'title'"),
        ('{"title": NaN}', "NaN"),
        ('{"title": "\\ud800 half"}', "surrogate"),
        ("[" * 100_000, "no JSON document in the answer"),
    ],
)
def test_an_answer_without_a_document_is_refined(
    answer: str, problem: str, workspace: Workspace, provider: Provider
) -> None:
    """What is wrong with it is a problem of the gate, told to the model."""
    alone(workspace, schema=TITLED)
    provider.script([answer, GOOD])
    run(workspace)
    assert problem in provider.requests[1].said("user")
    assert workspace.artifact("first", "research") == {"title": "Batteries"}


def test_a_stage_rejects_an_answer(workspace: Workspace, provider: Provider) -> None:
    """`context.reject` in parsing is a failed gate with this problem, not a crash."""
    alone(
        workspace,
        stages="def parsing(context):\n"
        "    if 'wind' not in context.answer:\n"
        "        raise context.reject('say something on wind', '/content')\n"
        "    return {'content': context.answer}\n",
    )
    provider.script(["on sun", "on wind"])
    run(workspace)
    assert "- /content: say something on wind" in provider.requests[1].said("user")
    assert workspace.artifact("first", "research") == {"content": "on wind"}


def test_what_integration_returns_is_judged_too(workspace: Workspace, provider: Provider) -> None:
    """A document that the last stage breaks never becomes the artifact."""
    alone(workspace, schema=TITLED, stages="def integration(context):\n    return {'title': ''}\n")
    provider.answer = lambda request: Reply(GOOD)
    assert "too short" in run(workspace, code=1)
    rejection = json.loads((workspace.job("first", "rejected") / "rejection.json").read_bytes())
    assert (rejection["stage"], len(provider.requests)) == ("integration", 3)


def test_templates_and_stages_see_objects_in_one_order(
    workspace: Workspace, provider: Provider
) -> None:
    """Seeds and settings that differ by the order of their keys ask the same: printed whole, looped
    over, in stages.py, and in what a command is given. A job's copy of its seed keeps its order."""
    workspace.task(
        "research",
        prompt="{{ seed }} {% for each in seed.data.size %}{{ each }}{% endfor %} {{ config }}",
    )
    stages = """
def prompt_templating(context):
    return f"{context.seed} {context.read('/data')} {context.config} {context.artifacts['count']}"
"""
    workspace.task("analysis", stages=stages)
    workspace.write("pipeline-config/tasks/count/count.py", "import sys; print(sys.stdin.read())")
    entry = {"command": ["python3", "count.py"], "folder": "./count"}
    workspace.pipeline(["count", "research", "analysis"])
    registry = {"count": entry, "research": "./research", "analysis": "./analysis"}
    workspace.write("pipeline-config/tasks/index.yaml", yaml.safe_dump(registry))
    size, more = {"width": 1, "height": 2}, {"top_p": 1, "extra_body": {"b": 1, "a": {}}}
    workspace.write("seeds/first.json", {"name": "n", "data": {"topic": "t", "size": size}})
    workspace.task("research", task_yaml={"config": more})
    run(workspace)
    assert len(provider.requests) == 2
    body = {"data": {"size": dict(reversed(size.items())), "topic": "t"}, "name": "n"}
    workspace.write("seeds/first.json", body)
    more["extra_body"] = {"a": {}, "b": 1}
    workspace.task("research", task_yaml={"config": dict(reversed(more.items()))})
    shutil.rmtree(workspace.root / "pipeline-data")
    made = [request.said("user") for request in provider.requests]
    assert made[0] == (
        "{'data': {'size': {'height': 2, 'width': 1}, 'topic': 't'}, 'name': 'n'} heightwidth "
        "{'extra_body': {'a': {}, 'b': 1}, 'model': 'openai/gpt-4o-mini', 'top_p': 1}"
    )
    run(workspace)
    assert len(provider.requests) == 2
    copy = (workspace.job("first") / "seed.json").read_text()
    assert copy == json.dumps(body, indent=2) + "\n"
    run(workspace)
    assert len(provider.requests) == 2
