"""A log that is read line by line, by number too, as it was when it was opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from popbuild.jobs.run_lines import LogLines

_RUN = b'{"pipelineId":"one"}'


@pytest.mark.parametrize(
    ("data", "lines", "has_end"),
    [
        (b"", [], True),
        (b"a\n", [b"a"], True),
        (b"a\n\nb", [b"a", b"", b"b"], False),
        (b"\n", [b""], True),
    ],
)
def test_lines(tmp_path: Path, data: bytes, lines: list[bytes], has_end: bool) -> None:
    """Empty lines are lines, and a torn one is the last."""
    path = tmp_path / "runs.jsonl"
    path.write_bytes(data)
    log = LogLines(path)
    assert [line for _, line in log] == lines == [line for _, line in log]
    assert log.has_end is has_end


def test_what_is_added_later_is_not_seen(tmp_path: Path) -> None:
    """A promotion meanwhile is for the next reader, and a new file in its place too."""
    path = tmp_path / "runs.jsonl"
    path.write_bytes(b"first\n" + _RUN + b"\n")
    log = LogLines(path)
    with path.open("ab") as file:
        file.write(b"later\n")
    assert list(log) == [(1, b"first"), (2, _RUN)]
    path.unlink()
    assert log.body_at(2) == {"pipelineId": "one"}
    assert log.body_at(1) is log.body_at(None) is None


def test_no_file_and_no_link_is_read(tmp_path: Path) -> None:
    """What is no file has no lines."""
    link = tmp_path / "link"
    (tmp_path / "file").write_bytes(b"a\n")
    link.symlink_to("file")
    assert [*LogLines(link), *LogLines(tmp_path / "missing"), *LogLines(tmp_path)] == []
