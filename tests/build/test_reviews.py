"""demo/reviews: a job for each row of a table, a document in pieces, and a job over all of them;
which calls each change costs."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from provider import Provider, Reply, Request
from workspace import CHECKOUT, Workspace

MODEL = {"POPBUILD_MODEL": "openai/gpt-4o-mini"}
COLD = {"gist": 12, "reply": 3, "advice": 3, "leaflet": 1, "summary": 1}


@pytest.fixture
def reviews(tmp_path: Path, provider: Provider) -> Iterator[Workspace]:
    provider.answer = lambda request: Reply(f"Answer {request.digest[:12]}.")
    with Workspace(tmp_path, provider) as workspace:
        shutil.rmtree(workspace.root)
        for part in ("seeds", "inputs", "pipeline-config"):
            shutil.copytree(CHECKOUT / "demo/reviews" / part, workspace.root / part)
        yield workspace


def task_of(request: Request) -> str:
    """Which task asks, by its prompt."""
    said = request.messages[0]["content"]
    ways = {"review of a bike": "gist", "Say sorry": "reply", "customers gave": "summary"}
    found = [task for words, task in ways.items() if words in said]
    return found[0] if found else "leaflet" if said.startswith("Advice") else "advice"


def calls(workspace: Workspace, *options: str) -> dict[str, int]:
    """The calls of a build, by task; of the next one there are none."""
    assert workspace.provider is not None
    before = len(workspace.provider.requests)
    result = workspace.popbuild("run", *options, env=MODEL)
    assert result.code == 0, result.out + result.err
    requests = workspace.provider.requests
    assert workspace.popbuild("run", env=MODEL).code == 0
    assert len(workspace.provider.requests) == len(requests)
    return dict(Counter(map(task_of, requests[before:])))


def change(workspace: Workspace, path: str, old: str, new: str) -> None:
    text = (workspace.root / path).read_text()
    assert text.count(old) == 1
    (workspace.root / path).write_text(text.replace(old, new))


def test_what_each_change_costs(reviews: Workspace) -> None:
    table, handbook = "seeds/reviews.csv", "inputs/handbook.md"
    assert calls(reviews) == COLD
    change(reviews, table, "Quiet motor.", "Silent motor.")
    assert calls(reviews) == {"gist": 1, "summary": 1}
    change(reviews, table, "9,Market,2,", "9,Bazaar,2,")  # which no prompt reads
    assert calls(reviews) == {}
    change(reviews, table, "3,Canal,4,", "3,Canal,2,")  # a reply is due, and its stars are told
    assert calls(reviews) == {"reply": 1, "summary": 1}
    change(
        reviews, table, '8,Canal,5,"The best thing we ever bought. My mother rides it too."\n', ""
    )
    assert calls(reviews) == {"summary": 1}
    change(reviews, handbook, "takes five hours", "takes six hours")
    assert calls(reviews) == {"advice": 1, "leaflet": 1}
    prompt = "pipeline-config/pipelines/summary/tasks/summary/prompt.md"
    change(reviews, prompt, "two short", "three short")
    assert calls(reviews) == {"summary": 1}
    assert reviews.popbuild("verify", env=MODEL).code == 0
    assert reviews.popbuild("validate", env=MODEL).code == 0
