"""Variants: other settings and files for the same seeds, whose jobs stand apart."""

from __future__ import annotations

import json

import pytest
from four_tasks import CHEAP, TASKS, digests, four_tasks, letter, run
from provider import Provider
from workspace import MODEL, Workspace


@pytest.fixture
def four(workspace: Workspace) -> Workspace:
    return four_tasks(workspace)


def test_a_variant_pays_for_what_differs(four: Workspace, provider: Provider) -> None:
    """A quarter of the calls, once; the main jobs are as they were, and up to date."""
    run(four, "run")
    assert len(provider.requests) == 8
    before = digests(four.root / "pipeline-data")
    assert "1 stored" in run(four, "plan", "--variant", "cheap")
    for _ in range(2):
        run(four, "run", "--variant", "cheap")
        assert len(provider.requests) == 10
    assert all(each.said("user").startswith("Shorter") for each in provider.requests[8:])
    assert digests(four.root / "pipeline-data") == before
    main = four.letter("first", "formatting")["fingerprint"]
    own = letter(four, "cheap", "formatting")["fingerprint"]
    name = "file:tasks/formatting/prompt.md"
    assert own.keys() - main.keys() == {"artifact:synthesis:"}
    assert own[name] != main[name]
    for words in (["list"], ["list", "--variant", "cheap"], ["list", "--variant", "base"]):
        assert run(four, *words).split() == ["first", "complete", "second", "complete"]
    assert "up to date" in run(four, "run")
    assert len(provider.requests) == 10


def test_the_commands_know_a_variant(four: Workspace, provider: Provider) -> None:
    run(four, "run")
    run(four, "run", "--variant", "cheap")
    shown = ["show", "first", "formatting-output.json"]
    assert run(four, *shown, "--variant", "cheap") != run(four, *shown)
    for words in (
        ["status", "first"],
        ["explain", "first"],
        ["verify"],
        ["validate"],
        ["check"],
        ["trace", "first/formatting"],
        ["export", "first", "out.json"],
        ["report", "first", "-o", "report.html"],
    ):
        run(four, *words, "--variant", "cheap")
    assert json.loads((four.root / "out.json").read_bytes()) == json.loads(
        run(four, *shown, "--variant", "cheap")
    )
    doit = four.run("doit", "run", "job=first", env={"POPBUILD_VARIANT": "cheap"})
    assert doit.code == 0
    assert "and 1 variant: all valid" in run(four, "validate")
    four.write(".env", "POPBUILD_VARIANT=cheap\n")
    assert run(four, *shown) == run(four, *shown, "--variant", "cheap")
    (four.root / ".env").unlink()
    listed = four.run("doit", "list", "--variant", "cheap")
    assert listed.code == 0
    assert "complete" in listed.out
    assert len(provider.requests) == 10


def test_the_order_of_settings(four: Workspace) -> None:
    """defaults, task.yaml, taskConfig, the variant's model and vars, its taskConfig, --set."""
    four.write(
        f"{CHEAP}/variant.yaml",
        "model: openai/gpt-4.1-nano\nvars: {tone: warm}\n"
        "taskConfig: {research: {temperature: 0.5, maxTokens: 30}}\n",
    )
    run(four, "run", "first", "--variant", "cheap")
    settings = {"model": "openai/gpt-4.1-nano", "temperature": 0.5, "maxTokens": 30}
    assert letter(four, "cheap", "research")["configuration"] == settings
    assert letter(four, "cheap", "analysis")["configuration"] == {"model": "openai/gpt-4.1-nano"}
    assert letter(four, "cheap", "research")["vars"] == {"/tone": "warm"}
    changes = ("--set", "research.temperature=0.25", "--set", "vars.tone=cool")
    run(four, "run", "first", "--variant", "cheap", *changes)
    run(four, "run", "first", "--variant", "cheap", *changes[2:], *changes[:2])
    made = [each.name for each in (four.root / "pipeline-data/variants").glob("set-*")]
    assert len(made) == 1
    found = letter(four, made[0], "research")
    assert found["configuration"] == {**settings, "temperature": 0.25}
    assert found["vars"] == {"/tone": "cool"}
    assert "complete" in run(four, "list", "--variant", made[0])
    doit = four.run("doit", "run", "job=first", "--set", "model=openai/gpt-4.1-mini")
    assert doit.code == 0, doit.err
    other = ({each.name for each in (four.root / "pipeline-data/variants").glob("set-*")}) - {*made}
    assert letter(four, other.pop(), "research")["configuration"] == {
        "model": "openai/gpt-4.1-mini"
    }


