"""A job over many jobs: what it depends on, what it waits for, what it buys."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from provider import Provider, Reply, Request
from workspace import MODEL, Workspace

LOOP = """\
Sum up {{ jobs.reviews | length }} reviews:
{% for job in jobs.reviews %}
- {{ job.id }}: {{ job.artifacts.classify.label }} ({{ job.seed.data.stars }})
{% endfor %}
"""


@pytest.fixture
def reviews(tmp_path: Path, provider: Provider) -> Iterator[Workspace]:
    """Two reviews, each with a label and a reason, and a summary that reads the labels."""
    with Workspace(tmp_path, provider) as workspace:
        workspace.task(
            "classify",
            prompt="Classify: {{ seed.data.text }}\n",
            schema={
                "type": "object",
                "required": ["label", "reason"],
                "properties": {"label": {"enum": ["good", "bad"]}, "reason": {"type": "string"}},
            },
        )
        workspace.pipeline(["classify"])
        pipeline(workspace, "summary", "combine", LOOP)
        review(workspace, 1, "good")
        review(workspace, 2, "bad")
        over(workspace)
        provider.answer = answer
        yield workspace


def pipeline(workspace: Workspace, name: str, task: str, prompt: str) -> None:
    """A pipeline of one task that is over jobs."""
    folder = f"pipeline-config/pipelines/{name}"
    settings = {task: {"model": MODEL}}
    body = {"name": name, "version": "1", "tasks": [task], "taskConfig": settings}
    workspace.write(f"{folder}/pipeline.json", body)
    workspace.write(f"{folder}/tasks/index.yaml", f"{task}: ./{task}\n")
    workspace.write(f"{folder}/tasks/{task}/prompt.md", prompt)


def answer(request: Request) -> Reply:
    said = request.said("user")
    if not said.startswith("Classify: "):
        return Reply(f"Summary {request.digest[:6]}. All in all, it is mixed.")
    label, _, reason = said.removeprefix("Classify: ").partition(" ")
    return Reply(json.dumps({"label": label, "reason": reason or "none"}))


def review(workspace: Workspace, number: int, text: str, stars: int = 3) -> None:
    data = {"text": text, "stars": stars, "other": 1}
    workspace.write(f"seeds/review-{number}.json", {"name": f"Review {number}", "data": data})


def over(workspace: Workspace, glob: str = "review-*", job: str = "all", **more: Any) -> None:
    seed = {"name": job, "pipeline": "summary", "jobs": {"reviews": glob}, "data": {}}
    workspace.write(f"seeds/{job}.json", seed | more)


def run(workspace: Workspace, *argv: str, code: int = 0) -> str:
    result = workspace.popbuild(*argv)
    assert result.code == code, result
    return result.out + result.err


def reasons(workspace: Workspace, job: str = "all") -> list[str]:
    (found,) = json.loads(run(workspace, "status", job, "--json"))
    return [reason for task in found["tasks"].values() for reason in task["reasons"]]


def test_a_summary_depends_on_what_it_reads_of_each_job(
    reviews: Workspace, provider: Provider
) -> None:
    """The fields of all jobs together, and which jobs there are; nothing else of them."""
    run(reviews, "run", "review-1", "review-2")
    run(reviews, "run", "all")
    assert provider.requests[-1].said("user").split("\n") == [
        "Sum up 2 reviews:",
        "",
        "- review-1: good (3)",
        "",
        "- review-2: bad (3)",
    ]
    letter = reviews.letter("all", "combine")
    assert [each for each in letter["fingerprint"] if each.startswith("jobs")] == [
        "jobs:reviews",
        "jobs:reviews:/*/artifacts/classify/label",
        "jobs:reviews:/*/seed/data/stars",
    ]
    assert letter["jobs"]["reviews"]["ids"] == ["review-1", "review-2"]
    before = reviews.tree()
    for _ in range(2):
        run(reviews, "run", "all")
    assert len(provider.requests) == 3
    assert reviews.tree() == before
    assert reasons(reviews) == []
    # Nothing that the summary reads: another reason, and another value that no prompt looks at.
    review(reviews, 2, "bad manners")
    run(reviews, "run", "review-2")
    assert reviews.artifact("review-2", "classify")["reason"] == "manners"
    assert reasons(reviews) == []
    review(reviews, 1, "good", stars=4)
    assert reasons(reviews) == ["jobs:reviews:/*/seed/data/stars changed: review-1"]
    review(reviews, 1, "bad food", stars=3)
    assert reasons(reviews) == ["jobs:reviews: review-1 is stale"]
    run(reviews, "run", "review-1")
    assert reasons(reviews) == ["jobs:reviews:/*/artifacts/classify/label changed: review-1"]
    run(reviews, "run", "all")
    assert len(provider.requests) == 6
    assert reasons(reviews) == []


def test_a_run_builds_the_jobs_below_first(reviews: Workspace, provider: Provider) -> None:
    """In one command, and what is up to date of them is not named; --only leaves them out."""
    assert "are not up to date" in run(reviews, "run", "all", "--only", code=4)
    assert provider.requests == []
    said = run(reviews, "run", "all", "-n", "1")
    assert provider.requests[-1].said("user").startswith("Sum up 2 reviews")
    assert len(provider.requests) == 3
    assert said.count(": complete") == 3, said
    before = reviews.tree()
    assert run(reviews, "run", "all").splitlines() == ["-- all  up to date"]
    assert reviews.tree() == before
    review(reviews, 2, "good work")
    review(reviews, 3, "good luck")
    said = run(reviews, "run", "all")
    assert "review-1" not in said
    assert provider.requests[-1].said("user").startswith("Sum up 3 reviews")
    assert len(provider.requests) == 6
    (reviews.root / "seeds/review-3.json").unlink()
    assert reasons(reviews) == ["jobs:reviews changed: review-3 gone"]
    run(reviews, "run")
    assert len(provider.requests) == 7
    run(reviews, "run")
    assert len(provider.requests) == 7


def test_jobs_over_jobs_over_jobs(reviews: Workspace, provider: Provider) -> None:
    """Each level is built after the one below; a change goes up as far as it makes a difference."""
    over(reviews, "review-[12]", "part-1")
    over(reviews, "review-3", "part-2")
    review(reviews, 3, "bad luck")
    prompt = "Parts: {% for job in jobs.parts %}{{ job.artifacts.combine.content }} {% endfor %}\n"
    pipeline(reviews, "book", "bind", prompt)
    (reviews.root / "seeds/all.json").unlink()
    seed = {"name": "book", "pipeline": "book", "jobs": {"parts": "part-*"}, "data": {}}
    reviews.write("seeds/book.json", seed)
    run(reviews, "run", "book")
    assert len(provider.requests) == 6
    assert provider.requests[-1].said("user").startswith("Parts: Summary")
    run(reviews, "run", "book")
    run(reviews, "run")
    assert len(provider.requests) == 6
    review(reviews, 3, "bad weather")
    assert reasons(reviews, "book") == ["jobs:parts: part-2 is stale"]
    run(reviews, "run", "book")
    assert len(provider.requests) == 7  # the label is the same
    review(reviews, 3, "good weather")
    run(reviews, "run", "book")
    assert len(provider.requests) == 10
