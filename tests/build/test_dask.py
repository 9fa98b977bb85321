"""`popbuild run --dask`: jobs on the workers of a cluster, one of which may be lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from patience import PATIENCE_S
from provider import Provider
from workspace import MODEL, Workspace

from popbuild.base.errors import FencedError
from popbuild.base.paths import Root
from popbuild.jobs.claims import Fenced, JobLocks

pytestmark = [pytest.mark.slow, pytest.mark.long]
JOBS = [f"job-{number:02d}" for number in range(24)]
GIVEN_UP_S = 6  # how long a worker may be silent

# Workers without a nanny, which would kill one that has fallen silent: none can on a machine that
# the network has cut off.
CLUSTER = """\
import json, subprocess, sys
from distributed import LocalCluster
if __name__ == "__main__":
    with LocalCluster(host="127.0.0.1", n_workers=0, dashboard_address=None) as cluster:
        address = cluster.scheduler_address
        command = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--no-nanny",
                   "--nthreads", "4", "--host", "127.0.0.1", "--no-dashboard",
                   "--preload", "popbuild.llm.preload"]
        workers = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(3)]
        pids = [worker.pid for worker in workers]
        print(json.dumps({"address": address, "pids": pids}), flush=True)
        sys.stdin.read()
    for worker in workers:
        worker.kill()
        worker.wait()
