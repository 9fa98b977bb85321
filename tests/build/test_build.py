"""The main job: built once, killed, edited, rejected, and never paid for twice."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from provider import Provider, Reply
from workspace import Workspace

FOUR = ["research", "analysis", "synthesis", "formatting"]


def four_tasks(workspace: Workspace) -> None:
    """The demo's shape: a chain of four, each reading the one before."""
    workspace.task("research", prompt="Research {{ seed.data.topic }}.")
    workspace.task("analysis", prompt="Analyse: {{ artifacts.research.content }}")
    workspace.task("synthesis", prompt="Combine: {{ artifacts.analysis.content }}")
    workspace.task("formatting", prompt="Format: {{ artifacts.synthesis.content }}")
    workspace.pipeline(FOUR)


def asked(provider: Provider, since: int = 0) -> list[str]:
    """The first word of each prompt that the provider saw."""
    return [request.said("user").split()[0].rstrip(":.") for request in provider.requests[since:]]


def test_a_job_is_built_once(workspace: Workspace, provider: Provider) -> None:
    """The first run calls once a task and promotes the job; the second calls nothing and changes
    nothing on disk."""
    first = workspace.doit("run", "job=first")
    assert first.code == 0, first.err
    assert asked(provider) == ["Research", "Analysis"]
    assert workspace.states("first") == ["complete"]
    assert [run["id"] for run in workspace.runs()] == ["first"]
    before = workspace.tree("pipeline-data")
    second = workspace.doit("run", "job=first")
    assert (second.code, second.out) == (0, "-- first  up to date\n")
    assert len(provider.requests) == 2
    assert workspace.tree("pipeline-data") == before


@pytest.mark.parametrize("command", [("doit", "run"), ("doit",), ("popbuild", "run")])
@pytest.mark.parametrize("folder", [".", "seeds", "pipeline-config/tasks/research"])
def test_any_working_directory(
    workspace: Workspace, provider: Provider, command: tuple[str, ...], folder: str
) -> None:
    """doit and popbuild find the root upwards, and do the same from everywhere below it."""
    workspace.dodo()
    assert workspace.run(*command, "job=first", cwd=folder).code == 0
    assert workspace.run(*command, "job=first", cwd=folder).out == "-- first  up to date\n"
    assert len(provider.requests) == 2
    assert not list(workspace.root.rglob(".doit.db*"))


def test_a_root_named_from_elsewhere(workspace: Workspace, provider: Provider) -> None:
    """root=DIR, --root and POPBUILD_ROOT name a root from outside it."""
    here, root = workspace.home, str(workspace.root)
    assert workspace.doit("run", "job=first", f"root={root}", cwd=here).code == 0
    assert workspace.popbuild("--root", root, "run", "job=first", cwd=here).out.startswith("--")
    assert workspace.doit("job=first", cwd=here, env={"POPBUILD_ROOT": root}).out.startswith("--")
    assert len(provider.requests) == 2


def test_kill_at_call_62_of_100(workspace: Workspace, provider: Provider) -> None:
    """25 jobs of 4 tasks, killed with -9 while call 62 is under way: no call that had finished is
    sent a second time, and the rest of the run buys only what is missing."""
    four_tasks(workspace)
    (workspace.root / "seeds/first.json").unlink()
    for number in range(25):
        workspace.seed(f"job-{number:02d}", {"topic": f"topic {number}"})
    provider.hold(after=61)
    running = workspace.start("doit", "run", "-n", "1")
    provider.wait_for(62)
    running.kill()
    running.wait()
    provider.release()
    finished = [request.digest for request in provider.requests[:61]]
    assert len(set(finished)) == 61
    result = workspace.doit("run")
    assert result.code == 0, result.err
    assert len(provider.requests) == 101  # the 100, and call 62 once more: its answer was lost
    again = [request.digest for request in provider.requests[62:]]
    assert not set(again) & set(finished)
    assert len(workspace.runs()) == 25
    assert workspace.doit("run").code == 0
    assert len(provider.requests) == 101
    unsettled = _unsettled(workspace)
    assert len(unsettled) == 1


def _unsettled(workspace: Workspace) -> list[str]:
    """The calls that were reserved in the ledger and never settled."""
    lines = (workspace.root / ".popbuild/ledger.jsonl").read_text().splitlines()
    found: dict[str, str] = {}
    for entry in map(json.loads, lines):
        if entry["event"] == "reserved":
            found[entry["entry"]] = entry["request"]
        else:
            found.pop(entry["entry"])
    return list(found.values())


