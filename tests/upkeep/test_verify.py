"""`verify`: whatever was altered in complete/ is found, and nothing else; `trace`: where an
artifact came from."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import alterations
import pytest
from provider import Provider, Reply
from workspace import Workspace

from popbuild.base import jsonio
from popbuild.base.paths import Root
from popbuild.jobs import run_log
from popbuild.model.letter import seal

STAGES = """
def pre_processing(context):
    context.files.write_artifact("table.csv", "a,b\\n1,2\\n")
    context.files.write_artifact("picture.bin", bytes(range(256)))
    context.files.write_log("work.log", "worked\\n")
    context.files.write_tmp("scratch.txt", "scratch")
"""
ALTERATIONS = 120  # each kind twice in each part


@pytest.fixture
def built(workspace: Workspace) -> Workspace:
    """Two complete jobs of two tasks, one rebuilt once, with files of every kind."""
    workspace.seed("second", {"topic": "wind", "tone": "plain"})
    workspace.task("research", stages=STAGES)
    assert workspace.popbuild("run").code == 0
    workspace.seed("first", {"topic": "heat pumps", "tone": "plain"})
    assert workspace.popbuild("run").code == 0
    return workspace


def verify(workspace: Workspace, code: int, *names: str) -> Any:
    """What `verify --json` says, once the exit code is as expected."""
    result = workspace.popbuild("verify", "--json", *names)
    assert result.code == code, result.out + result.err
    return json.loads(result.out)


def findings(found: Any) -> list[Any]:
    return [*found["findings"], *(each for job in found["jobs"] for each in job["findings"])]


def altered(found: Any) -> set[str]:
    return {each["file"] for each in findings(found) if each["altered"]}


def notes(found: Any) -> list[str]:
    return [each["what"] for each in findings(found) if not each["altered"]]


# --- nothing was altered ---


def test_what_was_built_is_proven(built: Workspace, provider: Provider) -> None:
    """Every file, letter and answer is checked; nothing is called and nothing written."""
    calls, before = len(provider.requests), built.tree()
    found = verify(built, 0)
    assert found["proven"]
    assert [job["id"] for job in found["jobs"]] == ["first", "second"]
    assert findings(found) == []
    for job in found["jobs"]:
        files = [path for path in built.job(job["id"]).rglob("*") if path.is_file()]
        assert (job["tasks"], job["answers"], job["files"]) == (2, 2, len(files) - 1)
    assert built.tree() == before
    assert len(provider.requests) == calls
    assert built.popbuild("verify", "s*").out == (
        "second: proven: 2 tasks, 18 files, 2 stored answers\n"
    )


@pytest.mark.parametrize("words", ["'verify'", "'trace', 'first/analysis'", "'diff', 'first'"])
def test_proof_and_history_import_nothing_heavy(built: Workspace, words: str) -> None:
    """Neither litellm nor doit nor a template engine is needed to prove anything."""
    program = (
        "import sys\nfrom popbuild.cli.main import main\n"
        f"assert main([{words}]) == 0\n"
        "heavy = {'litellm', 'doit', 'jinja2', 'jsonschema', 'asyncio', 'httpx'}\n"
        "sys.exit(len(heavy & set(sys.modules)))"
    )
    result = built.run("python", "-c", program, real=True)
    assert result.code == 0, result.err


def test_without_seal_and_status_the_last_run_is_the_result(built: Workspace) -> None:
    """Both are missed, and nothing more is made of it: neither says which run it was."""
    (built.job("first") / "seal.json").unlink()
    (built.job("first") / "tasks-status.json").unlink()
    said = [each["what"] for each in findings(verify(built, 1, "first"))]
    assert said
    assert not any("is not the result" in each for each in said)


def test_without_a_seal_the_status_names_the_run(built: Workspace) -> None:
    (built.job("first") / "seal.json").unlink()
    path = built.job("first") / "tasks-status.json"
    status = json.loads(path.read_text())
    path.write_text(json.dumps({**status, "pipelineId": "pl-2026-01-01T00-00-00-000Z-abcdef"}))
    said = [each["what"] for each in findings(verify(built, 1, "first"))]
    assert any(each.startswith("is not the result of its last run") for each in said)


def test_a_job_that_is_not_complete_cannot_be_proven(built: Workspace) -> None:
    """A name that means no complete job is a usage error that names those there are."""
    result = built.popbuild("verify", "third")
    assert result.code == 3
    assert "first, second" in result.err


def test_accepting_a_prompt_keeps_the_proof(built: Workspace, provider: Provider) -> None:
    """After `accept` the job is proven as it stands, and a further run calls nothing."""
    built.task("research", prompt="Research (again): {{ seed.data.topic }}.\n")
    calls = len(provider.requests)
    assert built.popbuild("accept", "first").code == 0
    assert altered(verify(built, 0)) == set()
    assert built.popbuild("run", "first").code == 0
    assert len(provider.requests) == calls
    assert verify(built, 0, "first")["proven"]


def test_an_edit_is_an_alteration_until_it_is_accepted(built: Workspace) -> None:
    """An artifact edited by hand is found; accepted, it is proven, with a note that says so."""
    path = "pipeline-data/complete/first/files/artifacts/analysis-output.json"
    built.write(path, '{"content": "Mine."}')
    assert altered(verify(built, 1)) == {path}
    assert built.popbuild("accept", "first").code == 0
    assert notes(verify(built, 0)) == ["analysis: its artifact was edited by hand and accepted"]


def test_an_edit_that_a_run_kept_is_proven(built: Workspace, provider: Provider) -> None:
    """A run takes an edited artifact for good and builds what stands below: no alteration."""
    built.write(
        "pipeline-data/complete/first/files/artifacts/research-output.json",
        '{"content": "Mine."}',
    )
    calls = len(provider.requests)
    assert built.popbuild("run", "first").code == 0
    assert len(provider.requests) == calls + 1
    assert notes(verify(built, 0)) == ["research: its artifact was edited by hand and accepted"]


def test_accepting_one_task_of_a_new_seed_is_no_alteration(built: Workspace) -> None:
    """The job then has a seed of which a task has not read the new value: that is a note."""
    built.task("analysis", prompt="{{ seed.data.tone }}: {{ artifacts.research.content }}")
    assert built.popbuild("run", "first").code == 0
    built.seed("first", {"topic": "heat pumps in winter", "tone": "formal"})
    assert built.popbuild("accept", "first", "research").code == 0
    assert notes(verify(built, 0, "first")) == [
        "analysis was made from another seed.json: /data/tone"
    ]


def test_a_seed_field_that_write_nowhere(built: Workspace, provider: Provider) -> None:
    """The run that takes over such a change, and the one after it, leave the job proven."""
    built.seed("first", {"topic": "heat pumps", "tone": "formal"})
    calls = len(provider.requests)
    for _ in range(2):
        assert built.popbuild("run", "first").code == 0
        assert built.read("pipeline-data/complete/first/seed.json")["data"]["tone"] == "formal"
        assert findings(verify(built, 0)) == []
    assert len(provider.requests) == calls
    path = "pipeline-data/complete/first/seed.json"
    built.write(path, {"name": "first", "data": {"topic": "heat pumps", "tone": "plain"}})
    assert altered(verify(built, 1)) == {path}


def test_forgetting_is_no_alteration(built: Workspace) -> None:
    """A letter that was set aside leaves a note: nothing says what the artifact was made from."""
    assert built.doit("forget", "first:analysis").code == 0
    assert notes(verify(built, 0)) == ["analysis has no letter: nothing says what it was made from"]


def test_a_killed_change_raises_no_alarm(built: Workspace) -> None:
    """Killed while it replaces seed.json, a run leaves a seal that says so."""
    built.seed("first", {"topic": "heat pumps", "tone": "formal"})
    program = (
        "import os, sys\nfrom popbuild.cli.main import main\nfrom popbuild.jobs import lifecycle\n"
        "lifecycle.write_seed = lambda *_: os._exit(9)\nsys.exit(main(['run', 'first']))"
    )
    assert built.run("python", "-c", program).code == 9
    said = "seed.json was being changed when a command was killed"
    assert notes(verify(built, 0)) == [said]
    assert built.popbuild("run", "first").code == 0
    assert findings(verify(built, 0)) == []


@pytest.mark.parametrize("private", [True, False])
def test_a_copy_in_another_root_is_proven(built: Workspace, private: bool, tmp_path: Path) -> None:
    """The proof travels with the directories; without .popbuild/ it says what it cannot see."""
    with Workspace(tmp_path / "other", built.provider) as other:
        shutil.copytree(built.root / "pipeline-data", other.root / "pipeline-data")
        if private:
            shutil.copytree(built.root / ".popbuild", other.root / ".popbuild")
        found = verify(other, 0)
        missing = ["2 of 2 answers not in the store", "3 of 3 configuration files not kept here"]
        assert notes(found) == ([] if private else missing * 2)
        other.write("pipeline-data/complete/second/files/logs/work.log", "did not work\n")
        assert altered(verify(other, 1)) == {"pipeline-data/complete/second/files/logs/work.log"}


def test_a_single_job_in_another_root_is_proven(built: Workspace, tmp_path: Path) -> None:
    """A job's directory alone is enough, under another name too."""
    with Workspace(tmp_path / "other", built.provider) as other:
        shutil.copytree(built.job("second"), other.job("copy"))
        found = verify(other, 0)
        assert [job["id"] for job in found["jobs"]] == ["copy"]
        assert any(note.startswith("no line in runs.jsonl") for note in notes(found))
        (other.job("copy") / "tasks-status.json").unlink()
        assert altered(verify(other, 1)) == {"pipeline-data/complete/copy/tasks-status.json"}


