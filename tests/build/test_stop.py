"""`popbuild stop`: the process that builds a job gives it up, and everything else goes on."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import Result, Running
from patience import PATIENCE_S, eventually
from provider import Provider, Reply, Request
from workspace import Workspace

from popbuild.base.paths import Root
from popbuild.cli import cmd_stop
from popbuild.cli.main import main
from popbuild.jobs import stop_requests
from popbuild.jobs.claims import JobLocks
from popbuild.jobs.stop_requests import POLL_S


def run(workspace: Workspace, code: int, *words: str, **options: Any) -> Result:
    result = workspace.popbuild(*words, **options)
    assert result.code == code, result.out + result.err
    assert "Traceback" not in result.err
    return result


def requests_left(workspace: Workspace) -> list[Path]:
    folder = workspace.root / ".popbuild/stops"
    return list(folder.iterdir()) if folder.exists() else []


@pytest.fixture
def two(workspace: Workspace) -> Workspace:
    workspace.seed("second", {"topic": "wind", "tone": "dry"})
    return workspace


def hold(provider: Provider, topic: str) -> None:
    """Keep every answer about this topic back for longer than any test takes."""

    def answer(request: Request) -> Reply:
        said = request.said("user")
        return Reply(f"Of {said}", delay_s=600 if topic in said else 0)

    provider.answer = answer


def test_a_run_gives_up_the_job_and_builds_the_others(two: Workspace, provider: Provider) -> None:
    """Exit 4; what was bought stays bought; the next run goes on from there."""
    hold(provider, "Analysis of: Of Research: grid")
    with two.start("popbuild", "run", "-n", "1") as running:
        provider.wait_for(2)
        result = run(two, 0, "stop", "first")
        assert result.out == "first: stopped\n"
        ended = running.wait()
    assert ended.code == 4
    assert "first: stopped: popbuild stop asked for it" in ended.out
    assert two.states("second") == ["complete"]
    status = two.status("first", "current")
    assert (status["state"], status["tasks"]["analysis"]["state"]) == ("stopped", "pending")
    assert status["tasks"]["research"]["state"] == "done"
    assert requests_left(two) == []
    hold(provider, "nothing")
    sent = len(provider.requests)
    run(two, 0, "run")
    assert len(provider.requests) == sent + 1
    assert two.states("first") == ["complete"]
    run(two, 0, "run")
    assert len(provider.requests) == sent + 1
    run(two, 0, "verify")


def test_a_job_that_nobody_builds_stays_as_it_is(two: Workspace, provider: Provider) -> None:
    """Said so, exit 0; a later build is not stopped by it."""
    assert run(two, 0, "stop", "first").out == "first: no build is under way\n"
    assert requests_left(two) == []
    (two.root / ".popbuild/stops").mkdir(parents=True)
    for job in ("first", "second"):
        (two.root / ".popbuild/stops" / job).touch()  # of a command that was killed
    provider.script([Reply("Slow.", delay_s=2 * POLL_S)])
    run(two, 0, "run", "first")
    assert two.states("first") == ["complete"]
    assert [path.name for path in requests_left(two)] == ["second"]
    (body,) = json.loads(run(two, 0, "stop", "first", "--json").out)
    assert body == {"job": "first", "asked": False, "ended": True, "stopped": False}
    assert "no such job" in run(two, 3, "stop", "fisrt").err
    run(two, 3, "stop")


def test_who_waits_for_the_job_is_stopped_too(two: Workspace, provider: Provider) -> None:
    """No other command takes over what was just stopped, and each says so."""
    hold(provider, "grid")
    with two.start("popbuild", "run", "first") as running:
        provider.wait_for(1)
        with two.start("popbuild", "run", "first") as waiting:
            waiting.wait_for("waiting for another command")
            assert run(two, 0, "stop", "first").out == "first: stopped\n"
            ended = [running.wait(), waiting.wait()]
    assert [each.code for each in ended] == [4, 4]
    assert all("first: stopped: popbuild stop asked for it" in each.out for each in ended)
    assert len(provider.requests) == 1
    assert requests_left(two) == []
    hold(provider, "nothing")
    run(two, 0, "run", "first")
    assert two.states("first") == ["complete"]


def test_who_comes_after_a_request_is_not_stopped_by_it(held: Root, two: Workspace) -> None:
    stop_requests.Stops(held).ask("first")
    with two.start("popbuild", "run", "first") as waiting:
        waiting.wait_for("waiting for another command")
        JobLocks(held).release("first")
        assert waiting.wait().code == 0
    assert two.states("first") == ["complete"]
    assert requests_left(two) == []


def test_an_equal_request_of_another_job_is_sent_all_the_same(
    two: Workspace, provider: Provider
) -> None:
    """Two jobs wait for one call. The one that sent it is stopped: the other asks by itself."""
    two.seed("second", {"topic": "grid batteries", "tone": "dry"})
    provider.hold()
    with two.start("popbuild", "run") as running:
        provider.wait_for(1)
        eventually(lambda: all(f".  {job}:research" in running.out for job in ("first", "second")))
        reserved = (two.root / ".popbuild/ledger.jsonl").read_text().splitlines()
        (sender,) = [json.loads(line)["job"] for line in reserved]
        run(two, 0, "stop", sender)
        provider.wait_for(2)
        provider.release()
        assert running.wait().code == 4
    other = {"first": "second", "second": "first"}[sender]
    assert two.states(sender) == ["current"]
    assert two.states(other) == ["complete"]
    sent = len(provider.requests)
    run(two, 0, "run")
    assert len(provider.requests) == sent


STAGES = """\
import time
from pathlib import Path

