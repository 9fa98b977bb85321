"""The board stays as the disk is, whatever happens to the root while it is looked at."""

from __future__ import annotations

import html
import json
import re
import shutil
from collections.abc import Iterator

import pytest
from provider import Provider, Reply
from served import Served, serve
from workspace import Workspace


@pytest.fixture
def served(workspace: Workspace) -> Iterator[Served]:
    with serve(workspace) as served:
        yield served


def test_many_at_once_are_told(workspace: Workspace, served: Served) -> None:
    """More jobs than are looked at one by one are told like one."""
    served.wait_for("first", "new")
    with served.events() as events:
        events.until("reset")
        for number in range(210):
            workspace.seed(f"many-{number:03}", {"topic": "a"})
        told = {events.until("job").body["id"] for _ in range(210)}
    assert "many-209" in told


def test_the_data_is_deleted(workspace: Workspace, served: Served) -> None:
    """Who deletes all data sees it gone, and what is built after that as it comes."""
    assert workspace.popbuild("run", "first").code == 0
    served.wait_for("first", "complete")
    with served.events() as events:
        shutil.rmtree(workspace.root / "pipeline-data")
        events.until("job", id="first", standing="new")
        assert workspace.popbuild("run", "first").code == 0
        events.until("job", id="first", standing="complete")
        workspace.task("analysis", prompt="Anew: {{ artifacts.research.content }}\n")
        events.until("job", id="first", standing="stale")
        # What runs for a moment may be over before the server looks.
        assert workspace.popbuild("run", "first").code == 0
        events.until("job", id="first", standing="complete")


def test_the_root_is_moved_away(workspace: Workspace, served: Served) -> None:
    """Then no job is said to be gone, and no page says that there are none yet: the root is not
    there, which is an error until it is back."""
    served.wait_for("first", "new")
    elsewhere = workspace.root.with_name("elsewhere")
    with served.events() as events:
        events.until("reset")
        workspace.root.rename(elsewhere)
        assert events.next().kind == "trouble"
        for path in ("/api/v1/jobs", "/api/v1/jobs/first", "/", "/jobs/first"):
            answer = served.get(path)
            assert (answer.status, "not there any more" in answer.text) == (409, True), path
            assert "no jobs yet" not in answer.text
        elsewhere.rename(workspace.root)
        events.until("reset")
        workspace.seed("second", {"topic": "a"})
        events.until("job", id="second")
    assert served.get("/api/v1/jobs").json["total"] == 2


def test_seeds_come_later(workspace: Workspace) -> None:
    """A folder of seeds that is made while the server runs is heard of, and what comes into it."""
    shutil.rmtree(workspace.root / "seeds")
    with serve(workspace) as served, served.events() as events:
        events.until("reset")
        workspace.seed("late", {"topic": "a"})
        events.until("job", id="late")
        workspace.seed("later", {"topic": "a"})
        events.until("job", id="later")


def test_a_root_in_which_nothing_can_be_built(workspace: Workspace) -> None:
    """What keeps builds from a root does not keep it from being shown."""
    (workspace.root / "pipeline-data/complete/runs.jsonl").mkdir(parents=True)
    with serve(workspace) as served:
        served.wait_for("first", "new")
        assert "first" in served.get("/").text


