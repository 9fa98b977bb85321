"""What each change makes stale, of the main jobs and of those of a variant, as a table."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import truth
from four_tasks import CHEAP, four_tasks, run
from provider import Provider
from workspace import MODEL, Workspace

MAIN = "pipeline-config"
OWN = "tasks/formatting/prompt.md"
# `cheap` has a prompt of its own for `formatting`, and says `vars.length` and a temperature of
# `analysis`. Each task reads `vars.tone`, but for the variant's `formatting`; `synthesis` reads
# `vars.length` too. Tasks are named by their first letters; those below a stale one are stale.
TABLE = """
change                                | main    | cheap
prompt of the variant                 |         | f
prompt that it replaces               | f       |
prompt that both have                 | r a s f | r a s f
prompt of the variant taken away      |         | f
prompt of the variant like the main   |         | f
further prompt of the variant         |         | r a s f
vars of the main one                  | r a s f | r a s f
vars that the variant says            | s f     |
vars of the variant                   |         | s f
setting that the variant says         | a s f   |
setting of the variant                |         | a s f
settings of the variant taken away    |         | a s f
model of the variant                  |         | r a s f
settings of the variant reformatted   |         |
seed                                  | r a s f | r a s f
file of another variant               |         |
stray file beside the variants        |         |
"""
SETTINGS = "vars: {length: 3}\ntaskConfig: {analysis: {temperature: 0.5}}\n"


def put(path: str, text: str) -> Callable[[Workspace], object]:
    return lambda workspace: workspace.write(path, text)


def gone(path: str) -> Callable[[Workspace], object]:
    return lambda workspace: (workspace.root / path).unlink()


def pipeline(key: str, value: object) -> Callable[[Workspace], object]:
    """Change a member of an object of pipeline.json."""

    def change(workspace: Workspace) -> None:
        path = workspace.root / MAIN / "pipeline.json"
        body = json.loads(path.read_bytes())
        top, name = key.split("/")
        body[top][name] = value
        path.write_text(json.dumps(body))

    return change


def like_the_main(workspace: Workspace) -> None:
    shutil.copy(workspace.root / MAIN / OWN, workspace.root / CHEAP / OWN)


def settings(text: str) -> Callable[[Workspace], object]:
    return put(f"{CHEAP}/variant.yaml", text)


CHANGES: dict[str, Callable[[Workspace], object]] = {
    "prompt of the variant": put(f"{CHEAP}/{OWN}", "New: {{ artifacts.synthesis }}"),
    "prompt that it replaces": put(f"{MAIN}/{OWN}", "New: {{ artifacts.synthesis }}"),
    "prompt that both have": put(f"{MAIN}/tasks/research/prompt.md", "New {{ vars.tone }}"),
    "prompt of the variant taken away": gone(f"{CHEAP}/{OWN}"),
    "prompt of the variant like the main": like_the_main,
    "further prompt of the variant": put(f"{CHEAP}/tasks/research/prompt.md", "New"),
    "vars of the main one": pipeline("vars/tone", "warm"),
    "vars that the variant says": pipeline("vars/length", 9),
    "vars of the variant": settings(SETTINGS.replace("3", "4")),
    "setting that the variant says": pipeline(
        "taskConfig/analysis", {"model": MODEL, "temperature": 0.75}
    ),
    "setting of the variant": settings(SETTINGS.replace("0.5", "0.25")),
    "settings of the variant taken away": gone(f"{CHEAP}/variant.yaml"),
    "model of the variant": settings(f"model: openai/gpt-4.1-nano\n{SETTINGS}"),
    "settings of the variant reformatted": settings(f"# The same.\n{SETTINGS}\n"),
    "seed": lambda workspace: workspace.seed("first", {"topic": "wind"}),
    "file of another variant": put(f"{MAIN}/variants/other/{OWN}", "Other"),
    "stray file beside the variants": put(f"{MAIN}/variants/README.md", "What they are for."),
}
ROWS = [[cell.strip() for cell in line.split("|")] for line in TABLE.strip().splitlines()[1:]]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[truth.Built]:
    """A root with both built."""
    folder = tmp_path_factory.mktemp("built")
    with Provider() as provider, Workspace(folder, provider) as workspace:
        four_tasks(workspace)
        (workspace.root / "seeds/second.json").unlink()
        prompt = workspace.root / MAIN / "tasks/synthesis/prompt.md"
        prompt.write_text(f"{prompt.read_text()} {{{{ vars.length }}}}")
        settings(SETTINGS)(workspace)
        run(workspace, "run", "--variant", "base,cheap")
        yield provider, workspace.root


def stale(workspace: Workspace, variant: str) -> list[str]:
    said = json.loads(workspace.popbuild("status", "first", "--json", "--variant", variant).out)
    return [task[0] for task, body in said[0]["tasks"].items() if body["stale"]]


@pytest.fixture
def copied(built: truth.Built, tmp_path: Path) -> Iterator[Workspace]:
    yield from truth.copied(built, tmp_path)


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_what_a_change_makes_stale(row: list[str], copied: Workspace) -> None:
    """And once it is built, nothing is stale in either, and nothing more is asked."""
    change, main, cheap = row
    provider = copied.provider
    assert provider is not None
    CHANGES[change](copied)
    assert stale(copied, "base") == main.split()
    assert stale(copied, "cheap") == cheap.split()
    run(copied, "run", "--variant", "base,cheap")
    asked = len(provider.requests)
    run(copied, "run", "--variant", "base,cheap")
    assert stale(copied, "base") == stale(copied, "cheap") == []
    assert len(provider.requests) == asked


def test_every_change_has_a_row() -> None:
    assert {row[0] for row in ROWS} == CHANGES.keys()
