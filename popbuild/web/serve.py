"""Serves a root: one process, on the loopback unless told otherwise."""

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

_LEAST_TOKEN = 16  # characters of a token that somebody chose
_TOKEN_BYTES = 18  # 24 characters: found by no guessing, and the address fits a line


@dataclass(frozen=True)
class Address:
    """What a start says of itself: the page to open, which has the token in it; where programs
    ask, and the token that they give."""

    page: str
    api: str
    token: str


def serve(root: Root, place: Binding, say: Callable[[Address], None]) -> int:
    """Serve a root until a signal says to end; `say` is given the address once it answers."""
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