def test_interrupt(workspace: Workspace, provider: Provider) -> None:
    """Ctrl-C leaves the job stopped in current/ with exit code 130; the next run goes on."""
    provider.hold(after=1)
    running = workspace.start("doit", "run", "job=first")
    provider.wait_for(2)
    running.interrupt()
    result = running.wait()
    provider.release()
    assert result.code == 130
    assert "Traceback" not in result.err
    assert workspace.states("first") == ["current"]
    status = workspace.status("first", "current")
    assert status["state"] == "stopped"
    assert [status["tasks"][name]["state"] for name in ("research", "analysis")] == [
        "done",
        "pending",
    ]
    assert workspace.doit("run", "job=first").code == 0
    assert asked(provider) == ["Research", "Analysis", "Analysis"]


def test_independent_tasks_run_at_the_same_time(workspace: Workspace, provider: Provider) -> None:
    """Two tasks without a path between them have their calls in flight together."""
    for name in ("left", "right"):
        workspace.task(name, prompt=f"{name} {{{{ seed.data.topic }}}}", task_yaml={"needs": []})
    workspace.task("join", prompt="{{ artifacts.left.content }} {{ artifacts.right.content }}")
    workspace.pipeline(["left", "right", "join"])
    provider.hold()
    running = workspace.start("doit", "run", "job=first")
    provider.wait_for(2)
    provider.release()
    assert running.wait().code == 0
    assert provider.peak_in_flight == 2
    assert len(provider.requests) == 3


def test_n_limits_the_calls_in_flight(workspace: Workspace, provider: Provider) -> None:
    """-n 2 never has three calls in flight, however many tasks could run."""
    names = [f"task{number}" for number in range(6)]
    for name in names:
        workspace.task(name, prompt=f"{name} {{{{ seed.data.topic }}}}", task_yaml={"needs": []})
    workspace.pipeline(names)
    provider.answer = lambda request: Reply(f"{request.said('user')} is fine.", delay_s=0.02)
    assert workspace.doit("run", "-n", "2", "job=first").code == 0
    assert provider.peak_in_flight == 2
    assert len(provider.requests) == 6


EDITS: list[tuple[str, Mapping[str, object], list[str], str]] = [
    # what changes, the files that change, the prompts asked again, a reason that is given
    ("seed field that is printed", {"seed": {"topic": "wind", "tone": "plain"}}, FOUR[:2], "topic"),
    ("seed field nobody reads", {"seed": {"topic": "grid batteries", "tone": "x"}}, [], ""),
    ("key added", {"seed": {"topic": "grid batteries", "tone": "plain", "new": 1}}, [], ""),
    ("first prompt", {"research": "Research {{ seed.data.topic }} now."}, FOUR[:2], "prompt.md"),
    ("second prompt", {"analysis": "Analysis: {{ artifacts.research.content }}"}, ["analysis"], ""),
    ("temperature", {"config": {"analysis": {"temperature": 0.3}}}, ["analysis"], "temperature"),
    ("version and metadata", {"more": {"version": "9", "metadata": {"author": "me"}}}, [], ""),
    ("bytecode and backups appear", {"file": "__pycache__/x.pyc"}, [], ""),
]


@pytest.mark.parametrize(("what", "change", "tasks", "reason"), EDITS, ids=[e[0] for e in EDITS])
def test_what_is_rebuilt(
    workspace: Workspace,
    provider: Provider,
    what: str,
    change: Mapping[str, object],
    tasks: list[str],
    reason: str,
) -> None:
    """After a change exactly the tasks whose result can differ ask again, with the reason."""
    assert workspace.doit("run", "job=first").code == 0
    _apply(workspace, change)
    listed = workspace.doit("list", "-s", "--all").out
    assert reason in listed
    result = workspace.doit("run", "job=first")
    assert result.code == 0, result.err
    assert [word.lower() for word in asked(provider, 2)] == tasks
    assert workspace.doit("run", "job=first").out == "-- first  up to date\n"
    assert len(workspace.runs()) == (2 if tasks else 1)
    seed = json.loads((workspace.root / "seeds/first.json").read_bytes())
    assert workspace.read("pipeline-data/complete/first/seed.json") == seed


