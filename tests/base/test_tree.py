"""What crashes left behind."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from popbuild.base import tree


def test_left_overs_of_each_kind_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files, folders with what is in them, and links, but not what a link leads to."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").write_text("kept")
    root = tmp_path / "root"
    (root / ".tmp-folder/below").mkdir(parents=True)
    (root / ".tmp-folder/below/file").write_text("x")
    (root / ".tmp-file").write_text("x")
    (root / ".tmp-link").symlink_to(elsewhere)
    (root / "named").write_text("kept")
    tree.sweep(root)
    assert len(list(root.iterdir())) == 4  # all are young: another command may be writing them
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + tree.LEFT_OVER_S + 60)
    tree.sweep(root)
    assert [path.name for path in root.iterdir()] == ["named"]
    assert (elsewhere / "kept").read_text() == "kept"
