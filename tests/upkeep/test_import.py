"""`import`: another program's data folder comes into a root, once, and stays as it was."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from foreign_data import JOB, ForeignData, example, tree
from provider import Provider
from workspace import Workspace

from popbuild.base.paths import Root
from popbuild.jobs.claims import JobLocks

FAILED, REJECTED = "pl-2025-10-03T06-37-29-980Z-0d57ed", "pl-2025-10-04T06-37-29-980Z-0d57ee"
WAITS = "pipeline-data/pending/waits-seed.json"


@pytest.fixture
def data(tmp_path: Path) -> ForeignData:
    """One job in each state, a seed that waits, and the document's line of runs.jsonl."""
    data = ForeignData(tmp_path / "demo")
    data.job()
    data.job(FAILED, "current", state="failed", error={"message": "no", "stack": "at x"})
    data.job(REJECTED, "rejected")
    data.write(WAITS, {**example("seed-content-generation.json"), "name": "waits"})
    data.runs()
    return data


def imported(workspace: Workspace, *args: str, code: int = 0) -> dict[str, Any]:
    result = workspace.popbuild("import", *args, "--json")
    assert result.code == code, result.out + result.err
    found: dict[str, Any] = json.loads(result.out)
    return found


def alone(found: dict[str, Any]) -> dict[str, str]:
    return {each["path"]: each["why"] for each in found["leftAlone"]}


def test_all_of_it_comes(data: ForeignData, workspace: Workspace, provider: Provider) -> None:
    """Seeds, jobs in every state byte for byte, and the lines of runs.jsonl; the source is only
    read, and each job is one by its ID."""
    odd = os.fsencode(data.path / f"pipeline-data/complete/{JOB}") + b"/not \xff UTF-8"
    Path(os.fsdecode(odd)).write_text("x")
    before = data.tree()
    assert workspace.popbuild("import", "../demo").code == 0
    for place, content in before.items():
        if not place.endswith("runs.jsonl"):
            assert (workspace.root / place).read_bytes() == content, place
    (line,) = workspace.runs()
    assert {**line, "digest": None} == {**example("run.json"), "digest": None}
    assert data.tree() == before
    listed = workspace.popbuild("list").out
    assert all(job in listed for job in (JOB, FAILED, REJECTED, "waits", "market-analysis"))
    for job in (JOB, FAILED, REJECTED):
        assert workspace.popbuild("status", job).code == 0
        assert workspace.popbuild("plan", f"job={job}").code == 0
    assert workspace.popbuild("verify").code == 0
    assert provider.requests == []


def test_everybody_else_is_kept_out(data: ForeignData, workspace: Workspace) -> None:
    """What came has the permissions of the root's own files, whatever it had before."""
    assert workspace.popbuild("import", "../demo").code == 0
    modes = {path.stat().st_mode & 0o777 for path in workspace.job(JOB).rglob("*")}
    assert modes == {0o600, 0o700}


def test_again_it_brings_nothing(data: ForeignData, workspace: Workspace) -> None:
    """The second import finds all of it there: no line twice, no file written."""
    first = imported(workspace, "../demo")
    assert len(first["imported"]) == 3 + 3 + 1
    assert first["runs"] == {"added": 1, "there": 0}
    before = workspace.tree()
    again = imported(workspace, "../demo")
    assert again["imported"] == []
    assert sorted(again["there"]) == sorted(first["imported"])
    assert again["runs"] == {"added": 0, "there": 1}
    assert workspace.tree() == before


def test_again_after_popbuild_went_on(
    data: ForeignData, workspace: Workspace, provider: Provider
) -> None:
    """A job that was adopted or built since is there, and so is a seed whose job was begun; what
    is new comes."""
    imported(workspace, "../demo")
    for job in (JOB, FAILED, REJECTED, "waits"):
        assert workspace.popbuild("run", job).code == 0
    data.job("pl-2025-10-05T06-37-29-980Z-0d57ef")
    data.runs(
        example("run.json"), {**example("run.json"), "finishedAt": "2025-10-05T06:38:32.232Z"}
    )
    found = imported(workspace, "../demo")
    assert found["imported"] == ["pipeline-data/complete/pl-2025-10-05T06-37-29-980Z-0d57ef"]
    assert found["runs"] == {"added": 1, "there": 1}
    assert found["leftAlone"] == []
    assert workspace.popbuild("verify").code == 0


@pytest.mark.parametrize("where", ["../demo", "../demo/pipeline-data", "../demo/"])
def test_either_folder_is_taken(data: ForeignData, workspace: Workspace, where: str) -> None:
    """The program's root, or its pipeline-data/ alone, without the seeds beside it."""
    found = imported(workspace, where)
    assert f"pipeline-data/complete/{JOB}" in found["imported"]
    has_seeds = any(place.startswith("seeds/") for place in found["imported"])
    assert has_seeds == ("seeds" in found["found"]) == (where != "../demo/pipeline-data")
    if not has_seeds:
        assert "not asked for" in workspace.popbuild("import", where).out


