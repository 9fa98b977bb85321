"""`popbuild doctor`: what it finds, what mending does, and that nothing is ever lost by it."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import shutil
from collections.abc import Callable
from typing import Any

import pytest
from harms import (
    COMPLETE,
    CURRENT,
    add_file,
    break_letter,
    cut_claim,
    cut_mending,
    cut_promotion,
    forget_file,
    lose_file,
    lose_seed,
    tear_copy,
    tear_ledger,
    tear_runs,
)
from provider import Provider
from steps import EVERY, run_killed
from workspace import Workspace

from popbuild.base import tree
from popbuild.base.paths import Root
from popbuild.upkeep import ailments, validate, verify


def doctor(workspace: Workspace, *args: str, code: int) -> Any:
    """What `popbuild doctor --json` says; it must end with this code."""
    result = workspace.popbuild("doctor", *args, "--json")
    assert result.code == code, result.out + result.err
    return json.loads(result.out)


def kinds(said: Any) -> list[str]:
    return [finding["kind"] for finding in said["findings"]]


def kept(workspace: Workspace, said: Any, path: str) -> bytes:
    """What was set aside of a file."""
    return (workspace.root / said["movedTo"] / path).read_bytes()


def check_whole(workspace: Workspace) -> None:
    assert validate.validate(Root(workspace.root)).findings == []
    verification = verify.verify(Root(workspace.root))
    assert verification.proven, list(verification.lines())


def make_folder(workspace: Workspace) -> None:
    workspace.write(f"{COMPLETE}/stray/notes.txt", "mine")


EMPTY = hashlib.sha256(b"").hexdigest()


@pytest.mark.parametrize(
    ("harm", "kind", "where"),
    [
        (tear_runs, "torn line", f"{COMPLETE}/runs.jsonl"),
        (tear_copy, "torn line", ".popbuild/runs.jsonl"),
        (tear_ledger, "torn line", ".popbuild/ledger.jsonl"),
        (cut_promotion, "promotion cut short", f"{COMPLETE}/first"),
        (cut_claim, "claim cut short", f"{CURRENT}/claimed/.claimed-seed.json"),
        (lose_seed, "no seed", f"{CURRENT}/lost"),
        (make_folder, "no seed", f"{COMPLETE}/stray"),
        (cut_mending, "empty folder", f"{CURRENT}/claimed"),
        (break_letter, "broken letter", f"{COMPLETE}/first/tasks/analysis/letter.json"),
        (forget_file, "not in the index", f"{COMPLETE}/first/files/logs/"),
        (lose_file, "missing file", f"{COMPLETE}/first/files/logs/"),
        (add_file, "added file", f"{COMPLETE}/first/files/artifacts/mine.json"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_finds_and_mends(
    workspace: Workspace,
    provider: Provider,
    harm: Callable[[Workspace], None],
    kind: str,
    where: str,
) -> None:
    """Told, and left as it is; mended once; found no more; nothing is deleted or bought."""
    assert workspace.popbuild("run", "first").code == 0
    assert ailments.find_ailments(Root(workspace.root)) == []
    harm(workspace)
    before = workspace.tree()
    (finding,) = doctor(workspace, code=1)["findings"]
    assert (finding["kind"], finding["mended"]) == (kind, False)
    assert finding["path"].startswith(where)
    assert workspace.tree() == before
    said = doctor(workspace, "--yes", code=0)
    assert kinds(said) == [kind]
    assert said["findings"][0]["mended"]
    digests = {digest for _, digest in workspace.tree()}
    gone = {path for path, digest in before if digest not in digests}
    # A seal says what is vouched for, and is written anew; a finished promotion needs no note.
    changed = {".popbuild/promotions/first.json", f"{COMPLETE}/first/seal.json"}
    empty = {path for path, digest in before if digest == EMPTY}
    assert gone <= changed | empty
    assert ailments.find_ailments(Root(workspace.root)) == []
    altered = [each.file for each in verify.verify(Root(workspace.root)).proofs[0].alterations]
    assert altered == ([where] if kind == "broken letter" else [])  # until its task is built again
    names = ["first", *(["claimed"] if where.startswith(f"{CURRENT}/claimed") else [])]
    assert workspace.popbuild("run", *names).code == 0
    assert len(provider.requests) == 2
    check_whole(workspace)


def test_answers_of_a_broken_letter_stay(workspace: Workspace, provider: Provider) -> None:
    """A letter that was moved away still says which answers are needed to build its task again."""
    assert workspace.popbuild("run", "first").code == 0
    letter = workspace.job("first") / "tasks/analysis/letter.json"
    letter.write_bytes(letter.read_bytes()[:-5])
    doctor(workspace, "--yes", code=0)
    assert workspace.popbuild("cache", "prune", "--older-than", "0s", "--yes").code == 0
    assert workspace.popbuild("run", "first").code == 0
    assert len(provider.requests) == 2


def test_a_torn_line_is_taken_from_the_other_file(workspace: Workspace) -> None:
    """What runs.jsonl lost of its last line stands in our copy, and the other way round."""
    assert workspace.popbuild("run", "first").code == 0
    for path in (f"{COMPLETE}/runs.jsonl", ".popbuild/runs.jsonl"):
        whole = (workspace.root / path).read_bytes()
        (workspace.root / path).write_bytes(whole[:-30])
        said = doctor(workspace, "--yes", code=0)
        assert (workspace.root / path).read_bytes() == whole
        assert kept(workspace, said, path) == whole[:-30]


def test_a_torn_line_that_others_follow(workspace: Workspace) -> None:
    """A run that came after the crash does not hide it."""
    assert workspace.popbuild("run", "first").code == 0
    path = workspace.root / COMPLETE / "runs.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    workspace.seed("second", {"topic": "wind", "tone": "plain"})
    assert workspace.popbuild("run", "second").code == 0
    assert kinds(doctor(workspace, "--yes", code=0)) == ["torn line"]
    assert path.read_bytes().startswith(whole)
    assert len(workspace.runs()) == 2
    check_whole(workspace)


def test_a_line_that_nobody_has_whole_is_cut_off(workspace: Workspace) -> None:
    """It was never acknowledged; the lines above it stay, byte for byte."""
    assert workspace.popbuild("run", "first").code == 0
    path = workspace.root / COMPLETE / "runs.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"name":"oth')
    doctor(workspace, "--yes", code=0)
    assert path.read_bytes() == whole
    check_whole(workspace)


def test_mending_vouches_for_nothing(workspace: Workspace) -> None:
    """A file of a complete job that was deleted, a letter or an index that was changed:
    told by verify before and after."""
    assert workspace.popbuild("run", "first").code == 0
    status = workspace.status("first")
    status["name"] = "another"
    status["files"]["logs"].append("never.txt")
    workspace.write(f"{COMPLETE}/first/tasks-status.json", status)
    (workspace.job("first") / "files/logs" / status["files"]["logs"][0]).unlink()
    letter = workspace.job("first") / "tasks/analysis/letter.json"
    letter.write_text(letter.read_text().replace("openai/", "forged/"))
    before = [each.file for each in verify.verify(Root(workspace.root)).proofs[0].alterations]
    assert len(before) == 3
    found = kinds(doctor(workspace, "--yes", code=0))
    assert found == ["broken letter", "missing file", "missing file"]
    after = [each.file for each in verify.verify(Root(workspace.root)).proofs[0].alterations]
    assert after == before


def test_an_index_that_leads_elsewhere(workspace: Workspace) -> None:
    """What is no name of a file is taken out of the index; what it leads to is left alone."""
    assert workspace.popbuild("run", "first").code == 0
    status = workspace.status("first")
    precious = workspace.write("precious.txt", "x")
    for name in ("../../../../../precious.txt", str(precious), ""):
        status["files"]["tmp"].append(name)
    workspace.write(f"{COMPLETE}/first/tasks-status.json", status)
    assert len(kinds(doctor(workspace, "--yes", code=0))) == 3
    assert precious.read_text() == "x"
    assert workspace.status("first")["files"]["tmp"] == []


def test_what_killed_commands_left(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Temporary names are moved away once they are an hour old: a program may be writing there."""
    assert workspace.popbuild("run", "first").code == 0
    root = Root(workspace.root)
    places = [
        f"{COMPLETE}/.tmp-0123456789abcdef/files/x",
        f"{COMPLETE}/first/tasks/.tmp-0123456789abcdef",
        ".popbuild/store/.tmp-0123456789abcdef",
    ]
    for place in places:
        workspace.write(place, "half")
    assert ailments.find_ailments(root) == []
    monkeypatch.setattr(tree, "LEFT_OVER_S", -1.0)
    assert {each.kind for each in ailments.find_ailments(root)} == {"left over"}
    patch = "from popbuild.base import tree; tree.LEFT_OVER_S = -1.0"
    code = f"{patch}\nimport sys\nfrom popbuild.cli.main import main\nsys.exit(main(sys.argv[1:]))"
    result = workspace.run("python", "-c", code, "doctor", "--yes", "--json")
    assert result.code == 0, result.err
    said = json.loads(result.out)
    assert len(said["findings"]) == 3
    for place in places:
        assert not (workspace.root / place).exists()
        assert kept(workspace, said, place) == b"half"
    assert ailments.find_ailments(root) == []
    check_whole(workspace)


