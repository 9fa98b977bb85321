"""`popbuild variant list | diff | drop | promote`."""

from __future__ import annotations

import json

import pytest
from four_tasks import CHEAP, digests, four_tasks, letter, run
from provider import Provider, fail
from workspace import Workspace


@pytest.fixture
def four(workspace: Workspace) -> Workspace:
    return four_tasks(workspace)


def states(workspace: Workspace, *words: str) -> list[str]:
    return run(workspace, "list", *words).split()


COMPLETE = ["first", "complete", "second", "complete"]


def test_promoted_without_a_call(four: Workspace, provider: Provider) -> None:
    """Its files and its results are the main ones, each with a run's line; all is up to date, and
    verify has nothing against it. The second time nothing is left to do."""
    run(four, "run", "--variant", "base,cheap")
    assert len(provider.requests) == 10
    before = digests(four.root / "pipeline-data")
    shown = run(four, "variant", "promote", "cheap")
    assert "+Shorter: {{ artifacts.synthesis }}" in shown
    assert "2 results to take over" in shown
    assert digests(four.root / "pipeline-data") == before
    for said in ("2 results taken over", "0 results taken over, 2 there already"):
        assert said in run(four, "variant", "promote", "cheap", "--yes")
        assert states(four) == COMPLETE
        assert states(four, "--variant", "cheap") == COMPLETE
        assert len(four.runs()) == 4
    for job in ("first", "second"):
        mine = four.letter(job, "formatting")
        assert mine["digest"] == letter(four, "cheap", "formatting", job)["digest"]
    run(four, "verify")
    assert run(four, "run").count("up to date") == 2
    assert "formatting" in run(four, "diff", "first")  # the result before is kept
    assert len(provider.requests) == 10


SETTINGS = {
    "model": "model: openai/gpt-4.1-nano\n",
    "of one task": "taskConfig: {research: {temperature: 0.5}}\n",
    "vars": "vars: {tone: warm}\n",
    "all": "model: openai/gpt-4.1-nano\nvars: {tone: warm}\n"
    "taskConfig: {formatting: {temperature: 0.5}}\n",
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_settings_are_written_into_the_pipeline(
    four: Workspace, provider: Provider, settings: str
) -> None:
    four.write(f"{CHEAP}/variant.yaml", settings)
    run(four, "run", "first", "--variant", "cheap")
    bought = len(provider.requests)
    run(four, "variant", "promote", "cheap", "--yes")
    assert states(four, "first") == ["first", "complete"]
    assert "up to date" in run(four, "run", "first")
    assert run(four, "variant", "diff", "cheap").count("\n") < 12
    assert len(provider.requests) == bought


def test_what_set_made_is_promoted(four: Workspace, provider: Provider) -> None:
    """Settings alone, on top of a variant's files; and the draws that it was at."""
    words = ["--variant", "cheap", "--set", "formatting.temperature=0.25"]
    run(four, "run", "first", *words)
    run(four, "run", "first", "fresh=formatting", *words)
    (made,) = (four.root / "pipeline-data/variants").glob("set-*")
    run(four, "variant", "promote", made.name, "--yes")
    assert json.loads((four.root / "samples/first.json").read_bytes()) == {"formatting": 1}
    assert "up to date" in run(four, "run", "first")
    assert four.letter("first", "formatting")["configuration"]["temperature"] == 0.25
    assert len(provider.requests) == 5
    run(four, "verify")


def test_what_is_left(four: Workspace, provider: Provider) -> None:
    """A result that is not up to date, one whose main job is unfinished, and one that was
    submitted to the variant alone."""
    run(four, "run", "--variant", "cheap")
    four.seed("second", {"topic": "another"})
    provider.script([fail(400)])
    run(four, "run", "first", code=2)
    assert (four.root / "pipeline-data/current/first").is_dir()
    four.write("alone.json", {"name": "alone", "data": {"topic": "x"}})
    run(four, "submit", "alone.json", "--id", "alone", "--variant", "cheap")
    run(four, "run", "alone", "--variant", "cheap")
    bought = len(provider.requests)
    said = run(four, "variant", "promote", "cheap", "--yes")
    assert "1 result taken over" in said
    assert "left: second: complete, stale: research" in said
    assert "submitted to the variant alone" in said
    assert states(four, "first") == ["first", "complete"]
    assert not (four.root / "pipeline-data/current/first").exists()
    assert len(provider.requests) == bought


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["promote", "base"], "no files or settings of its own"),
        (["promote", "chaep"], "cheap"),
        (["promote", "cheap@1"], "no files or settings of its own"),
        (["diff", "chaep"], "cheap"),
        (["drop"], "needs a name"),
        (["drop", "base"], "no variant's"),
        (["drop", "chaep"], "cheap"),
        (["drop", "cheap", "--older-than", "x"], "age"),
    ],
)
def test_bad_words(four: Workspace, words: list[str], said: str) -> None:
    run(four, "run", "first", "--variant", "cheap")
    assert said in run(four, "variant", *words, code=3)
    assert (four.root / "pipeline-data/variants/cheap/complete/first").is_dir()


