"""The commands: what each does, says and prints as JSON, and their help."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from provider import Provider, fail
from workspace import CHECKOUT, Workspace

from popbuild.base.units import money
from popbuild.base.words import Command
from popbuild.cli.main import whole_command

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def ok(workspace: Workspace, *args: str, code: int = 0, **options: Any) -> str:
    """Run popbuild; gives its standard output."""
    result = workspace.popbuild(*args, **options)
    assert result.code == code, result.out + result.err
    assert "Traceback" not in result.err
    return result.out


def data(workspace: Workspace, *args: str, code: int = 0, **options: Any) -> Any:
    """Run popbuild with --json; gives what it printed."""
    return json.loads(ok(workspace, *args, "--json", code=code, **options))


def error(workspace: Workspace, *args: str, code: int = 3, **options: Any) -> str:
    """Run a popbuild that fails; gives its one error. With --json it is one document."""
    result = workspace.popbuild(*args, **options)
    assert result.code == code, result.out + result.err
    assert result.err.startswith("error: ")
    assert "Traceback" not in result.err
    assert result.out == ""
    body = json.loads(workspace.popbuild(*args, "--json", **options).out)
    assert result.err.startswith(f"error: {body['error']}\n")
    return result.err


def edit_prompt(workspace: Workspace, task: str = "research") -> None:
    """A change of a prompt's file that changes nothing for a reader."""
    path = workspace.root / f"pipeline-config/tasks/{task}/prompt.md"
    path.write_text(path.read_text() + "{# a note for people #}\n")


# --- help ---


def commands(command: Command, name: str = "") -> Iterator[tuple[str, Command]]:
    """Every command that does something; `cache` has commands below it."""
    if command.run is not None:
        yield name.strip(), command
    for each in command.below:
        yield from commands(each, f"{name} {each.name}")


WHOLE = whole_command()
COMMANDS = dict(commands(WHOLE))


@pytest.mark.parametrize("command", ["", "cache", *COMMANDS])
def test_help_fits_80_columns(command: str, workspace: Workspace) -> None:
    """Whatever the terminal, with an even margin; nothing is imported that a call would need."""
    out = ok(workspace, *command.split(), "--help", env={"COLUMNS": "200"})
    lines = out.splitlines()
    assert [line for line in lines if len(line) > 80] == []
    usage, description, *_ = out.split("\n\n")
    assert usage.startswith(f"usage: popbuild {command}".rstrip())
    assert not any(line.startswith(" ") for line in description.splitlines())


def test_help_lists_every_command(workspace: Workspace) -> None:
    """`popbuild --help` names each with a line; so does `popbuild` alone; exit codes are there."""
    out = ok(workspace, "--help")
    assert ok(workspace) == out
    for command in WHOLE.below:
        assert re.search(rf"^    {command.name}\s+{re.escape(command.brief)}$", out, re.MULTILINE)
    codes = out[out.index("exit codes:") : out.index("environment:")]
    assert re.findall(r" (\d+)  \w", codes) == ["0", "3", "1", "4", "2", "5", "6", "130"]
    assert ok(workspace, "--version").startswith("popbuild ")


def test_no_option_is_undocumented() -> None:
    """Every option and argument of every command has its line of help."""
    undocumented = [
        f"{name} {word.key}"
        for name, each in COMMANDS.items()
        for word in each.words
        if not word.help
    ]
    assert undocumented == []


def test_no_variable_is_undocumented(workspace: Workspace) -> None:
    """Every variable of the environment that the package reads stands in `popbuild --help`."""
    sources = (CHECKOUT / "popbuild").rglob("*.py")
    read = {name for path in sources for name in re.findall(r"POPBUILD_[A-Z_]+", path.read_text())}
    assert read
    out = ok(workspace, "--help")
    assert [name for name in sorted(read) if name not in out] == []


def test_every_command_has_the_common_options() -> None:
    """--json, --root and --debug wherever they mean something: everywhere."""
    for name, command in COMMANDS.items():
        given = {text for word in command.words for text in word.names}
        assert {"--json", "--root", "--debug"} <= given, name


@pytest.mark.parametrize(
    ("args", "found"),
    [
        (["biuld"], "accept"),
        (["lsit"], "list"),
        (["run", "--alway"], "--alway"),
        (["status", "--no-such-option"], "--no-such-option"),
        (["prompt", "first"], "TASK"),
        (["run", "-n", "many"], "many"),
        (["run", "-n", "0"], "0"),
        (["run", "jbo=first"], "job"),
        (["--root", "/nonexistent", "list"], "/nonexistent"),
    ],
)
def test_a_wrong_command_line_is_a_usage_error(
    args: list[str], found: str, workspace: Workspace, provider: Provider
) -> None:
    """Exit code 3, what was found and what is known; nothing is built."""
    assert found in error(workspace, *args)
    assert provider.requests == []
    assert workspace.states("first") == []