def test_only_seeds(data: ForeignData, workspace: Workspace) -> None:
    """A folder with nothing but seeds is one too."""
    shutil.rmtree(data.path / "pipeline-data")
    assert len(imported(workspace, "../demo")["imported"]) == 3


def test_dry_run(data: ForeignData, workspace: Workspace) -> None:
    """It says all that would come, and writes nothing."""
    before = workspace.tree()
    found = imported(workspace, "../demo", "--dry-run")
    assert found["dryRun"]
    assert workspace.tree() == before
    assert "would import" in workspace.popbuild("import", "../demo", "--dry-run").out
    assert imported(workspace, "../demo") == {**found, "dryRun": False}


def _own_job(data: ForeignData, workspace: Workspace) -> str:
    shutil.copytree(data.path / f"pipeline-data/current/{FAILED}", workspace.job(JOB))
    workspace.write(f"pipeline-data/complete/{JOB}/mine.txt", "x")
    return f"pipeline-data/complete/{JOB}"


def _own_job_elsewhere(data: ForeignData, workspace: Workspace) -> str:
    shutil.copytree(data.path / f"pipeline-data/current/{FAILED}", workspace.job(JOB, "rejected"))
    return f"pipeline-data/complete/{JOB}"


def _own_seed(data: ForeignData, workspace: Workspace) -> str:
    workspace.seed("market-analysis", {"topic": "mine"})
    return "seeds/market-analysis.json"


def _own_source(data: ForeignData, workspace: Workspace) -> str:
    workspace.seed(JOB, {"topic": "mine"})
    return f"pipeline-data/complete/{JOB}"


def _other_case(data: ForeignData, workspace: Workspace) -> str:
    workspace.seed(JOB.upper(), {"topic": "mine"})
    return f"pipeline-data/complete/{JOB}"


def _waiting(data: ForeignData, workspace: Workspace) -> str:
    workspace.write(WAITS, {"name": "mine", "data": {}})
    return WAITS


@pytest.mark.parametrize(
    "stand_there",
    [_own_job, _own_job_elsewhere, _own_seed, _own_source, _other_case, _waiting],
)
def test_nothing_is_overwritten(
    data: ForeignData,
    workspace: Workspace,
    stand_there: Callable[[ForeignData, Workspace], str],
) -> None:
    """What stands there with another content is named and left alone, and all else comes."""
    place = stand_there(data, workspace)
    before = dict(workspace.tree())
    found = imported(workspace, "../demo", code=1)
    assert list(alone(found)) == [place]
    assert len(found["imported"]) == 6
    assert before.items() <= dict(workspace.tree()).items()
    again = imported(workspace, "../demo", code=1)
    assert list(alone(again)) == [place]
    assert again["imported"] == []


def _link_in_a_job(data: ForeignData) -> str:
    (data.path / f"pipeline-data/complete/{JOB}/files/artifacts/out").symlink_to("/etc/passwd")
    return f"pipeline-data/complete/{JOB}"


def _link_to_a_job(data: ForeignData) -> str:
    job = data.path / f"pipeline-data/complete/{JOB}"
    job.rename(data.path / "elsewhere")
    job.symlink_to(data.path / "elsewhere")
    return f"pipeline-data/complete/{JOB}"


def _pipe(data: ForeignData) -> str:
    os.mkfifo(data.path / f"pipeline-data/complete/{JOB}/files/tmp/pipe")
    return f"pipeline-data/complete/{JOB}"


def _name_with_a_newline(data: ForeignData) -> str:
    data.write(f"pipeline-data/complete/{JOB}/files/tmp/a\nb", "x")
    return f"pipeline-data/complete/{JOB}"


def _linked_seed(data: ForeignData) -> str:
    path = data.path / "seeds/market-analysis.json"
    path.unlink()
    path.symlink_to("/etc/passwd")
    return "seeds/market-analysis.json"


@pytest.mark.parametrize(
    "spoil",
    [
        _link_in_a_job,
        _link_to_a_job,
        _pipe,
        _name_with_a_newline,
        _linked_seed,
    ],
)
def test_what_no_root_may_have(
    data: ForeignData, workspace: Workspace, spoil: Callable[[ForeignData], str]
) -> None:
    """Links, pipes and names that cannot be shown: told, left alone, and all else comes."""
    place = spoil(data)
    found = imported(workspace, "../demo", code=1)
    assert list(alone(found)) == [place]
    assert len(found["imported"]) == 6
    assert not (workspace.root / place).exists()
    assert not list(workspace.root.glob(".popbuild/restoring/*"))
    assert workspace.popbuild("list").code == 0


