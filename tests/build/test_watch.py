"""`popbuild watch`: seeds in pending/ are built as they come, by workers that may crash."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from pathlib import Path

import pytest
from commands import Running
from patience import eventually
from provider import Provider, Reply
from workspace import MODEL, Workspace, watching


@pytest.fixture
def root(workspace: Workspace) -> Workspace:
    """Two tasks, and no seed but what is put into pending/."""
    (workspace.root / "seeds/first.json").unlink()
    assert workspace.popbuild("list").code == 0
    pending(workspace).mkdir(parents=True, exist_ok=True)
    return workspace


def pending(root: Workspace) -> Path:
    return root.root / "pipeline-data/pending"


def drop(root: Workspace, job: str, **data: str) -> Path:
    """Put a seed into pending/, whole from the start, as another program would."""
    target = pending(root) / f"{job}-seed.json"
    body = {"name": job, "data": {"topic": f"topic of {job}"} | data}
    return root.write(f"pipeline-data/pending/.tmp-{job}", body).rename(target)


def asked(provider: Provider) -> Counter[str]:
    return Counter(request.said("user") for request in provider.requests)


def test_what_waits_is_built_once(root: Workspace, provider: Provider) -> None:
    """--once builds what waits and ends; a second one finds nothing and asks nothing."""
    drop(root, "one")
    assert root.popbuild("submit", "/dev/stdin", stdin="{}").code != 0
    seed = root.write("elsewhere.json", {"name": "two", "data": {"topic": "wind"}})
    assert root.popbuild("submit", str(seed), "--id", "two").code == 0
    result = root.popbuild("watch", "--once")
    assert result.code == 0, result.out + result.err
    assert root.states("one") == root.states("two") == ["complete"]
    assert list(pending(root).iterdir()) == []
    assert sorted(run["id"] for run in root.runs()) == ["one", "two"]
    assert len(provider.requests) == 4
    before = root.tree("pipeline-data")
    assert root.popbuild("watch", "--once").code == 0
    assert len(provider.requests) == 4
    assert root.tree("pipeline-data") == before


def test_a_seed_that_comes_is_built_and_sigterm_ends_it(
    root: Workspace, provider: Provider
) -> None:
    """As a service: each seed is heard of as it comes; SIGTERM ends it with 0."""
    with watching(root, "--rescan", "600") as orchestrator:  # what is found, is heard
        orchestrator.wait_for("watching pipeline-data/pending")
        for job in ("one", "two"):
            drop(root, job)
            eventually(lambda job=job: root.states(job) == ["complete"])
        orchestrator.terminate()
        assert orchestrator.wait().code == 0
    assert len(provider.requests) == 4


def test_a_seed_is_left_until_it_is_whole(root: Workspace, provider: Provider) -> None:
    """Half a file is not taken up while a program has it open, however long that takes; one that is
    no seed is rejected with its problems and is still there."""
    text = json.dumps({"name": "slow", "data": {"topic": "rain"}})
    broken = pending(root) / "broken-seed.json"
    broken.write_text('{"name": ')
    with watching(root) as orchestrator, (pending(root) / "slow-seed.json").open("w") as file:
        file.write(text[:20])
        file.flush()
        # By then it has stood for longer than a file that no program writes is left alone.
        eventually(lambda: root.states("broken") == ["rejected"])
        time.sleep(1.0)
        assert (pending(root) / "slow-seed.json").exists()
        assert provider.requests == []
        file.write(text[20:])
        file.flush()
        eventually(lambda: root.states("slow") == ["complete"])
        orchestrator.terminate()
        assert orchestrator.wait().code == 0
    assert (root.job("broken", "rejected") / "seed.json").read_text() == '{"name": '
    rejection = root.read("pipeline-data/rejected/broken/rejection.json")
    assert "not valid JSON" in rejection["problems"][0]["message"]
    assert list(pending(root).iterdir()) == []


def test_a_name_that_can_be_no_jobs_is_told_and_left(root: Workspace) -> None:
    drop(root, "no good")
    result = root.popbuild("watch", "--once")
    assert result.code == 0
    assert "pending/no good-seed.json is left: no job can have its name" in result.out
    assert (pending(root) / "no good-seed.json").exists()


def test_a_new_seed_for_a_complete_job_rebuilds_it(root: Workspace, provider: Provider) -> None:
    """The newest seed wins; one that says the same costs nothing and is taken all the same."""
    for topic, calls in (("wind", 2), ("wind", 2), ("rain", 4)):
        drop(root, "one", topic=topic)
        assert root.popbuild("watch", "--once").code == 0
        assert len(provider.requests) == calls
        assert list(pending(root).iterdir()) == []
        seed = root.read("pipeline-data/complete/one/seed.json")
        assert seed["data"]["topic"] == topic


@pytest.mark.parametrize("state", ["complete", "rejected"])
def test_a_job_that_was_about_to_leave_is_taken_up(
    state: str, root: Workspace, provider: Provider
) -> None:
    """Killed between its last word and the move: it is built to its end, without a call."""
    if state == "rejected":
        schema = {"type": "object", "required": ["x"], "properties": {"x": {"type": "integer"}}}
        root.task("analysis", schema=schema)
        provider.answer = lambda _: Reply("no form")
    drop(root, "one")
    assert root.popbuild("watch", "--once").code == (state == "rejected")
    calls = len(provider.requests)
    root.job("one", state).rename(root.job("one", "current"))
    (root.job("one", "current") / "rejection.json").unlink(missing_ok=True)
    assert root.popbuild("watch", "--once").code == (state == "rejected")
    assert root.states("one") == [state]
    assert len(provider.requests) == calls


CRASHING = """\
import os, pathlib, signal