def _apply(workspace: Workspace, change: Mapping[str, object]) -> None:
    for key, value in change.items():
        match key:
            case "seed":
                assert isinstance(value, dict)
                workspace.seed("first", value)
            case "config":
                assert isinstance(value, dict)
                workspace.pipeline(["research", "analysis"], task_config=value)
            case "more":
                assert isinstance(value, dict)
                workspace.pipeline(["research", "analysis"], **value)
            case "file":
                workspace.write(f"pipeline-config/tasks/research/{value}", "x")
            case _:
                workspace.task(key, prompt=str(value))


def test_a_file_appears_in_a_task_folder(workspace: Workspace, provider: Provider) -> None:
    """Every file of the folder is a dependency; the request is the same, so the answer comes from
    the store, and nothing below is built."""
    workspace.doit("run", "job=first")
    workspace.write("pipeline-config/tasks/research/notes.md", "x")
    assert "notes.md added" in workspace.doit("list", "-s", "--all").out
    assert workspace.doit("run", "job=first").code == 0
    assert len(provider.requests) == 2
    assert workspace.runs()[-1]["built"] == ["research"]


def test_early_cutoff(workspace: Workspace, provider: Provider) -> None:
    """A task that is built anew with the same value leaves the tasks below it up to date."""
    provider.answer = lambda request: Reply("The same text, whoever asks.")
    assert workspace.doit("run", "job=first").code == 0
    workspace.task("research", prompt="Research again: {{ seed.data.topic }}.")
    assert workspace.doit("run", "job=first").code == 0
    assert len(provider.requests) == 3
    assert workspace.runs()[-1]["built"] == ["research"]


def test_a_change_that_is_taken_back(workspace: Workspace, provider: Provider) -> None:
    """Answers stay in the store: going back to an earlier prompt costs nothing."""
    workspace.doit("run", "job=first")
    workspace.task("research", prompt="Other {{ seed.data.topic }}.")
    workspace.doit("run", "job=first")
    assert len(provider.requests) == 4
    workspace.task("research", prompt="Research: {{ seed.data.topic }}.\n")
    assert workspace.doit("run", "job=first").code == 0
    assert len(provider.requests) == 4


def test_edit_while_the_model_answers(workspace: Workspace, provider: Provider) -> None:
    """A prompt that is edited while its answer is under way leaves the task stale."""
    provider.hold(after=1)
    running = workspace.start("doit", "run", "job=first")
    provider.wait_for(2)
    workspace.task("analysis", prompt="Analysis, edited: {{ artifacts.research.content }}")
    provider.release()
    assert running.wait().code == 0
    assert "prompt.md" in workspace.doit("list", "-s", "--all").out
    assert workspace.doit("run", "job=first").code == 0
    assert len(provider.requests) == 3


def test_the_last_good_result_stands(workspace: Workspace, provider: Provider) -> None:
    """A prompt is edited and the rebuild rejected: complete/ is byte for byte what it was. When
    the prompt is right again, the job is complete again and rejected/ is empty."""
    schema = {"type": "object", "properties": {"content": {"type": "string", "minLength": 5}}}
    workspace.task("analysis", schema=schema, task_yaml={"answer": "text"})
    assert workspace.doit("run", "job=first").code == 0
    before = workspace.tree("pipeline-data/complete/first")
    workspace.task("analysis", prompt="Analysis, badly: {{ artifacts.research.content }}")
    provider.answer = lambda request: Reply("No.")
    result = workspace.doit("run", "job=first")
    assert result.code == 1
    assert "too short" in result.out
    assert workspace.states("first") == ["complete", "rejected"]
    assert workspace.tree("pipeline-data/complete/first") == before
    calls = len(provider.requests)
    assert workspace.doit("run", "job=first").code == 1
    assert len(provider.requests) == calls
    workspace.task("analysis", prompt="Analysis of: {{ artifacts.research.content }}\n")
    assert workspace.doit("run", "job=first").code == 0
    assert workspace.states("first") == ["complete"]
    assert len(provider.requests) == calls