def test_settings_for_a_pipeline_in_yaml(four: Workspace, provider: Provider) -> None:
    """They cannot be written there without its comments; nothing is changed, and the error says
    what to write."""
    document = json.loads((four.root / "pipeline-config/pipeline.json").read_bytes())
    (four.root / "pipeline-config/pipeline.json").unlink()
    four.write("pipeline-config/pipeline.yaml", json.dumps(document))
    four.write(f"{CHEAP}/variant.yaml", "vars: {tone: warm}\n")
    run(four, "run", "first", "--variant", "cheap")
    before = digests(four.root / "pipeline-config")
    said = run(four, "variant", "promote", "cheap", "--yes", code=3)
    assert '{"vars":{"tone":"warm"}}' in said
    assert digests(four.root / "pipeline-config") == before


def test_listed_and_dropped(four: Workspace, provider: Provider) -> None:
    """Those with files, those that were made, draws, and one whose files are gone."""
    run(four, "run", "--variant", "base,cheap")
    run(four, "run", "first", "--samples", "2")
    run(four, "run", "first", "--variant", "cheap", "--set", "vars.tone=warm")
    four.write("pipeline-config/variants/gone/variant.yaml", "vars: {tone: cool}\n")
    run(four, "run", "first", "--variant", "gone")
    (four.root / "pipeline-config/variants/gone").rename(four.root / "gone")
    (made,) = (four.root / "pipeline-data/variants").glob("set-*")
    bought = len(provider.requests)
    assert run(four, "variant", "list").splitlines() == [
        "base          2 complete",
        "base@1        1 complete",
        "cheap         1 file; 2 complete",
        "gone          a variant has results, and its files are gone; 1 complete",
        f"{made.name}  cheap with vars.tone=warm; 1 complete",
    ]
    assert "vars.tone=warm" in run(four, "variant", "diff", made.name, "cheap")
    assert "would drop gone: 1 job" in run(four, "variant", "drop", "gone")
    run(four, "variant", "drop", "gone", "base@*", "--yes")
    run(four, "variant", "drop", "--unnamed", "--older-than", "1d", "--yes")
    assert made.is_dir()
    run(four, "variant", "drop", "--unnamed", "--yes")
    listed = json.loads(four.popbuild("variant", "list", "--json").out)
    assert [each["name"] for each in listed] == ["base", "cheap"]
    for top in ("pipeline-data", ".popbuild"):
        kept = (four.root / top / "variants").iterdir()
        assert [each.name for each in kept] == ["cheap"]
    run(four, "run", "first", "--variant", "cheap", "--set", "vars.tone=warm")
    assert states(four) == COMPLETE
    assert len(provider.requests) == bought


def test_a_variant_that_is_built_is_not_dropped(four: Workspace, provider: Provider) -> None:
    provider.hold()
    running = four.start("popbuild", "run", "first", "--variant", "cheap")
    provider.wait_for(1)
    said = run(four, "variant", "drop", "cheap", "--yes", code=5)
    assert "another command builds a job of the variant" in said
    provider.release()
    assert running.wait().code == 0
    assert (four.root / "pipeline-data/variants/cheap/complete/first").is_dir()


def test_killed_while_it_promotes(four: Workspace, provider: Provider) -> None:
    """Before a job is promoted, and after: the next command goes on, without a call."""
    run(four, "run", "--variant", "base,cheap")
    for number, at in enumerate(("run_log.add", "tree.copy_folder", "open_job.open_job")):
        four.write(
            f"{CHEAP}/tasks/formatting/prompt.md", f"{number}: {{{{ artifacts.synthesis }}}}"
        )
        run(four, "run", "--variant", "cheap")
        bought = len(provider.requests)
        room, name = at.split(".")
        code = (
            "import os, popbuild.cli.main as m\n"
            f"from popbuild.{'base' if room == 'tree' else 'jobs'} import {room}\n"
            f"plain = {at}\n"
            "def die(*a, **k):\n    plain(*a, **k)\n    os._exit(9)\n"
            f"{room}.{name} = die\n"
            "m.main(['variant', 'promote', 'cheap', '--yes'])\n"
        )
        assert four.run("python", "-c", code).code == 9
        if number == 1:
            assert "complete" in run(four, "run", "first", "second")
        run(four, "variant", "promote", "cheap", "--yes")
        assert states(four) == COMPLETE
        run(four, "verify")
        assert len(provider.requests) == bought


def test_a_command_below_another_is_found(four: Workspace) -> None:
    assert "popbuild variant promote" in run(four, "promote", "cheap", code=3)
