"""Serves a root from one process, by default on the loopback."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from popbuild.base.errors import OK, UsageError
from popbuild.base.paths import Root
from popbuild.web.app import make_app
from popbuild.web.guard import Guard
from popbuild.web.hosts import Binding, draw_names
from popbuild.web.listener import serve_until_stopped
from popbuild.web.pages.html import compile_templates
from popbuild.web.server import Server
from popbuild.web.sockets import open_sockets

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
