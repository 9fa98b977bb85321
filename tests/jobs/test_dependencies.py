"""Dependencies for which a truth table has no row: what needs a pipeline of its own."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest
from provider import Provider, Reply
from workspace import Workspace

LOOPS = {
    "a template loops over them": "{% for name in artifacts %}{{ name }}, {% endfor %}",
    "a template prints them": "{% for each in artifacts.values() %}{{ each }}{% endfor %}",
    "a template counts them": "{{ artifacts | length }}",
    "a template looks for it": "{% if artifacts.notes is defined %}Mind the notes.{% endif %}",
    "a template looks for it in them": "{% if 'notes' in artifacts %}Mind the notes.{% endif %}",
    "a stage loops over them": "return 'analysis: ' + ', '.join(context.artifacts)",
    "a stage looks for it": "return f'analysis: {context.artifacts.get(\"notes\")}'",
}


@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
def test_a_need_is_added(loop: str, workspace: Workspace, provider: Provider) -> None:
    """A further needed task makes those run that look at which artifacts there are; there is no
    reason to build the others."""
    workspace.task("notes", prompt="notes: {{ seed.data.tone }}", task_yaml={"needs": []})
    workspace.task("other", prompt="other: {{ artifacts.research.content }}")
    if loop.startswith("return"):
        stages = f"def prompt_templating(context):\n    {loop}\n"
        (workspace.root / "pipeline-config/tasks/analysis/prompt.md").unlink()
        workspace.task("analysis", stages=stages)
    else:
        workspace.task("analysis", prompt=f"analysis: {loop}")
    for needs in (["research"], ["research", "notes"]):
        for task in ("analysis", "other"):
            workspace.task(task, task_yaml={"needs": needs})
        workspace.pipeline(["research", "notes", "analysis", "other"])
        assert workspace.popbuild("run").code == 0
        assert workspace.popbuild("run").out == "-- first  up to date\n"
    assert workspace.runs()[-1]["built"] == ["analysis"]
    assert len(provider.requests) == 5


def test_a_command_is_given_another_artifact(workspace: Workspace, provider: Provider) -> None:
    """A command runs again when it needs one task more: it is given its artifact."""
    workspace.write("pipeline-config/tasks/count/count.sh", "wc -c\n")
    workspace.task("count", task_yaml={"needs": ["research"]})
    workspace.pipeline(["research", "analysis", "count"])
    index = "research: ./research\nanalysis: ./analysis\ncount: {command: [sh, count.sh]}\n"
    workspace.write("pipeline-config/tasks/index.yaml", index)
    assert workspace.popbuild("run").code == 0
    workspace.task("count", task_yaml={"needs": ["research", "analysis"]})
    assert workspace.popbuild("run").code == 0
    assert workspace.runs()[-1]["built"] == ["count"]
    assert workspace.popbuild("run").out == "-- first  up to date\n"
    assert len(provider.requests) == 2


def test_a_prompt_built_again_is_the_same(workspace: Workspace, provider: Provider) -> None:
    """An object printed whole stands in the prompt in one order, whether its task answered just
    now or a while ago: what is built again finds its answer in the store."""
    workspace.task("research", schema={"type": "object"})
    workspace.task("analysis", prompt="Analysis of: {{ artifacts.research }}")
    provider.answer = lambda request: Reply('{"size": 1, "cost": {"to": 3, "from": 2}}')
    assert workspace.popbuild("run").code == 0
    (workspace.job("first") / "tasks/analysis/letter.json").unlink()
    assert workspace.popbuild("run").code == 0
    assert workspace.runs()[-1]["built"] == ["analysis"]
    assert len(provider.requests) == 2


def test_an_artifact_of_one_value(workspace: Workspace, provider: Provider) -> None:
    """A template that prints an artifact which is a single text or number depends on it."""
    workspace.task("research", schema={"type": "number"})
    workspace.task("analysis", prompt="Analysis of: {{ artifacts.research }}")
    for topic, built in (("1", ["research", "analysis"]), ("2", ["research", "analysis"])):
        workspace.seed("first", {"topic": topic})
        provider.script([topic])
        assert workspace.popbuild("run").code == 0
        assert workspace.popbuild("run").out == "-- first  up to date\n"
        assert workspace.runs()[-1]["built"] == built
    assert provider.requests[-1].said("user") == "Analysis of: 2"


def test_the_weights_of_a_local_model(workspace: Workspace) -> None:
    """A task of a local model depends on what is in the file of weights, wherever it lies."""
    for name, content in (("one", "weights"), ("same", "weights"), ("other", "others")):
        workspace.write(f"{name}.gguf", content)
    workspace.popbuild("run")
    workspace.pipeline(["research", "analysis"], model="local/mine")

    def reasons(file: str) -> list[list[str]]:
        (job,) = json.loads(workspace.popbuild("status", "--json", env=weights(file)).out)
        return [task["reasons"] for task in job["tasks"].values()]

    def weights(file: str) -> dict[str, str]:
        return {"POPBUILD_LOCAL_MODEL": str(workspace.root / file)}

    # No such model can answer: letters for what stands there say what it would have depended on.
    assert workspace.popbuild("accept", "first", env=weights("one.gguf")).code == 0
    assert reasons("one.gguf") == [[], []]
    assert reasons("same.gguf") == [[], []]
    assert reasons("other.gguf") == [
        ["weights changed"],
        ["weights changed", "upstream research is stale"],
    ]


KINDS: dict[str, tuple[str, list[Any]]] = {
    "a list, by an index": ("it is mapping }} {{ seed.data.it[0]", [["a"], {"0": "a"}]),
    "an object, by a key": ("it is mapping }} {{ seed.data.it['0']", [{"0": "a"}, ["a"]]),
    "in a list": ("it[0] is mapping }} {{ seed.data.it[0][0]", [[["a"]], [{"0": "a"}]]),
}


@pytest.mark.parametrize(("prompt", "values"), KINDS.values(), ids=KINDS)
def test_a_list_becomes_an_object(
    prompt: str, values: list[Any], workspace: Workspace, provider: Provider
) -> None:
    """A template that asked what kind of value there is runs again when it is another one, though
    the value below it is found by the same pointer."""
    workspace.task("research", prompt=f"{{{{ seed.data.{prompt} | default('none') }}}}")
    workspace.pipeline(["research"])
    for value in values:
        workspace.seed("first", {"it": value})
        assert workspace.popbuild("run").code == 0
        assert workspace.popbuild("run").out == "-- first  up to date\n"
    assert len({each.said("user") for each in provider.requests}) == 2


ADDRESSES = {
    "claude-haiku-4-5": ["ANTHROPIC_BASE_URL", "ANTHROPIC_API_BASE"],
    "gemini-2.5-flash": ["VERTEXAI_API_BASE"],
    "ai21.jamba-1-5-large-v1:0": ["AWS_BEDROCK_RUNTIME_ENDPOINT"],
    "gpt-5-nano": ["OPENAI_BASE_URL", "OPENAI_API_BASE"],
    "anthropic/claude-haiku-4-5": ["ANTHROPIC_BASE_URL", "ANTHROPIC_API_BASE"],
    "gemini/gemini-2.5-flash": ["GEMINI_API_BASE"],
    "an-unknown-model": ["OPENAI_BASE_URL", "OPENAI_API_BASE"],
}


@pytest.mark.parametrize("model", ADDRESSES)
def test_whose_address_counts(model: str, workspace: Workspace) -> None:
    """Without a provider in its name a model is its maker's: that one's address counts, and no
    other's."""
    workspace.popbuild("run")
    workspace.pipeline(["research", "analysis"], model=model)
    # No provider answers for it here: letters for what stands there say what it would depend on.
    none = {"OPENAI_BASE_URL": ""}
    assert workspace.popbuild("accept", "first", env=none).code == 0
    for name in sorted(set().union(*ADDRESSES.values())):
        env = none | {name: "http://127.0.0.1:9/v1"}
        (job,) = json.loads(workspace.popbuild("status", "--json", env=env).out)
        reasons = job["tasks"]["research"]["reasons"]
        added = f"endpoint added: {name} was not set when it was built"
        assert reasons == ([added] if name in ADDRESSES[model] else []), name


