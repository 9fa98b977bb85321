"""What crashes and hands leave behind, done on purpose to a root whose job `first` is complete."""

from __future__ import annotations

from workspace import Workspace

COMPLETE = "pipeline-data/complete"
CURRENT = "pipeline-data/current"


def tear_runs(workspace: Workspace) -> None:
    path = workspace.root / COMPLETE / "runs.jsonl"
    path.write_bytes(path.read_bytes()[:-20])


def tear_copy(workspace: Workspace) -> None:
    path = workspace.root / ".popbuild/runs.jsonl"
    path.write_bytes(path.read_bytes()[:-1])


def tear_ledger(workspace: Workspace) -> None:
    with (workspace.root / ".popbuild/ledger.jsonl").open("ab") as file:
        file.write(b'{"event":"reserved","entr')


def cut_promotion(workspace: Workspace) -> None:
    """As a kill between the rename and the line of runs.jsonl leaves it."""
    (line,) = workspace.runs()
    workspace.write(".popbuild/promotions/first.json", line)
    (workspace.root / COMPLETE / "runs.jsonl").write_bytes(b"")
    (workspace.root / ".popbuild/runs.jsonl").write_bytes(b"")


def cut_claim(workspace: Workspace) -> None:
    seed = (workspace.root / "seeds/first.json").read_bytes()
    workspace.write(f"{CURRENT}/claimed/.claimed-seed.json", seed)


def cut_mending(workspace: Workspace) -> None:
    """As a claim that was mended half: its seed is back, its folder still there."""
    seed = (workspace.root / "seeds/first.json").read_bytes()
    workspace.write("pipeline-data/pending/claimed-seed.json", seed)
    (workspace.root / CURRENT / "claimed").mkdir()


def lose_seed(workspace: Workspace) -> None:
    workspace.write(f"{CURRENT}/lost/files/logs/notes.txt", "x")


def break_letter(workspace: Workspace) -> None:
    workspace.write(f"{COMPLETE}/first/tasks/analysis/letter.json", b'{"formatVersion": 1, "ta')


def forget_file(workspace: Workspace) -> None:
    """A file that the promotion knew, and that the index has not: an index of before letters named
    all files."""
    status = workspace.status("first")
    name = status["files"]["logs"][0]
    for files in (status["files"], *(task["files"] for task in status["tasks"].values())):
        files["logs"] = [each for each in files["logs"] if each != name]
    workspace.write(f"{COMPLETE}/first/tasks-status.json", status)
    (workspace.job("first") / "seal.json").unlink()
    forget_seal(workspace)


def lose_file(workspace: Workspace) -> None:
    status = workspace.status("first")
    (workspace.job("first") / "files/logs" / status["files"]["logs"][0]).unlink()
    (workspace.job("first") / "seal.json").unlink()
    forget_seal(workspace)


def forget_seal(workspace: Workspace) -> None:
    """As a result of before there were seals."""
    for path in (f"{COMPLETE}/runs.jsonl", ".popbuild/runs.jsonl"):
        (workspace.root / path).write_bytes(b"")


def add_file(workspace: Workspace) -> None:
    workspace.write(f"{COMPLETE}/first/files/artifacts/mine.json", {"x": 1})


# Runs popbuild and dies as soon as the first letter stands.
RECEIPT = """
import os, signal, sys
from popbuild.cli.main import main

replace = os.replace

def last(source, target):
    replace(source, target)
    if str(target).endswith("letter.json"):
        os.kill(os.getpid(), signal.SIGKILL)

os.replace = last
sys.exit(main(["run", "first"]))
"""