def test_the_root_may_be_named_in_every_place(workspace: Workspace, tmp_path: Path) -> None:
    """--root before or behind the command, POPBUILD_ROOT, a folder below it; else an error."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    root = str(workspace.root)
    expected = ok(workspace, "list")
    assert ok(workspace, "list", cwd="pipeline-config/tasks") == expected
    assert ok(workspace, "--root", root, "list", cwd=elsewhere) == expected
    assert ok(workspace, f"--root={root}", "list", cwd=elsewhere) == expected
    assert ok(workspace, "list", "--root", root, cwd=elsewhere) == expected
    assert ok(workspace, "list", cwd=elsewhere, env={"POPBUILD_ROOT": root}) == expected
    assert "popbuild init" in error(workspace, "list", cwd=elsewhere)


# --- init ---


def test_init_makes_a_root_that_runs(
    workspace: Workspace, provider: Provider, tmp_path: Path
) -> None:
    """In an empty folder: seeds, pipeline, dodo.py, .gitignore; valid, and it builds at once."""
    new = tmp_path / "new"
    new.mkdir()
    out = ok(workspace, "init", cwd=new)
    assert "next: " in out
    assert sorted(path.name for path in new.iterdir() if path.name != ".popbuild") == [
        ".gitignore",
        "dodo.py",
        "pipeline-config",
        "pipeline-data",
        "seeds",
    ]
    ignored = (new / ".gitignore").read_text().splitlines()
    assert {"pipeline-data/", ".popbuild/", ".env"} <= set(ignored)
    assert "all valid" in ok(workspace, "validate", cwd=new)
    jobs = [each["id"] for each in data(workspace, "list", cwd=new)]
    assert jobs == ["content-generation", "data-processing", "market-analysis"]
    model = {"POPBUILD_MODEL": "openai/gpt-4o-mini"}
    first = workspace.doit("run", "job=market-analysis", cwd=new, env=model)
    assert first.code in (0, 1), first.out + first.err
    calls = len(provider.requests)
    assert calls >= 4
    again = ok(workspace, "run", "market-analysis", cwd=new, env=model, code=first.code)
    assert "up to date" in again or "not bought again" in again
    assert len(provider.requests) == calls


def test_init_makes_the_folder_that_it_is_given(workspace: Workspace, tmp_path: Path) -> None:
    """Also one that is not there yet; what it wrote is told."""
    target = tmp_path / "made/here"
    body = data(workspace, "init", str(target))
    assert body == {
        "root": str(target),
        "written": ["seeds/", "pipeline-config/", ".gitignore", "dodo.py"],
    }
    for name in body["written"]:
        assert (target / name).exists()


def test_init_takes_the_root_too(workspace: Workspace, tmp_path: Path) -> None:
    """--root means the folder that becomes the root, as everywhere; the one here is left alone."""
    before = workspace.tree()
    ok(workspace, "init", "--root", str(tmp_path / "new"))
    assert (tmp_path / "new/pipeline-config/pipeline.json").is_file()
    assert workspace.tree() == before


def test_init_overwrites_nothing(workspace: Workspace, tmp_path: Path) -> None:
    """A root, or a folder in the way, is refused, and every file stays as it is."""
    before = workspace.tree()
    assert "root already" in error(workspace, "init")
    assert workspace.tree() == before
    other = tmp_path / "other"
    (other / "seeds").mkdir(parents=True)
    assert "in the way" in error(workspace, "init", str(other))
    assert sorted(path.name for path in other.iterdir()) == ["seeds"]
    own = tmp_path / "own"
    own.mkdir()
    (own / ".gitignore").write_text("mine\n")
    (own / "dodo.py").write_text("# mine\n")
    ok(workspace, "init", str(own))
    assert (own / ".gitignore").read_text() == "mine\n"
    assert (own / "dodo.py").read_text() == "# mine\n"


# --- submit ---


def test_submit_queues_a_job_under_a_new_id(workspace: Workspace, provider: Provider) -> None:
    """It prints the ID and calls nothing; `run` with that ID builds it from pending/."""
    seed = workspace.write("a-seed.json", {"name": "one-off", "data": {"topic": "wind"}})
    job = ok(workspace, "submit", str(seed)).strip()
    assert re.fullmatch(r"pl-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d-\d{3}Z-[0-9a-f]{6}", job)
    assert provider.requests == []
    pending = workspace.root / f"pipeline-data/pending/{job}-seed.json"
    assert json.loads(pending.read_bytes())["name"] == "one-off"
    assert [(each["id"], each["state"]) for each in data(workspace, "list", job)] == [
        (job, "pending")
    ]
    ok(workspace, "run", job)
    assert workspace.states(job) == ["complete"]
    assert not pending.exists()
    assert [each.said("user")[:9] for each in provider.requests] == ["Research:", "Analysis "]
    seed.unlink()
    assert "up to date" in ok(workspace, "run", job)
    assert len(provider.requests) == 2


def test_submit_takes_an_id(workspace: Workspace, provider: Provider) -> None:
    """The ID names the job from then on; one that exists, or is against the rule, is refused."""
    seed = str(workspace.write("a-seed.json", {"name": "x", "data": {"topic": "wind"}}))
    assert data(workspace, "submit", seed, "--id", "my-job") == {"id": "my-job"}
    for taken in ("my-job", "MY-JOB", "first"):
        assert "already" in error(workspace, "submit", seed, "--id", taken)
    for wrong in ("../up", "", "-x", "con", "a b", "x" * 65):
        assert "not a valid name" in error(workspace, "submit", seed, f"--id={wrong}")
    ok(workspace, "run", "my-job")
    assert workspace.states("my-job") == ["complete"]
    assert len(provider.requests) == 2


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("{", "not valid JSON"),
        ('{"name": "x"}', "data"),
        ('{"name": "x", "data": {}, "pipeline": 3}', "/pipeline"),
        (None, "no such seed file"),
    ],
)
def test_submit_refuses_a_bad_seed(content: str | None, found: str, workspace: Workspace) -> None:
    """Nothing is queued; the problem is told with its place."""
    path = workspace.root / "a-seed.json"
    if content is not None:
        path.write_text(content)
    assert found in error(workspace, "submit", str(path))
    assert list(workspace.root.glob("pipeline-data/pending/*")) == []


# --- list and status ---


def test_list_shows_every_job_with_its_state(workspace: Workspace, provider: Provider) -> None:
    """New, pending, complete, stale, failed and rejected; with --tasks the reasons."""
    workspace.seed("bad", {"topic": "x"}).write_text("{")
    workspace.seed("worse", {"topic": "worse", "tone": "plain"})
    provider.answer = lambda request: fail(400) if "worse" in request.said("user") else fail(500)
    provider.script(["Research.", "Analysis."])
    ok(workspace, "run", "first")
    ok(workspace, "run", "worse", code=2)
    seed = str(workspace.write("a-seed.json", {"name": "x", "data": {"topic": "wind"}}))
    ok(workspace, "submit", seed, "--id", "queued")
    lines = dict(line.split(maxsplit=1) for line in ok(workspace, "list").splitlines())
    assert lines["first"] == "complete"
    assert lines["bad"].startswith("bad seed")
    assert lines["queued"].startswith("pending")
    assert lines["worse"].startswith("failed")
    edit_prompt(workspace)
    out = ok(workspace, "list", "first", "--tasks")
    assert "first  complete, stale: research, analysis" in out
    assert "file:tasks/research/prompt.md changed" in out
    assert "upstream research is stale" in out
    assert [each["id"] for each in data(workspace, "list", "*r*")] == ["first", "worse"]
    assert "did you mean" in error(workspace, "list", "frist")
    sent = len(provider.requests)
    assert {each["id"]: each["upToDate"] for each in data(workspace, "list")} == {
        "bad": False,
        "first": False,
        "queued": False,
        "worse": False,
    }
    assert len(provider.requests) == sent


def test_status_shows_a_jobs_tasks(workspace: Workspace, provider: Provider) -> None:
    """State, time, tokens and cost of each task, and the reasons why it is stale."""
    before = ok(workspace, "status", "first")
    assert "first: new" in before
    assert "never built" in before
    ok(workspace, "run", "first")
    out = ok(workspace, "status", "first")
    assert out.startswith("first: complete -> pipeline-data/complete/first\n")
    assert re.search(r"research +done +[\d.]+ s +[\d,]+ tokens +\$0\.\d{4}", out)
    assert "stale" not in out
    (body,) = data(workspace, "status", "first")
    assert body["upToDate"] is True
    assert body["pipelineId"] == workspace.runs()[0]["pipelineId"]
    assert body["usage"]["calls"] == 2
    assert list(body["tasks"]) == ["research", "analysis"]
    task = body["tasks"]["research"]
    assert (task["state"], task["stale"], task["attempts"]) == ("done", False, 1)
    assert task["artifact"] == "research-output.json"
    edit_prompt(workspace, "analysis")
    assert "stale: file:tasks/analysis/prompt.md changed" in ok(workspace, "status", "first")
    assert ok(workspace, "status") == ok(workspace, "list")
    assert len(provider.requests) == 2


def test_status_shows_errors_and_edits(workspace: Workspace, provider: Provider) -> None:
    """A failed task's error, and an artifact edited by hand; reading records nothing."""
    provider.script([fail(400, text="no luck today")])
    ok(workspace, "run", "first", code=2)
    out = ok(workspace, "status", "first")
    assert "first: failed" in out
    assert "error: " in out
    provider.script(["Research.", "Analysis."])
    ok(workspace, "run", "first")
    path = workspace.job("first") / "files/artifacts/analysis-output.json"
    path.write_text('{"content": "mine"}')
    before = workspace.tree("pipeline-data")
    assert "its artifact was edited by hand" in ok(workspace, "status", "first")
    assert data(workspace, "status", "first")[0]["tasks"]["analysis"]["edited"] is True
    assert workspace.tree("pipeline-data") == before