def test_another_sample(workspace: Workspace, provider: Provider) -> None:
    """Which draw a task is at comes with the sources: a number that a colleague counted up makes
    the task run, one that goes back finds what was drawn before, one that is torn is an error."""
    assert workspace.popbuild("run").code == 0
    first = workspace.artifact("first", "research")
    provider.script(["Another text of it."])
    for sample, asks in ((1, 2), (0, 0), (1, 0)):
        workspace.write("samples/first.json", {"research": sample})
        (job,) = json.loads(workspace.popbuild("status", "--json").out)
        what = "added: 1" if sample else "removed: 1"
        assert job["tasks"]["research"]["reasons"] == [f"sample {what}"]
        calls = len(provider.requests)
        assert workspace.popbuild("run").code == 0
        assert len(provider.requests) - calls == asks
        assert (workspace.artifact("first", "research") == first) == (sample == 0)
        assert workspace.popbuild("run").out == "-- first  up to date\n"
    workspace.write("samples/first.json", "<<<<<<< ours\n{}")
    for command in (["run"], ["list"], ["plan"]):
        result = workspace.popbuild(*command)
        assert result.code == 3
        assert "samples/first.json" in result.err
    workspace.write("samples/first.json", {"research": -1})
    assert "samples/first.json: /research: " in workspace.popbuild("validate").out


