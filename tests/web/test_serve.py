"""`popbuild serve`: the API gives what the command line gives, does what it does, and tells at once
what changed on disk."""

from __future__ import annotations

import html
import json
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from patience import eventually
from provider import Provider, fail
from served import Served, serve, served_by
from workspace import Workspace


@pytest.fixture
def served(workspace: Workspace) -> Iterator[Served]:
    with serve(workspace) as served:
        yield served


def test_a_job_is_as_status_has_it(workspace: Workspace, served: Served) -> None:
    """The API gives the same JSON as `popbuild status --json`, before and after a build."""
    for is_built in (False, True):
        told = served.get("/api/v1/jobs/first").json
        assert [told] == json.loads(workspace.popbuild("status", "first", "--json").out)
        assert ("Plan a build" in served.get("/jobs/first").text) is not is_built
        assert workspace.popbuild("run", "first").code == 0
    assert told["state"] == "complete"


def test_a_change_on_disk_is_told(workspace: Workspace, served: Served, provider: Provider) -> None:
    """Who follows events hears of a build by another process, in order, and of a removal."""
    with served.events() as events:
        assert events.next().kind == "hello"
        assert workspace.popbuild("run", "first").code == 0
        row = events.until("job", id="first", standing="complete").body
        assert (row["done"], row["tasks"], row["why"]) == (2, 2, "")
        workspace.task("analysis", prompt="Analysis, anew: {{ artifacts.research.content }}\n")
        assert "prompt.md" in events.until("job", id="first", standing="stale").body["why"]
        (workspace.root / "seeds/first.json").unlink()
        shutil.rmtree(workspace.job("first"))
        events.until("gone", id="first")
    assert len(provider.requests) == 2


def test_events_go_on_where_they_were_lost(workspace: Workspace, served: Served) -> None:
    """With Last-Event-ID nothing is missed and nothing comes twice; where that is not possible, a
    reset says so."""
    with served.events() as events:
        start = events.next()
        workspace.seed("second", {"topic": "a"})
        first = events.until("job", id="second")
    workspace.seed("third", {"topic": "b"})
    served.wait_for("third", "new")
    with served.events(last=first.id) as events:
        again = events.until("job", id="third")
        assert int(again.id.partition("-")[2]) > int(first.id.partition("-")[2])
    with served.events(last=start.id) as events:
        seen = [events.until("job").body["id"] for _ in range(2)]
        assert "second" in seen
    for unknown in ("nonsense", "00000000-1", f"{start.id}999", "-", "x" * 100):
        with served.events(last=unknown) as events:
            assert events.next().kind == "reset", unknown


def test_a_build_from_the_page(workspace: Workspace, served: Served, provider: Provider) -> None:
    """A build is a `popbuild run`: it ends with its results, and a second one calls nothing."""
    planned = served.post("/api/v1/plan", {"jobs": ["first"]}).json
    assert [task["task"] for task in planned["jobs"][0]["tasks"]] == ["research", "analysis"]
    assert provider.requests == []
    for calls in (2, 2):
        started = served.post("/api/v1/builds", {"jobs": ["first"]})
        assert started.status == 202, started.text
        ended = _ended(served, started.json["id"])
        assert ended["exitCode"] == 0, ended
        assert len(provider.requests) == calls
    assert ended["results"][0]["outcome"] == "up to date"
    assert workspace.states("first") == ["complete"]
    again = served.post("/api/v1/builds", {"jobs": ["first"], "fresh": ["research"]}).json
    assert _ended(served, again["id"])["results"][0]["built"] == ["research"]


def _ended(served: Served, build: str) -> dict[str, object]:
    found: dict[str, object] = {}

    def has_ended() -> bool:
        found.update(served.get(f"/api/v1/builds/{build}").json)
        return found["state"] == "ended"

    eventually(has_ended)
    return found