def ingestion(context):
    mark = Path({mark!r})
    if context.seed["data"]["topic"] != "grid batteries":
        return
    mark.touch()
    while mark.exists():
        time.sleep(0.02)
    try:
        context.files.write_artifact("late.json", [1])
        mark.with_suffix(".written").touch()
    finally:
        mark.with_suffix(".done").touch()
"""


def test_a_stage_that_runs_on_writes_nothing_more(
    two: Workspace, provider: Provider, tmp_path: Path
) -> None:
    """Code cannot be ended; its job is free all the same, and it writes into no other build."""
    mark = tmp_path / "mark"
    two.task("research", stages=STAGES.format(mark=str(mark)))
    provider.hold()
    with two.start("popbuild", "run") as running:
        eventually(mark.exists)
        provider.wait_for(1)
        assert run(two, 0, "stop", "first").out == "first: stopped\n"
        mark.unlink()
        eventually(mark.with_suffix(".done").exists)
        provider.release()
        assert running.wait().code == 4
    assert two.states("second") == ["complete"]
    assert not mark.with_suffix(".written").exists()
    assert not list(two.root.glob("pipeline-data/**/late.json"))


def test_a_command_is_ended_with_its_children(two: Workspace, tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    script = f"sleep 600 & echo $! >{mark}.tmp; mv {mark}.tmp {mark}; wait"
    two.write(
        "pipeline-config/tasks/index.yaml",
        json.dumps({"research": {"command": ["sh", "-c", script]}, "analysis": "./analysis"}),
    )
    with two.start("popbuild", "run", "first") as running:
        eventually(mark.exists)
        assert run(two, 0, "stop", "f*").out == "first: stopped\n"
        assert running.wait().code == 4
    eventually(lambda: not _lives(int(mark.read_text())))


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# popbuild, on a disk that takes its time over letters.
SLOW = """
import sys, time
from pathlib import Path
from popbuild.cli.main import main
from popbuild.base import commits
commit = commits.commit
def slow(several):
    if any("letter" in str(getattr(each, "path", "")) for group in several for each in group):
        Path(sys.argv[1]).touch()
        time.sleep(2)
    return commit(several)
commits.commit = slow
sys.exit(main(sys.argv[2:]))
"""


def test_what_is_being_written_is_finished_first(
    two: Workspace, provider: Provider, tmp_path: Path
) -> None:
    """The next to take the job finds it whole: nothing is written once the lock is free."""
    mark = tmp_path / "mark"
    with two.start("python", "-c", SLOW, str(mark), "run", "first") as running:
        eventually(mark.exists)
        assert run(two, 0, "stop", "first").out == "first: stopped\n"
        assert two.letter("first", "research", "current")["task"] == "research"
        assert two.status("first", "current")["tasks"]["research"]["state"] == "done"
        assert running.wait().code == 4
    run(two, 0, "run", "first")
    assert len(provider.requests) == 2


@pytest.fixture
def held(two: Workspace) -> Iterator[Root]:
    """A root in which a process has the lock of `first`, and heeds nothing."""
    root = Root(two.root)
    claims = JobLocks(root)
    assert claims.acquire("first")
    yield root
    claims.release("first")


def test_a_job_that_does_not_end_is_told_of(
    held: Root, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 4, and the request stands for a process that can heed it."""
    monkeypatch.setattr(cmd_stop, "_PATIENCE_S", 0.3)
    assert main(["--root", str(held.path), "stop", "first", "second"]) == 4
    said = capsys.readouterr().out.splitlines()
    assert said == ["first: asked to stop, and still under way", "second: no build is under way"]
    assert stop_requests.Stops(held).asked() == {"first"}


def test_a_request_that_was_taken_and_not_heeded_is_made_again(
    held: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a build that began in the same moment, and took it for one of before."""
    monkeypatch.setattr(stop_requests, "_AGAIN_S", 0.3)
    requests, found = stop_requests.Stops(held), []
    thread = threading.Thread(target=lambda: found.extend(stop_requests.stop(held, ["first"], 60)))
    thread.start()
    for _ in range(2):
        eventually(lambda: requests.stands("first"))
        requests.drop("first")
    JobLocks(held).release("first")
    thread.join(PATIENCE_S)
    assert [(each.asked, each.ended) for each in found] == [(True, True)]
    assert requests.asked() == set()


def test_a_killed_build_leaves_no_request_that_stops_the_next(
    two: Workspace, provider: Provider
) -> None:
    """Killed before it heeded the request: the asker sees the lock free, and takes it back."""
    hold(provider, "grid")
    running: Running
    with two.start("popbuild", "run", "first") as running:
        provider.wait_for(1)
        with two.start("popbuild", "stop", "first") as stopping:
            eventually(lambda: requests_left(two) or stopping.out)
            running.kill()
            assert stopping.wait().code == 0
    assert requests_left(two) == []
    hold(provider, "nothing")
    run(two, 0, "run", "first")
    assert two.states("first") == ["complete"]