def pre_processing(context):
    if context.seed["data"]["topic"] == "deadly":
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_task_that_crashes_takes_down_nobody_else(root: Workspace, provider: Provider) -> None:
    """Its worker dies with it; the other jobs of that worker are built all the same, each call
    once but for those in flight, and the crashing one is not started for ever."""
    root.task("analysis", stages=CRASHING)
    for number in range(6):
        drop(root, f"good-{number}")
    drop(root, "bad", topic="deadly")
    result = root.popbuild("watch", "--once", "--workers", "1", "-n", "8")
    assert result.code == 4, result.out + result.err
    for number in range(6):
        assert root.states(f"good-{number}") == ["complete"]
    status = root.status("bad", "current")
    assert status["state"] == "waiting"
    assert status["tasks"]["analysis"]["failures"]["count"] == 5
    assert "the same error came again and again" in result.err
    # What was in flight in the one worker that all shared.
    assert len(provider.requests) <= 13 + 7
    assert max(asked(provider).values()) <= 2
    assert len(root.runs()) == 6


def test_sigterm_waits_for_calls_in_flight(root: Workspace, provider: Provider) -> None:
    """Nothing more is claimed or sent, the answer under way is stored, and the next start goes on
    from there."""
    provider.hold()
    drop(root, "one")
    with watching(root) as orchestrator:
        provider.wait_for(1)
        orchestrator.terminate()
        orchestrator.wait_for("are waited for")
        drop(root, "two")
        provider.release()
        assert orchestrator.wait().code == 0
    assert [request.said("user") for request in provider.requests] == ["Research: topic of one."]
    assert root.status("one", "current")["state"] == "running"
    assert root.status("one", "current")["tasks"]["research"]["state"] in ("pending", "done")
    assert (pending(root) / "two-seed.json").exists()
    assert "one  stopped" in root.popbuild("list").out
    assert root.popbuild("watch", "--once").code == 0
    assert root.states("one") == root.states("two") == ["complete"]
    assert max(asked(provider).values()) == 1
    assert len(provider.requests) == 4


def test_a_second_signal_ends_it_at_once(root: Workspace, provider: Provider) -> None:
    """However long the grace; nothing is lost: the next start goes on."""
    provider.hold()
    drop(root, "one")
    with watching(root, "--grace", "600") as orchestrator:
        provider.wait_for(1)
        orchestrator.interrupt()
        orchestrator.wait_for("once more ends it at once")
        orchestrator.interrupt()
        assert orchestrator.wait().code == 130
    provider.release()
    assert root.popbuild("watch", "--once").code == 0
    assert root.states("one") == ["complete"]
    assert asked(provider)["Research: topic of one."] == 2  # the call of the killed worker
    assert len(provider.requests) == 3