def test_rebuild_replaces_the_good_result(workspace: Workspace, provider: Provider) -> None:
    """A rebuild that passes every gate takes the place of the old result, which is kept aside;
    no file of the two shares an inode."""
    workspace.doit("run", "job=first")
    old = workspace.artifact("first", "research")
    workspace.seed("first", {"topic": "wind"})
    assert workspace.doit("run", "job=first").code == 0
    assert workspace.artifact("first", "research") != old
    shelf = workspace.root / ".popbuild/previous/first"
    (kept,) = shelf.iterdir()
    assert json.loads((kept / "files/artifacts/research-output.json").read_bytes()) == old
    inodes = [
        {path.stat().st_ino for path in folder.rglob("*") if path.is_file()}
        for folder in (kept, workspace.job("first"))
    ]
    assert not inodes[0] & inodes[1]


@pytest.mark.parametrize("flag", ["", "--keep-edits", "--discard-edits"])
def test_an_edit_by_hand_of_a_stale_task(
    workspace: Workspace, provider: Provider, flag: str
) -> None:
    """Nothing overwrites a person's edit unasked: the build stops with exit code 4 until told to
    keep or to discard it."""
    workspace.doit("run", "job=first")
    path = workspace.job("first") / "files/artifacts/research-output.json"
    path.write_text('{"content": "Mine."}')
    workspace.task("research", prompt="New {{ seed.data.topic }}")
    result = workspace.doit("run", "job=first", *([flag] if flag else []))
    if not flag:
        assert result.code == 4
        assert "--keep-edits" in result.err
        assert json.loads(path.read_bytes()) == {"content": "Mine."}
        assert len(provider.requests) == 2
    else:
        assert result.code == 0, result.err
        kept = workspace.artifact("first", "research") == {"content": "Mine."}
        assert kept == (flag == "--keep-edits")
        assert len(provider.requests) == (3 if kept else 4)
        assert workspace.doit("run", "job=first").out == "-- first  up to date\n"


def test_an_edit_by_hand_is_kept(workspace: Workspace, provider: Provider) -> None:
    """An artifact edited by hand, of a task that is up to date, is kept and recorded; the tasks
    below it are built anew."""
    workspace.doit("run", "job=first")
    path = workspace.job("first") / "files/artifacts/research-output.json"
    path.write_text('{"content": "Mine."}')
    assert "edited by hand" in workspace.doit("list", "-s", "--all").out
    assert workspace.doit("run", "job=first").code == 0
    assert provider.requests[-1].said("user") == "Analysis of: Mine."
    assert len(provider.requests) == 3
    assert workspace.letter("first", "research")["edited"] is True
    assert workspace.doit("run", "job=first").out == "-- first  up to date\n"


def test_an_edit_that_fails_its_gate(workspace: Workspace, provider: Provider) -> None:
    """An edit that does not pass stops the build with the problems, and loses nothing."""
    workspace.task("research", schema={"required": ["content"]}, task_yaml={"answer": "text"})
    workspace.doit("run", "job=first")
    before = workspace.runs()
    path = workspace.job("first") / "files/artifacts/research-output.json"
    path.write_text('{"text": "Mine."}')
    result = workspace.doit("run", "job=first")
    assert result.code == 1
    assert "missing 'content'" in result.err
    assert json.loads(path.read_bytes()) == {"text": "Mine."}
    assert workspace.runs() == before
    assert workspace.states("first") == ["complete"]


def test_reformatting_an_artifact_is_no_edit(workspace: Workspace, provider: Provider) -> None:
    """Neither formatting nor a touched file counts."""
    workspace.doit("run", "job=first")
    path = workspace.job("first") / "files/artifacts/research-output.json"
    path.write_text(json.dumps(json.loads(path.read_bytes())))
    os.utime(workspace.root / "seeds/first.json", (0, 0))
    assert workspace.doit("run", "job=first").out == "-- first  up to date\n"
    assert len(provider.requests) == 2


@pytest.mark.parametrize("damage", ["deleted", "truncated", "altered"])
def test_a_damaged_letter(workspace: Workspace, provider: Provider, damage: str) -> None:
    """A letter that is missing, cut short or altered counts as none: the task is built again,
    from the store."""
    workspace.doit("run", "job=first")
    path = workspace.job("first") / "tasks/research/letter.json"
    text = path.read_text()
    if damage == "deleted":
        path.unlink()
    else:
        path.write_text(
            text[:100] if damage == "truncated" else text.replace("sha256:0", "sha256:1", 1)
        )
    if damage != "altered" or path.read_text() != text:
        reason = "never built" if damage == "deleted" else "letter damaged or altered"
        assert reason in workspace.doit("list", "-s", "--all").out
    assert workspace.doit("run", "job=first").code == 0
    assert len(provider.requests) == 2
    assert workspace.doit("run", "job=first").out == "-- first  up to date\n"