def test_names_that_no_job_may_have(data: ForeignData, workspace: Workspace) -> None:
    """They are told as they can be shown, in each place that a job may come from."""
    names = ("a b", "x.y", "con", "é", "a\nb", "-x", "x" * 70)
    for name in names:
        data.job(name, "rejected", strays=())
        data.write(f"seeds/{name}.json", example("seed-market-analysis.json"))
        data.write(f"pipeline-data/pending/{name}-seed.json", example("seed-market-analysis.json"))
    data.write("seeds/README.md", "Seeds.")
    result = workspace.popbuild("import", "../demo")
    assert result.code == 1, result.err
    assert "a\nb" not in result.out
    assert result.out.count("left alone") == 3 * len(names) + 1
    assert result.out.count("imported ") == 7


def test_lines_that_are_none(data: ForeignData, workspace: Workspace) -> None:
    """A line that is no run's is told by its number; the others come, in their order, each once,
    also where a job was started again under its ID."""
    one, again = example("run.json"), {**example("run.json"), "totalRefinementAttempts": 1}
    path = data.runs(one, again, one)
    path.write_text("nonsense\n" + path.read_text() + '{"torn":', encoding="utf-8")
    found = imported(workspace, "../demo", code=1)
    runs = "pipeline-data/complete/runs.jsonl"
    assert list(alone(found)) == [f"{runs}, line 1", f"{runs}, line 5"]
    assert [line["totalRefinementAttempts"] for line in workspace.runs()] == [0, 1]
    assert workspace.popbuild("verify").code == 0


def test_beside_own_runs(data: ForeignData, workspace: Workspace) -> None:
    """Lines that came and lines of ours are one chain, before and after an import."""
    assert workspace.popbuild("run", "first").code == 0
    imported(workspace, "../demo")
    workspace.seed("first", {"topic": "wind"})
    assert workspace.popbuild("run", "first").code == 0
    assert len(workspace.runs()) == 3
    assert workspace.popbuild("verify").code == 0
    path = workspace.root / "pipeline-data/complete/runs.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0] + lines[2])
    assert workspace.popbuild("verify").code == 1


WRONG = {
    "../nope": "no such folder",
    "seeds/first.json": "not a folder",
    "../home": "nothing to import there",
    "..": "popbuild import ../demo",
    ".": "the folder is the root itself",
    "pipeline-data": "one lies in the other",
}


def test_a_folder_that_is_none(data: ForeignData, workspace: Workspace) -> None:
    """What was wrong, and where to go on; nothing is written."""
    assert workspace.popbuild("run", "first").code == 0
    before = workspace.tree()
    for folder, said in WRONG.items():
        result = workspace.popbuild("import", folder)
        assert result.code == 3
        assert said in result.err
    assert workspace.tree() == before


def test_a_root_inside_the_source(data: ForeignData, workspace: Workspace) -> None:
    """It would import itself."""
    inside = data.path / "pipeline-data/root"
    shutil.copytree(workspace.root, inside)
    result = workspace.popbuild("import", str(data.path), "--root", str(inside))
    assert result.code == 3
    assert "one lies in the other" in result.err


def test_written_to_while_it_is_copied(data: ForeignData, workspace: Workspace) -> None:
    """A job whose program is still running is not taken half and half."""
    program = (
        "import sys\n"
        "from popbuild.cli.main import main\nfrom popbuild.base import tree\n"
        "take = tree.take_folder\n"
        "def taking(source, target):\n"
        "    take(source, target)\n"
        f"    if source.name == '{FAILED}':\n"
        "        (source / 'notes.txt').write_text('more')\n"
        "tree.take_folder = taking\n"
        "sys.exit(main(['import', '../demo', '--json']))\n"
    )
    result = workspace.run("python", "-c", program)
    assert result.code == 1, result.err
    found = json.loads(result.out)
    place = f"pipeline-data/current/{FAILED}"
    assert alone(found).keys() == {place}
    assert "written to while it was copied" in alone(found)[place]
    assert imported(workspace, "../demo")["imported"] == [place]
    assert tree(workspace.root / place) == tree(data.path / place)


def test_a_job_that_is_built_meanwhile(data: ForeignData, workspace: Workspace) -> None:
    """It is left to the command that has its lock, and all else comes."""
    locks = JobLocks(Root(workspace.root))
    assert locks.acquire(JOB)
    try:
        found = imported(workspace, "../demo", code=1)
    finally:
        locks.release(JOB)
    assert alone(found) == {f"pipeline-data/complete/{JOB}": "another command builds this job"}
    assert len(found["imported"]) == 6
