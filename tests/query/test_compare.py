"""`popbuild compare`: variants of the same jobs beside each other, from what stands on disk."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from four_tasks import four_tasks, run
from provider import Provider, Reply, Request
from workspace import Workspace

from popbuild.model.scores import Score, TaskScores


@pytest.fixture
def four(workspace: Workspace) -> Workspace:
    return four_tasks(workspace)


def measured(workspace: Workspace, variant: str, job: str, **values: float | bool | None) -> None:
    """Write the scores of a job's last task, as a build does."""
    below = "" if variant == "base" else f"variants/{variant}/"
    scores = {
        name: Score(value, reason=f"{name} says so", rule="r", expected="", output="o")
        for name, value in values.items()
    }
    place = f"pipeline-data/{below}complete/{job}/tasks/formatting/scores.json"
    workspace.write(place, TaskScores("formatting", scores).as_document())


def compare(workspace: Workspace, *words: str) -> dict[str, Any]:
    result = workspace.popbuild("compare", "--json", *words)
    assert result.code == 0, result.err
    found: dict[str, Any] = json.loads(result.out)
    return found


def column(found: dict[str, Any], variant: str) -> dict[str, Any]:
    (each,) = (each for each in found["variants"] if each["variant"] == variant)
    return each


def test_two_variants(four: Workspace, provider: Provider) -> None:
    """What each job came to, and what follows. It makes no call and changes no file."""
    run(four, "run", "--variant", "base,cheap")
    for job, old, new in (("first", 0.5, 0.75), ("second", 0.25, None)):
        measured(four, "base", job, faithful=old)
        measured(four, "cheap", job, faithful=new)
    before, sent = four.tree("pipeline-data"), len(provider.requests)
    found = compare(four, "--variants", "base,cheap")
    assert compare(four) == found
    assert (four.tree("pipeline-data"), len(provider.requests)) == (before, sent)

    base, cheap = (column(found, name) for name in ("base", "cheap"))
    assert (base["jobs"], base["passRate"]["value"], base["leftOut"]) == (2, 1.0, {})
    assert base["passRate"]["low"] == pytest.approx(0.342, abs=0.001)
    assert base["scores"]["formatting.faithful"]["mean"]["value"] == 0.375
    assert cheap["scores"]["formatting.faithful"]["missing"] == 1  # and not zero
    assert cheap["scores"]["formatting.faithful"]["mean"]["value"] == 0.75
    assert [(each["measure"], each["difference"]["value"]) for each in found["differences"]] == [
        ("pass rate", 0.0),
        ("formatting.faithful", 0.25),
    ]
    first = found["jobs"][0]
    assert first["fields"] == {"/data/topic": "topic of first"}
    assert {"output", "formatting.faithful"} <= set(first["differs"])
    assert "gate" not in first["differs"]
    # Three of four answers were bought for base: to cheap, they cost as much.
    calls = [four.letter("first", task)["calls"][0] for task in ("research", "formatting")]
    (own,) = first["results"]["cheap"]
    assert own["inputTokens"] > calls[0]["inputTokens"] + calls[1]["inputTokens"]
    assert own["cost"] is not None
    assert own["timeMs"] > 0

    said = run(four, "compare", "--variants", "base,cheap")
    assert max(map(len, said.splitlines())) <= 80
    assert "first  /data/topic topic of first" in said
    assert "pass rate     100 % [34, 100]" in said
    assert "0.75, 1 missing" in said


def test_gates_and_jobs_that_are_left_out(four: Workspace, provider: Provider) -> None:
    """A rejection counts against a variant; what failed or was not built is left out, and said."""
    run(four, "run")
    strict = "pipeline-config/variants/cheap/tasks/formatting/output.schema.json"
    schema = {"type": "object", "properties": {"tone": {"const": "kind"}}, "required": ["tone"]}
    four.write(strict, schema)

    def answer(request: Request) -> Reply:
        return Reply(json.dumps({"tone": "rude"}))

    provider.answer = answer
    run(four, "run", "--variant", "cheap", "first", code=1)
    found = compare(four)
    cheap = column(found, "cheap")
    assert (cheap["jobs"], cheap["passRate"]["value"]) == (1, 0.0)
    assert cheap["leftOut"] == {"not built": 1}
    assert found["differences"][0]["difference"]["value"] == -1.0
    (draw,) = found["jobs"][0]["results"]["cheap"]
    assert (draw["passed"], draw["refinements"]) == (False, 2)
    assert "tone" in draw["why"]
    # Three answers from the store, and three tries that were refused.
    base = found["jobs"][0]["results"]["base"][0]
    assert draw["inputTokens"] > base["inputTokens"]
    said = run(four, "compare")
    assert "left out of cheap: 1 not built" in said
    assert "gate" in said
    research = compare(four, "--task", "research")
    assert column(research, "cheap")["passRate"]["value"] == 1.0
    assert column(research, "base")["tokens"]["total"] < column(found, "base")["tokens"]["total"]