def test_a_job_travels(workspace: Workspace, provider: Provider, tmp_path: Path) -> None:
    """A complete job copied with its configuration to another root is up to date there."""
    workspace.doit("run", "job=first")
    other = Workspace(tmp_path / "other", provider)
    for name in ("seeds", "pipeline-config", "pipeline-data"):
        copy = other.root / name
        for path in sorted((workspace.root / name).rglob("*")):
            if path.is_file():
                target = copy / path.relative_to(workspace.root / name)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
    with other:
        assert other.doit("run", "job=first").out == "-- first  up to date\n"
    assert len(provider.requests) == 2


def test_part_of_a_job(workspace: Workspace, provider: Provider) -> None:
    """`doit run first:research` builds up to there and leaves the job stopped in current/; the
    whole run goes on from there."""
    assert workspace.doit("run", "first:research").code == 0
    assert asked(provider) == ["Research"]
    assert workspace.status("first", "current")["state"] == "stopped"
    assert workspace.doit("run", "first:research").code == 0
    assert len(provider.requests) == 1
    assert workspace.doit("run", "job=first").code == 0
    assert asked(provider) == ["Research", "Analysis"]
    assert workspace.states("first") == ["complete"]


def test_two_commands_at_once(workspace: Workspace, provider: Provider) -> None:
    """A second command waits for the first, says so, and finds everything done; with --no-wait
    it fails with exit code 5."""
    provider.hold()
    running = workspace.start("doit", "run", "job=first")
    provider.wait_for(1)
    refused = workspace.doit("run", "job=first", "--no-wait")
    assert refused.code == 5
    assert "another command builds this job" in refused.err
    assert refused.out == "first: built by another command\n"
    waiting = workspace.start("popbuild", "run", "first")
    waiting.wait_for("waiting for another command")
    provider.release()
    assert running.wait().code == 0
    second = waiting.wait()
    assert second.code == 0
    assert second.out.endswith("-- first  up to date\n")
    assert len(provider.requests) == 2
    assert len(workspace.runs()) == 1


def test_several_jobs(workspace: Workspace, provider: Provider) -> None:
    """job=a,b and globs select; with -c a failed job does not keep the others back."""
    workspace.seed("bad", {"tone": "no topic"})
    workspace.seed("second", {"topic": "wind"})
    assert workspace.doit("run", "job=f*,second").code == 0
    assert workspace.states("second") == ["complete"]
    workspace.seed("third", {"topic": "sun"})
    result = workspace.doit("run", "-c")
    assert result.code == 2
    assert "'dict object' has no attribute 'topic'" in result.err or "topic" in result.err
    assert workspace.states("third") == ["complete"]
    assert workspace.states("bad") == ["current"]


def test_a_crash_between_promotion_and_log(workspace: Workspace, provider: Provider) -> None:
    """A promotion that was cut short before its line in runs.jsonl gets it at the next run, once;
    one that was cut short after it gets no second line."""
    workspace.doit("run", "job=first")
    (line,) = workspace.runs()
    runs = workspace.root / "pipeline-data/complete/runs.jsonl"
    note = workspace.root / ".popbuild/promotions/first.json"
    assert not note.exists()
    for before in ("", json.dumps(line) + "\n"):
        runs.write_text(before)
        note.write_text(json.dumps(line))
        assert workspace.doit("run", "job=first").code == 0
        assert workspace.runs() == [line]
        assert not note.exists()
    assert len(provider.requests) == 2


def test_several_pipelines(workspace: Workspace, provider: Provider) -> None:
    """A seed may name a pipeline under pipelines/; its jobs stand beside the others'."""
    base = "pipeline-config/pipelines/short"
    workspace.write(f"{base}/tasks/index.yaml", "note: ./note\n")
    workspace.write(f"{base}/tasks/note/prompt.md", "Note on {{ seed.data.topic }}")
    task = {"id": "note", "name": "A short note", "config": {"model": "openai/gpt-4o-mini"}}
    workspace.write(f"{base}/pipeline.yaml", json.dumps({"name": "short", "tasks": [task]}))
    seed = {"name": "second", "pipeline": "short", "data": {"topic": "wind"}}
    workspace.write("seeds/second.json", seed)
    assert workspace.doit("run").code == 0
    assert sorted(asked(provider)) == ["Analysis", "Note", "Research"]
    assert list(workspace.status("second")["tasks"]) == ["note"]
    assert workspace.doit("run").out == "-- first  up to date\n-- second  up to date\n"
    workspace.write("seeds/second.json", seed | {"pipeline": "shrot"})
    result = workspace.doit("run", "job=second")
    assert result.code == 1
    assert "no such pipeline" in result.out
    assert workspace.states("second") == ["complete", "rejected"]


