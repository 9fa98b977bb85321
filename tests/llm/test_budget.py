"""Budgets: no call is sent that may go over one; what is left is said, and the next run goes on."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest
from provider import Provider, Reply, default_answer
from workspace import Workspace

LIMITED = {"maxTokens": 100}
# gpt-4o-mini: $0.15 and $0.60 a million tokens. Of a call with 100 tokens of output at most:
AT_MOST = 100 * 0.6e-6


@pytest.fixture
def jobs(workspace: Workspace) -> Workspace:
    """Four jobs of two tasks, whose calls are reserved at some $0.00007 and cost about $0.00003."""
    workspace.pipeline(["research", "analysis"], {"research": LIMITED, "analysis": LIMITED})
    for number in range(3):
        workspace.seed(f"job-{number}", {"topic": f"topic {number}"})
    return workspace


def ledger(workspace: Workspace) -> list[Any]:
    lines = (workspace.root / ".popbuild/ledger.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def spent(workspace: Workspace) -> float:
    return float(sum(each["cost"] for each in ledger(workspace) if each["event"] == "settled"))


def test_a_run_stops_before_its_budget_and_the_next_goes_on(
    jobs: Workspace, provider: Provider
) -> None:
    """With an exit code of its own; nothing is bought twice on the way."""
    budget = 4.2 * AT_MOST
    result = jobs.popbuild("run", "-n", "1", "--budget", f"{budget:.6f}")
    assert result.code == 6, result.out + result.err
    assert "the next call may go over the budget" in result.err
    assert "left by the budget: " in result.out
    assert 2 <= len(provider.requests) < 8
    (stopped,) = (jobs.root / "pipeline-data/current").iterdir()
    assert jobs.status(stopped.name, "current")["state"] == "stopped"
    assert spent(jobs) <= budget
    for _ in range(6):
        result = jobs.doit("run", "--budget", f"{budget:.6f}")
        if result.code == 0:
            break
        assert result.code == 6
    assert len(provider.requests) == 8
    assert len(jobs.runs()) == 4
    assert jobs.popbuild("run", "--budget", "0").code == 0  # nothing to do costs nothing
    assert len(provider.requests) == 8


def test_a_stopped_job_says_so(jobs: Workspace, provider: Provider) -> None:
    result = jobs.popbuild("run", "first", "--budget", f"{1.2 * AT_MOST:.6f}", "--json")
    assert result.code == 6
    (body,) = json.loads(result.out)
    assert (body["outcome"], body["built"]) == ("stopped", ["research"])
    assert body["error"]["error"] == "the next call may go over the budget"
    status = jobs.status("first", "current")
    assert status["state"] == "stopped"
    assert status["tasks"]["analysis"]["state"] == "pending"
    assert jobs.popbuild("run", "first").code == 0
    assert len(provider.requests) == 2


@pytest.mark.parametrize("limit", ["job", "pipeline", "day"])
def test_limits_of_the_configuration_hold_over_runs(
    limit: str, jobs: Workspace, provider: Provider
) -> None:
    """Of one job, of all jobs of the pipeline, of a day: what earlier commands spent counts."""
    settings = {"research": LIMITED, "analysis": LIMITED}
    jobs.pipeline(["research", "analysis"], settings, budget={limit: 3 * AT_MOST})
    for _ in range(3):
        for job in ("first", "job-0", "job-1", "job-2"):
            assert jobs.popbuild("run", job).code in (0, 6)
    by_job = dict.fromkeys(("first", "job-0", "job-1", "job-2"), 0.0)
    entries = {each["entry"]: each["job"] for each in ledger(jobs) if each["event"] == "reserved"}
    for each in ledger(jobs):
        if each["event"] == "settled":
            by_job[entries[each["entry"]]] += each["cost"]
    if limit == "job":
        assert len(provider.requests) == 8
        assert max(by_job.values()) <= 3 * AT_MOST
    else:
        assert len(provider.requests) < 8
        assert sum(by_job.values()) <= 3 * AT_MOST
        assert f"for {'the pipeline' if limit == 'pipeline' else 'a day'}" in (
            jobs.popbuild("run").err
        )


def test_a_budget_is_no_dependency(jobs: Workspace, provider: Provider) -> None:
    assert jobs.popbuild("run", "first").code == 0
    settings = {"research": LIMITED, "analysis": LIMITED}
    jobs.pipeline(["research", "analysis"], settings, budget={"day": 0})
    assert "up to date" in jobs.popbuild("run", "first").out
    assert len(provider.requests) == 2


def test_many_at_once_do_not_go_over(jobs: Workspace, provider: Provider) -> None:
    """What is under way counts at its most: two processes of many calls each share one limit."""
    for number in range(20):
        jobs.seed(f"more-{number}", {"topic": f"more {number}"})
    settings = {"research": LIMITED, "analysis": LIMITED}
    limit = 10.5 * AT_MOST
    jobs.pipeline(["research", "analysis"], settings, budget={"day": limit})
    provider.answer = lambda request: Reply(default_answer(request).text, delay_s=0.05)
    running = [
        jobs.start("popbuild", "run", "-n", "8", "job-*"),
        jobs.start("popbuild", "run", "-n", "8", "more-*"),
    ]
    assert {each.wait().code for each in running} <= {0, 6}
    total, reserved = 0.0, {}
    for entry in ledger(jobs):
        if entry["event"] == "reserved":
            reserved[entry["entry"]] = entry["cost"]
        else:
            total += entry["cost"]
            del reserved[entry["entry"]]
        assert total + sum(reserved.values()) <= limit + 1e-7


def test_an_unknown_price_keeps_no_budget(workspace: Workspace, provider: Provider) -> None:
    workspace.pipeline(["research", "analysis"], model="openai/nobody-knows-this")
    result = workspace.popbuild("run", "first", "--budget", "5")
    assert result.code == 6
    assert "the price of the model is not known" in result.err
    assert not provider.requests
    assert workspace.popbuild("run", "first", "--budget", "5", "--unknown-cost").code == 0
    assert len(provider.requests) == 2


def test_a_crash_counts_at_its_most(jobs: Workspace, provider: Provider) -> None:
    """A call that was under way when its command was killed may have been paid for."""
    provider.hold()
    running = jobs.start("popbuild", "run", "first", real=True)
    provider.wait_for(1)
    running.kill()
    provider.release()
    result = jobs.popbuild("run", "first", "--budget", f"{3 * AT_MOST:.6f}")
    assert result.code == 0  # another command's budget
    settings = {"research": LIMITED, "analysis": LIMITED}
    jobs.pipeline(["research", "analysis"], settings, budget={"day": 2.8 * AT_MOST})
    result = jobs.popbuild("run", "job-0")
    assert result.code == 6
    assert "spent" in result.err


def test_asking_first(jobs: Workspace, provider: Provider) -> None:
    """Above a price a person is asked; without a terminal the answer is no."""
    result = jobs.popbuild("run", "first", "--ask-above", "0.00001")
    assert result.code == 4
    assert "first: 2 will run" in result.out
    assert "not confirmed" in result.err
    assert not provider.requests
    assert jobs.popbuild("run", "first", "--ask-above", "1").code == 0
    assert len(provider.requests) == 2
    assert jobs.popbuild("run", "first", "--ask-above", "0").code == 0


@pytest.mark.parametrize(
    "words", [("fresh=research",), ("--store", "refresh", "-a"), ("--store", "off", "-a")]
)
def test_what_is_bought_again_is_asked_about(
    words: tuple[str, ...], jobs: Workspace, provider: Provider
) -> None:
    """A fresh sample, and all that is stored where the store is not used: no plan without these
    words has a price for it."""
    assert jobs.popbuild("run", "first").code == 0
    result = jobs.popbuild("run", "first", *words, "--ask-above", "0.000001")
    assert result.code == 4, result.out + result.err
    assert "asked for" in result.out
    assert len(provider.requests) == 2
    assert jobs.popbuild("run", "first", *words, "--ask-above", "1").code == 0
    assert len(provider.requests) > 2


def test_a_plan_knows_how_the_store_is_used(jobs: Workspace, provider: Provider) -> None:
    """POPBUILD_STORE decides in a plan as in a run: nothing is sent, or all of it again."""
    jobs.pipeline(["research"], {"research": LIMITED})
    assert jobs.popbuild("run", "first").code == 0
    shutil.rmtree(jobs.root / "pipeline-data")
    lows = {"use": (0, 1), "only": (0, 1), "refresh": (1, 0), "off": (1, 0)}
    for mode, (low, stored) in lows.items():
        body = json.loads(
            jobs.popbuild("plan", "first", "--json", env={"POPBUILD_STORE": mode}).out
        )
        assert body["total"]["calls"]["low"] == low, mode
        assert body["total"]["storedCalls"] == stored, mode
        assert (body["total"]["calls"]["high"] == 0) == (mode == "only")
    assert len(provider.requests) == 1


@pytest.mark.parametrize("amount", ["-1", "much", "nan", "inf", ""])
@pytest.mark.parametrize("option", ["--budget", "--ask-above"])
def test_what_is_no_amount(option: str, amount: str, workspace: Workspace) -> None:
    result = workspace.popbuild("run", "first", f"{option}={amount}")
    assert result.code == 3
    assert "an amount of US dollars" in result.err