def test_a_build_is_stopped(workspace: Workspace, served: Served, provider: Provider) -> None:
    """Stopped, a build leaves the job in current/, and what was bought is not bought again."""
    provider.hold(after=1)
    started = served.post("/api/v1/builds", {"jobs": ["first"]}).json
    provider.wait_for(2)
    busy = served.post("/api/v1/builds", {"jobs": ["first"]})
    assert (busy.status, busy.json["error"]) == (409, "this job is being built")
    assert served.post(f"/api/v1/builds/{started['id']}/stop", {}).status == 202
    ended = _ended(served, started["id"])
    assert ended["exitCode"] == 130, ended
    served.wait_for("first", "stopped")
    provider.release()
    assert workspace.popbuild("run", "first").code == 0
    assert len([each for each in provider.requests if "Research" in each.said("user")]) == 1


def test_what_a_page_offers_can_be_had(
    workspace: Workspace, served: Served, provider: Provider
) -> None:
    """A page offers a download where `popbuild archive` has something to take, and to build again
    from a task where one was built: also of a job that is stale as a whole."""
    archive = "/api/v1/jobs/first/archive"

    def offered() -> tuple[bool, bool]:
        text = served.get("/jobs/first").text
        download = f'href="{archive}"' in text
        running = workspace.states("first") == ["current"]
        assert running or (served.get(archive).status == 200) == download
        return download, "Rebuild from a task" in text

    assert offered() == (False, False)
    provider.hold(after=1)
    started = served.post("/api/v1/builds", {"jobs": ["first"]}).json
    provider.wait_for(2)
    served.wait_for("first", "running")
    assert offered() == (False, False)
    provider.release()
    assert _ended(served, started["id"])["exitCode"] == 0
    assert offered() == (True, True)
    for task in ("research", "analysis"):
        workspace.task(task, prompt="Anew.\n")
    served.wait_for("first", "stale")
    assert offered() == (True, True)
    workspace.task("research", task_yaml={"gate": {"message": "Is this fit to print?"}})
    shutil.rmtree(workspace.job("first"))
    assert workspace.popbuild("run", "first").code == 4
    served.wait_for("first", "waiting")
    assert offered() == (False, True)


def test_every_file_of_a_job_is_linked(
    workspace: Workspace, served: Served, provider: Provider
) -> None:
    """What is too long for the page, and what is not, is there as a file, by a link that works."""
    long = "word " * 40_000
    provider.script([long, "short"])
    workspace.task("analysis", prompt="Analysis of much.\n")
    assert workspace.popbuild("run", "first").code == 0
    served.wait_for("first", "complete")
    text = served.get("/jobs/first").text
    links = set(re.findall(r'href="(/api/v1/jobs/first/files/[^"]*)" download', text))
    names = {link.partition("/files/")[2] for link in links}
    assert names == {
        "artifacts/research-output.json",
        "artifacts/analysis-output.json",
        "logs/research-answer-0.txt",
    }
    for link in links:
        answer = served.get(link)
        assert answer.status == 200
        assert "attachment" in answer.headers["content-disposition"]
    assert served.get("/api/v1/jobs/first/files/logs/research-answer-0.txt").text == long


def test_what_runs_is_told(workspace: Workspace, served: Served, provider: Provider) -> None:
    """Of a task that runs: for how long so far, and that its answer has not come yet."""
    provider.hold(after=1)
    started = served.post("/api/v1/builds", {"jobs": ["first"]}).json
    provider.wait_for(2)
    served.wait_for("first", "running")
    text = served.get("/jobs/first").text
    began = workspace.status("first", "current")["tasks"]["analysis"]["startedAt"]
    assert len(re.findall(f'<span data-since="{began}">[0-9.]+ s</span> so far', text)) == 1
    assert text.count("no answer yet") == 1
    assert "no answer was kept" not in text
    provider.release()
    assert _ended(served, started["id"])["exitCode"] == 0
    text = served.get("/jobs/first").text
    assert "data-since" not in text
    assert "no answer yet" not in text


def test_a_pipeline_has_its_gates(workspace: Workspace, served: Served) -> None:
    """What a person is asked at a task is among its settings."""
    gate = {"message": "Is this fit to print?", "artifacts": ["research-output.json"]}
    workspace.task("research", task_yaml={"gate": gate})
    text = served.get("/pipelines/default").text
    assert '<dd>Is this fit to print? <span class="quiet">about <span' in text
    assert text.count("<dt>Human gate</dt>") == 1


