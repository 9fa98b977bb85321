"""A model that is paid for each call: 25 jobs of 4 tasks, and how many calls each change costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pytest
from provider import Provider
from workspace import Workspace

JOBS = [f"job-{number:02d}" for number in range(25)]
ALL = {"research": 25, "analysis": 25, "synthesis": 25, "formatting": 25}


@pytest.mark.slow
def test_what_25_jobs_cost(workspace: Workspace, provider: Provider) -> None:
    """Each change costs the calls of the tasks whose result can differ, and none is paid for
    twice: going back to a prompt is free."""
    (workspace.root / "seeds/first.json").unlink()
    for job in JOBS:
        write_seed(workspace, job)
    write_tasks(workspace)

    # Every answer differs for each request, so that what changes goes on to the end.
    assert calls(workspace, provider) == ALL
    assert calls(workspace, provider) == {}

    write_seed(workspace, "job-07", topic="wind")
    assert calls(workspace, provider) == dict.fromkeys(ALL, 1)

    write_seed(workspace, "job-11", style="a table")
    assert calls(workspace, provider) == {"formatting": 1}

    before = artifacts(workspace)
    write_tasks(workspace, third="synthesis: combine briefly")
    assert calls(workspace, provider) == {"synthesis": 25, "formatting": 25}

    write_tasks(workspace)
    assert calls(workspace, provider) == {}
    assert artifacts(workspace) == before

    assert len(provider.requests) == 155
    assert len({request.digest for request in provider.requests}) == 155
    assert sorted(workspace.job("x").parent.iterdir()) == sorted(
        [*(workspace.job(job) for job in JOBS), workspace.job("runs.jsonl")]
    )


def write_seed(workspace: Workspace, job: str, **changed: str) -> None:
    workspace.seed(job, {"topic": f"topic {job}", "style": "a list", "note": "unread"} | changed)


def write_tasks(workspace: Workspace, third: str = "synthesis: combine") -> None:
    workspace.task("research", prompt="research: {{ seed.data.topic }}")
    workspace.task("analysis", prompt="analysis: {{ artifacts.research.content }}")
    workspace.task("synthesis", prompt=third + " {{ artifacts.analysis.content }}")
    workspace.task(
        "formatting",
        prompt="formatting: {{ artifacts.synthesis.content }} as {{ seed.data.style }}",
    )
    workspace.pipeline(list(ALL))


def calls(workspace: Workspace, provider: Provider) -> Mapping[str, int]:
    """What a run of all jobs asks, by task. Another run after it asks nothing."""
    before = len(provider.requests)
    for again in (False, True):
        since = len(provider.requests)
        result = workspace.doit("run", "-n", "16")
        assert result.code == 0, result.err
        assert not again or len(provider.requests) == since
    said = [request.said("user") for request in provider.requests[before:]]
    return dict(Counter(text.partition(":")[0] for text in said))


def artifacts(workspace: Workspace) -> Mapping[str, object]:
    return {f"{job} {task}": workspace.artifact(job, task) for job in JOBS for task in ALL}
