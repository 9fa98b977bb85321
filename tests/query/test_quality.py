"""`popbuild test`: results against tests.yaml and against what they were."""

from __future__ import annotations

import json
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from four_tasks import run
from provider import Provider, Reply, Request
from workspace import Workspace

JOBS = 40
TESTS = "pipeline-config/tests.yaml"
WEAK, STRONG = "openai/gpt-4o-mini", "openai/gpt-4o"
SCHEMA = {"type": "object", "properties": {"good": {"const": True}}, "required": ["good"]}


def answer(request: Request) -> Reply:
    """The strong model does 8 of 10 jobs well, the weak one 4, all of which the strong one does."""
    number = int(request.said("user").split()[-1]) % 10
    most = 8 if request.model.endswith("4o") else 4
    return Reply(json.dumps({"good": number < most}))


@pytest.fixture
def experiment(workspace: Workspace, provider: Provider) -> Workspace:
    """40 jobs, of which the main variant's weak model does 40 % well, and `strong` 80 %."""
    provider.answer = answer
    (workspace.root / "seeds/first.json").unlink()
    for number in range(JOBS):
        workspace.seed(f"job-{number}", {"number": number})
    settings = {"gate": {"refinements": 0}}
    prompt = "Is this well done: {{ seed.data.number }}"
    workspace.task("judge", prompt=prompt, schema=SCHEMA, task_yaml=settings)
    workspace.pipeline(["judge"], model=None, defaults={"model": WEAK})
    workspace.write("pipeline-config/variants/strong/variant.yaml", f"model: {STRONG}\n")
    run(workspace, "run", "--variant", "base,strong", "-c", code=1)
    return workspace


def test_a_better_model(experiment: Workspace, provider: Provider) -> None:
    """An experiment from its calls to its table: the interval holds what is true, and a later drop
    is told from noise."""
    assert len(provider.requests) == 2 * JOBS
    found = json.loads(experiment.popbuild("compare", "--json").out)
    rates = [each["passRate"] for each in found["variants"]]
    assert [each["value"] for each in rates] == [0.4, 0.8]
    assert rates[1]["low"] < 0.8 < rates[1]["high"]
    (difference,) = (each["difference"] for each in found["differences"])
    assert difference["value"] == pytest.approx(0.4)
    assert 0 < difference["low"] < 0.4 < difference["high"] < 1

    assert "scores/strong.json" in run(experiment, "test", "--save", "--variants", "strong")
    saved = experiment.read("scores/strong.json")
    assert run(experiment, "test", "--save", "--variants", "strong") == "scores/strong.json\n"
    assert experiment.read("scores/strong.json") == saved
    same = run(experiment, "test", "--baseline", "--variants", "strong")
    assert "pass rate no worse: +0 % [0, 0], 40 jobs; it was 0.8" in same
    # Noise: three jobs go one way, two the other.
    for job, value in (("job-0", 0.0), ("job-1", 0.0), ("job-8", 1.0), ("job-9", 1.0)):
        saved["jobs"][job]["pass rate"] = value
    saved["jobs"]["job-18"]["pass rate"] = 1.0
    experiment.write("scores/strong.json", saved)
    run(experiment, "test", "--baseline", "--variants", "strong")
    experiment.write("pipeline-config/variants/strong/variant.yaml", f"model: {WEAK}\n")
    run(experiment, "run", "--variant", "strong", "-c", code=1)
    assert len(provider.requests) == 2 * JOBS  # the weak model's answers are in the store
    said = run(experiment, "test", "--baseline", "--variants", "strong", code=1)
    assert "FAIL  pass rate no worse: -" in said


def test_what_is_wanted(experiment: Workspace, provider: Provider) -> None:
    """Each wish is told with its interval; one that is not met makes the exit code 1."""
    wishes: list[dict[str, Any]] = [
        {"passRate": 0.4, "cost": 0.01, "latency": 60},
        {"variant": "strong", "passRate": 0.9, "scores": {"faithful": 0.5}, "samples": 2},
        {"variant": "strong", "jobs": "job-1?", "pipeline": "", "task": "judge", "passRate": 0.8},
    ]
    sent = len(provider.requests)
    for words in ([], ["--junit", "tests.xml"], ["--json"]):
        experiment.write(TESTS, json.dumps({"tests": wishes}))
        result = experiment.popbuild("test", *words)
        assert result.code == 1, result.err
    found = json.loads(result.out)
    assert [each["passed"] for each in found] == [True, False, True]
    failed = [each["check"] for each in found[1]["checks"] if not each["passed"]]
    assert failed == [
        "at least 2 samples of each job, up to date",
        "pass rate at least 90 %",
        "faithful at least 0.5",
    ]
    text = run(experiment, "test", code=1)
    assert "pass rate at least 90 %: 80 % [65, 90]" in text
    assert "job-0 has 1" in text
    suites = ET.fromstring((experiment.root / "tests.xml").read_text())  # noqa: S314 - our own
    assert suites.attrib == {"tests": "9", "failures": "3"}
    assert len(suites.findall(".//failure")) == 3

    experiment.write(TESTS, json.dumps({"tests": wishes[:1]}))
    run(experiment, "test")
    experiment.task("judge", prompt="Anew, {{ seed.data.number }}")
    assert "job-0 has 0 (stale)" in run(experiment, "test", code=1)
    assert len(provider.requests) == sent


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        (None, "there are no tests"),
        ([{"passrate": 0.5}], "not a valid tests"),
        ([{"passRate": 90}], "/tests/0/passRate"),
        ([{"variant": "chaep"}], "no such variant"),
        ([{"pipeline": "other"}], "no such pipeline"),
        ([{"task": "juge"}], "judge"),
    ],
)
def test_bad_wishes(workspace: Workspace, wishes: list[Any] | None, said: str) -> None:
    workspace.seed("first", {"number": 1})
    workspace.task("judge", prompt="{{ seed.data.number }}")
    workspace.pipeline(["judge"])
    if wishes is not None:
        workspace.write(TESTS, json.dumps({"tests": wishes}))
    assert said in run(workspace, "test", code=3)
    if wishes is None:
        said = run(workspace, "test", "--baseline", code=3)
        assert "there is no baseline" in said
        assert "scores/base.json" in said