def test_names_and_files_that_are_none(workspace: Workspace, served: Served) -> None:
    """Whatever lies in a root, no page breaks, and it holds up no build of the others."""
    for name in ("\udcff\udcfe", "two words", "new\nline", "a%2fb", "-x"):
        workspace.seed(name, {"topic": "a", "tone": "b"}, name="n")
    broken = {"tasks": [1], "usage": 3, "error": {"a": 1}, "state": "failed"}
    workspace.write("pipeline-data/current/broken/tasks-status.json", broken)
    run = {"pipelineId": "x", "usage": 3, "built": None, "finishedAt": 4}
    workspace.write("pipeline-data/complete/runs.jsonl", json.dumps(run) + "\n")
    served.wait_for("-x", "broken")
    page = served.get("/jobs/two%20words").text
    assert "its name cannot be a job&#39;s" in page
    assert "seeds/two words.json" in page
    assert ">broken<" in page
    assert "0 of 2" not in page
    for path in ("/", "/runs", "/plan", "/jobs/broken", "/jobs/a%252fb", "/plan?job=a%252fb"):
        assert served.get(path).status == 200, path
    order = re.search('data-body="([^"]*)"', served.get("/plan").text)
    assert order is not None
    assert json.loads(html.unescape(order[1])) == {"jobs": ["first"]}


def test_the_table_counts_as_the_job_does(workspace: Workspace, provider: Provider) -> None:
    """Tokens and cost in the table are those of the job's own page and of `summary`: the last build
    of each task, also where the last run built only some, or was stopped."""

    def same(calls: int, *standings: str) -> None:
        with serve(workspace) as served:
            row = served.wait_for("first", *standings)
            tasks = served.get("/api/v1/jobs/first").json["tasks"].values()
            usages = [task["usage"] for task in tasks if task["usage"]]
            own = sum(each["inputTokens"] + each["outputTokens"] for each in usages)
            assert row["tokens"] == own > 0
            assert row["cost"] == pytest.approx(sum(each["cost"] for each in usages))
            cells = re.findall(r"<td[^>]* class=\"number\"[^>]*>([^<]*)</td>", served.get("/").text)
            assert f"{own:,}" in cells
            foot = served.get("/jobs/first").text.partition("<tfoot>")[2].partition("</tfoot>")[0]
            assert f">{own:,}<" in foot
        assert f"| {own:,} |" in workspace.popbuild("summary", "first").out
        assert len(provider.requests) == calls

    assert workspace.popbuild("run", "first:research").code == 0
    same(1, "stopped")
    assert workspace.popbuild("run", "first").code == 0
    same(2, "complete")
    workspace.task("analysis", prompt="Anew: {{ artifacts.research.content }}\n")
    assert workspace.popbuild("run", "first").code == 0
    same(3, "complete")


def test_a_long_reason_is_cut_at_a_word(workspace: Workspace, provider: Provider) -> None:
    """What does not fit into its line ends at a word, and a mark says that it goes on."""
    said = "no such model here, " * 30
    provider.script([Reply(said, status=404)])
    assert workspace.popbuild("run", "first").code == 2
    with serve(workspace) as served:
        why = served.wait_for("first", "failed")["why"]
    assert 100 < len(why) <= 200
    assert why.endswith(("no…", "such…", "model…", "here…"))


def test_the_table_says_what_somebody_must_know(workspace: Workspace, provider: Provider) -> None:
    """Why a job failed, what a person is asked, and which task runs, each in its line."""
    workspace.task("research", task_yaml={"gate": {"message": "Is this fit to print?"}})
    assert workspace.popbuild("run", "first").code == 4
    workspace.seed("second", {"topic": "wind", "tone": "plain"})
    provider.script([Reply("no such model here", status=404)])
    assert workspace.popbuild("run", "second").code == 2
    with serve(workspace) as served:
        assert served.wait_for("first", "waiting")["why"] == "research: Is this fit to print?"
        why = served.wait_for("second", "failed")["why"]
        assert "404" in why
        assert "no such model here" in why
        # A question that the configuration does not ask any more holds up no job.
        (workspace.root / "pipeline-config/tasks/research/task.yaml").unlink()
        served.wait_for("first", "stopped")
        assert "Plan a build" in served.get("/jobs/first").text
        provider.hold()
        served.post("/api/v1/builds", {"jobs": ["second"]})
        provider.wait_for(3)
        assert served.wait_for("second", "running")["why"] == "research (inference)"
        provider.release()
        served.wait_for("second", "complete")