def test_a_broken_configuration_is_told_once(workspace: Workspace, served: Served) -> None:
    """Whatever page is asked for says what is wrong, and says it once."""
    workspace.write("pipeline-config/pipeline.json", '{"name": ')
    with served.events() as events:
        events.until("trouble")
    for path in ("/", "/pipelines", "/pipelines/default"):
        assert served.get(path).text.count("line 1, column 10") == 1, path


def test_times_can_be_read(workspace: Workspace, served: Served) -> None:
    """Pages show times to the second, all of each for programs, and say once that it is UTC."""
    assert workspace.popbuild("run", "first").code == 0
    served.wait_for("first", "complete")
    ended = workspace.runs()[0]["finishedAt"]
    shown = f"{ended[:10]} {ended[11:19]}"
    text = served.get("/runs").text
    assert f'<time datetime="{ended}" title="{ended}">{shown}</time>' in text
    assert text.count("UTC") == 1
    for path in ("/runs", "/jobs/first"):
        bare = re.sub(r"<[^>]*>", "", served.get(path).text)
        assert re.findall(r"\d{4}-\d\d-\d\dT\d\d:\d\d", bare) == []


def test_a_build_that_waits_is_seen_and_taken_back(
    workspace: Workspace, served: Served, provider: Provider
) -> None:
    """Behind four others a build is queued: its job says so, and Stop takes it back. One of several
    jobs goes on without the one that was taken back."""
    names = [f"q-{number}" for number in range(6)]
    for name in names:
        workspace.seed(name, {"topic": name, "tone": "dry"})
    provider.hold()
    for name in names[:5]:
        assert served.post("/api/v1/builds", {"jobs": [name]}).status == 202
    both = served.post("/api/v1/builds", {"jobs": ["q-5", "first"]}).json["id"]
    provider.wait_for(4)
    for name in ("q-4", "q-5"):
        page = served.get(f"/jobs/{name}").text
        assert 'class="state queued">queued<' in page
        assert f"/jobs/{name}/stop" in page
        assert served.post("/api/v1/builds", {"jobs": [name]}).status == 409
        stopped = served.post(f"/api/v1/jobs/{name}/stop", {}).json
        assert stopped == {"job": name, "asked": True, "ended": True, "stopped": True}
        page = served.get(f"/jobs/{name}").text
        assert 'class="state new">new<' in page
        assert f"/jobs/{name}/stop" not in page
    assert served.get(f"/api/v1/builds/{both}").json["jobs"] == ["first"]
    shown = served.get("/builds").text
    assert "cancelled before it began" in shown
    assert 'class="state queued">queued<' in shown
    provider.release()
    assert _ended(served, both)["exitCode"] == 0
    assert [workspace.states(name) for name in ("first", "q-3", "q-4", "q-5")] == [
        ["complete"],
        ["complete"],
        [],
        [],
    ]


def test_a_build_behind_another_is_stopped_with_it(
    workspace: Workspace, served: Served, provider: Provider
) -> None:
    """A build of a job that a terminal builds waits, and is said to; Stop ends both."""
    provider.hold()
    with workspace.start("popbuild", "run", "first") as running:
        provider.wait_for(1)
        build = served.post("/api/v1/builds", {"jobs": ["first"]}).json["id"]
        eventually(lambda: served.get(f"/api/v1/builds/{build}").json["state"] == "waiting")
        assert "another command is building it" in served.get("/builds").text
        assert "waits for the current one" in served.get("/jobs/first").text
        assert served.post("/api/v1/jobs/first/stop", {}).json["ended"]
        assert running.wait().code == 4
    assert _ended(served, build)["ending"] == "it was asked to stop"
    assert len(provider.requests) == 1
    assert workspace.status("first", "current")["state"] == "stopped"


