"""A table of many rows and a summary in batches above it: what one row costs, by the calls that a
provider sees."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from provider import Provider, Reply
from workspace import Workspace

ROWS = 120


@pytest.fixture
def shop(tmp_path: Path, provider: Provider) -> Iterator[Workspace]:
    provider.answer = lambda request: Reply(f"<{request.said('user').strip()[-300:]}>")
    with Workspace(tmp_path, provider) as workspace:
        workspace.task("gist", "Gist of {{ seed.data.text }}")
        workspace.pipeline(["gist"])
        below = "pipeline-config/pipelines/summary"
        workspace.write(
            f"{below}/pipeline.json",
            {
                "name": "summary",
                "tasks": ["parts", "whole"],
                "defaults": {"model": "openai/gpt-4o-mini"},
            },
        )
        workspace.write(f"{below}/tasks/index.yaml", "parts: ./parts\nwhole: ./whole\n")
        gists = "jobs.rows | map(attribute='artifacts.gist.content') | list"
        foreach = f"foreach: batches({gists}, tokens=150)"
        workspace.write(f"{below}/tasks/parts/task.yaml", f"{foreach}\nanswer: text\n")
        workspace.write(f"{below}/tasks/parts/prompt.md", "Part of {{ item | join(' ') }}")
        workspace.write(
            f"{below}/tasks/whole/prompt.md",
            "Whole of {% for each in artifacts.parts.items %}{{ each.key }} {% endfor %}",
        )
        workspace.write("seeds/rows.yaml", "rows: rows.csv\nid: 'row-{{ row.id }}'\n")
        table(workspace, {})
        summary = {"name": "All", "pipeline": "summary", "jobs": {"rows": "row-*"}, "data": {}}
        workspace.write("seeds/summary.json", summary)
        yield workspace


def table(workspace: Workspace, changed: dict[int, str]) -> None:
    texts = {number: f"text {number}" for number in range(ROWS)} | changed
    lines = (f"{number},{text}" for number, text in texts.items())
    workspace.write("seeds/rows.csv", "\n".join(["id,text", *lines, ""]))


def calls(workspace: Workspace) -> dict[str, int]:
    """The calls of a build by the first word of their prompts; of the next one there are none."""
    assert workspace.provider is not None
    before = len(workspace.provider.requests)
    result = workspace.popbuild("run", "job=summary")
    assert result.code == 0, result.out + result.err
    found = [e.said("user").split()[0] for e in workspace.provider.requests[before:]]
    assert workspace.popbuild("run", "job=summary").code == 0
    assert len(workspace.provider.requests) == before + len(found)
    return {word: found.count(word) for word in dict.fromkeys(sorted(found))}


def test_one_row_is_its_call_its_batch_and_what_stands_above(shop: Workspace) -> None:
    cold = calls(shop)
    assert (cold["Gist"], cold["Whole"]) == (ROWS, 1)
    assert cold["Part"] > 6
    table(shop, {17: "another text"})
    changed = calls(shop)
    assert (changed["Gist"], changed["Whole"]) == (1, 1)
    assert 1 <= changed["Part"] <= 3  # its batch, and at most its neighbours
    assert shop.popbuild("verify").code == 0