# --- something was altered ---


def _complete(files: list[Path]) -> Path:
    return next(each for each in files[0].parents if each.name == "complete")


def _remove_job(draw: random.Random, files: list[Path]) -> list[Path]:
    path = _complete(files) / draw.choice(JOBS)
    shutil.rmtree(path)
    return [path]


def _rename_job(draw: random.Random, files: list[Path]) -> list[Path]:
    path = _complete(files) / draw.choice(JOBS)
    return [path, path.rename(path.parent / "third")]


def _copy_job(draw: random.Random, files: list[Path]) -> list[Path]:
    path = _complete(files)
    return [Path(shutil.copytree(path / draw.choice(JOBS), path / "third"))]


def _swap_jobs(draw: random.Random, files: list[Path]) -> list[Path]:
    one, other = (_complete(files) / job for job in JOBS)
    aside = one.rename(one.parent / "aside")
    other.rename(one)
    aside.rename(other)
    return [one, other]


def _replace_job(draw: random.Random, files: list[Path]) -> list[Path]:
    one, other = (_complete(files) / job for job in draw.sample(JOBS, 2))
    shutil.rmtree(one)
    shutil.copytree(other, one)
    return [one]


def _roll_back(draw: random.Random, files: list[Path]) -> list[Path]:
    path = _complete(files) / "first"
    (previous,) = path.parent.parent.parent.glob(".popbuild/previous/first/*")
    shutil.rmtree(path)
    shutil.copytree(previous, path)
    return [path]