def test_a_newer_seed_waits(workspace: Workspace, provider: Provider) -> None:
    """A claimed seed does not replace the one that waits: that came later."""
    old, new = ({"name": "n", "data": {"topic": each}} for each in ("old", "new"))
    workspace.write(f"{CURRENT}/one/.claimed-seed.json", old)
    workspace.write("pipeline-data/pending/one-seed.json", new)
    said = doctor(workspace, "--yes", code=0)
    assert json.loads(kept(workspace, said, f"{CURRENT}/one/.claimed-seed.json")) == old
    assert workspace.read("pipeline-data/pending/one-seed.json") == new
    assert workspace.states("one") == []
    assert provider.requests == []


def test_what_is_well(workspace: Workspace, provider: Provider) -> None:
    """A job that is built, one whose process died, and one that was rejected: the next run,
    or an orchestrator, goes on with them. Nothing to mend, and nothing is written."""
    workspace.write("seeds/bad.json", "[]")
    assert workspace.popbuild("run", "bad").code == 1
    provider.hold()
    running = workspace.start("popbuild", "run", "first")
    provider.wait_for(1)
    assert doctor(workspace, "--yes", code=0)["findings"] == []
    running.kill()
    running.wait()
    provider.release()
    before = workspace.tree()
    result = workspace.popbuild("doctor")
    assert (result.code, result.out) == (0, "nothing to mend\n")
    assert workspace.tree() == before