def test_draws_of_a_job_are_one_job(four: Workspace, provider: Provider) -> None:
    """Samples are averaged before anything else; they are taken along by themselves."""
    run(four, "run", "--variant", "base,cheap")
    run(four, "run", "first", "--samples", "3")
    for variant, value in (("base", True), ("base@1", False), ("base@2", True), ("cheap", True)):
        measured(four, variant, "first", good=value)
        if "@" not in variant:
            measured(four, variant, "second", good=True)
    found = compare(four)
    base = column(found, "base")
    assert [each["variant"] for each in found["variants"]] == ["base", "cheap"]
    assert (base["jobs"], base["draws"]) == (2, 4)
    assert base["scores"]["formatting.good"]["mean"]["value"] == pytest.approx((2 / 3 + 1) / 2)
    difference = found["differences"][1]["difference"]
    assert (difference["value"], difference["jobs"]) == (pytest.approx(1 / 6), 2)
    assert "passed 3 of 3" in run(four, "compare")
    one = compare(four, "first", "--variants", "base@1,cheap")
    assert column(one, "base@1")["scores"]["formatting.good"]["mean"]["value"] == 0.0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--variants", "base,chaep"], "did you mean"),
        (["--variants", "base,cheap"], "a variant has no results to compare"),
        (["--task", "formating"], "formatting"),
        (["--variants", ""], "no such variant"),
        (["frist"], "first"),
    ],
)
def test_bad_words(four: Workspace, provider: Provider, words: list[str], said: str) -> None:
    run(four, "run", "first")
    assert said in run(four, "compare", *words, code=3)


def test_no_job_in_common(four: Workspace, provider: Provider) -> None:
    run(four, "run", "first")
    run(four, "run", "second", "--variant", "cheap")
    said = run(four, "compare", "--variants", "base,cheap", code=3)
    assert "no job has a result in two of the variants" in said
    assert "popbuild run --variant base,cheap" in said


def test_a_stale_result_is_marked(four: Workspace, provider: Provider) -> None:
    run(four, "run", "--variant", "base,cheap")
    four.task("formatting", prompt="Better: {{ artifacts.synthesis }}")
    found = compare(four)
    assert [each["stale"] for each in found["variants"]] == [2, 0]
    assert "passed, stale" in run(four, "compare")


def test_forms(four: Workspace, provider: Provider) -> None:
    """The same table as CSV, as Markdown, and as a page that loads nothing."""
    schema = {"type": "object", "properties": {"content": {"type": "string"}}}
    four.task("formatting", schema=schema)
    hostile = {"content": "=1+1 | `<script>alert(1)</script>` sk-" + "abcdefghij0123456789" * 2}
    run(four, "run")
    provider.answer = lambda request: Reply(json.dumps(hostile))
    run(four, "run", "--variant", "cheap")
    measured(four, "base", "first", good=False)
    measured(four, "cheap", "first", good=True)
    rows = list(csv.DictReader(io.StringIO(run(four, "compare", "--csv"))))
    assert [(row["job"], row["variant"], row["gate"]) for row in rows] == [
        ("first", "base", "passed"),
        ("first", "cheap", "passed"),
        ("second", "base", "passed"),
        ("second", "cheap", "passed"),
    ]
    assert [row["formatting.good"] for row in rows] == ["0.0", "1.0", "", ""]
    assert rows[0]["seed/data/topic"] == "topic of first"
    assert float(rows[1]["cost"]) > 0
    assert "[key]" in rows[1]["output"]
    assert rows[1]["output"].startswith("'=1+1")

    text = run(four, "compare", "--markdown")
    assert "| good ≠ | `0` | `1` |" in text
    assert "\\|" in text
    run(four, "compare", "-o", "compare.html")
    page = (four.root / "compare.html").read_text()
    assert "&lt;script&gt;" in page
    assert "[key]" in page
    for each in (page, text):
        assert "<script" not in each.replace("`<script>", "")
        assert "sk-abc" not in each
    assert "://" not in page
    assert "one form" in run(four, "compare", "--csv", "--json", code=3)


def test_build_first(four: Workspace, provider: Provider) -> None:
    """--build buys what is missing in any variant, and nothing the second time."""
    for _ in range(2):
        found = compare(four, "--variants", "base,cheap", "--build")
        assert len(provider.requests) == 10
        assert [each["jobs"] for each in found["variants"]] == [2, 2]
    four.task("formatting", prompt="Anew: {{ artifacts.synthesis }}")
    said = run(four, "compare", "--build", "--budget", "0", code=6)
    assert "not compared: a variant has no results" in said
    assert len(provider.requests) == 10
    assert "--build" in run(four, "compare", "--budget", "1", code=3)


def test_two_documents(four: Workspace, provider: Provider) -> None:
    """Two jobs, or a job and what an earlier run made of it, with the words marked."""
    texts = iter(["The market grows by ten percent.", "The market shrinks by ten percent."])
    provider.answer = lambda request: Reply(
        next(texts) if request.said("user").startswith("formatting") else request.said("user")
    )
    run(four, "run", "first")
    (line,) = four.runs()
    run(four, "run", "second")
    for words in (["first", "second"], ["first", "second", "--task", "formatting"]):
        said = run(four, "compare", *words)
        assert "The market [-grows-] by ten" in said
        assert "The market {+shrinks+} by ten" in said
        assert max(map(len, said.splitlines())) <= 80
    assert "[-first" in run(four, "compare", "first", "second", "--task", "research")
    provider.answer = lambda request: Reply("The market grows by one percent.")
    four.task("formatting", prompt="formatting: {{ artifacts.synthesis }}")
    run(four, "run", "first")
    found = json.loads(run(four, "compare", "first", "--run", line["pipelineId"], "--json"))
    assert found["before"]["run"] == line["pipelineId"]
    assert [part["after"] for part in found["lines"][0] if part["change"] == "changed"] == ["one"]
    assert "no such earlier result" in run(four, "compare", "first", "--run", "pl-x", code=3)
    assert "side" not in run(four, "compare", "first", "second", "--variants", "base")
