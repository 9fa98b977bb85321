"""Opens the page in the browser of the person who starts the server, and shows no one the address.

A browser is started with a file in its command line, not with the address: every user of the
machine may read the arguments of a process, and the address has the token in it.
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
    """Open an address by way of a file that only its owner can read, and that goes at the end."""
    folder = root.private / "serve"
    disk.make_folder(folder)
    folder.chmod(0o700)  # whatever POPBUILD_FILE_MODE lets others read
    # One name for all starts: that of a server that was killed is replaced by the next.
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