def test_a_plan_says_what_is_being_built(
    workspace: Workspace, served: Served, provider: Provider
) -> None:
    """Of what another command builds just now, no second build is offered; the command line says
    so, too."""
    workspace.seed("second", {"topic": "wind", "tone": "dry"})
    provider.hold()
    with workspace.start("popbuild", "run", "first") as running:
        provider.wait_for(1)
        page = served.get("/plan?job=first").text
        assert "first is being built" in page
        assert "data-body" not in page
        assert "another command builds it just now" in workspace.popbuild("plan", "first").out
        build = served.post("/api/v1/builds", {"jobs": ["second"]}).json["id"]
        page = served.get("/plan?job=second").text
        assert "second is being built, or about to be" in page
        assert "data-body" not in page
        provider.release()
        assert running.wait().code == 0
    assert _ended(served, build)["exitCode"] == 0
    assert "just now" not in served.get("/plan?job=first").text


def test_how_a_build_ended_is_said(
    workspace: Workspace, served: Served, provider: Provider
) -> None:
    """When it was asked for, begun and over, and how: by a mark and a word of its own."""
    provider.script([fail(400)])
    build = served.post("/api/v1/builds", {"jobs": ["first"]}).json["id"]
    ended = _ended(served, build)
    assert (ended["exitCode"], ended["ending"]) == (2, "a crash or a provider error")
    shown = served.get("/builds").text
    said = re.search("requested .*", shown)
    assert said is not None
    times = re.findall('datetime="([^"]*)"', said[0])
    assert times == [ended["askedAt"], ended["begunAt"], ended["endedAt"]]
    assert 'class="state failed">failed</span>: a crash or a provider error (exit code 2)' in shown


@pytest.mark.slow
def test_a_build_outlives_a_server_that_is_killed(workspace: Workspace, provider: Provider) -> None:
    """Its output is not read any more: it goes on to its end all the same, and what it bought
    is in the result. Server and build are real processes here."""
    provider.hold(after=1)
    with workspace.start("popbuild", "serve", "--port", "0", real=True) as running:
        running.wait_for("Ctrl-C ends it")
        served = served_by(running)
        assert served.post("/api/v1/builds", {"jobs": ["first"]}).status == 202
        provider.wait_for(2)
        running.kill()
        running.wait()
    provider.release()
    eventually(lambda: workspace.states("first") == ["complete"])
    ended = workspace.popbuild("run", "first")  # which waits for the lock
    assert (ended.code, len(provider.requests)) == (0, 2)


@pytest.mark.slow
def test_a_seed_is_submitted(workspace: Workspace, served: Served, provider: Provider) -> None:
    """A seed comes as JSON or as the text of its file; with `build` it is built at once."""
    seed = {"name": "Sent", "data": {"topic": "bees", "tone": "dry"}}
    first = served.post("/api/v1/jobs", {"seed": seed, "id": "sent"})
    assert (first.status, first.json) == (201, {"id": "sent"})
    assert workspace.read("pipeline-data/pending/sent-seed.json") == seed
    second = served.post("/api/v1/jobs", {"text": json.dumps(seed), "build": True})
    assert second.status == 201
    served.wait_for(second.json["id"], "complete")
    assert len(provider.requests) == 2
    taken = served.post("/api/v1/jobs", {"seed": seed, "id": "SENT"})
    assert (taken.status, taken.json["error"]) == (400, "there is a job with this ID already")