def _add_folder(draw: random.Random, files: list[Path]) -> list[Path]:
    inside = [each for each in files if each.name != "runs.jsonl"]
    path = draw.choice(inside).parent / draw.choice(["added", ".hidden"])
    path.mkdir()
    return [path]


def _reorder_lines(draw: random.Random, files: list[Path]) -> list[Path]:
    path = _complete(files) / "runs.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    others = [each for each in itertools.permutations(lines) if each != tuple(lines)]
    path.write_bytes(b"".join(draw.choice(others)))
    return [path]


def _take_line(draw: random.Random, files: list[Path]) -> list[Path]:
    path = _complete(files) / "runs.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines.remove(draw.choice(lines))
    path.write_bytes(b"".join(lines))
    return [path]


JOBS = ("first", "second")
KINDS = (
    *(*alterations.OF_A_FILE, alterations.add),
    *(_remove_job, _rename_job, _copy_job, _swap_jobs, _replace_job, _roll_back),
    *(_add_folder, _reorder_lines, _take_line),
)


@pytest.mark.parametrize("part", range(4))
def test_a_hundred_random_alterations(built: Workspace, part: int) -> None:
    """Whatever is flipped, deleted, cut, appended, added or swapped, in any file of complete/, and
    whatever whole job is removed, renamed, copied, swapped, or replaced by another or by an earlier
    result, `verify` exits with 1 and names each file or folder, and no other job. A damaged seal is
    named, and that it hides what else was done to its job."""
    draw = random.Random(f"alterations {part}")
    complete = built.root / "pipeline-data/complete"
    pristine = built.home / "pristine"
    shutil.copytree(complete, pristine)
    kinds: list[Callable[..., list[Path]]] = draw.sample(KINDS, len(KINDS))
    for number in range(ALTERATIONS // 4):
        alter = kinds[number % len(kinds)]
        files = sorted(path for path in complete.rglob("*") if path.is_file())
        paths = [str(path.relative_to(built.root)) for path in alter(draw, files)]
        found = verify(built, 1)
        named = altered(found)
        hidden = {
            path
            for other in named
            if other.endswith("/seal.json")
            for path in paths
            if path.startswith(other.removesuffix("seal.json"))
        }
        assert named, (alter.__name__, paths)
        assert set(paths) <= named | hidden, (alter.__name__, paths, found)
        for job in found["jobs"]:
            touched = [path for path in paths if f"/{job['id']}/" in f"{path}/"]
            assert touched or job["proven"], (alter.__name__, paths, job)
        shutil.rmtree(complete)
        shutil.copytree(pristine, complete)
    assert findings(verify(built, 0)) == []


def test_whole_jobs_are_told_to_people(built: Workspace) -> None:
    """What stands there instead, of which run it is, and what to do."""
    complete = built.root / "pipeline-data/complete"
    old, new = [line["pipelineId"] for line in built.runs() if line["id"] == "first"]
    (second,) = [line["pipelineId"] for line in built.runs() if line["id"] == "second"]
    (complete / "second").rename(complete / "third")
    _roll_back(random.Random(0), [complete / "runs.jsonl"])
    where = "pipeline-data/complete"
    result = built.popbuild("verify")
    assert result.code == 1
    assert result.out == (
        f"{where}/first: is the result of the earlier run {old}, not of the last one, {new}\n"
        "first: 1 alteration\n"
        f"{where}/second: is missing: the run {second} promoted it, and its result stands as "
        "third; if that was meant, doit clean --complete second says so\n"
        "second: 1 alteration\n"
        f"{where}/third: is the result of the job second, of its run {second}; "
        "popbuild run -a third makes its own, from the store\n"
        "third: 1 alteration\n"
    )
    assert built.popbuild("verify", "second").code == 1
    assert built.popbuild("verify", "fourth").code == 3


def test_a_renamed_job_is_made_its_own(built: Workspace, provider: Provider) -> None:
    """Once its new name has been built anew, from the store, and the old one was given up, all is
    proven again."""
    (built.root / "seeds/second.json").rename(built.root / "seeds/third.json")
    built.job("second").rename(built.job("third"))
    calls = len(provider.requests)
    assert altered(verify(built, 1)) == {
        "pipeline-data/complete/second",
        "pipeline-data/complete/third",
    }
    assert built.popbuild("run", "-a", "third").code == 0
    assert built.doit("clean", "--complete", "second").code == 0
    assert len(provider.requests) == calls
    assert findings(verify(built, 0)) == []


def test_what_was_removed_on_purpose_is_not_missed(built: Workspace, provider: Provider) -> None:
    """`doit clean --complete` is no alteration; what is built again must stand again."""
    path = "pipeline-data/complete/first"
    assert built.doit("clean", "--complete", "-n", "first").code == 0
    shutil.rmtree(built.root / path)
    assert altered(verify(built, 1)) == {path}
    said = built.doit("clean", "--complete", "first").out
    assert said == f"{path} is gone already: verify no longer misses it\n"
    assert findings(verify(built, 0)) == []
    calls = len(provider.requests)
    assert built.popbuild("run", "first").code == 0
    assert built.doit("clean", "--complete").code == 0
    assert findings(verify(built, 0)) == []
    assert built.popbuild("run").code == 0
    assert findings(verify(built, 0)) == []
    shutil.rmtree(built.root / path)
    assert altered(verify(built, 1)) == {path}
    assert len(provider.requests) == calls


def test_two_results_that_come_back_at_once(
    built: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the first of them sets aside what our copy says of those that were deleted."""
    root = Root(built.root)
    shutil.rmtree(root.data / "complete")

    @contextlib.contextmanager
    def turn_after_another(root: Root) -> Iterator[None]:
        root.runs_copy.rename(root.private / "runs-aside.jsonl")
        yield

    monkeypatch.setattr(run_log, "_turn", turn_after_another)
    run_log.start_anew(root)
    assert [path.name for path in root.private.glob("runs*")] == ["runs-aside.jsonl"]


@pytest.mark.parametrize("names", [(), ("second",)])
def test_what_was_made_again_from_the_store(
    built: Workspace, provider: Provider, names: tuple[str, ...]
) -> None:
    """Deleting all of pipeline-data/ and running again is no alteration, whichever jobs are made
    again first; what is altered after that is found as ever. Our old copy of runs.jsonl is kept."""
    copy, calls = built.root / ".popbuild/runs.jsonl", len(provider.requests)
    old = copy.read_bytes()
    for _ in range(2):
        shutil.rmtree(built.root / "pipeline-data")
        gone = {f"pipeline-data/complete/{job}" for job in (names or JOBS)}
        assert gone <= altered(verify(built, 1, *names))
        assert built.popbuild("run", "--store", "only", *names).code == 0
        assert findings(verify(built, 0)) == []
    aside = sorted((built.root / ".popbuild").glob("runs-*.jsonl"))
    assert len(aside) == 2
    assert aside[0].read_bytes() == old
    assert copy.read_bytes() == (built.root / "pipeline-data/complete/runs.jsonl").read_bytes()
    assert built.popbuild("run").code == 0
    assert findings(verify(built, 0)) == []
    shutil.rmtree(built.job("second"))
    assert altered(verify(built, 1)) == {"pipeline-data/complete/second"}
    assert len(provider.requests) == calls


def test_a_part_that_was_deleted_is_not_forgotten(built: Workspace) -> None:
    """A run that makes one job again does not hide that runs.jsonl was deleted; where the results
    alone were, all is proven once they are made again."""
    complete = built.root / "pipeline-data/complete"
    for job in JOBS:
        shutil.rmtree(complete / job)
    assert built.popbuild("run").code == 0
    assert findings(verify(built, 0)) == []
    (complete / "runs.jsonl").unlink()
    shutil.rmtree(complete / "first")
    assert built.popbuild("run").code == 0
    assert altered(verify(built, 1)) == {"pipeline-data/complete/runs.jsonl"}


def test_whole_jobs_where_popbuild_was_not_copied(built: Workspace, tmp_path: Path) -> None:
    """By runs.jsonl alone: jobs that were swapped are found; of one that is not there it is unknown
    whether that was meant."""
    with Workspace(tmp_path / "other", built.provider) as other:
        shutil.copytree(built.root / "pipeline-data", other.root / "pipeline-data")
        runs = other.root / "pipeline-data/complete/runs.jsonl"
        paths = {str(each.relative_to(other.root)) for each in _swap_jobs(random.Random(), [runs])}
        assert altered(verify(other, 1)) == paths
        shutil.rmtree(other.job("first"))
        other.job("second").rename(other.job("first"))
        assert "not here, whether or not that was meant: second" in notes(verify(other, 0))
        _reorder_lines(random.Random(0), [runs])
        assert "pipeline-data/complete/runs.jsonl" in altered(verify(other, 1))


def test_a_result_from_elsewhere(built: Workspace, tmp_path: Path) -> None:
    """Copied to where no job of this name was, it is proven with a note; in the place of one that
    was promoted here, it is an alteration."""
    with Workspace(tmp_path / "other", built.provider) as other:
        other.task("research", prompt="Research: {{ seed.data.topic }}.\n")
        other.task("analysis", prompt="Analysis of: {{ artifacts.research.content }}\n")
        other.pipeline(["research", "analysis"])
        other.seed("first", {"topic": "tides"})
        assert other.popbuild("run").code == 0
        shutil.copytree(built.job("second"), other.job("second"))
        assert notes(verify(other, 0))[0].startswith("no line in runs.jsonl")
        shutil.rmtree(other.job("first"))
        shutil.copytree(built.job("first"), other.job("first"))
        assert altered(verify(other, 1)) == {"pipeline-data/complete/first"}


def test_a_promotion_cut_short_raises_no_alarm(built: Workspace) -> None:
    """Killed after the exchange and before the line: a note, until the next run adds the line."""
    built.seed("first", {"topic": "tides"})
    program = (
        "import os, sys\nfrom popbuild.cli.main import main\nfrom popbuild.jobs import run_log\n"
        "run_log.add = lambda *_, **__: os._exit(9)\nsys.exit(main(['run', 'first']))"
    )
    assert built.run("python", "-c", program).code == 9
    said = "its promotion was cut short: the next command on it adds its line"
    assert notes(verify(built, 0)) == [said]
    assert built.popbuild("run", "first").code == 0
    assert findings(verify(built, 0)) == []


def test_jobs_that_are_promoted_meanwhile(workspace: Workspace, provider: Provider) -> None:
    """To verify while jobs are rebuilt side by side raises no alarm, and each line names the
    one above it."""
    jobs = [f"job-{number}" for number in range(8)]
    for promoted, topic in ((9, "wind"), (18, "tides")):
        for job in ("first", *jobs):
            workspace.seed(job, {"topic": f"{topic} {job}"})
        running = workspace.start("popbuild", "run", "-n", "8")
        for _ in range(100):
            verify(workspace, 0)
            if len(workspace.runs()) == promoted:
                break
        assert running.wait().code == 0
    lines = workspace.runs()
    assert len(lines) == 18
    assert [line.get("after") for line in lines] == [None, *(line["digest"] for line in lines[:-1])]
    assert findings(verify(workspace, 0)) == []


@pytest.mark.parametrize("path", ["runs.jsonl", "second/seal.json", "second/files/logs/work.log"])
def test_an_alteration_is_told_to_people(built: Workspace, path: str) -> None:
    """File, what, and a line for each job; named alone, a job tells of its own line too."""
    (built.root / "pipeline-data/complete" / path).unlink()
    result = built.popbuild("verify", "second")
    assert result.code == 1
    assert f"pipeline-data/complete/{path}: " in result.out
    assert "missing" in result.out
    assert "second: 1 alteration\n" in result.out


def test_a_seal_made_to_fit_is_found_by_the_runs(built: Workspace) -> None:
    """A file that is altered and sealed anew is found by the line in runs.jsonl."""
    folder = built.job("first")
    log = folder / "files/logs/work.log"
    log.write_text("did not work\n")
    body = json.loads((folder / "seal.json").read_bytes())
    body["files"]["files/logs/work.log"] = jsonio.digest_bytes(log.read_bytes())
    (folder / "seal.json").write_bytes(jsonio.dumps(seal(body), sort=False))
    assert altered(verify(built, 1)) == {"pipeline-data/complete/first/seal.json"}


def test_a_rebuild_does_not_launder_an_alteration(built: Workspace, provider: Provider) -> None:
    """What was altered or added by hand in the files of a task that a rebuild keeps stays found,
    until the task is built or the file is gone."""
    folder = "pipeline-data/complete/second/files"
    built.write(f"{folder}/logs/work.log", "did not work\n")
    built.write(f"{folder}/logs/mine.log", "mine\n")
    built.task("analysis", prompt="Otherwise: {{ artifacts.research.content }}")
    assert built.popbuild("run", "second").code == 0
    both = {f"{folder}/logs/work.log", f"{folder}/logs/mine.log"}
    assert altered(verify(built, 1, "second")) == both
    calls = len(provider.requests)
    assert built.popbuild("run", "-a", "second").code == 0
    assert len(provider.requests) == calls
    assert altered(verify(built, 1, "second")) == {f"{folder}/logs/mine.log"}
    (built.root / folder / "logs/mine.log").unlink()
    assert verify(built, 0, "second")["proven"]


def test_an_altered_answer_and_an_altered_prompt_are_found(built: Workspace) -> None:
    """The stored answers and the kept configuration files that letters name are proven too; what
    is not there any more is a note."""
    letter = built.letter("first", "research")
    digest = letter["calls"][0]["request"].removeprefix("sha256:")
    answer = built.root / f".popbuild/store/{digest[:2]}/{digest[2:]}.json"
    kept = letter["fingerprint"]["file:tasks/research/prompt.md"].removeprefix("sha256:")
    prompt = built.root / f".popbuild/objects/{kept[:2]}/{kept[2:]}"
    whole = {path: path.read_bytes() for path in (answer, prompt)}
    answer.write_bytes(whole[answer].replace(b'"stop"', b'"stap"'))
    prompt.write_bytes(b"Something else.")
    assert altered(verify(built, 1, "first")) == {
        str(answer.relative_to(built.root)),
        ".popbuild/objects",
    }
    for path in whole:
        path.unlink()
    assert notes(verify(built, 0, "first")) == [
        "1 of 2 answers not in the store",
        "1 of 3 configuration files not kept here",
    ]


def test_a_job_of_an_older_version_is_checked_as_far_as_letters_go(built: Workspace) -> None:
    """Without a seal, and without one in runs.jsonl: artifacts and letters are checked, the rest
    is not, and a note says so."""
    runs = built.root / "pipeline-data/complete/runs.jsonl"
    lines = [
        {key: value for key, value in line.items() if key not in ("seal", "after", "digest")}
        for line in built.runs()
    ]
    runs.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (built.root / ".popbuild/runs.jsonl").unlink()
    for job in ("first", "second"):
        (built.job(job) / "seal.json").unlink()
    said = "no seal: only letters and artifacts could be checked"
    assert notes(verify(built, 0)) == [said, said]
    base = "pipeline-data/complete/first"
    artifacts = f"{base}/files/artifacts"
    reformatted = json.dumps(built.artifact("first", "analysis"))
    for path, content in (
        (f"{artifacts}/analysis-output.json", reformatted),
        (f"{artifacts}/research-output.json", '{"content": "Mine."}'),
        (f"{artifacts}/table.csv", "a,b\n2,2\n"),
        (f"{base}/tasks/research/letter.json", "{}"),
        (f"{base}/seed.json", {"name": "first", "data": {"topic": "x", "tone": "y"}}),
    ):
        before = (built.root / path).read_bytes()
        built.write(path, content)
        assert path in altered(verify(built, 1)), path
        built.write(path, before)
    assert verify(built, 0)["proven"]


# --- trace ---


def trace(workspace: Workspace, given: str) -> Any:
    result = workspace.popbuild("trace", given, "--json")
    assert result.code == 0, result.err
    return json.loads(result.out)


def test_trace_tells_the_whole_chain(workspace: Workspace, provider: Provider) -> None:
    """Task, run, model, settings, calls with tokens and cost, files of the configuration, seed
    fields, and the same for every task above, each once."""
    workspace.task("synthesis", prompt="{{ artifacts.research.content }} {{ artifacts.analysis }}")
    workspace.pipeline(["research", "analysis", "synthesis"], {"synthesis": {"temperature": 0.1}})
    provider.script([Reply("R", prompt_tokens=10, completion_tokens=20)])
    assert workspace.popbuild("run", "first").code == 0
    calls = len(provider.requests)
    found = trace(workspace, "first/synthesis-output.json")
    assert found == trace(workspace, "first/synthesis")
    path = workspace.job("first") / "files/artifacts/synthesis-output.json"
    assert found == trace(workspace, str(path))
    assert found["intact"]
    tasks = {task["task"]: task for task in found["tasks"]}
    assert list(tasks) == ["synthesis", "analysis", "research"]
    assert tasks["synthesis"]["settings"] == {"temperature": 0.1}
    assert [(each["task"], each["pointer"]) for each in tasks["synthesis"]["artifacts"]] == [
        ("analysis", ""),
        ("research", "/content"),
    ]
    research = tasks["research"]
    assert research["pipelineId"] == workspace.runs()[0]["pipelineId"]
    assert research["model"] == "openai/gpt-4o-mini"
    assert [(each["pointer"], each["value"]) for each in research["seed"]] == [
        ("/data/topic", "grid batteries")
    ]
    assert [(each["path"], each["today"]) for each in research["files"]] == [
        ("tasks/research/prompt.md", "same")
    ]
    (call,) = research["calls"]
    assert (call["inputTokens"], call["outputTokens"], call["stored"]) == (10, 20, False)
    assert call["cost"] == pytest.approx(10 * 0.15e-6 + 20 * 0.6e-6)
    assert workspace.read(call["prompt"])[0]["content"] == "Research: grid batteries."
    assert (workspace.root / call["answer"]).read_text() == "R"
    assert workspace.read(call["inStore"])["digestOfRequest"] == call["request"]
    assert len(provider.requests) == calls


def test_trace_for_people(workspace: Workspace) -> None:
    """The same in lines of at most 80 columns, and what changed since is said."""
    assert workspace.popbuild("run", "first").code == 0
    workspace.task("research", prompt="Another prompt.")
    result = workspace.popbuild("trace", "first/analysis")
    assert result.code == 0
    lines = result.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "analysis-output.json of first"
    assert "  seed      /data/topic  grid batteries" in lines
    assert "  read      /content of research" in lines
    texts = [line.strip() for line in lines]
    assert texts[texts.index("file      tasks/research/prompt.md") + 1].endswith("today another")
    assert texts[texts.index("file      tasks/analysis/prompt.md") + 1].endswith("as today")


def test_trace_finds_an_exported_file_by_its_digest(built: Workspace) -> None:
    """A file anywhere is known again, also after a rebuild replaced the result that it is of."""
    exported = built.home / "report.json"
    assert built.popbuild("export", "first", str(exported)).code == 0
    found = trace(built, str(exported))
    assert (found["job"], found["artifact"]) == ("first", "analysis-output.json")
    built.seed("first", {"topic": "geothermal"})
    assert built.popbuild("run", "first").code == 0
    found = trace(built, str(exported))
    assert (found["job"], found["artifact"]) == ("first", "analysis-output.json")
    assert found["path"].startswith(".popbuild/previous/first/")
    research = found["tasks"][-1]
    assert research["seed"][0]["value"] == "heat pumps"
    table = built.home / "table.csv"
    shutil.copy(built.job("first") / "files/artifacts/table.csv", table)
    found = trace(built, str(table))
    assert found["tasks"][0]["task"] == "research"
    assert "pipeline-data/complete/second/files/artifacts/table.csv" in found["equal"]


def test_trace_says_that_a_file_was_altered(workspace: Workspace) -> None:
    """An artifact that is not what its letter says is traced as what it was, and marked."""
    assert workspace.popbuild("run", "first").code == 0
    path = workspace.job("first") / "files/artifacts/research-output.json"
    path.write_text('{"content": "Mine."}')
    assert not trace(workspace, str(path))["intact"]
    assert "ALTERED" in workspace.popbuild("trace", str(path)).out


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("nothing", "<job>/<artifact>"),
        ("third/research", "first"),
        ("first/nothing.json", "research-output.json"),
        ("dodo.py", "no result has this file"),
        ("pipeline-data/complete/first/seed.json", "files/artifacts/"),
    ],
)
def test_trace_of_what_is_no_artifact(workspace: Workspace, given: str, said: str) -> None:
    """A usage error that says what can be traced."""
    assert workspace.doit("run", "job=first").code == 0
    result = workspace.popbuild("trace", given)
    assert result.code == 3
    assert said in result.err
