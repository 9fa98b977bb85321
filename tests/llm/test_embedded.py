"""The demo on the embedded model: a real one, that answers in this process."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from workspace import CHECKOUT, Workspace

pytestmark = pytest.mark.slow

SEEDS = ["content-generation", "data-processing", "market-analysis"]


def transcript() -> list[tuple[str, str]]:
    """The commands of the README's transcript, each with the output that it shows."""
    text = (CHECKOUT / "README.md").read_text().split("<!-- transcript")[1]
    block = re.search(r"```console\n(.*?)```", text, re.DOTALL)
    assert block is not None
    return [
        (command, output)
        for command, _, output in (each.partition("\n") for each in block[1].split("$ ")[1:])
    ]


def normal(text: str) -> str:
    """A transcript without what differs from run to run: IDs, times and counts of tokens."""
    text = re.sub(r"pl-[0-9TZ-]+-[0-9a-f]{6}", "pl-…", text)
    text = re.sub(r"[0-9.]+ (s|min)( [0-9]+ s)?\b", "… s", text)
    text = re.sub(r"[0-9,]+ tokens", "… tokens", text)
    return re.sub(r", \d refinements?$", "", text, flags=re.MULTILINE)


@pytest.mark.long
def test_the_readme_and_all_three_seeds(tmp_path: Path) -> None:
    """The README's transcript is what happens; all three seeds complete; a second run of each
    calls nothing and changes nothing; everything validates."""
    with Workspace(tmp_path) as workspace:
        for folder in ("seeds", "pipeline-config/tasks", "pipeline-config"):
            (workspace.root / folder).rmdir()
        for command, expected in transcript():
            result = workspace.run(*command.split(), timeout_s=900)
            assert result.code == 0, result.err
            assert normal(result.out) == normal(expected)
        result = workspace.doit("run", timeout_s=1800)
        assert result.code == 0, result.out + result.err
        for seed in SEEDS:
            assert workspace.states(seed) == ["complete"]
            document = workspace.artifact(seed, "formatting")
            assert len(document["body"]) > 100
        before = workspace.tree("pipeline-data")
        answers = workspace.tree(".popbuild/store")
        again = workspace.doit("run")
        assert again.out == "".join(f"-- {seed}  up to date\n" for seed in SEEDS)
        assert workspace.tree("pipeline-data") == before
        assert workspace.tree(".popbuild/store") == answers
        assert workspace.popbuild("validate").code == 0
        assert workspace.popbuild("export", "data-processing", "report.json").code == 0
        assert workspace.read("report.json") == workspace.artifact("data-processing", "formatting")
        for _ in range(2):
            variants = workspace.popbuild("run", "--variant", "base,brief", timeout_s=900)
            assert variants.code == 0, variants.out + variants.err
        assert variants.out.count("up to date") == 2 * len(SEEDS)
        page = (CHECKOUT / "docs/compare.md").read_text().split("<!-- demo")[1]
        command = "popbuild compare --variants base,brief"
        shown = page.partition(f"$ {command}\n")[2].partition("```")[0]
        assert labels(workspace.run(*command.split()).out) == labels(shown)


def labels(table: str) -> list[str]:
    """A table of variants without what a model's arithmetic on another processor changes: the
    numbers and texts, but not how many passed."""
    whole = ("gate", "jobs", "pass rate", "              base")
    lines = (line for line in table.splitlines() if not line.startswith("refinements"))
    return [line if line.startswith(whole) else line[:12].strip() for line in lines]


def test_a_real_rejection(tmp_path: Path) -> None:
    """Fewer tokens than the gate wants characters: three answers fail, the good result stands,
    and the same inputs are not asked about again."""
    with Workspace(tmp_path) as workspace:
        workspace.task(
            "note",
            prompt="What is a {{ seed.data.thing }}? Answer in two sentences.",
            schema={"properties": {"content": {"minLength": 80}}},
            task_yaml={"answer": "text"},
        )
        roomy = {"note": {"maxTokens": 200, "seed": 15, "temperature": 0.2}}
        workspace.pipeline(["note"], task_config=roomy, model="local/smollm2-135m")
        workspace.seed("first", {"thing": "battery"})
        assert workspace.doit("run").code == 0
        good = workspace.tree("pipeline-data/complete/first")
        tight = {"note": {"maxTokens": 12, "seed": 15, "temperature": 0.2}}
        workspace.pipeline(["note"], task_config=tight, model="local/smollm2-135m")
        rejected = workspace.doit("run")
        assert rejected.code == 1
        rejection = workspace.read("pipeline-data/rejected/first/rejection.json")
        assert (rejection["task"], rejection["refinementAttempts"]) == ("note", 2)
        assert workspace.states("first") == ["complete", "rejected"]
        assert workspace.tree("pipeline-data/complete/first") == good
        answers = workspace.tree(".popbuild/store")
        assert workspace.doit("run").code == 1
        assert workspace.tree(".popbuild/store") == answers


def test_the_second_demo(tmp_path: Path) -> None:
    """A document in pieces and a PDF, as demo/reviews has them; a sentence that changes is one
    piece and what stands above it."""
    with Workspace(tmp_path) as workspace:
        shutil.rmtree(workspace.root)
        for part in ("seeds", "inputs", "pipeline-config"):
            shutil.copytree(CHECKOUT / "demo/reviews" / part, workspace.root / part)
        run = ("run", "job=workshop", "--json")
        assert workspace.popbuild(*run, timeout_s=900).code == 0
        letter = workspace.letter("workshop", "advice")
        assert letter["items"]["count"] == letter["usage"]["calls"] == 3
        assert len(workspace.artifact("workshop", "leaflet")["content"]) > 40
        before = workspace.tree("pipeline-data")
        assert workspace.popbuild(*run).code == 0
        assert workspace.tree("pipeline-data") == before
        handbook = workspace.root / "inputs/handbook.md"
        handbook.write_text(handbook.read_text().replace("takes five hours", "takes six hours"))
        assert workspace.popbuild(*run, timeout_s=900).code == 0
        assert workspace.letter("workshop", "advice")["usage"]["calls"] == 1
        assert workspace.popbuild("verify").code == 0