"""


@dataclass(frozen=True)
class Cluster:
    address: str
    pids: list[int]


@contextmanager
def cluster(root: Workspace, script: Path) -> Iterator[Cluster]:
    """Three worker processes of four threads each, as a cluster's owner starts them."""
    script.write_text(CLUSTER)
    process = subprocess.Popen(
        [sys.executable, str(script)],
        env=root.environment() | {"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": f"{GIVEN_UP_S} s"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        with process.stdin, process.stdout:
            yield Cluster(**json.loads(process.stdout.readline()))
    finally:
        process.wait(PATIENCE_S)


@pytest.fixture
def root(workspace: Workspace) -> Workspace:
    (workspace.root / "seeds/first.json").unlink()
    for job in JOBS:
        workspace.seed(job, {"topic": f"topic of {job}"})
    return workspace


def test_a_lost_worker_costs_nothing_that_was_stored(
    root: Workspace, provider: Provider, tmp_path: Path
) -> None:
    """One of three workers is killed in the middle: every job is complete once, runs.jsonl has each
    once, and only what was in flight there is asked again. Then another falls silent, is given up
    by the scheduler, and wakes up: its jobs are built elsewhere, each run stands there once, and
    nothing is asked again."""
    with cluster(root, tmp_path / "cluster.py") as dask:
        provider.at(20, lambda _: os.kill(dask.pids[0], signal.SIGKILL))
        result = root.popbuild("run", "--dask", dask.address)
        assert result.code == 0, result.out + result.err
        assert "job-00:research" in result.out
        first = asked(provider)
        assert len(first) == 48
        assert max(first.values()) <= 2
        assert sum(first.values()) <= 48 + 4  # a worker has four threads
        assert sorted(run["id"] for run in root.runs()) == JOBS

        root.task("analysis", prompt="Again: {{ artifacts.research.content }}\n")
        calls = len(provider.requests)
        provider.at(calls + 8, lambda _: os.kill(dask.pids[1], signal.SIGSTOP))
        with root.start("popbuild", "run", "--dask", dask.address) as running:
            provider.wait_for(calls + 16)
            time.sleep(2 * GIVEN_UP_S)  # until the scheduler has noticed
            os.kill(dask.pids[1], signal.SIGCONT)
            result = running.wait()
            assert result.code == 0, result.out + result.err
    assert asked(provider) - first == Counter(
        {f"Again: {root.artifact(job, 'research')['content']}": 1 for job in JOBS}
    )
    assert sorted(run["id"] for run in root.runs()) == sorted(JOBS * 2)
    # The one that woke up dies with its cluster, and may have begun to write: the next run clears.
    assert all("complete" in root.states(job) for job in JOBS)
    calls = len(provider.requests)
    assert root.popbuild("run").code == 0
    assert all(root.states(job) == ["complete"] for job in JOBS)
    assert root.popbuild("verify").code == 0
    assert len(provider.requests) == calls


def asked(provider: Provider) -> Counter[str]:
    return Counter(request.said("user") for request in provider.requests)


def test_workers_of_ones_own(root: Workspace, provider: Provider) -> None:
    """--dask local needs no cluster; all its workers spend from one budget."""
    limited = {"maxTokens": 100}
    root.pipeline(["research", "analysis"], {"research": limited, "analysis": limited})
    result = root.popbuild("run", "--dask", "local", "--budget", "0.0006")
    assert result.code == 6, result.out + result.err
    assert 0 < len(provider.requests) < 48
    lines = (root.root / ".popbuild/ledger.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    assert len({each["command"] for each in entries if each["event"] == "reserved"}) == 1
    assert sum(each["cost"] for each in entries if each["event"] == "settled") <= 0.0006
    assert root.popbuild("run").code == 0
    assert len(root.runs()) == 24
    assert len(provider.requests) == 48


def test_files_and_items_on_workers(workspace: Workspace, provider: Provider) -> None:
    """A worker copies a seed's file into its job, and asks about each item once; after a change of
    both, only for what reads the file, and for the item that changed."""
    workspace.task("research", prompt="Report: {{ files.report.text }}\n")
    workspace.pipeline(["research"])
    workspace.write("inputs/q3.md", "We sold 40.")
    filed = {"name": "filed", "files": {"report": "inputs/q3.md"}, "data": {}}
    workspace.write("seeds/first.json", filed)
    many = "pipeline-config/pipelines/many"
    models = {task: {"model": MODEL} for task in ("each", "all")}
    body = {"name": "many", "tasks": list(models), "taskConfig": models}
    workspace.write(f"{many}/pipeline.json", body)
    workspace.write(f"{many}/tasks/index.yaml", "each: ./each\nall: ./all\n")
    workspace.write(f"{many}/tasks/each/task.yaml", "foreach: seed.data.topics\nkey: id\n")
    workspace.write(f"{many}/tasks/each/prompt.md", "Item: {{ item.id }}, {{ item.text }}")
    joined = "{{ artifacts.each.items | map(attribute='key') | join(', ') }}"
    workspace.write(f"{many}/tasks/all/prompt.md", f"All: {joined}")
    topics = [{"id": f"t{number}", "text": "old"} for number in range(5)]
    items = {"name": "items", "pipeline": "many", "data": {"topics": topics}}
    workspace.write("seeds/items.json", items)
    assert _dask_asks(workspace, provider) == {
        "Report: We sold 40.": 1,
        **{f"Item: t{number}, old": 1 for number in range(5)},
        "All: t0, t1, t2, t3, t4": 1,
    }
    assert _dask_asks(workspace, provider) == {}
    assert (workspace.job("first") / "inputs/report.md").read_text() == "We sold 40."

    workspace.write("inputs/q3.md", "We sold 41.")
    topics[2]["text"] = "new"
    workspace.write("seeds/items.json", items)
    assert _dask_asks(workspace, provider) == {"Report: We sold 41.": 1, "Item: t2, new": 1}
    assert _dask_asks(workspace, provider) == {}
    assert workspace.popbuild("verify").code == 0


def _dask_asks(workspace: Workspace, provider: Provider) -> Counter[str]:
    """What all jobs ask on workers of their own."""
    before = asked(provider)
    result = workspace.popbuild("run", "--dask", "local")
    assert result.code == 0, result.out + result.err
    return asked(provider) - before


@pytest.mark.parametrize("tool", ["popbuild", "doit"])
def test_no_scheduler_is_told(root: Workspace, provider: Provider, tool: str) -> None:
    result = root.run(tool, "run", "--dask", "tcp://127.0.0.1:1")
    assert result.code == 3
    assert "no Dask scheduler answers there" in result.err
    assert provider.requests == []


def test_who_was_given_up_promotes_nothing(tmp_path: Path) -> None:
    """The next number fences off the one before, and so does the job's lock."""
    root = Root(tmp_path)
    lost, second = Fenced(root), Fenced(root)
    assert lost.acquire("job")
    with lost.final("job"):
        pass
    assert second.acquire("job")
    with pytest.raises(FencedError), lost.final("job"):
        raise AssertionError("it may not promote")
    second.check("job")
    assert JobLocks(root).acquire("job")
    with pytest.raises(FencedError):
        second.check("job")
    assert not list((tmp_path / ".popbuild/fences").iterdir())
