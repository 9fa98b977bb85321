"""Several changes handed to the disk at once."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from popbuild.base import commits, disk


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_groups_are_carried_out_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands first in a group is durable before the next is seen; lines of one file are
    appended at once, and end one that was torn."""
    (tmp_path / "log").write_bytes(b"torn")
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace

    def sync(file: int) -> None:
        name = Path(f"/proc/self/fd/{file}").readlink().name
        steps.append(f"sync {'a new file' if name.startswith('.tmp-') else name}")
        fsync(file)

    def put(source: Path, target: Path) -> None:
        steps.append(f"put {target.name}")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", put)
    line = commits.AppendedLine(tmp_path / "log", b"cost\n")
    groups = [
        (disk.prepare(tmp_path / "artifact", b"1"), disk.prepare(tmp_path / "letter", b"2")),
        (disk.prepare(tmp_path / "answer", b"3"), line),
        (line,),
    ]
    assert commits.commit(groups) == [None, None, None]
    folder = f"sync {tmp_path.name}"
    assert steps == [
        *("sync a new file", "put artifact", "sync a new file", "put answer", folder, "sync log"),
        *("sync a new file", "put letter", folder, "sync log"),
    ]
    assert names(tmp_path) == ["answer", "artifact", "letter", "log"]
    assert (tmp_path / "log").read_bytes() == b"torn\ncost\ncost\n"


def test_what_stands_behind_a_failure_is_not_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The group is told, the others are carried out, and nothing temporary is left."""
    prepared = disk.prepare(tmp_path / "artifact", b"1")
    fsync, failing = os.fsync, [prepared.file]

    def sync(file: int) -> None:
        if file in failing:
            failing.clear()  # the number is another file's after this
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(file)

    monkeypatch.setattr(os, "fsync", sync)
    (error, fine) = commits.commit(
        [
            (
                prepared,
                disk.prepare(tmp_path / "letter", b"2"),
                commits.AppendedLine(tmp_path / "log", b"x"),
            ),
            (
                disk.prepare(tmp_path / "other", b"3"),
                commits.AppendedLine(tmp_path / "log", b"y\n"),
            ),
        ]
    )
    assert isinstance(error, OSError)
    assert (error.errno, error.filename) == (errno.EIO, str(tmp_path / "artifact"))
    assert fine is None
    assert names(tmp_path) == ["log", "other"]
    assert (tmp_path / "log").read_bytes() == b"y\n"