def test_the_grace_ends(root: Workspace, provider: Provider) -> None:
    """A call that takes longer is given up, and the process ends."""
    provider.hold()
    drop(root, "one")
    with watching(root, "--grace", "0.2") as orchestrator:
        provider.wait_for(1)
        orchestrator.terminate()
        assert orchestrator.wait().code == 0
    provider.release()
    assert root.popbuild("watch", "--once").code == 0
    assert root.states("one") == ["complete"]


@pytest.mark.slow
def test_workers_end_when_their_orchestrator_was_killed(
    root: Workspace, provider: Provider
) -> None:
    """What they wait for is stored before they end; the next orchestrator takes the job up. Here
    all of them are real processes."""
    provider.hold()
    drop(root, "one")
    with watching(root, real=True) as orchestrator:
        provider.wait_for(1)
        orchestrator.kill_alone()
        orchestrator.wait()
        provider.release()
        eventually(lambda: not _group(orchestrator.pid))
    assert root.status("one", "current")["state"] == "running"
    assert root.popbuild("watch", "--once").code == 0
    assert root.states("one") == ["complete"]
    assert max(asked(provider).values()) == 1


def _group(number: int) -> list[int]:
    """The processes of a group."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, group = path.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(group) == number and state != "Z":
            found.append(int(path.parent.name))
    return found


def test_only_what_was_running_is_taken_up(root: Workspace, provider: Provider) -> None:
    """A job that failed, or that a person stopped, waits for that person."""
    root.write("seeds/failed.json", {"name": "failed", "data": {"topic": "x"}})
    root.write("seeds/part.json", {"name": "part", "data": {"topic": "y"}})
    provider.script([])
    bad = {"POPBUILD_TRIES": "1", "OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}
    assert root.popbuild("run", "failed", env=bad).code == 2
    assert root.popbuild("run", "part:research").code == 0
    calls = len(provider.requests)
    assert root.popbuild("watch", "--once").code == 0
    assert len(provider.requests) == calls
    assert root.states("failed") == root.states("part") == ["current"]


@pytest.mark.parametrize("count", [200 if os.environ.get("POPBUILD_TEST_EXAMPLES") else 60])
def test_two_orchestrators_killed_and_started_again(
    count: int, root: Workspace, provider: Provider
) -> None:
    """Each job is complete once, runs.jsonl has each once, and no call whose answer was stored is
    sent again."""
    jobs = [f"job-{number:03d}" for number in range(count)]

    def both() -> list[Running]:
        options = ("watch", "--workers", "1", "-n", "8", "--rescan", "0.5")
        return [root.start("popbuild", *options) for _ in range(2)]

    first = both()
    for job in jobs:
        drop(root, job)
    provider.wait_for(count * 2 // 3)
    for orchestrator in first:
        orchestrator.kill()
    stored = _stored_prompts(root)
    sent = len(provider.requests)
    assert root.runs() != []
    second = both()
    eventually(lambda: len(root.runs()) >= count)
    for orchestrator in second:
        orchestrator.terminate()
        assert orchestrator.wait().code == 0
    assert sorted(run["id"] for run in root.runs()) == jobs
    assert all(root.states(job) == ["complete"] for job in jobs)
    assert list(pending(root).iterdir()) == []
    again = {request.said("user") for request in provider.requests[sent:]}
    assert again & stored == set()
    assert len(provider.requests) <= 2 * count + 16  # those in flight at the kill, at most
    calls = len(provider.requests)
    assert root.popbuild("run").code == 0
    assert len(provider.requests) == calls


def _stored_prompts(root: Workspace) -> set[str]:
    """What was asked in all the requests whose answers are in the store."""
    return {
        json.loads(path.read_bytes())["request"]["messages"][-1]["content"]
        for path in (root.root / ".popbuild/store").rglob("*.json")
        if not path.name.startswith(".")
    }


def test_two_orchestrators_share_the_work(root: Workspace, provider: Provider) -> None:
    """Without a kill, each call is sent once."""
    for number in range(20):
        drop(root, f"job-{number}")
    both = [root.start("popbuild", "watch", "--once", "--workers", "1") for _ in range(2)]
    assert [each.wait().code for each in both] == [0, 0]
    eventually(lambda: len(root.runs()) == 20)
    assert len(provider.requests) == 40
    assert max(asked(provider).values()) == 1


def test_a_broken_seed_that_another_takes_up_holds_none(root: Workspace) -> None:
    """Both wait until it may be whole; one of them rejects it, and both end."""
    root.write("pipeline-data/pending/torn-seed.json", "{")
    both = [root.start("popbuild", "watch", "--once", "--workers", "1") for _ in range(2)]
    assert sorted(each.wait().code for each in both) == [0, 1]
    assert root.states("torn") == ["rejected"]


# Runs `watch` where another command takes up a seed between a look at it and the reading of it.
TAKEN = """
import sys
from popbuild.build.watch import waiting
from popbuild.cli.main import main

