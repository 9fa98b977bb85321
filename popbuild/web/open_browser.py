"""Opens the page in the browser of the person who starts the server.

The browser is started with a file, not with the address: every user of the machine can read the
arguments of a process, and the address contains the token.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import webbrowser
from collections.abc import Iterator

from popbuild.base import disk, tree
from popbuild.base.paths import Root
from popbuild.web.pages.html import render_page


@contextlib.contextmanager
def opened(root: Root, address: str) -> Iterator[None]:
    """Open an address through a file that only its owner can read, and that is removed at the
    end."""
    folder = root.private / "serve"
    disk.make_folder(folder)
    folder.chmod(0o700)  # whatever POPBUILD_FILE_MODE lets others read
    # One name for all starts: the next start replaces the file of a killed server.
    file = folder / "open.html"
    disk.write(file, render_page("open.html", address=address).encode(), sync=False)
    try:
        # Some browsers end only when their window is closed.
        threading.Thread(target=_open, args=(file.as_uri(),), daemon=True).start()
        yield
    finally:
        tree.remove(file)


def _open(uri: str) -> None:
    if not webbrowser.open(uri):
        print("warning: no browser could be started: open the address", file=sys.stderr, flush=True)