# --- show and prompt ---


def test_show_lists_and_prints_files(workspace: Workspace, provider: Provider) -> None:
    """Artifacts, logs and prompts of a job or a task; a file's bytes as they are."""
    workspace.task(
        "research",
        stages="def ingestion(context):\n"
        "    context.files.write_artifact('raw.bin', b'\\x00')\n"
        "    context.files.write_artifact('same.txt', 'an artifact')\n"
        "    context.files.write_tmp('same.txt', 'a scratch file')\n",
    )
    ok(workspace, "run", "first")
    names = [line.split()[-1] for line in ok(workspace, "show", "first").splitlines()]
    for name in (
        "research-output.json",
        "raw.bin",
        "analysis-prompt-0.json",
        "research/letter.json",
    ):
        assert name in names
    own = [line.split()[-1] for line in ok(workspace, "show", "first", "research").splitlines()]
    assert own
    assert not [name for name in own if name.startswith("analysis")]
    prompt = json.loads(ok(workspace, "show", "first", "analysis-prompt-0.json"))
    assert prompt == provider.requests[1].messages
    assert ok(workspace, "show", "first", "raw.bin") == "\0"
    letter = json.loads(ok(workspace, "show", "first", "research/letter.json"))
    assert letter == workspace.letter("first", "research")
    assert ok(workspace, "show", "first", "artifacts/same.txt") == "an artifact"
    assert ok(workspace, "show", "first", "tmp/same.txt") == "a scratch file"
    assert "artifacts/same.txt, tmp/same.txt" in error(workspace, "show", "first", "same.txt")
    listed = data(workspace, "show", "first")
    for each in listed:
        assert (workspace.root / each["path"]).is_file()
    body = data(workspace, "show", "first", "research-output.json")
    assert body["kind"] == "artifacts"
    assert json.loads(body["text"]) == workspace.artifact("first", "research")
    assert data(workspace, "show", "first", "raw.bin")["text"] == "\0"
    assert "did you mean" in error(workspace, "show", "first", "research-ouput.json")
    assert len(provider.requests) == 2


