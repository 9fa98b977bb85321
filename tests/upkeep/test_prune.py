"""`popbuild prune`: what goes by which rule, and that nothing else ever does."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from provider import Provider, fail
from steps import EVERY, run_killed
from workspace import Workspace

from popbuild.base.paths import Root
from popbuild.upkeep import validate, verify
from popbuild.upkeep.prune import Candidate, PruneRule, choose_dropped

# A part of the steps, or with POPBUILD_TEST_EVERY_STEP every one.
STRIDE = 1 if EVERY else 5


def prune(workspace: Workspace, *args: str, code: int = 0) -> Any:
    """What `popbuild prune --json` says; it must end with this code."""
    result = workspace.popbuild("prune", *args, "--json")
    assert result.code == code, result.out + result.err
    return json.loads(result.out) if code == 0 else result.out


def dropped(said: Any) -> list[str]:
    return [item["path"].removeprefix("pipeline-data/") for item in said["dropped"]]


def build(workspace: Workspace, *jobs: str) -> None:
    for job in jobs:
        workspace.seed(job, {"topic": job})
        assert workspace.popbuild("run", job).code == 0


def check_whole(workspace: Workspace) -> None:
    assert verify.verify(Root(workspace.root)).proven
    assert validate.validate(Root(workspace.root)).findings == []


def items(*rows: tuple[str, float, int]) -> list[Candidate]:
    """Jobs by their state, the time that they ended and their size."""
    return [
        Candidate(f"j{number}", state, Path(f"{number}"), at_s, size)
        for number, (state, at_s, size) in enumerate(rows)
    ]


@pytest.mark.parametrize(
    ("rule", "names"),
    [
        (PruneRule(older_than_s=50), "j0 j1"),  # j2 is exactly so old
        (PruneRule(keep=1), "j0 j2"),  # in each state
        (PruneRule(keep=2), "j0"),
        (PruneRule(max_bytes=100), ""),
        (PruneRule(max_bytes=99), "j0"),
        (PruneRule(max_bytes=0), "j0 j1 j2 j3"),
        (PruneRule(older_than_s=90, max_bytes=60), "j0 j1"),  # what is too old counts no more
        (PruneRule(orphans=True), "j0 j1 j2 j3"),  # all that are left
        (PruneRule(keep=9, older_than_s=900), ""),
    ],
)
def test_what_goes(rule: PruneRule, names: str) -> None:
    """The oldest first, each for one reason or another."""
    given = items(
        ("complete", 1, 10), ("rejected", 20, 30), ("complete", 50, 20), ("complete", 90, 40)
    )
    found = choose_dropped(given, rule, now_s=100)
    assert " ".join(item.job for item in found) == names


def test_a_busy_job_stays_and_counts() -> None:
    """What may not go takes its room: another one goes for it."""
    old, new = items(("complete", 1, 60), ("complete", 50, 60))
    busy = Candidate(old.job, old.state, old.path, old.at_s, old.size_bytes, busy=True)
    assert choose_dropped([busy, new], PruneRule(max_bytes=60), now_s=100) == [new]
    assert choose_dropped([busy, new], PruneRule(keep=1), now_s=100) == []


def test_only_says_what_it_would_drop(workspace: Workspace, provider: Provider) -> None:
    """Without --yes nothing changes on disk, whatever the rule."""
    build(workspace, "first", "second")
    before = workspace.tree()
    said = workspace.popbuild("prune", "--older-than", "0s")
    assert said.code == 0
    assert "would drop pipeline-data/complete/first, " in said.out
    assert "2 jobs to drop, " in said.out
    assert "--yes does it" in said.out
    assert dropped(prune(workspace, "--keep", "1")) == ["complete/first"]
    assert workspace.tree() == before


def test_drops_complete_jobs_and_verify_misses_none(
    workspace: Workspace, provider: Provider
) -> None:
    """The job and its previous result are gone, nothing else; it is made anew from the store."""
    build(workspace, "first", "second")
    workspace.seed("first", {"topic": "wind"})
    assert workspace.popbuild("run", "first").code == 0
    sent = len(provider.requests)
    said = prune(workspace, "complete", "--keep", "1", "--yes")
    assert dropped(said) == ["complete/second"]
    assert (said["done"], said["kept"]) == (True, 1)
    assert dropped(prune(workspace, "complete", "--keep", "1", "--yes")) == []
    assert workspace.states("second") == []
    assert workspace.states("first") == ["complete"]
    assert (workspace.root / ".popbuild/previous/first").exists()
    check_whole(workspace)
    assert dropped(prune(workspace, "--older-than", "0s", "--yes")) == ["complete/first"]
    assert not (workspace.root / ".popbuild/previous/first").exists()
    check_whole(workspace)
    assert len(workspace.runs()) == 3  # an audit trail: its lines stay
    assert workspace.popbuild("run").code == 0
    assert len(provider.requests) == sent
    check_whole(workspace)


def test_ages_are_of_the_result(workspace: Workspace, provider: Provider) -> None:
    """A copy with other times is as old as what was copied."""
    build(workspace, "first")
    for path in [workspace.job("first"), *workspace.job("first").rglob("*")]:
        os.utime(path, (1, 1))
    assert dropped(prune(workspace, "--older-than", "1d")) == []
    assert dropped(prune(workspace, "--older-than", "0s")) == ["complete/first"]


def test_pending_and_rejected(workspace: Workspace, provider: Provider) -> None:
    """A seed that waits counts from when it came, a rejected job from its rejection; a state that
    is not named is left alone."""
    workspace.write("seeds/bad.json", "{")
    assert workspace.popbuild("run", "bad").code == 1
    seed = workspace.write("draft.json", {"name": "n", "data": {}})
    for job in ("old", "new"):
        assert workspace.popbuild("submit", str(seed), "--id", job).code == 0
    pending = workspace.root / "pipeline-data/pending"
    os.utime(pending / "old-seed.json", (1, 1))
    assert dropped(prune(workspace, "rejected", "--older-than", "0s")) == ["rejected/bad"]
    assert dropped(prune(workspace, "--older-than", "1d", "--yes")) == ["pending/old-seed.json"]
    assert [path.name for path in pending.iterdir()] == ["new-seed.json"]
    assert dropped(prune(workspace, "rejected", "--keep", "1")) == []
    assert dropped(prune(workspace, "rejected", "--max-size", "0B", "--yes")) == ["rejected/bad"]
    assert workspace.states("bad") == []
    assert (workspace.root / "seeds/bad.json").exists()
    assert provider.requests == []


def test_orphans(workspace: Workspace, provider: Provider) -> None:
    """Only a job whose file under seeds/ is gone: one that was submitted never had one, and where
    a job does not say, it is none."""
    build(workspace, "first", "gone", "silent", "renamed")
    workspace.write("seeds/bad.json", "{")
    assert workspace.popbuild("run", "bad").code == 1
    seed = workspace.write("draft.json", {"name": "n", "data": {"topic": "x"}})
    for job in ("one", "two"):
        assert workspace.popbuild("submit", str(seed), "--id", job).code == 0
    assert workspace.popbuild("run", "one").code == 0
    assert workspace.status("first")["source"] == "first.json"
    assert workspace.status("one")["source"] == "submit"
    for job in ("gone", "silent", "bad"):
        (workspace.root / f"seeds/{job}.json").unlink()
    # A result of before sources were written down.
    status = workspace.status("silent")
    del status["source"]
    workspace.write("pipeline-data/complete/silent/tasks-status.json", status)
    assert dropped(prune(workspace, "--orphans")) == ["complete/gone", "rejected/bad"]
    # Built again from its own seed, an orphan and a submitted job stay what they are.
    assert workspace.popbuild("run", "-a", "gone", "one").code == 0
    said = prune(workspace, "--orphans", "--older-than", "1d")
    assert dropped(said) == []
    said = prune(workspace, "--orphans", "--yes")
    assert sorted(dropped(said)) == ["complete/gone", "rejected/bad"]
    assert workspace.states("one") == ["complete"]
    assert (workspace.root / "pipeline-data/pending/two-seed.json").exists()


def test_logs_and_temporary_files(workspace: Workspace, provider: Provider) -> None:
    """The job stays up to date and proven, its artifacts as they were; the rest of the job too."""
    workspace.write(
        "pipeline-config/tasks/research/stages.py",
        "def ingestion(context):\n    context.files.write_tmp('scratch', 'x')\n",
    )
    build(workspace, "first", "second")
    sent = len(provider.requests)
    artifacts = workspace.tree("pipeline-data/complete/first/files/artifacts")
    said = prune(workspace, "--tmp", "--keep", "1", "--yes")
    assert dropped(said) == ["complete/first"]
    assert not list((workspace.job("first") / "files/tmp").iterdir())
    assert list((workspace.job("first") / "files/logs").iterdir())
    assert list((workspace.job("second") / "files/tmp").iterdir())
    check_whole(workspace)
    assert len(dropped(prune(workspace, "--logs", "--tmp", "--yes"))) == 2
    assert dropped(prune(workspace, "--logs", "--tmp", "--yes")) == []
    assert not list((workspace.job("first") / "files/logs").iterdir())
    assert workspace.status("first")["tasks"]["research"]["files"]["logs"] == []
    assert workspace.tree("pipeline-data/complete/first/files/artifacts") == artifacts
    check_whole(workspace)
    assert workspace.popbuild("check").code == 0
    assert workspace.popbuild("run").code == 0
    assert len(provider.requests) == sent


def test_a_job_that_is_built_is_never_touched(workspace: Workspace, provider: Provider) -> None:
    """Neither while a process holds its lock, nor while it is left in current/."""
    build(workspace, "first", "second")
    workspace.seed("first", {"topic": "wind"})
    provider.hold()
    running = workspace.start("popbuild", "run", "first")
    provider.wait_for(5)
    before = workspace.tree("pipeline-data/complete/first")
    said = prune(workspace, "--older-than", "0s", "--yes")
    assert (dropped(said), said["busy"]) == (["complete/second"], ["first"])
    running.kill()
    running.wait()
    provider.release()
    said = prune(workspace, "--older-than", "0s", "--yes")
    assert (dropped(said), said["busy"]) == ([], ["first"])
    assert workspace.tree("pipeline-data/complete/first") == before
    assert workspace.popbuild("run", "first").code == 0
    check_whole(workspace)
    assert dropped(prune(workspace, "--older-than", "0s", "--yes")) == ["complete/first"]


def test_a_failed_job_stays(workspace: Workspace, provider: Provider) -> None:
    """What is in current/ is none of prune's business."""
    provider.script([fail(400)])
    assert workspace.popbuild("run", "first").code == 2
    before = workspace.tree("pipeline-data")
    assert dropped(prune(workspace, "--older-than", "0s", "--yes")) == []
    assert workspace.tree("pipeline-data") == before