@pytest.mark.parametrize(
    ("file", "told"),
    [
        ({"name": "a", "file": "a.md", "base64": "?"}, "the bytes of a file are sent as base64"),
        ({"name": "a", "file": "a.pdf", "base64": "eA=="}, "not a valid seed"),
        ({"name": "../a", "file": "a.md", "base64": "eA=="}, "not a valid seed"),
    ],
)
def test_a_file_with_a_seed_is_refused(
    workspace: Workspace, served: Served, file: dict[str, str], told: str
) -> None:
    """One error, and nothing is queued."""
    seed = {"name": "Sent", "data": {"topic": "x", "tone": "y"}}
    answer = served.post("/api/v1/jobs", {"seed": seed, "files": [file]})
    assert (answer.status in (400, 422), answer.json["error"]) == (True, told)
    assert list((workspace.root / "pipeline-data/pending").iterdir()) == []


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"text": '{"name": "x", "data": {}, "name": "y"}'}, ""),
        ({"text": '{"name": "x",\n "data": }'}, ""),
        ({"text": ""}, ""),
        ({"seed": {"name": "", "data": []}}, "/data"),
        ({"seed": {"name": "x", "data": {}, "pipeline": "none"}}, "/pipeline"),
        ({"seed": {"name": "x", "data": {}, "files": {"a": ".env"}}}, "/files/a"),
    ],
)
def test_a_bad_seed_is_refused_with_its_problems(
    workspace: Workspace, served: Served, body: object, problem: str
) -> None:
    """What is wrong with a seed is said with its place, and nothing is queued."""
    answer = served.post("/api/v1/jobs", body)
    assert answer.status == 422, answer.text
    assert problem in [each["pointer"] for each in answer.json["problems"]]
    assert list((workspace.root / "pipeline-data/pending").iterdir()) == []


def test_a_rejected_job_is_retried(
    workspace: Workspace, served: Served, provider: Provider
) -> None:
    """The row of a rejected job says why; retry draws another sample."""
    schema = {"properties": {"content": {"const": "yes"}}, "required": ["content"]}
    workspace.task("research", schema=schema)
    provider.script(['{"content": "no"}'] * 3)
    assert workspace.popbuild("run", "first").code == 1
    row = served.wait_for("first", "rejected")
    assert row["why"].startswith("research: "), row
    provider.script(['{"content": "yes"}'])
    started = served.post("/api/v1/jobs/first/retry", {})
    assert started.status == 202
    assert _ended(served, started.json["id"])["exitCode"] == 0
    served.wait_for("first", "complete")
    refused = served.post("/api/v1/jobs/first/retry", {})
    assert (refused.status, refused.json["error"]) == (400, "the job is not rejected")
    assert len(served.get("/api/v1/builds").json) == 1


def test_a_page_that_is_behind_decides_nothing(
    workspace: Workspace, served: Served, provider: Provider
) -> None:
    """What its form sends is about what it shows: another artifact is not approved by it, nor is a
    rejection by another person taken back, and nothing is built."""
    workspace.task("research", task_yaml={"gate": {"message": "Is this fit to print?"}})
    assert workspace.popbuild("run", "first").code == 4
    old = _answer(served)
    workspace.seed("first", {"topic": "wind", "tone": "dry"})
    assert workspace.popbuild("run", "first").code == 4
    refused = served.post("/api/v1/jobs/first/approve", old)
    assert (refused.status, refused.json["hint"]) == (409, "look at it again, then decide")
    new = _answer(served)
    assert new["of"] != old["of"]
    assert workspace.popbuild("reject", "first", "--by", "Ada", "--note", "No.").code == 0
    refused = served.post("/api/v1/jobs/first/approve", new)
    assert refused.status == 409
    assert "rejected by Ada" in refused.json["values"]["found"]
    assert workspace.states("first") == ["rejected"]
    assert served.get("/api/v1/builds").json == []
    assert len(provider.requests) == 2


def _answer(served: Served) -> dict[str, object]:
    """What the page of `first` would send for a yes."""
    found = re.search(r'first/approve" data-body="([^"]*)"', served.get("/jobs/first").text)
    assert found is not None
    answer: dict[str, object] = json.loads(html.unescape(found[1]))
    return answer


def test_files_are_given_as_they_are(workspace: Workspace, served: Served) -> None:
    """A file of a job comes byte for byte, as an attachment that no browser runs."""
    assert workspace.popbuild("run", "first").code == 0
    listed = served.get("/api/v1/jobs/first/files").json
    assert {each["kind"] for each in listed} >= {"artifacts", "logs", "tasks"}
    for each in listed:
        answer = served.get(f"/api/v1/jobs/first/files/{each['kind']}/{each['name']}")
        assert answer.body == (workspace.root / each["path"]).read_bytes()
        assert answer.headers["content-disposition"].startswith("attachment; ")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-type"].partition(";")[0] in (
            "application/json",
            "text/plain",
            "application/octet-stream",
        )
    archived = served.get("/api/v1/jobs/first/archive")
    assert archived.status == 200, archived.text
    target = workspace.root / "first.tar.zst"
    target.write_bytes(archived.body)
    shutil.rmtree(workspace.job("first"))
    assert workspace.popbuild("restore", str(target)).code == 0
    assert workspace.states("first") == ["complete"]