def taken(path):
    path.unlink()
    return False

waiting._is_object = taken
sys.exit(main(["watch", "--once"]))
"""


def test_a_seed_that_is_taken_up_just_then_holds_none(root: Workspace) -> None:
    drop(root, "one")
    assert root.run("python", "-c", TAKEN).code == 0


def test_a_change_of_the_configuration_is_followed(root: Workspace, provider: Provider) -> None:
    """Jobs that come later are built as it is then. One that cannot be read stops no job: it is
    told, and what waits is built once it is mended."""
    with watching(root) as orchestrator:
        drop(root, "one")
        eventually(lambda: root.states("one") == ["complete"])
        root.task("research", prompt="Look into: {{ seed.data.topic }}.\n")
        drop(root, "two")
        eventually(lambda: root.states("two") == ["complete"])
        whole = (root.root / "pipeline-config/pipeline.json").read_text()
        root.write("pipeline-config/pipeline.json", "{")
        orchestrator.wait_for("nothing is built before this is mended")
        drop(root, "three")
        root.write("pipeline-config/pipeline.json", whole)
        eventually(lambda: root.states("three") == ["complete"])
        orchestrator.terminate()
        assert orchestrator.wait().code == 0
    prompts = asked(provider)
    assert prompts["Research: topic of one."] == 1
    assert prompts["Look into: topic of three."] == 1
    assert len(provider.requests) == 6


def test_seeds_are_built_as_one_edits(root: Workspace, provider: Provider) -> None:
    """--seeds: a new seed, an edited one, and an edited prompt, each builds what is stale."""
    root.seed("one", {"topic": "wind"})
    with watching(root, "--seeds") as orchestrator:
        eventually(lambda: root.states("one") == ["complete"])
        root.seed("two", {"topic": "rain"})
        eventually(lambda: root.states("two") == ["complete"])
        assert len(provider.requests) == 4
        root.seed("one", {"topic": "waves"})
        eventually(lambda: len(root.runs()) == 3)
        root.task("analysis", prompt="Again: {{ artifacts.research.content }}\n")
        eventually(lambda: len(root.runs()) == 5)
        orchestrator.terminate()
        assert orchestrator.wait().code == 0
    assert len(provider.requests) == 8
    assert root.popbuild("check").code == 0


@pytest.mark.parametrize("asks", ["Research: waves.", "Look into: wind."])
def test_a_change_while_a_job_is_built_is_followed(
    asks: str, root: Workspace, provider: Provider
) -> None:
    """The build that is under way does not see it: the job is built once more after it."""
    provider.hold()
    root.seed("one", {"topic": "wind"})
    with watching(root, "--seeds") as orchestrator:
        provider.wait_for(1)
        if "waves" in asks:
            root.seed("one", {"topic": "waves"})
        else:
            root.task("research", prompt="Look into: {{ seed.data.topic }}.\n")
        root.seed("two", {"topic": "rain"})
        provider.wait_for(2)  # so one change, and mostly the other, has been heard of
        provider.release()
        eventually(lambda: root.popbuild("check").code == 0)
        orchestrator.terminate()
        assert orchestrator.wait().code == 0
    assert asked(provider)["Research: wind."] == asked(provider)[asks] == 1


# An orchestrator on a file system that tells of nothing.
DEAF = """
import asyncio, sys, watchfiles
from popbuild.cli.main import main

