"""Serves a root from one process, by default on the loopback, and opens the page in a browser.

The browser is started with a file, not with the address: every user of the machine can read the
arguments of a process, and the address contains the token.
"""

from __future__ import annotations

import contextlib
import secrets
import sys
import threading
import webbrowser
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from popbuild.base import disk, tree
from popbuild.base.errors import OK, UsageError
from popbuild.base.paths import Root
from popbuild.web.app import make_app
from popbuild.web.connections import serve_until_stopped
from popbuild.web.guard import Guard
from popbuild.web.hosts import Binding, draw_names, open_sockets
from popbuild.web.pages.html import compile_templates, render_page
from popbuild.web.server import Server

_LEAST_TOKEN = 16  # characters of a chosen token
_TOKEN_BYTES = 18  # 24 characters: cannot be guessed, and the address fits a line


@dataclass(frozen=True)
class Address:
    """The address of the page, with the token in it; that of the API, and the token for it."""

    page: str
    api: str
    token: str


def serve(root: Root, place: Binding, say: Callable[[Address], None]) -> int:
    """Serve a root until a signal ends it; `say` gets the address once the server is ready."""
    if place.token is not None and len(place.token) < _LEAST_TOKEN:
        raise UsageError("the token is too short", {"allowed": f"{_LEAST_TOKEN} characters"})
    with contextlib.ExitStack() as open_:
        listeners = [open_.enter_context(each) for each in open_sockets(place)]
        port = listeners[0].getsockname()[1]
        names = draw_names(place, port)
        guard = Guard(names, secrets.token_urlsafe(_TOKEN_BYTES), f"popbuild-{port}", place.token)
        server = Server(root)
        compile_templates()
        page = f"http://{names.shown}/?token={guard.token}"
        address = Address(page, f"http://{names.api}", guard.token)
        serve_until_stopped(make_app(server, guard), listeners, server, lambda: say(address))
    return OK


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
