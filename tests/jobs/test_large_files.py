"""Files that are larger than popbuild reads, in each place where one can lie."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from provider import Provider
from workspace import Workspace

from popbuild.api import Popbuild
from popbuild.base import disk, jsonio
from popbuild.base.errors import InputError

SIZE_BYTES = 500_000_000
# With so much memory, such a file cannot have been read.
LITTLE = """
import resource, sys
from popbuild.cli.main import entry
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 300_000_000,) * 2)
sys.argv = ["popbuild", *sys.argv[1:]]
sys.exit(entry())
"""
PLACES = {
    "seeds/first.json": "seeds/first.json",
    "pipeline-data/pending/other-seed.json": "other-seed.json",
    "samples/first.json": "samples/first.json",
    "pipeline-config/pipeline.json": "pipeline.json",
    "pipeline-config/tasks/index.yaml": "index.yaml",
    "pipeline-config/tasks/research/prompt.md": "prompt.md",
    "pipeline-config/tasks/research/output.schema.json": "output.schema.json",
    "pipeline-config/tasks/research/task.yaml": "task.yaml",
    "pipeline-config/tasks/research/stages.py": "stages.py",
    ".env": ".env",
}


def make_large(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.truncate(path, SIZE_BYTES)  # takes no room on the disk


@pytest.mark.parametrize("place", PLACES)
def test_a_file_of_500_mb(workspace: Workspace, provider: Provider, place: str) -> None:
    """It is refused by its size: by `validate` with its name, and by a run without a call."""
    make_large(workspace.root / place)
    result = workspace.run("python", "-c", LITTLE, "validate")
    assert result.code not in (0, 70), result
    told = result.out + result.err
    assert "file is too large" in told
    assert PLACES[place] in told
    assert "16,777,216 bytes" in told or "134,217,728 bytes" in told
    assert "Traceback" not in told
    if not place.startswith("pipeline-data"):  # that one stops only its own job
        result = workspace.run("python", "-c", LITTLE, "run", "first")
        assert result.code != 0, result
        assert "Traceback" not in result.err
        assert provider.requests == []
    looked = workspace.run("python", "-c", LITTLE, "list")
    assert "Traceback" not in looked.err, looked


def test_data_of_a_task_may_be_large(workspace: Workspace) -> None:
    """What only a task's code reads has no limit of ours."""
    path = workspace.write("pipeline-config/tasks/research/words.csv", b"a,b\n" * 5_000_000)
    assert path.stat().st_size > jsonio.MAX_BYTES
    assert workspace.popbuild("run", "first").code == 0
    assert workspace.popbuild("validate").code == 0


def test_a_file_that_grows_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more is read than is allowed, whatever the size was at first."""
    path = tmp_path / "grows"
    path.write_bytes(b"1")
    read = os.read

    def growing(file: int, size: int) -> bytes:
        path.write_bytes(bytes(1_000_000))
        return read(file, size)

    monkeypatch.setattr(os, "read", growing)
    with pytest.raises(InputError, match="file is too large"):
        disk.read(path, max_bytes=1_000)
    assert len(disk.read(path, max_bytes=1_000_000)) == 1_000_000


def test_a_deep_seed_is_queued(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that its indentation would make larger than what is read of pending/."""
    monkeypatch.setattr(jsonio, "MAX_QUEUED_BYTES", 10_000)
    deep: object = 1
    for _ in range(190):
        deep = [deep]
    api = Popbuild(workspace.root)
    for job, data in (("deep", {"topic": deep}), ("flat", {"topic": "x"})):
        assert api.submit({"name": job, "data": data}, job) == job
        path = workspace.root / f"pipeline-data/pending/{job}-seed.json"
        assert len(path.read_bytes()) < 10_000
        assert api.job(job)["state"] == "pending"
    assert path.read_text().startswith('{\n  "name"')
