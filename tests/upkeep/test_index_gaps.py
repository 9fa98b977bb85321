"""The files of a job against its index: one comparison, for `validate` and for `doctor`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from popbuild.base.paths import COMPLETE, CURRENT, JobFolder
from popbuild.model.letter import seal
from popbuild.upkeep.ailments import IndexGap, index_gaps

LOGS = "files/logs"

# The index, what stands on disk, what the seal has, what it says is being changed; the gaps.
CASES = {
    "as it is": (["a.log"], ["a.log"], ["a.log"], [], []),
    "missing": (["a.log", "b.log"], ["a.log"], ["b.log"], [], [("b.log", 1, False, True)]),
    "missing, never promoted": (["a.log"], [], [], [], [("a.log", 0, False, False)]),
    "missing, a prune was killed": (["a.log"], [], [], ["a.log"], [("a.log", 0, True, True)]),
    "not in the index": ([], ["a.log"], ["a.log"], [], [("a.log", None, False, True)]),
    "added": ([], ["a.log"], [], [], [("a.log", None, False, False)]),
    "left by a killed prune": ([], ["a.log"], [], ["a.log"], [("a.log", None, True, True)]),
    "hidden": ([], [".tmp-1"], [], [], []),
    "leads elsewhere": (["../../seal.json"], [], [], [], [("../../seal.json", 0, False, False)]),
    "another program's folder": ([], ["more/"], ["more/x"], [], []),
    "a folder that was added": ([], ["more/"], [], [], [("more", None, False, False)]),
}


def job(path: Path, there: list[str], sealed: list[str], changing: list[str]) -> JobFolder:
    """A job with these logs, and a seal over some of them."""
    folder = JobFolder(path / "a")
    folder.files("logs").mkdir(parents=True)
    for name in there:
        place = folder.files("logs") / name
        place.mkdir() if name.endswith("/") else place.write_text("x")
    body = {"formatVersion": 1, "files": {f"{LOGS}/{name}": "sha256:0" for name in sealed}}
    body |= {"changing": [f"{LOGS}/{name}" for name in changing]} if changing else {}
    folder.seal.write_text(json.dumps(seal(body)))
    return folder


@pytest.mark.parametrize("case", CASES)
def test_gaps(tmp_path: Path, case: str) -> None:
    """Each way in which the index and the files of a complete job differ."""
    index, there, sealed, changing, gaps = CASES[case]
    folder = job(tmp_path / COMPLETE, there, sealed, changing)
    found = list(index_gaps(folder, {"artifacts": [], "logs": index, "tmp": []}))
    assert found == [IndexGap("logs", *gap) for gap in gaps]


def test_files_of_a_job_that_is_built_may_lack_in_the_index(tmp_path: Path) -> None:
    """The index is written when a task ends: only what it names must be there."""
    folder = job(tmp_path / CURRENT, ["new.log"], [], [])
    found = list(index_gaps(folder, {"logs": ["gone.log"]}))
    assert [(gap.name, gap.number) for gap in found] == [("gone.log", 0)]
