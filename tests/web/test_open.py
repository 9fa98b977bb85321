"""`popbuild serve --open`: the page opens by itself, and the list of processes does not show it."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest
from browsing import chromium, needs_chromium
from served import serve
from workspace import Workspace


@pytest.fixture
def opened_with(tmp_path: Path) -> Path:
    """A pipe to which a browser that is none writes what it was started with."""
    pipe = tmp_path / "opened"
    os.mkfifo(pipe)
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$@" >"{pipe}"\n')
    browser.chmod(0o755)
    return pipe


@pytest.mark.slow
@needs_chromium
def test_the_page_is_opened(workspace: Workspace, opened_with: Path) -> None:
    """By a file that only its owner can read, whatever others may read of the root, that no backup
    takes along, and that is gone at the end."""
    env = {"BROWSER": f"{opened_with.parent / 'browser'} %s", "POPBUILD_FILE_MODE": "644"}
    with serve(workspace, "--open", env=env) as served:
        uri = opened_with.read_text().strip()
        assert served.token not in uri
        assert served.name not in uri
        file = Path(unquote(urlparse(uri).path))
        assert served.token in file.read_text()
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
        with chromium() as browser:
            page = browser.new_page()
            page.goto(uri)
            page.get_by_role("link", name="first").wait_for()
            assert page.url == f"http://{served.page}/"
        assert workspace.popbuild("backup", "--output", "backup.tar.zst").code == 0
    assert not file.exists()
    assert workspace.popbuild("restore", "backup.tar.zst", "--into", "copy").code == 0
    copied = {path.name for path in (workspace.root / "copy").rglob("*")}
    assert "first.json" in copied
    assert file.name not in copied


def test_no_browser_is_there(workspace: Workspace, opened_with: Path) -> None:
    """That is told, and the server goes on."""
    env = {"BROWSER": "no-such-browser-anywhere %s", "PATH": str(opened_with.parent)}
    with workspace.start("popbuild", "serve", "--port", "0", "--open", env=env) as running:
        running.wait_for("no browser could be started")
        running.wait_for("Ctrl-C ends it")
        running.interrupt()
        assert running.wait().code == 0