def test_pages_hold_at_many_jobs(workspace: Workspace, served: Served) -> None:
    """Every job is on exactly one page, whatever the order; search and states narrow it."""
    for number in range(120):
        workspace.seed(f"job-{number:03}", {"topic": str(number)})
    eventually(lambda: served.get("/api/v1/jobs").json["counts"] == {"new": 121})
    for sort in ("attention", "id", "progress", "tokens", "cost", "changed"):
        seen: list[str] = []
        for page in (1, 2, 3):
            answer = served.get(f"/api/v1/jobs?sort={sort}&page={page}&size=50").json
            assert (answer["total"], answer["pages"]) == (121, 3)
            seen += [row["id"] for row in answer["jobs"]]
        assert len(seen) == len(set(seen)) == 121, sort
    assert served.get("/api/v1/jobs?search=JOB-01").json["total"] == 10
    assert served.get("/api/v1/jobs?standing=complete").json["total"] == 0
    assert served.get("/api/v1/jobs?page=99&size=50").json["page"] == 3


def test_the_configuration_is_broken(workspace: Workspace, served: Served) -> None:
    """A mistake in the configuration is told, with its place, and so is that it was mended."""
    path = workspace.root / "pipeline-config/pipeline.json"
    before = path.read_bytes()
    served.wait_for("first", "new")
    with served.events() as events:
        path.write_text("{")
        assert "pipeline.json" in json.dumps(events.until("trouble").body)
        assert served.get("/api/v1/pipelines").status == 409
        assert "not valid JSON" in served.get("/", authorization=_bearer(served)).text
        path.write_bytes(before)
        events.until("reset")
    assert len(served.get("/api/v1/pipelines").json) == 1


def _bearer(served: Served) -> str:
    return f"Bearer {served.token}"


def test_the_very_first_page_has_the_jobs(workspace: Workspace) -> None:
    """A request that comes before the first scan ends sees all jobs."""
    assert workspace.popbuild("run", "first").code == 0
    for path in ("/", "/api/v1/jobs"):
        with serve(workspace) as served:
            told = served.get(path).text
        assert "first" in told
        assert "complete" in told


def test_a_port_that_is_taken(workspace: Workspace) -> None:
    """Where another program listens, that is said, with what to do."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ended = workspace.popbuild("serve", "--port", str(port))
    assert ended.code == 3
    assert "another program listens there" in ended.err
    assert "--port 0" in ended.err


@pytest.mark.parametrize("port", ["", "x", "-1", "65536", "\uff18\uff10"])
def test_a_port_that_is_none(workspace: Workspace, port: str) -> None:
    ended = workspace.popbuild("serve", f"--port={port}")
    assert (ended.code, ended.out) == (3, "")


def test_the_end_stops_builds(workspace: Workspace, provider: Provider) -> None:
    """Who ends the server ends its builds: the job waits in current/, its lock is free."""
    provider.hold(after=1)
    with serve(workspace) as served:
        served.post("/api/v1/builds", {"jobs": ["first"]})
        provider.wait_for(2)
    provider.release()
    assert workspace.status("first", "current")["state"] == "stopped"
    assert workspace.popbuild("run", "first").code == 0


def test_two_servers_of_one_root(workspace: Workspace, served: Served, tmp_path: Path) -> None:
    """Servers share nothing but the disk: both tell the same."""
    with serve(workspace) as other:
        assert other.token != served.token
        assert workspace.popbuild("run", "first").code == 0
        assert served.wait_for("first", "complete") == other.wait_for("first", "complete")
