"""A job over many jobs: what it depends on, what it waits for, what it buys."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from provider import Provider, Reply, Request, fail
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


def test_jobs_that_cannot_be_built(reviews: Workspace, provider: Provider) -> None:
    """By default all must be there; `missing` lets the others do; the letter names who lacks."""
    review(reviews, 3, "worse luck")
    said = run(reviews, "run", "all", "-c", code=1)
    assert "jobs that this one is over are not up to date" in said
    assert "rejected  review-3" in said
    calls = len(provider.requests)
    assert calls == 5  # two refinements of the third
    assert reasons(reviews) == ["never built"]
    assert "rejected  review-3" in run(reviews, "run", "all", "--only", code=4)
    over(reviews, missing=0.9)
    run(reviews, "run", "all", "-c", code=4)
    assert len(provider.requests) == calls
    for missing in ("skip", 0.6):
        over(reviews, missing=missing)
        for _ in range(2):
            run(reviews, "run", "all")
            assert len(provider.requests) == calls + 1
            assert reasons(reviews) == []
        missing_ones = reviews.letter("all", "combine")["jobs"]["reviews"]["missing"]
        assert missing_ones == {"review-3": "rejected"}
    # One that a person named counts for the exit code, and does not keep the summary from it.
    assert "up to date" in run(reviews, "run", code=1)
    over(reviews, missing="fail")
    assert reasons(reviews) == ["jobs:reviews: review-3 is rejected"]
    run(reviews, "run", "all", "-c", code=1)
    review(reviews, 3, "good luck")
    run(reviews, "run", "all")
    assert len(provider.requests) == calls + 3
    assert provider.requests[-1].said("user").startswith("Sum up 3 reviews")


def test_a_failed_job_and_a_stopped_one(reviews: Workspace, provider: Provider) -> None:
    """They are tried again by each run; with `missing` the summary goes on without them."""
    over(reviews, missing="skip")

    def failing(request: Request) -> Reply:
        return fail(400) if "bad" in request.said("user") else answer(request)

    provider.answer = failing
    run(reviews, "run", "all")
    record = reviews.letter("all", "combine")["jobs"]["reviews"]
    assert record["ids"] == ["review-1"]
    assert record["missing"] == {"review-2": "failed"}
    assert reasons(reviews) == []
    provider.answer = answer
    run(reviews, "run", "all")
    assert reviews.letter("all", "combine")["jobs"]["reviews"]["ids"] == ["review-1", "review-2"]


def test_a_job_that_waits_for_a_person(reviews: Workspace, provider: Provider) -> None:
    """The job over it waits as well, with exit code 4, whatever may be missing."""
    over(reviews, missing="skip")
    reviews.task("classify", task_yaml={"gate": {"message": "Fit to print?"}})
    said = run(reviews, "run", "all", code=4)
    assert "wait for a person" in said
    assert len(provider.requests) == 2
    assert reviews.states("all") == []
    assert "review-1, review-2" in said
    run(reviews, "approve", "review-1")
    run(reviews, "approve", "review-2")
    run(reviews, "run", "all")
    assert len(provider.requests) == 3


def test_a_circle_of_jobs(reviews: Workspace, provider: Provider) -> None:
    """Is named by each of them; a job that is over one of them is not in it."""
    over(reviews, "b", job="a")
    over(reviews, "c", job="b")
    over(reviews, "[ac]", job="c")
    (reviews.root / "seeds/all.json").unlink()
    over(reviews, "a", job="outside")
    for job in "abc":
        said = run(reviews, "run", job, "-c", code=1)
        assert "jobs wait for each other" in said
        assert " -> ".join("abcabca"["abc".index(job) :][:4]) in said
    said = run(reviews, "run", "outside", "-c", code=1)
    assert "bad seed  a" in said
    listed = run(reviews, "list")
    assert listed.count("jobs wait for each other") == 3
    assert provider.requests == []


def test_a_glob_that_matches_nothing(reviews: Workspace, provider: Provider) -> None:
    """Is an error before anything is bought, whatever may be missing; and so is a bad seed."""
    over(reviews, "revues-*", missing="skip")
    said = run(reviews, "run", "all", code=3)
    assert "no job matches" in said
    assert "revues-*" in said
    assert "/jobs/reviews: revues-* matches no job" in run(reviews, "validate", code=1)
    for bad in ({"jobs": ["review-*"]}, {"jobs": {"a": 1}}, {"missing": 0}, {"missing": "some"}):
        over(reviews, **bad)
        assert "not a valid seed" in run(reviews, "run", "all", code=1)
    over(reviews, job="all")
    reviews.write("seeds/plain.json", {"name": "p", "data": {"text": "good"}, "missing": 7})
    run(reviews, "run", "plain")
    assert len(provider.requests) == 1


def test_no_orphan_and_not_itself(reviews: Workspace, provider: Provider) -> None:
    """A job whose source is gone does not count, one that was submitted does."""
    over(reviews, "*", missing="skip")
    seed = {"name": "One", "data": {"text": "good one", "stars": 1}}
    run(reviews, "submit", str(reviews.write("one.json", seed)))
    run(reviews, "run", "all")
    ids = reviews.letter("all", "combine")["jobs"]["reviews"]["ids"]
    assert ids[1:] == ["review-1", "review-2"]
    (reviews.root / "seeds/review-2.json").unlink()
    assert reasons(reviews) == ["jobs:reviews changed: review-2 gone"]
    assert reviews.states("review-2") == ["complete"]


def planned(workspace: Workspace, *argv: str) -> dict[str, Any]:
    """What a plan says of each job."""
    return {
        each["id"]: each for each in json.loads(run(workspace, "plan", *argv, "--json"))["jobs"]
    }


def test_a_plan_lists_the_jobs_below(reviews: Workspace, provider: Provider) -> None:
    """They come first; the job over them may run, and its price is open until they are known."""
    found = planned(reviews, "all")
    assert [*found] == ["review-1", "review-2", "all"]
    (task,) = found["all"]["tasks"]
    assert (task["runs"], task["reasons"]) == ("may", ["never built"])
    assert task["inputTokens"]["high"] > 100_000
    assert provider.requests == []
    assert planned(reviews, "all", "--only")["all"]["note"].startswith("not built: jobs:reviews")
    run(reviews, "run", "all")
    assert [*planned(reviews, "all")] == ["all"]
    assert planned(reviews, "all")["all"]["tasks"] == []
    review(reviews, 2, "bad weather")
    found = planned(reviews, "all")
    assert [*found] == ["review-2", "all"]
    assert found["all"]["tasks"][0]["runs"] == "may"
    run(reviews, "run", "review-2")
    assert planned(reviews, "all")["all"]["tasks"] == []  # it reads the label, which is the same
    reviews.write("pipeline-config/pipelines/summary/tasks/combine/prompt.md", f"Briefly. {LOOP}")
    (task,) = planned(reviews, "all")["all"]["tasks"]
    assert (task["runs"], task["calls"]) == ("will", {"low": 1, "high": 3})
    calls = len(provider.requests)
    run(reviews, "run", "all")
    assert len(provider.requests) == calls + 1
    review(reviews, 3, "worse luck")
    run(reviews, "run", "review-3", code=1)
    said = planned(reviews, "all")["all"]
    assert (said["note"], said["tasks"]) == ("not built: jobs:reviews: review-3 is rejected", [])


@pytest.mark.slow
def test_on_a_cluster(reviews: Workspace, provider: Provider) -> None:
    """A coordinator hands a job out once those that it is over ended, whatever the room."""
    pytest.importorskip("distributed")
    result = reviews.popbuild("run", "all", "--dask", "local", "-n", "1")
    assert result.code == 0, result.out + result.err
    assert len(provider.requests) == 3
    run(reviews, "run")
    assert len(provider.requests) == 3


def test_verify_and_trace(reviews: Workspace, provider: Provider) -> None:
    """What a summary read of each job is proven; one that was rebuilt since makes it stale, and is
    no alteration. Its letter says which jobs there were."""
    run(reviews, "run", "all")
    assert "proven" in run(reviews, "verify", "all")
    assert "made from" not in run(reviews, "verify", "all")
    traced = json.loads(run(reviews, "trace", "all/combine", "--json"))["tasks"][0]
    assert traced["jobs"]["reviews"]["ids"] == ["review-1", "review-2"]
    assert traced["jobs"]["reviews"]["fields"] == [
        "/*/artifacts/classify/label",
        "/*/seed/data/stars",
    ]
    said = run(reviews, "trace", "all/combine")
    assert "review-1, review-2" in said
    review(reviews, 1, "bad weather")
    run(reviews, "run", "review-1")
    said = run(reviews, "verify", "all")
    assert "combine was made from other results of review-1: /*/artifacts/classify/label" in said
    letter = reviews.job("all") / "tasks/combine/letter.json"
    body = json.loads(letter.read_text())
    body["jobs"]["reviews"]["ids"][0] = "review-9"
    letter.write_text(json.dumps(body))
    run(reviews, "verify", "all", code=1)


def test_stages_and_commands_see_the_jobs(reviews: Workspace, provider: Provider) -> None:
    """Stages get plain copies and depend on what they read; a command depends on all of them."""
    folder = reviews.root / "pipeline-config/pipelines/summary/tasks/combine"
    (folder / "stages.py").write_text(
        "def pre_processing(context):\n"
        "    labels = [job.read('/artifacts/classify/label') for job in context.jobs['reviews']]\n"
        "    names = [job.id for job in context.jobs['reviews']]\n"
        "    return {'labels': labels, 'names': names, 'groups': sorted(context.jobs)}\n"
    )
    (folder / "prompt.md").write_text("{{ variables.labels }} {{ variables.names }}\n")
    run(reviews, "run", "all")
    said = provider.requests[-1].said("user")
    assert said == "['good', 'bad'] ['review-1', 'review-2']"
    found = [e for e in reviews.letter("all", "combine")["fingerprint"] if e.startswith("jobs")]
    assert sorted(found) == ["jobs", "jobs:reviews", "jobs:reviews:/*/artifacts/classify/label"]
    command = "import json, sys; print(json.dumps(json.load(sys.stdin)['jobs']['reviews']))"
    entry = {"combine": {"command": [sys.executable, "-c", command]}}
    reviews.write("pipeline-config/pipelines/summary/tasks/index.yaml", json.dumps(entry))
    (folder / "stages.py").unlink()
    run(reviews, "run", "all")
    made = json.loads(reviews.artifact("all", "combine")["content"])
    assert [each["id"] for each in made] == ["review-1", "review-2"]
    assert made[1]["artifacts"]["classify"]["label"] == "bad"
    assert made[0]["seed"]["data"]["stars"] == 3
    run(reviews, "run", "all")
    assert len(provider.requests) == 3


def test_listings_show_the_jobs_below(reviews: Workspace) -> None:
    """As files of the tasks that read them, and in the graph: the same once the index knows all."""
    run(reviews, "run", "all")
    for _ in range(2):
        told = reviews.doit("list", "--all", "--deps", "all")
        assert told.code == 0, told
        below = [line.strip(" -") for line in told.out.splitlines() if "review-" in line]
        assert sorted(each.split("complete/")[1] for each in below) == [
            "review-1/files/artifacts/classify-output.json",
            "review-1/seed.json",
            "review-2/files/artifacts/classify-output.json",
            "review-2/seed.json",
        ]
    graph = run(reviews, "graph", "all", "--format", "dot")
    assert "jobs: review-*" in graph
    assert "2 jobs" in graph
    explained = run(reviews, "explain", "all", "combine")
    assert "jobs:reviews:/*/artifacts/classify/label" in explained


def test_a_task_for_each_job(reviews: Workspace, provider: Provider) -> None:
    """`foreach` runs a task once for each of them: a job that changed is one call."""
    folder = reviews.root / "pipeline-config/pipelines/summary/tasks/combine"
    (folder / "task.yaml").write_text(json.dumps({"foreach": "jobs.reviews", "key": "id"}))
    (folder / "prompt.md").write_text("Name {{ item.id }}: {{ item.artifacts.classify.label }}\n")
    run(reviews, "validate")
    run(reviews, "run", "all")
    assert len(provider.requests) == 4
    run(reviews, "run", "all")
    review(reviews, 1, "bad weather")
    run(reviews, "run", "all")
    assert len(provider.requests) == 6
    assert provider.requests[-1].said("user") == "Name review-1: bad"


def test_a_job_that_is_rebuilt_meanwhile(reviews: Workspace, provider: Provider) -> None:
    """A job that is read once more after it was built anew is an error, and not a mixture; what was
    paid for is kept, and the next run goes on with what stands there."""
    folder = reviews.root / "pipeline-config/pipelines/summary/tasks/combine"
    (folder / "stages.py").write_text(
        "def critique(context):\n"
        "    context.jobs['reviews'][0].artifacts\n"
        "    return 'Again.'\n"
        "def validate_quality(context):\n"
        "    return [] if context.cycle else [{'message': 'Once more.'}]\n"
    )
    run(reviews, "run", "review-1", "review-2")
    path = reviews.job("review-1") / "files/artifacts/classify-output.json"
    provider.at(3, lambda _: path.write_text(path.read_text().replace("none", "some")))
    said = run(reviews, "run", "all", "--only", code=2)
    assert "a job was built anew while one that is over it was" in said
    assert len(provider.requests) == 3