def test_configured_modes(workspace: Workspace, provider: Provider) -> None:
    """POPBUILD_FILE_MODE opens what is made to the group; a mode that makes no sense is refused."""
    shared = {"POPBUILD_FILE_MODE": "640"}
    assert workspace.doit("run", "job=first", env=shared).code == 0
    for path in workspace.job("first").rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o750 if path.is_dir() else 0o640), path
    refused = workspace.popbuild("run", env={"POPBUILD_FILE_MODE": "rw"})
    assert refused.code == 3
    assert "not a mode for files" in refused.err


STATUS_DAMAGE: dict[str, Callable[[str], str | None]] = {
    "garbage": lambda _: "garbage",
    "missing": lambda _: None,
    "a list": lambda _: "[]",
    "an illegal state": lambda text: text.replace('"state": "complete"', '"state": "exploded"'),
    "an illegal state of a task": lambda text: text.replace('"state": "done"', '"state": "odd"', 1),
    "an illegal index": lambda text: text.replace('"artifacts": [', '"artifacts": [7,', 1),
}


@pytest.mark.parametrize("damage", STATUS_DAMAGE)
def test_a_damaged_status(workspace: Workspace, provider: Provider, damage: str) -> None:
    """A status that cannot be used makes the job not up to date, with the reason; the next run
    makes it anew from letters and files, without a call, and a partial rebuild keeps it whole."""
    workspace.doit("run", "job=first")
    path, before = workspace.job("first") / "tasks-status.json", workspace.status("first")
    altered = STATUS_DAMAGE[damage](path.read_text())
    if altered is None:
        path.unlink()
    else:
        path.write_text(altered)
    for command in (("list",), ("show", "first"), ("status", "first", "--json")):
        assert "Traceback" not in workspace.popbuild(*command).err
    listed = workspace.popbuild("list").out.split(maxsplit=1)[1]
    assert listed == "complete, tasks-status.json is damaged or altered\n"
    assert workspace.popbuild("check").code == 1
    assert workspace.doit("run", "job=first").code == 0
    after = workspace.status("first")
    assert {kind: set(names) for kind, names in after["files"].items()} == {
        kind: set(names) for kind, names in before["files"].items()
    }
    for task, entry in after["tasks"].items():
        was = before["tasks"][task]
        assert entry["state"] == "done"
        assert entry["usage"] == was["usage"]
        assert {k: set(v) for k, v in entry["files"].items()} == {
            k: set(v) for k, v in was["files"].items()
        }
    workspace.task("analysis", prompt="Again: {{ artifacts.research.content }}\n")
    assert workspace.doit("run", "job=first").code == 0
    assert asked(provider) == ["Research", "Analysis", "Again"]
    assert workspace.popbuild("check").code == 0
    assert workspace.doit("run", "job=first").out == "-- first  up to date\n"


def test_a_damaged_status_of_a_stopped_job(workspace: Workspace, provider: Provider) -> None:
    """What was built is kept, and files belong to the longest task name that they begin with."""
    workspace.task("research-more", prompt="More: {{ artifacts.research.content }}\n")
    workspace.pipeline(["research", "research-more", "analysis"])
    workspace.doit("run", "first:research-more")
    folder = workspace.job("first", "current")
    (folder / "tasks-status.json").write_text('{"state": "exploded"}')
    for name in ("research-more-extra.txt", "research-notes.txt", "unknown.txt"):
        (folder / "files/artifacts" / name).write_text("mine")
    assert workspace.doit("run", "job=first").code == 0
    assert len(provider.requests) == 3
    status = workspace.status("first")
    tasks = {name: entry["files"]["artifacts"] for name, entry in status["tasks"].items()}
    assert "research-more-extra.txt" in tasks["research-more"]
    assert "research-notes.txt" in tasks["research"]
    assert "unknown.txt" in status["files"]["artifacts"]
    assert workspace.popbuild("validate").code == 0