def test_no_link_is_followed(workspace: Workspace, provider: Provider) -> None:
    """A link in the place of a job, or of its logs, leads to what is not ours."""
    build(workspace, "first")
    outside = workspace.root.parent / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    (workspace.root / "pipeline-data/complete/link").symlink_to(outside)
    logs = workspace.job("first") / "files/logs"
    shutil.rmtree(logs)
    logs.symlink_to(outside)
    prune(workspace, "--logs", "--yes")
    prune(workspace, "--older-than", "0s", "--yes")
    assert (outside / "precious").exists()
    assert (workspace.root / "pipeline-data/complete/link").is_symlink()
    assert workspace.states("first") == []


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), "--older-than, --keep, --max-size, --orphans, --tmp or --logs"),
        (("current", "--keep", "1"), "doit clean"),
        (("compelte", "--keep", "1"), "complete"),
        (("--older-than", "soon"), "not an age"),
        (("--keep", "0"), "at least 1"),
        (("--max-size", "big"), "not a size"),
    ],
)
def test_bad_words(workspace: Workspace, args: tuple[str, ...], said: str) -> None:
    """A word that is not understood drops nothing."""
    assert said in prune(workspace, *args, "--yes", code=3)


def test_a_rebuild_finishes_a_prune_that_was_killed(workspace: Workspace) -> None:
    """What it had taken out of the index, and not removed yet, is not in the next result."""
    build(workspace, "first")
    logs = workspace.job("first") / "files/logs"
    old = {path.name for path in logs.iterdir()}
    left = 0
    while workspace.status("first")["files"]["logs"]:
        assert run_killed(workspace, left, "prune", "--logs", "--yes") == -9
        left += 1
    assert {path.name for path in logs.iterdir()} == old  # killed just between the two
    workspace.task("analysis", prompt="Anew: {{ artifacts.research.content }}\n")
    assert workspace.popbuild("run", "first").code == 0
    assert {path.name for path in logs.iterdir()} == set(workspace.status("first")["files"]["logs"])
    assert workspace.popbuild("check").code == 0
    assert workspace.popbuild("verify").code == 0


