"""Listens: one process, on the loopback unless told otherwise. The one importer of uvicorn."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import secrets
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import uvicorn

from popbuild.errors import OK, UsageError
from popbuild.layout import Root
from popbuild.pages.html import prepare
from popbuild.web.app import make_app
from popbuild.web.names import Place, names_of
from popbuild.web.safety import Guard
from popbuild.web.server import Server
from popbuild.web.sockets import open_sockets

if TYPE_CHECKING:
    from types import FrameType

_LEAST_TOKEN = 16  # characters of a token that somebody chose
_GRACE_S = 2  # for answers under way, when the server ends
_FILES = 65_536
_TOKEN_BYTES = 18  # 24 characters: found by no guessing, and the address fits a line


@dataclass(frozen=True)
class Address:
    """What a start says of itself: the page to open, which has the token in it; where programs
    ask, and the token that they give."""

    page: str
    api: str
    token: str


def serve(root: Root, place: Place, say: Callable[[Address], None]) -> int:
    """Serve a root until a signal says to end; `say` is given the address once it answers."""
    if place.token is not None and len(place.token) < _LEAST_TOKEN:
        raise UsageError("the token is too short", {"allowed": f"{_LEAST_TOKEN} characters"})
    _allow_many_lines()
    with contextlib.ExitStack() as open_:
        listeners = [open_.enter_context(each) for each in open_sockets(place)]
        port = listeners[0].getsockname()[1]
        names = names_of(place, port)
        guard = Guard(names, secrets.token_urlsafe(_TOKEN_BYTES), f"popbuild-{port}", place.token)
        server = Server(root)
        prepare()
        config = uvicorn.Config(
            make_app(server, guard),
            log_level="error",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_GRACE_S,
            ws="none",
        )
        page = f"http://{names.shown}/?token={guard.token}"
        address = Address(page, f"http://{names.api}", guard.token)
        asyncio.run(_Listener(config, server, lambda: say(address)).serve(listeners))
    return OK


def _allow_many_lines() -> None:
    """Let as many follow events at once as the operating system allows: of what it gives at first,
    1,024 files, some pages for each of several people are too many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = hard if hard != resource.RLIM_INFINITY else _FILES
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(most, _FILES)), hard))


class _Listener(uvicorn.Server):
    """uvicorn, which says when it answers, ends at a signal without being killed by it, and does
    not wait for those who follow events."""

    def __init__(self, config: uvicorn.Config, server: Server, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._server = server
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self._server.hub.close()