def test_show_of_a_job_without_files_says_so(workspace: Workspace) -> None:
    """A new job has nothing to show yet; the error says what makes it."""
    assert "doit run job=first" in error(workspace, "show", "first")


def test_prompt_renders_without_a_call(workspace: Workspace, provider: Provider) -> None:
    """What the task would send now, also of a job never built; what is missing is named."""
    workspace.task("research", system="Be {{ seed.data.tone }}.")
    out = ok(workspace, "prompt", "first", "research")
    assert out == "--- system\nBe plain.\n\n--- user\nResearch: grid batteries.\n"
    assert "doit run first:research" in error(workspace, "prompt", "first", "analysis")
    assert provider.requests == []
    assert workspace.states("first") == []
    ok(workspace, "run", "first")
    for number, task in enumerate(("research", "analysis")):
        assert data(workspace, "prompt", "first", task) == provider.requests[number].messages
    edit = "Now: {{ artifacts.research.content }}"
    workspace.task("analysis", prompt=edit)
    assert "Now: " in ok(workspace, "prompt", "first", "analysis")
    assert "did you mean" in error(workspace, "prompt", "first", "analyis")
    workspace.task("analysis", prompt="{{ nothing_of_this_name }}")
    assert "nothing_of_this_name" in error(workspace, "prompt", "first", "analysis")
    assert len(provider.requests) == 2


@pytest.mark.parametrize("function", ["prompt_templating", "pre_processing", "inference"])
def test_prompt_refuses_what_code_decides(
    function: str, workspace: Workspace, provider: Provider
) -> None:
    """Messages, variables or calls of a stages.py: a rendered prompt.md would be a lie."""
    workspace.task(
        "research",
        prompt="Say {{ variables.word | default('nothing') }}.",
        stages=f"def {function}(context):\n    raise SystemExit\n",
    )
    said = error(workspace, "prompt", "first", "research")
    assert function in said
    assert "popbuild show" in said
    assert provider.requests == []


# --- export ---