def test_a_job_that_is_built_is_left_alone(workspace: Workspace, provider: Provider) -> None:
    """The command that builds it may be about to mend it."""
    assert workspace.popbuild("run", "first").code == 0
    break_letter(workspace)
    provider.hold()
    workspace.seed("first", {"topic": "wind"})
    running = workspace.start("popbuild", "run", "first")
    provider.wait_for(3)
    assert doctor(workspace, "--yes", code=0)["findings"] == []
    provider.release()
    assert running.wait().code == 0
    check_whole(workspace)


def test_a_letter_of_a_newer_popbuild(workspace: Workspace) -> None:
    """It is not broken; it is not for us to read."""
    assert workspace.popbuild("run", "first").code == 0
    letter = workspace.letter("first", "analysis")
    workspace.write(f"{COMPLETE}/first/tasks/analysis/letter.json", {**letter, "formatVersion": 2})
    assert ailments.find_ailments(Root(workspace.root)) == []


@pytest.mark.parametrize(("said", "code"), [("y", 0), ("n", 1), ("", 1)])
def test_asks_on_a_terminal(workspace: Workspace, said: str, code: int) -> None:
    """Each thing is explained first, and nothing is done without a yes."""
    assert workspace.popbuild("run", "first").code == 0
    tear_runs(workspace)
    before = workspace.tree()
    theirs, ours = pty.openpty()
    program = f"import os, sys; os.dup2(os.open({os.ttyname(ours)!r}, os.O_RDWR | os.O_NOCTTY), 0)"
    program += "; from popbuild.cli.main import main; sys.exit(main(['doctor']))"
    os.write(theirs, f"{said}\n".encode())
    result = workspace.run("python", "-c", program)
    os.close(ours)
    os.close(theirs)
    assert result.code == code, result.out + result.err
    assert "a line has no end" in result.out
    assert "mending ends it" in result.out
    assert "Mend it? [y/N] " in result.out
    assert (workspace.tree() == before) == bool(code)


STRIDE = 1 if EVERY else 6


def test_killed_at_every_step(workspace: Workspace, provider: Provider) -> None:
    """Whatever was mended by then, the next doctor mends the rest."""
    assert workspace.popbuild("run", "first").code == 0
    for harm in (tear_runs, tear_ledger, cut_claim, lose_seed, break_letter, add_file):
        harm(workspace)
    shelf = workspace.root.parent / "kept"
    for name in ("pipeline-data", ".popbuild"):
        shutil.copytree(workspace.root / name, shelf / name)
    left, code = 0, -9
    while code:
        for name in ("pipeline-data", ".popbuild"):
            shutil.rmtree(workspace.root / name)
            shutil.copytree(shelf / name, workspace.root / name)
        code = run_killed(workspace, left, "doctor", "--yes")
        assert code in (0, -9)
        doctor(workspace, "--yes", code=0)
        assert ailments.find_ailments(Root(workspace.root)) == [], left
        altered = [each.file for each in verify.verify(Root(workspace.root)).proofs[0].alterations]
        assert altered == [f"{COMPLETE}/first/tasks/analysis/letter.json"], left
        assert len(workspace.runs()) == 1
        left += STRIDE
    assert left > 3 * STRIDE  # the steps were really counted
    assert workspace.popbuild("run", "first").code == 0
    assert len(provider.requests) == 2
    check_whole(workspace)