def test_what_is_kept_by_the_id_is_kept_apart(four: Workspace, provider: Provider) -> None:
    """Draws, frozen tasks, the log of runs, results before, promotions."""
    run(four, "run", "first")
    run(four, "run", "first", "--variant", "cheap")
    run(four, "freeze", "first", "research", "--variant", "cheap")
    assert (four.root / ".popbuild/variants/cheap/frozen/first.json").exists()
    assert not (four.root / ".popbuild/frozen").exists()
    run(four, "run", "first", "fresh=formatting", "--variant", "cheap")
    assert json.loads((four.root / "samples/variants/cheap/first.json").read_bytes()) == {
        "formatting": 1
    }
    assert not (four.root / "samples/first.json").exists()
    assert (four.root / ".popbuild/variants/cheap/previous/first").is_dir()
    runs = four.root / "pipeline-data/variants/cheap/complete/runs.jsonl"
    assert len(runs.read_text().splitlines()) == 2
    assert len(four.runs()) == 1
    assert len(provider.requests) == 6
    four.write(f"{CHEAP}/tasks/formatting/prompt.md", "Longer: {{ artifacts.synthesis }}")
    assert "stale: formatting" in run(four, "list", "first", "--variant", "cheap")
    assert run(four, "list", "first").split() == ["first", "complete"]
    run(four, "verify", "--variant", "cheap")


def test_new_tasks_and_files(four: Workspace, provider: Provider) -> None:
    """A variant may have a task of its own, and a template that its prompt includes."""
    four.write(f"{CHEAP}/tasks/check/prompt.md", "{% include 'shared/how.md' %}")
    four.write(f"{CHEAP}/shared/how.md", "Check it.")
    registry = {name: f"./{name}" for name in (*TASKS, "check")}
    four.write(f"{CHEAP}/tasks/index.yaml", json.dumps(registry))
    main = json.loads((four.root / "pipeline-config/pipeline.json").read_bytes())
    config = {**main["taskConfig"], "check": {"model": MODEL}}
    document = {**main, "tasks": [*TASKS, "check"], "taskConfig": config}
    four.write(f"{CHEAP}/pipeline.json", document)
    run(four, "validate", "--variant", "cheap")
    run(four, "run", "first", "--variant", "cheap")
    assert len(provider.requests) == 5
    assert "check" not in run(four, "status", "first")