def test_export_copies_the_final_artifact(workspace: Workspace, provider: Provider) -> None:
    """To a file or into a folder, byte for byte, over what was there; another one by name."""
    ok(workspace, "run", "first")
    artifacts = workspace.job("first") / "files/artifacts"
    final = (artifacts / "analysis-output.json").read_bytes()
    out = workspace.root / "out"
    out.mkdir()
    (out / "result.json").write_text("old")
    assert ok(workspace, "export", "first", "out/result.json") == "out/result.json\n"
    assert (out / "result.json").read_bytes() == final
    body = data(workspace, "export", "first", "out")
    assert body == {"job": "first", "path": "out/analysis-output.json"}
    assert (out / "analysis-output.json").read_bytes() == final
    ok(workspace, "export", "first", "out/r.json", "--artifact", "research-output.json")
    assert (out / "r.json").read_bytes() == (artifacts / "research-output.json").read_bytes()
    assert sorted(path.name for path in out.iterdir()) == [
        "analysis-output.json",
        "r.json",
        "result.json",
    ]
    assert "known" in error(workspace, "export", "first", "out", "--artifact", "x.json")
    assert "no such folder" in error(workspace, "export", "first", "nowhere/x.json")
    assert len(provider.requests) == 2


def test_export_refuses_what_is_not_up_to_date(workspace: Workspace, provider: Provider) -> None:
    """A new, a failed, a stale and an edited job: nothing is written."""
    assert "not complete" in error(workspace, "export", "first", "x.json")
    provider.script([fail(400)])
    ok(workspace, "run", "first", code=2)
    assert "not complete" in error(workspace, "export", "first", "x.json")
    ok(workspace, "run", "first")
    edit_prompt(workspace)
    assert "not up to date" in error(workspace, "export", "first", "x.json")
    ok(workspace, "accept", "first")
    path = workspace.job("first") / "files/artifacts/analysis-output.json"
    path.write_text('{"content": "mine"}')
    assert "not up to date" in error(workspace, "export", "first", "x.json")
    assert not (workspace.root / "x.json").exists()
    ok(workspace, "run", "first")
    ok(workspace, "export", "first", "x.json")
    assert workspace.read("x.json") == {"content": "mine"}


# --- accept ---


def test_accept_makes_a_cosmetic_edit_free(workspace: Workspace, provider: Provider) -> None:
    """After it nothing is stale, nothing is called, and the files are as they were."""
    ok(workspace, "run", "first")
    edit_prompt(workspace)
    assert data(workspace, "status", "first")[0]["upToDate"] is False
    artifacts = workspace.tree("pipeline-data/complete/first/files")
    runs = workspace.runs()
    assert ok(workspace, "accept", "first") == "accepted first:research\n"
    assert workspace.tree("pipeline-data/complete/first/files") == artifacts
    (body,) = data(workspace, "status", "first")
    assert body["upToDate"] is True
    assert "up to date" in ok(workspace, "run", "first")
    assert "first was up to date" in ok(workspace, "accept", "first")
    assert workspace.runs() == runs
    assert "all valid" in ok(workspace, "validate")
    assert len(provider.requests) == 2


def test_accept_of_some_tasks_leaves_the_others_stale(
    workspace: Workspace, provider: Provider
) -> None:
    """Named tasks only; the rest is built by the next run."""
    ok(workspace, "run", "first")
    edit_prompt(workspace, "research")
    edit_prompt(workspace, "analysis")
    assert data(workspace, "accept", "first", "research") == {
        "job": "first",
        "accepted": ["research"],
    }
    (body,) = data(workspace, "status", "first")
    assert [each["stale"] for each in body["tasks"].values()] == [False, True]
    assert "did you mean" in error(workspace, "accept", "first", "analyis")
    ok(workspace, "run", "first")
    assert workspace.runs()[1]["built"] == ["analysis"]
    assert workspace.states("first") == ["complete"]


def test_accept_takes_an_edited_artifact_that_passes(
    workspace: Workspace, provider: Provider
) -> None:
    """It is recorded as edited; one that fails its gate is refused with the problems."""
    workspace.task("analysis", schema=SCHEMA)
    provider.script(["Research.", '{"n": 1}'])
    ok(workspace, "run", "first")
    path = workspace.job("first") / "files/artifacts/analysis-output.json"
    for wrong, found in (('{"n": "x"}', "/n: must be an integer"), ("{", "not valid JSON")):
        path.write_text(wrong)
        assert found in error(workspace, "accept", "first", code=1)
    path.write_text('{"n": 2}')
    assert ok(workspace, "accept", "first") == "accepted first:analysis\n"
    assert workspace.letter("first", "analysis")["edited"] is True
    output = workspace.read("pipeline-data/complete/first/tasks/analysis/output.json")
    assert json.loads(output["analysis"]["content"]) == {"n": 2}
    assert "up to date" in ok(workspace, "run", "first")
    assert "all valid" in ok(workspace, "validate")
    assert len(provider.requests) == 2


def test_accept_refuses_what_was_never_built(workspace: Workspace) -> None:
    """There is nothing to go by, and it says so."""
    assert "no files yet" in error(workspace, "accept", "first")


# --- validate ---


