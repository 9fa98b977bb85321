"""Several variants in one command, and several draws of each."""

from __future__ import annotations

import json

import pytest
from four_tasks import digests, four_tasks, letter, run
from provider import Provider
from served import serve
from workspace import Workspace


@pytest.fixture
def four(workspace: Workspace) -> Workspace:
    return four_tasks(workspace)


def test_one_after_another(four: Workspace, provider: Provider) -> None:
    """Each pays for what it does not share; again, nothing is called."""
    words = ["run", "--variant", "base,cheap"]
    for _ in range(2):
        said = run(four, *words)
        assert len(provider.requests) == 10
        assert [line for line in said.splitlines() if line in ("base:", "cheap:")] == [
            "base:",
            "cheap:",
        ]
    doit = four.run("doit", *words, "--json", "job=first")
    results = json.loads(doit.out)
    assert [(each["variant"], each["id"], each["outcome"]) for each in results] == [
        ("base", "first", "up to date"),
        ("cheap", "first", "up to date"),
    ]
    for tool in ("doit", "popbuild"):
        listed = four.run(tool, "list", "--variant", "cheap,base", "--json")
        assert [(each["variant"], each["id"]) for each in json.loads(listed.out)] == [
            ("cheap", "first"),
            ("cheap", "second"),
            ("base", "first"),
            ("base", "second"),
        ]
        assert "cheap:\n" in four.run(tool, "list", "--variant", "cheap,base").out
    plans = json.loads(four.popbuild("plan", "--json", "--variant", "base,cheap").out)
    assert [each["variant"] for each in plans] == ["base", "cheap"]
    assert len(provider.requests) == 10


def test_a_rejection_in_one_holds_up_no_other(four: Workspace, provider: Provider) -> None:
    four.write("pipeline-config/variants/strict/tasks/research/output.schema.json", {"not": {}})
    said = run(four, "run", "first", "--variant", "strict,base", code=1)
    assert "first: complete" in said
    assert (four.root / "pipeline-data/complete/first").is_dir()
    assert (four.root / "pipeline-data/variants/strict/rejected/first").is_dir()


def test_what_is_wrong_with_one_is_told_before_any_is_built(
    four: Workspace, provider: Provider
) -> None:
    four.write("pipeline-config/variants/broken/variant.yaml", "modell: x\n")
    said = run(four, "run", "--variant", "base,broken", code=3)
    assert "variant  broken" in said
    assert "modell" in said
    assert provider.requests == []


def test_one_budget_for_all(four: Workspace, provider: Provider) -> None:
    """Free calls of the loopback have no price, so a budget of 0 lets none through."""
    run(four, "run", "first", "--variant", "base,cheap", "--budget", "0", code=6)
    assert provider.requests == []
    assert not (four.root / "pipeline-data/variants/cheap/current").exists()


def test_samples(four: Workspace, provider: Provider) -> None:
    """Draw k is the job with every task's sample raised by k; again, nothing is called."""
    run(four, "run", "fresh=research", "first")
    sampled = digests(four.root / "samples")
    before = len(provider.requests)
    for _ in range(2):
        run(four, "run", "first", "--samples", "3")
        assert len(provider.requests) == before + 8
    assert digests(four.root / "samples") == sampled
    for draw in (1, 2):
        name = f"base@{draw}"
        calls = [letter(four, name, task)["calls"] for task in ("research", "analysis")]
        assert [each["sample"] for (each,) in calls] == [1 + draw, draw]
        assert run(four, "list", "first", "--variant", name).split() == ["first", "complete"]
        run(four, "verify", "--variant", name)


def test_samples_of_a_variant(four: Workspace, provider: Provider) -> None:
    """Draws of two variants share their answers as the variants do."""
    for _ in range(2):
        run(four, "run", "first", "--samples", "2", "--variant", "base,cheap")
        assert len(provider.requests) == 10
    assert letter(four, "cheap@1", "formatting")["calls"][0]["sample"] == 1


def test_what_a_draw_follows(four: Workspace, provider: Provider) -> None:
    """Another sample of the job makes its draws stale; a draw itself draws none."""
    run(four, "run", "first", "--samples", "2")
    run(four, "run", "first", "fresh=formatting")
    assert "stale: formatting" in run(four, "list", "first", "--variant", "base@1")
    said = run(four, "run", "first", "fresh=research", "--variant", "base@1", code=3)
    assert "a further draw of a variant draws no other samples" in said
    run(four, "run", "first", "--set", "vars.tone=warm", "--samples", "2")
    (made,) = (four.root / "pipeline-data/variants").glob("set-*@1")
    assert run(four, "list", "first", "--variant", made.name).split() == ["first", "complete"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--samples", "0"], "--samples must be a whole number"),
        (["--samples", "1001"], "--samples is at most 1,000"),
        (["--samples", "x"], "--samples must be a whole number"),
        (["--variant", "base@1", "--samples", "2"], "a draw has no draws"),
        (["--variant", "base@0"], "no such draw"),
        (["--variant", "base@x"], "no such draw"),
        (["--variant", "base,chaep"], "cheap"),
        (["--variant", "base,"], "no such variant"),
    ],
)
def test_bad_words(four: Workspace, provider: Provider, words: list[str], said: str) -> None:
    assert said in run(four, "run", *words, code=3)
    assert provider.requests == []
    assert not (four.root / "pipeline-data/variants").exists()


def test_commands_about_one(four: Workspace) -> None:
    assert "about one variant" in run(four, "verify", "--variant", "base,cheap", code=3)


def test_a_server_builds_in_its_variant(four: Workspace, provider: Provider) -> None:
    with serve(four, "--variant", "cheap") as served:
        assert served.post("/api/v1/builds", {"jobs": ["first"]}).status == 202
        served.wait_for("first", "complete")
    assert (four.root / "pipeline-data/variants/cheap/complete/first").is_dir()
    assert not (four.root / "pipeline-data/complete/first").exists()


def test_a_job_of_each_variant_has_its_own_budget(four: Workspace, provider: Provider) -> None:
    """What one draw costs is not held against the next; together they spend from the pipeline's."""
    document = json.loads((four.root / "pipeline-config/pipeline.json").read_bytes())
    for limit, code in (("job", 0), ("pipeline", 6)):
        # A call may cost 0.0099; twenty draws of four cost 0.0043.
        four.write("pipeline-config/pipeline.json", {**document, "budget": {limit: 0.012}})
        run(four, "run", "first" if code else "second", "--samples", "20", code=code)