@pytest.mark.parametrize(
    ("path", "content", "said"),
    [
        ("tasks/formating/prompt.md", "x", "a file of a variant replaces nothing"),
        ("tasks/formating/prompt.md", "x", "pipeline-config/tasks/formatting/prompt.md"),
        ("tasks/formatting/promt.md", "x", "a file of a variant replaces nothing"),
        ("variant.yaml", "taskConfig: {reserch: {}}", "research"),
        ("variant.yaml", "taskConfig: {research: {temperature: warm}}", "variants/cheap/variant"),
        ("variant.yaml", "taskConfig: {research: {api_key: x}}", "/taskConfig/research/api_key"),
        ("variant.yaml", "modell: x", "modell"),
        ("variant.yaml", "model: [x]", "/model"),
        ("tasks/formatting/prompt.md", "{{ vars.tne }}", "variants/cheap/tasks/formatting/prompt"),
        ("tasks/formatting/prompt.md", "{% if %}", "variants/cheap/tasks/formatting/prompt"),
        ("tasks/formatting/output.schema.json", "{", "variants/cheap/tasks/formatting/output"),
        ("tasks/formatting/task.yaml", "need: []", "variants/cheap/tasks/formatting/task.yaml"),
        ("tasks/formatting/task.yaml", "when: 1 +", "variants/cheap/tasks/formatting/task.yaml"),
        ("tasks/research/stages.py", "def parsing(:", "variants/cheap/tasks/research/stages.py"),
        ("filters.py", "def (", "variants/cheap/filters.py"),
    ],
)
def test_bad_files(four: Workspace, provider: Provider, path: str, content: str, said: str) -> None:
    """Each is one error of the variant, with its place, before a call; the main jobs go on."""
    four.write(f"{CHEAP}/{path}", content)
    for command in ("validate", "run"):
        result = four.popbuild(command, "--variant", "cheap")
        assert result.code in (1, 2, 3), result.out + result.err
        assert said in result.out + result.err
        assert "Traceback" not in result.err
    assert len(provider.requests) <= 6  # what stands above a prompt that fails
    provider.requests.clear()
    assert said in run(four, "validate", code=1)
    run(four, "validate", "--variant", "base")
    run(four, "run", "first")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--variant", "chaep"], "cheap"),
        (["--variant", "../x"], "no such variant"),
        (["--set", "research.temprature=1"], "temperature"),
        (["--set", "reserch.temperature=1"], "research"),
        (["--set", "research.temperature=warm"], "/taskConfig/research/temperature"),
        (["--set", "vars.tne=1"], "tone"),
        (["--set", "vars=1"], "TASK.SETTING=VALUE"),
        (["--set", "research.temperature"], "TASK.SETTING=VALUE"),
        (["--set", "=1"], "TASK.SETTING=VALUE"),
        (["--set", "research.api_key=sk-abc"], "api_key"),
        (["--set", "vars.tone=NaN", "--set", "vars.tne=1"], "tone"),
        (["--set", "research.temperature=" + "[" * 100_000], "/taskConfig/research/temperature"),
        (["--set", "vars" + ".a" * 1_000 + "=1"], "too deep"),
        (["--variant", "set-00000000"], "no such variant"),
    ],
)
def test_bad_words(four: Workspace, provider: Provider, words: list[str], said: str) -> None:
    result = four.popbuild("run", *words)
    assert result.code == 3, result.out + result.err
    assert said in result.err
    assert "Traceback" not in result.err
    assert provider.requests == []
    assert not (four.root / "pipeline-data/variants").exists()


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b'{"of": 1, "set": {}}', b"\xff"])
def test_what_made_a_variant_is_damaged(
    four: Workspace, provider: Provider, content: bytes | None
) -> None:
    """One error that names the file, and `--set` says it again."""
    changes = ("run", "first", "--set", "vars.tone=warm")
    run(four, *changes)
    (folder,) = (four.root / "pipeline-data/variants").iterdir()
    if content is None:
        (folder / "variant.json").unlink()
    else:
        (folder / "variant.json").write_bytes(content)
    assert f"{folder.name}/variant.json" in run(four, "list", "--variant", folder.name, code=3)
    run(four, *changes)
    assert "complete" in run(four, "list", "first", "--variant", folder.name)
    assert len(provider.requests) == 4


def test_a_file_beside_the_variants_is_none(four: Workspace) -> None:
    four.write("pipeline-config/variants/README.md", "What the variants are for.")
    run(four, "run", "first")
    assert "no such variant" in run(four, "list", "--variant", "README.md", code=3)


def test_names_of_variants(four: Workspace, provider: Provider) -> None:
    """`base` is the main one's name, and one whose files are gone has results all the same."""
    run(four, "run", "first", "--variant", "cheap")
    (four.root / CHEAP).rename(four.root / "pipeline-config/variants/base")
    assert "a variant cannot have this name" in run(four, "run", code=3)
    (four.root / "pipeline-config/variants/base").rename(four.root / "gone")
    said = run(four, "run", "--variant", "cheap", code=3)
    assert "a variant has results, and its files are gone" in said
    assert "pipeline-data/variants/cheap/" in said
    assert len(provider.requests) == 4


def test_hints_name_the_variant(four: Workspace, provider: Provider) -> None:
    """What a person is told to type is about the jobs that the command was about."""
    four.write(f"{CHEAP}/tasks/research/output.schema.json", {"not": {}})
    four.write(f"{CHEAP}/tasks/formatting/task.yaml", "gate: {message: Is it good?}\n")
    assert "popbuild retry --variant cheap first" in run(
        four, "run", "first", "--variant", "cheap", code=1
    )
    said = run(four, "show", "second", "x.json", "--variant", "cheap", code=3)
    assert "doit run --variant cheap job=second" in said
    (four.root / CHEAP / "tasks/research/output.schema.json").unlink()
    assert "popbuild approve --variant cheap first" in run(
        four, "run", "first", "--variant", "cheap", code=4
    )
    said = run(four, "export", "first", "x.json", "--variant", "cheap", code=3)
    assert "doit run --variant cheap job=first" in said
    assert "popbuild approve first" not in run(four, "approve", "first", "--variant", "cheap")
    doit = four.run("doit", "run", "second:nothing", "--variant", "cheap")
    assert doit.code == 3
    assert "doit run job=second" in run(four, "show", "second", "x.json", code=3)