def test_validate_finds_good_jobs_good(workspace: Workspace, provider: Provider) -> None:
    """Complete, failed, rejected, stopped and pending ones; it changes nothing."""
    for job in ("failed", "rejected", "stopped"):
        workspace.seed(job, {"topic": job, "tone": "plain"})
    workspace.task("analysis", schema=SCHEMA)
    provider.script(["Research.", '{"n": 1}'])
    ok(workspace, "run", "first")
    provider.script(["Failed research.", fail(400)])
    ok(workspace, "run", "failed", code=2)
    provider.script(["Rejected research.", "no", "no", "no"])
    ok(workspace, "run", "rejected", code=1)
    ok(workspace, "run", "stopped:research")
    seed = str(workspace.write("seeds/first.json", workspace.read("seeds/first.json")))
    ok(workspace, "submit", seed, "--id", "pending")
    before = workspace.tree("pipeline-data")
    body = data(workspace, "validate")
    assert body["problems"] == []
    assert body["checked"] > 30
    assert workspace.tree("pipeline-data") == before
    assert ok(workspace, "validate", "seeds/first.json").startswith("1 files checked")


JOB = "pipeline-data/complete/first"


def _edit(path: str, change: Any) -> Any:
    def damage(workspace: Workspace) -> None:
        body = workspace.read(path)
        change(body)
        workspace.write(path, body)

    return damage


