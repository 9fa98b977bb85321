"""A broken pipeline stops its own jobs, and not those of others."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from provider import Provider
from workspace import MODEL, Workspace

CONFIG = "pipeline-config"
OTHER = f"{CONFIG}/pipelines/other"
Arrange = Callable[[Workspace, str], Any]


def with_two(workspace: Workspace) -> None:
    """The default pipeline with seed `first`, and `other` with seed `second`."""
    workspace.task("research", prompt="Research: {{ seed.data.topic }}.\n")
    workspace.pipeline(["research"])
    document = {"name": "other", "tasks": [{"id": "talk", "config": {"model": MODEL}}]}
    workspace.write(f"{OTHER}/pipeline.json", document)
    workspace.write(f"{OTHER}/tasks/index.yaml", yaml.safe_dump({"talk": "./talk"}))
    workspace.write(f"{OTHER}/tasks/talk/prompt.md", "Talk of {{ seed.data.topic }}.\n")
    seed = {"name": "second", "pipeline": "other", "data": {"topic": "tides"}}
    workspace.write("seeds/second.json", seed)


def in_task(file: str, content: object) -> Arrange:
    return lambda workspace, task: workspace.write(f"{task}/{file}", content)


def in_pipeline(file: str, content: object) -> Arrange:
    def arrange(workspace: Workspace, task: str) -> None:
        folder = task.rpartition("/tasks/")[0]
        workspace.write(f"{folder}/{file}", content)

    return arrange


def without_the_folder(workspace: Workspace, task: str) -> None:
    (workspace.root / task / "prompt.md").unlink()


BROKEN: dict[str, tuple[Arrange, str]] = {
    "pipeline.json": (in_pipeline("pipeline.json", "{"), "not valid JSON"),
    "the registry": (in_pipeline("tasks/index.yaml", "- 1\n"), "not a valid task registry"),
    "two files": (in_pipeline("pipeline.yaml", "name: x\n"), "two files say the same thing"),
    "task.yaml": (in_task("task.yaml", "neds: []\n"), "unknown key 'neds'"),
    "a refused setting": (in_task("task.yaml", "config: {tools: []}\n"), "tools are not supported"),
    "no folder": (without_the_folder, "a task's folder is empty or missing"),
    "the schema": (in_task("output.schema.json", {"type": "text"}), "not a valid JSON Schema"),
    "the prompt": (in_task("prompt.md", "{% if %}"), "a template has a syntax error"),
    "an empty prompt": (in_task("prompt.md", "\n"), "a prompt renders to nothing"),
    "the code": (in_task("stages.py", "def x(:\n"), "Python cannot read this"),
    "a stage": (in_task("stages.py", "def parsing():\n    pass\n"), "the wrong parameters"),
}
SIDES = {  # the broken task's folder; the job that it stops, and the one that goes on
    "other": (f"{OTHER}/tasks/talk", "second", "first"),
    "default": (f"{CONFIG}/tasks/research", "first", "second"),
}


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", BROKEN)
def test_a_run_builds_the_jobs_of_the_others(
    kind: str, side: str, workspace: Workspace, provider: Provider
) -> None:
    """The job of the broken pipeline is told with the error: exit code 3. The other job is built,
    once; mended, both are up to date."""
    with_two(workspace)
    task, stopped, built = SIDES[side]
    before = {
        path: path.read_bytes() for path in (workspace.root / CONFIG).rglob("*") if path.is_file()
    }
    arrange, said = BROKEN[kind]
    arrange(workspace, task)
    for _ in range(2):
        result = workspace.popbuild("run")
        assert result.code == 3, result.out + result.err
        assert said in result.out + result.err
        assert "Traceback" not in result.err
        assert workspace.states(built) == ["complete"]
        assert workspace.states(stopped) == []
        assert len(provider.requests) == 1
    for path in (workspace.root / CONFIG).rglob("*"):
        if path.is_file() and path not in before:
            path.unlink()
    for path, data in before.items():
        path.write_bytes(data)
    for _ in range(2):
        assert workspace.popbuild("run").code == 0
    assert len(provider.requests) == 2


@pytest.mark.parametrize("side", SIDES)
def test_every_look_tells_the_jobs_apart(
    side: str, workspace: Workspace, provider: Provider
) -> None:
    """list, status, plan, explain, check, validate, show, verify and doit: the error for the one,
    and how the other stands."""
    with_two(workspace)
    task, stopped, other = SIDES[side]
    assert workspace.popbuild("run").code == 0
    workspace.write(f"{task}/task.yaml", "neds: []\n")
    listed = {job["id"]: job for job in json.loads(workspace.popbuild("list", "--json").out)}
    assert listed[other]["upToDate"]
    assert not listed[stopped]["upToDate"]
    assert listed[stopped]["problems"][0]["message"].startswith("not a valid task.yaml")
    assert "bad pipeline: not a valid task.yaml" in workspace.popbuild("list").out
    assert "bad pipeline" in workspace.popbuild("status", stopped).out
    assert "bad pipeline" in workspace.popbuild("plan").out
    assert "bad pipeline" in workspace.popbuild("check").out
    assert workspace.doit("list").code == 0
    for words in (("explain", stopped), ("export", stopped, "x.json"), ("accept", stopped)):
        result = workspace.popbuild(*words)
        assert result.code == 3, words
        assert "unknown key 'neds'" in result.err
    assert workspace.popbuild("explain", other).code == 0
    assert workspace.popbuild("export", other, "x.json").code == 0
    assert workspace.popbuild("verify").code == 0
    assert workspace.popbuild("show", stopped).code == 0
    lines = workspace.popbuild("validate").out.splitlines()
    assert [line for line in lines[:-1] if not line.startswith(f"{task}/task.yaml")] == []
    assert len(lines) == 2
    assert len(provider.requests) == 2


def test_a_run_of_the_broken_ones_alone_says_why(workspace: Workspace) -> None:
    with_two(workspace)
    workspace.write(f"{OTHER}/pipeline.json", "{")
    result = workspace.popbuild("run", "second", "fresh=talk")
    assert result.code == 3
    assert "not valid JSON" in result.err
    assert "pipelines/other/pipeline.json" in result.err


def test_where_no_pipeline_is_whole_nothing_is_built(
    workspace: Workspace, provider: Provider
) -> None:
    """As with a single one: the first error, and no word of any job."""
    with_two(workspace)
    workspace.write(f"{OTHER}/pipeline.json", "{")
    workspace.write(f"{CONFIG}/tasks/research/prompt.md", "{% if %}")
    result = workspace.popbuild("run")
    assert result.code == 3
    assert result.err.count("error: ") == 1
    assert provider.requests == []


def test_a_watch_goes_on_with_the_others(workspace: Workspace, provider: Provider) -> None:
    """A seed of the broken pipeline stays in pending/ and is built once that is mended."""
    with_two(workspace)
    for name in ("first", "second"):
        path = workspace.root / f"seeds/{name}.json"
        waiting = workspace.root / f"pipeline-data/pending/{name}-seed.json"
        waiting.parent.mkdir(parents=True, exist_ok=True)
        path.rename(waiting)
    good = (workspace.root / OTHER / "pipeline.json").read_bytes()
    workspace.write(f"{OTHER}/pipeline.json", "{")
    with workspace.start("popbuild", "watch") as watching:
        watching.wait_for("first: complete")
        watching.wait_for("second: stopped")
        assert workspace.states("first") == ["complete"]
        assert (workspace.root / "pipeline-data/pending/second-seed.json").exists()
        workspace.write(f"{OTHER}/pipeline.json", good)
        watching.wait_for("second: complete")
        watching.terminate()
        assert watching.wait().code == 0
    assert len(provider.requests) == 2


def test_a_seed_without_a_pipeline_is_alone_where_there_is_no_default(
    workspace: Workspace, provider: Provider
) -> None:
    with_two(workspace)
    (workspace.root / CONFIG / "pipeline.json").unlink()
    result = workspace.popbuild("run")
    assert result.code == 3
    assert "there is no default pipeline" in result.err
    assert workspace.states("second") == ["complete"]
    assert "there is no default pipeline" in workspace.popbuild("list").out
    assert len(provider.requests) == 1