@pytest.mark.parametrize("args", [("--older-than", "0s"), ("--logs",)], ids=["jobs", "logs"])
def test_killed_at_every_step(
    workspace: Workspace, provider: Provider, args: tuple[str, ...]
) -> None:
    """A job is whole under its name or gone, verify is content, and the next prune finishes."""
    build(workspace, "first")
    kept = workspace.root.parent / "kept"
    for name in ("pipeline-data", ".popbuild"):
        shutil.copytree(workspace.root / name, kept / name)
    left = 0
    code = -9
    while code:
        for name in ("pipeline-data", ".popbuild"):
            shutil.rmtree(workspace.root / name)
            shutil.copytree(kept / name, workspace.root / name)
        code = run_killed(workspace, left, "prune", *args, "--yes")
        assert code in (0, -9)
        check_whole(workspace)
        if workspace.states("first"):
            assert workspace.artifact("first", "analysis")
        prune(workspace, *args, "--yes")
        assert dropped(prune(workspace, *args, "--yes")) == []
        for each in verify.verify(Root(workspace.root)).proofs:
            assert "being changed" not in str(each.notes), left
        assert workspace.states("first") == ([] if args[0] == "--older-than" else ["complete"])
        left += STRIDE
    assert left > 2 * STRIDE  # the steps were really counted
    sent = len(provider.requests)
    assert workspace.popbuild("run").code == 0
    assert len(provider.requests) == sent