DAMAGES: dict[str, tuple[Any, str]] = {
    "seed": (_edit(f"{JOB}/seed.json", lambda b: b.pop("data")), f"{JOB}/seed.json"),
    "status": (
        _edit(f"{JOB}/tasks-status.json", lambda b: b["tasks"]["research"].update(state="odd")),
        f"{JOB}/tasks-status.json",
    ),
    "status gone": (
        lambda one: (one.root / f"{JOB}/tasks-status.json").unlink(),
        f"{JOB}/tasks-status.json",
    ),
    "altered letter": (
        _edit(f"{JOB}/tasks/research/letter.json", lambda b: b.update(refinementAttempts=1)),
        f"{JOB}/tasks/research/letter.json",
    ),
    "torn letter": (
        lambda one: one.write(f"{JOB}/tasks/research/letter.json", '{"formatVersion": 1'),
        f"{JOB}/tasks/research/letter.json",
    ),
    "output": (
        _edit(f"{JOB}/tasks/research/output.json", lambda b: b.update(more=1)),
        f"{JOB}/tasks/research/output.json",
    ),
    "log": (
        lambda one: one.write(f"{JOB}/tasks/research/execution-logs.json", {}),
        f"{JOB}/tasks/research/execution-logs.json",
    ),
    "artifact gone": (
        lambda one: (one.root / f"{JOB}/files/artifacts/research-output.json").unlink(),
        "research-output.json is missing",
    ),
    "artifact not JSON": (
        lambda one: one.write(f"{JOB}/files/artifacts/analysis-output.json", "{"),
        f"{JOB}/files/artifacts/analysis-output.json",
    ),
    "artifact against its schema": (
        lambda one: one.write(f"{JOB}/files/artifacts/analysis-output.json", {"n": "x"}),
        f"{JOB}/files/artifacts/analysis-output.json: /n: must be an integer",
    ),
    "file without an owner": (
        lambda one: one.write(f"{JOB}/files/artifacts/stray.txt", "x"),
        "stray.txt",
    ),
    "runs": (
        lambda one: one.write("pipeline-data/complete/runs.jsonl", '{"name": 1}\n{"na'),
        "pipeline-data/complete/runs.jsonl: line 2",
    ),
    "configuration": (
        lambda one: one.write("pipeline-config/tasks/research/task.yaml", "need: []\n"),
        "pipeline-config/tasks/research/task.yaml",
    ),
    "template": (
        lambda one: one.task("research", prompt="{% if %}"),
        "pipeline-config/tasks/research/prompt.md",
    ),
    "code": (
        lambda one: one.task("research", stages="def x(:\n"),
        "pipeline-config/tasks/research/stages.py",
    ),
    "schema": (
        lambda one: one.task("research", schema={"type": "objekt"}),
        "pipeline-config/tasks/research/output.schema.json",
    ),
    "a seed of a pipeline that is not there": (
        lambda one: one.write("seeds/x.json", {"name": "x", "data": {}, "pipeline": "none"}),
        "seeds/x.json: /pipeline",
    ),
    "a seed's name": (
        lambda one: one.write("seeds/a b.json", {"name": "x", "data": {}}),
        "seeds/a b.json",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_validate_names_what_is_damaged(
    damage: str, workspace: Workspace, provider: Provider
) -> None:
    """The file and the place; exit code 1; nothing is changed or called."""
    workspace.task("analysis", schema=SCHEMA)
    provider.script(["Research.", '{"n": 1}'])
    ok(workspace, "run", "first")
    do, found = DAMAGES[damage]
    do(workspace)
    before = workspace.tree("pipeline-data")
    assert found in ok(workspace, "validate", code=1)
    body = data(workspace, "validate", code=1)
    assert body["problems"]
    for each in body["problems"]:
        assert {"file", "message", "pointer"} <= each.keys()
    assert workspace.tree("pipeline-data") == before
    assert len(provider.requests) == 2


def test_validate_prints_every_problem(workspace: Workspace) -> None:
    """Not the first only: of several files, and several of one file."""
    workspace.write("seeds/one.json", {"name": "", "data": 3})
    workspace.write("seeds/two.json", "{")
    workspace.write(
        "pipeline-config/tasks/research/task.yaml", "needs: 3\ntimeout: -1\nanswr: json\n"
    )
    workspace.task("analysis", prompt="{% if %}")
    out = ok(workspace, "validate", code=1)
    for found in ("one.json: /name", "one.json: /data", "two.json", "timeout", "answr", "needs"):
        assert found in out
    assert "analysis/prompt.md" in out


def test_validate_takes_paths(workspace: Workspace, tmp_path: Path) -> None:
    """Only what was named is checked: a file, a folder, a seed from anywhere; never nothing."""
    workspace.write("seeds/bad.json", "{")
    assert "all valid" in ok(workspace, "validate", "pipeline-config")
    assert "bad.json" in ok(workspace, "validate", "seeds", code=1)
    ok(workspace, "validate", "seeds/first.json")
    ok(workspace, "validate", "first.json", cwd="seeds")
    loose = workspace.write("draft.json", {"name": "x"})
    assert "draft.json" in ok(workspace, "validate", str(loose), code=1)
    outside = tmp_path / "outside.json"
    outside.write_text('{"name": "x", "data": {}}')
    assert "1 files checked: all valid" in ok(workspace, "validate", str(outside))
    assert "no such file" in error(workspace, "validate", "nothing.json")


# --- run and JSON ---


def test_run_names_jobs_globs_and_tasks(workspace: Workspace, provider: Provider) -> None:
    """A glob, a list, a task to build up to; everything without a name."""
    for job in ("second", "other"):
        workspace.seed(job, {"topic": job, "tone": "plain"})
    ok(workspace, "run", "sec*")
    assert workspace.states("second") == ["complete"]
    ok(workspace, "run", "first:research")
    assert workspace.states("first") == ["current"]
    assert len(provider.requests) == 3
    ok(workspace, "run", "job=first,second")
    assert workspace.states("first") == ["complete"]
    assert workspace.states("other") == []
    ok(workspace, "run")
    assert len(provider.requests) == 6
    assert "did you mean" in error(workspace, "run", "frist")
    assert "did you mean" in error(workspace, "run", "first:reserch")
    ok(workspace, "run")
    assert len(provider.requests) == 6


def test_no_key_is_needed_to_look(workspace: Workspace) -> None:
    """Every command that builds nothing works without a key, and imports no model's client."""
    workspace.provider = None
    for args in (["list"], ["status", "first"], ["validate"], ["prompt", "first", "research"]):
        ok(workspace, *args)


TERMINAL = """
import os, pty, sys
sys.exit(os.waitstatus_to_exitcode(pty.spawn(["popbuild", "run", "first"])))
"""


def test_progress_is_painted_on_a_terminal_only(workspace: Workspace, provider: Provider) -> None:
    """There, the running task with its stage, tokens and cost; elsewhere plain lines."""
    provider.hold()
    running = workspace.start("python", "-c", TERMINAL, env={"TERM": "xterm"})
    running.wait_for("first:research  inference")
    provider.release()
    result = running.wait()
    assert result.code == 0, result.out + result.err
    assert "\x1b[" in result.out
    assert "0 tokens, $0" in result.out
    assert "first: complete" in result.out
    assert "\x1b" not in ok(workspace, "run", "first", "-a", env={"TERM": "xterm"})
    assert len(provider.requests) == 2


JSON_COMMANDS = [
    ["list"],
    ["list", "--tasks"],
    ["status"],
    ["status", "first"],
    ["show", "first"],
    ["show", "first", "research"],
    ["show", "first", "research-output.json"],
    ["prompt", "first", "research"],
    ["export", "first", "out.json"],
    ["accept", "first"],
    ["validate"],
    ["run"],
    ["run", "first:research"],
    ["submit", "seeds/first.json"],
    ["init", "elsewhere"],
]


@pytest.mark.parametrize("args", JSON_COMMANDS, ids=" ".join)
def test_json_is_all_that_stands_on_stdout(
    args: list[str], workspace: Workspace, provider: Provider
) -> None:
    """With --json in any place, standard output is one JSON document."""
    ok(workspace, "run", "first")
    json.loads(ok(workspace, *args[:1], "--json", *args[1:]))
    if args[0] not in ("submit", "init"):
        json.loads(ok(workspace, *args, "--json"))
    assert len(provider.requests) == 2


def test_json_of_a_retry(workspace: Workspace, provider: Provider) -> None:
    """The results of the build, as `run --json` prints them."""
    workspace.task("analysis", schema=SCHEMA)
    provider.script(["Research.", "no", "no", "no"])
    ok(workspace, "run", "first", code=1)
    provider.script(['{"n": 1}'])
    (body,) = data(workspace, "retry", "first")
    assert (body["id"], body["outcome"]) == ("first", "complete")


def test_json_of_an_error_is_json(workspace: Workspace) -> None:
    """Message, labelled values and hint, on standard output; nothing on standard error."""
    result = workspace.popbuild("status", "frist", "--json")
    assert result.code == 3
    assert result.err == ""
    body = json.loads(result.out)
    assert body["error"] == "no such job"
    assert body["values"]["did you mean"] == "first"
    assert "seeds/<id>.json" in body["hint"]


# --- what is small, or nothing at all ---


@pytest.mark.parametrize(
    ("cost", "shown"),
    [
        (None, "unknown cost"),
        (0, "$0"),
        (0.0000004, "<$0.000001"),
        (0.000001, "$0.000001"),
        (0.0123, "$0.0123"),
        (1.5, "$1.50"),
    ],
)
def test_a_cost_as_a_person_reads_it(cost: float | None, shown: str) -> None:
    """What is too small to be shown is not shown as nothing."""
    assert money(cost) == shown


@pytest.mark.parametrize("tool", ["popbuild", "doit"])
@pytest.mark.parametrize("command", ["list", "status", "run"])
def test_an_empty_root(workspace: Workspace, tool: str, command: str) -> None:
    """A root without a job says what to do; as JSON there is an empty list."""
    (workspace.root / "seeds/first.json").unlink()
    if tool == "doit" and command == "status":
        command = "list"
    result = workspace.run(tool, command)
    assert (result.code, result.out) == (0, "")
    assert result.err == "no jobs: put a seed into seeds/, or popbuild submit one\n"
    if tool == "popbuild":
        assert data(workspace, command) == []


@pytest.mark.parametrize("place", ["folder", "link"])
@pytest.mark.parametrize("file", ["pipeline-data/complete/runs.jsonl", ".popbuild/runs.jsonl"])
def test_something_else_in_the_place_of_runs_jsonl(
    file: str, place: str, workspace: Workspace, provider: Provider
) -> None:
    """It is no job; nothing is built that could not be promoted, and what says so names it."""
    path = workspace.root / file
    path.parent.mkdir(parents=True)
    path.mkdir() if place == "folder" else path.symlink_to(workspace.root / "seeds/first.json")
    assert ok(workspace, "list").split()[0] == "first"
    assert "runs.jsonl" not in ok(workspace, "list")
    if file.startswith("pipeline-data"):
        assert f"{file}: not a regular file" in ok(workspace, "validate", code=1)
    for tool in ("popbuild", "doit"):
        failed = workspace.run(tool, "run")
        assert failed.code == 3
        assert file in failed.err
    assert (provider.requests, workspace.states("first")) == ([], [])
    path.rmdir() if place == "folder" else path.unlink()
    ok(workspace, "run", "first")
    ok(workspace, "run", "first")
    assert len(provider.requests) == 2


@pytest.mark.parametrize("command", [("run",), ("list",), ("status", "first"), ("plan",)])
def test_nothing_to_do_imports_nothing_heavy(
    workspace: Workspace, command: tuple[str, ...]
) -> None:
    """No model client, no templates, no schemas, no YAML, no event loop."""
    ok(workspace, "run")
    env = {"PYTHONPROFILEIMPORTTIME": "1"}
    err = workspace.popbuild(*command, env=env, real=True).err
    imported = {line.rpartition("|")[2].strip() for line in err.splitlines() if "|" in line}
    assert "popbuild.jobs.lookup" in imported
    heavy = {"litellm", "jsonschema", "yaml", "asyncio", "tiktoken"}
    if command != ("plan",):
        heavy |= {"jinja2", "popbuild.query.plan"}
    assert imported & heavy == set()


# A job is moved, as a promotion does, while `status` reads it.
MOVED = """
import sys
from popbuild.cli.main import main
from popbuild.jobs import originals

unowned = originals.unowned

def moved(folder, *more):
    originals.unowned = unowned
    folder.path.rename(folder.path.parent.parent / "current" / folder.path.name)
    return unowned(folder, *more)

originals.unowned = moved
sys.exit(main(["status", "first", "--json"]))
"""


def test_a_job_that_is_moved_while_it_is_read_is_read_again(workspace: Workspace) -> None:
    """Where it stands then, whole; it is no error of the disk."""
    assert workspace.popbuild("run", "first").code == 0
    result = workspace.run("python", "-c", MOVED)
    assert result.code == 0, result.out + result.err
    (job,) = json.loads(result.out)
    assert job["path"] == "pipeline-data/current/first"
    assert set(job["tasks"]) == {"research", "analysis"}