RENAMED = {"removed": ["research"], "removed, another one added": ["research", "sum"]}


@pytest.mark.parametrize("tasks", RENAMED.values(), ids=RENAMED)
def test_a_task_that_is_gone_leaves_nothing(
    tasks: list[str], workspace: Workspace, provider: Provider
) -> None:
    """The next run drops what it made, so that the job is as a clean build makes it: its files,
    its index, its line in status; the replaced result still has all of it."""
    stages = "def integration(context):\n    context.files.write_artifact('more.json', [1])\n"
    workspace.task("analysis", stages=stages)
    workspace.task("sum", prompt="Sum: {{ artifacts.research.content }}\n")
    assert workspace.popbuild("run").code == 0
    before = [path for path, _ in workspace.tree("pipeline-data/complete/first")]
    assert any("analysis" in path for path in before)
    workspace.pipeline(tasks)
    assert "complete" in workspace.popbuild("list").out
    assert "no longer its task: analysis" in workspace.popbuild("list").out
    assert workspace.popbuild("check").code == 1
    assert workspace.popbuild("run").code == 0
    assert workspace.runs()[-1]["built"] == tasks[1:]
    for command in (["check"], ["verify"], ["validate"]):
        assert workspace.popbuild(*command).code == 0
    assert "analysis-output.json removed" in workspace.popbuild("diff", "first").out
    assert workspace.popbuild("run").out == "-- first  up to date\n"
    incremental = files_of(workspace)
    shutil.rmtree(workspace.root / "pipeline-data")
    assert workspace.popbuild("run", "--store", "only").code == 0
    assert files_of(workspace) == incremental
    assert len(provider.requests) == 1 + len(tasks)


def files_of(workspace: Workspace) -> tuple[list[str], Any]:
    """The names of all files of the job, what its artifacts say, and its index."""
    names = [path for path, _ in workspace.tree("pipeline-data/complete/first")]
    artifacts = workspace.tree("pipeline-data/complete/first/files/artifacts")
    return names, (artifacts, workspace.status("first")["files"])