async def nothing(*_, **__):
    await asyncio.Event().wait()
    yield

watchfiles.awatch = nothing
sys.exit(main(["watch", "--seeds", "--workers", "1", "--rescan", "0.3"]))
"""


def test_what_nobody_tells_of_is_found(root: Workspace, provider: Provider) -> None:
    """On a network file system only looking helps: a seed that is dropped, added, edited."""
    root.seed("one", {"topic": "wind"})
    root.seed("two", {"topic": "rain"})
    assert root.popbuild("run").code == root.popbuild("run").code == 0  # the second one's index
    with root.start("python", "-c", DEAF) as orchestrator:
        orchestrator.wait_for("watching")
        drop(root, "dropped")
        eventually(lambda: root.states("dropped") == ["complete"])
        root.seed("one", {"topic": "waves"})
        eventually(lambda: len(root.runs()) == 4)
        root.seed("three", {"topic": "sun"})
        eventually(lambda: root.states("three") == ["complete"])
        orchestrator.terminate()
        assert orchestrator.wait().code == 0
    assert len(provider.requests) == 10
    assert root.popbuild("check").code == 0


def test_a_budget_ends_it(root: Workspace, provider: Provider) -> None:
    """All workers spend from one budget; what was not claimed waits in pending/."""
    limited = {"maxTokens": 100}
    root.pipeline(["research", "analysis"], {"research": limited, "analysis": limited})
    for number in range(12):
        drop(root, f"job-{number}")
    budget = "0.0004"
    result = root.popbuild("watch", "--workers", "2", "-n", "4", "--budget", budget)
    assert result.code == 6, result.out + result.err
    assert 0 < len(provider.requests) < 24
    ledger = (root.root / ".popbuild/ledger.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in ledger]
    assert len({each["command"] for each in entries if each["event"] == "reserved"}) == 1
    assert sum(each["cost"] for each in entries if each["event"] == "settled") <= float(budget)
    assert len(list(pending(root).iterdir())) > 0
    assert root.popbuild("watch", "--once").code == 0
    assert len(root.runs()) + len(list(root.root.glob("pipeline-data/current/*"))) == 12


def test_json_is_a_line_a_job(root: Workspace) -> None:
    drop(root, "one")
    drop(root, "two")
    result = root.popbuild("watch", "--once", "--json")
    lines = [json.loads(line) for line in result.out.splitlines()]
    assert sorted((line["id"], line["outcome"]) for line in lines) == [
        ("one", "complete"),
        ("two", "complete"),
    ]


# --- jobs over jobs ---


OVER = {"name": "whole", "pipeline": "sum", "data": {}}


@pytest.mark.long
def test_a_job_over_others_is_taken_up_when_they_end(root: Workspace, provider: Provider) -> None:
    """Once none of those is under way or queued; again when one of them ends with something else;
    jobs that are over each other end the orchestrator's work as they do a run's."""
    over(root)
    assert root.popbuild("watch", "--once", "--seeds").code == 0
    assert [each.said("user") for each in provider.requests][-1] == "All: one two"
    assert len(provider.requests) == 5
    assert root.popbuild("watch", "--once", "--seeds").code == 0
    assert len(provider.requests) == 5
    drop(root, "two", topic="three")
    root.write("seeds/two.json", {"name": "two", "data": {"topic": "three"}})
    assert root.popbuild("watch", "--once").code == 0
    assert [each.said("user") for each in provider.requests][-1] == "All: one three"
    assert len(provider.requests) == 8
    root.write("seeds/ring.json", {**OVER, "jobs": {"all": "gnir"}})
    root.write("seeds/gnir.json", {**OVER, "jobs": {"all": "ring"}})
    assert root.popbuild("watch", "--once", "--seeds").code == 1
    assert len(provider.requests) == 8


def over(root: Workspace, **more: object) -> None:
    """A job `all` over `one` and `two`, whose seeds are there."""
    folder = "pipeline-config/pipelines/sum"
    body = {"name": "sum", "version": "1", "tasks": ["combine"]}
    root.write(f"{folder}/pipeline.json", body | {"taskConfig": {"combine": {"model": MODEL}}})
    root.write(f"{folder}/tasks/index.yaml", "combine: ./combine\n")
    prompt = "All: {% for job in jobs.all %}{{ job.seed.data.topic }} {% endfor %}\n"
    root.write(f"{folder}/tasks/combine/prompt.md", prompt)
    for job in ("one", "two"):
        root.seed(job, {"topic": job})
    root.write("seeds/all.json", {**OVER, "jobs": {"all": "[ot][nw][eo]"}, **more})


def summaries(provider: Provider) -> list[str]:
    said = [request.said("user") for request in provider.requests]
    return [each.strip() for each in said if each.startswith("All:")]


@pytest.mark.parametrize("is_heard", [True, False])
def test_a_job_over_others_that_another_command_built(
    is_heard: bool, root: Workspace, provider: Provider
) -> None:
    """It is taken up once the last of them has ended, by notice or, where a file system gives none,
    by a look; again when one is built anew, and not when nothing is."""
    over(root)
    env = (
        {} if is_heard else {"WATCHFILES_FORCE_POLLING": "1", "WATCHFILES_POLL_DELAY_MS": "600000"}
    )
    rescan = "600" if is_heard else "0.1"
    with watching(root, "--rescan", rescan, env=env) as orchestrator:
        orchestrator.wait_for("watching pipeline-data/pending")
        assert root.popbuild("run", "one").code == 0
        assert root.popbuild("run", "two").code == 0
        eventually(lambda: root.states("all") == ["complete"])
        assert summaries(provider) == ["All: one two"]
        assert root.popbuild("run", "one", "two").code == 0
        root.seed("two", {"topic": "three"})
        assert root.popbuild("run", "two").code == 0
        eventually(lambda: summaries(provider) == ["All: one two", "All: one three"])
        eventually(lambda: root.popbuild("check", "all").code == 0)
        orchestrator.terminate()
        ended = orchestrator.wait()
    assert ended.code == 0
    assert "stopped" not in ended.out + ended.err
    assert root.popbuild("run").code == 0
    assert summaries(provider) == ["All: one two", "All: one three"]


def test_a_job_over_others_is_built_while_one_of_them_ends(
    root: Workspace, provider: Provider
) -> None:
    """Its build does not see what that one became: it is built once more after it."""
    over(root)
    assert root.popbuild("run", "one").code == 0

    def build_two(topic: str) -> None:
        root.seed("two", {"topic": topic})
        assert root.popbuild("run", "two").code == 0

    build_two("three")
    build_two("two")
    with watching(root, "--rescan", "600") as orchestrator:
        orchestrator.wait_for("watching pipeline-data/pending")
        provider.hold()
        build_two("three")  # from the store
        provider.wait_for(7)
        build_two("two")
        drop(root, "later", topic="two")
        eventually(lambda: root.states("later") == ["complete"])  # so that end has been heard of
        provider.release()
        eventually(lambda: summaries(provider) == ["All: one three", "All: one two"])
        eventually(lambda: root.popbuild("check", "all").code == 0)
        orchestrator.terminate()
        assert orchestrator.wait().code == 0
    assert len(provider.requests) == 8


def test_a_job_over_others_waits_for_another_command(root: Workspace, provider: Provider) -> None:
    """While that builds one of them, even where the job could do without it."""
    for topic in ("one", "another", "one"):  # the last from the store
        root.seed("one", {"topic": topic})
        if topic == "another" or not provider.requests:
            assert root.popbuild("run", "one").code == 0
    over(root, missing="skip")
    with watching(root, "--rescan", "0.1") as orchestrator:
        orchestrator.wait_for("watching pipeline-data/pending")
        provider.hold()
        with root.start("popbuild", "run", "two") as other:
            provider.wait_for(5)
            assert root.popbuild("run", "one").code == 0
            drop(root, "later", topic="one")
            eventually(lambda: root.states("later") == ["complete"])
            provider.release()
            assert other.wait().code == 0
        eventually(lambda: root.states("all") == ["complete"])
        orchestrator.terminate()
        assert orchestrator.wait().code == 0
    assert summaries(provider) == ["All: one two"]
