"""Listens: one process, on the loopback unless told otherwise. The one importer of uvicorn."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import resource
import secrets
import signal
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

import uvicorn

from popbuild.errors import OK, UsageError
from popbuild.layout import Root
from popbuild.pages.html import prepare
from popbuild.web.app import make_app
from popbuild.web.safety import Guard
from popbuild.web.server import Server

if TYPE_CHECKING:
    from types import FrameType

LOOPBACK = "127.0.0.1"
PORT = 8710
_LEAST_TOKEN = 16  # characters of a token that somebody chose
_GRACE_S = 2  # for answers under way, when the server ends
_BACKLOG = 1_024
_FILES = 65_536


@dataclass(frozen=True)
class Place:
    """Where to listen. `names` are further names under which a browser reaches it; without a
    `token`, each start draws its own."""

    host: str = LOOPBACK
    port: int = PORT
    names: tuple[str, ...] = ()
    token: str | None = None


def serve(root: Root, place: Place, say: Callable[[str], None]) -> int:
    """Serve a root until a signal says to end; `say` is given the address, with its token."""
    if place.token is not None and len(place.token) < _LEAST_TOKEN:
        raise UsageError("the token is too short", {"allowed": f"{_LEAST_TOKEN} characters"})
    _allow_many_lines()
    with _listening(place) as listener:
        port = listener.getsockname()[1]
        token = place.token or secrets.token_urlsafe(32)
        origins = frozenset(_origins(place))
        guard = Guard(frozenset(_hosts(place, port)), token, f"popbuild-{port}", origins)
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
        address = f"http://{_in_url(_shown(place))}:{port}/?token={token}"
        asyncio.run(_Listener(config, server, lambda: say(address)).serve([listener]))
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


def _listening(place: Place) -> socket.socket:
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((place.host, place.port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        in_use = error.errno == errno.EADDRINUSE
        raise UsageError(
            "another program listens there" if in_use else "it is not possible to listen there",
            {"address": f"{place.host}:{place.port}", "found": error.strerror},
            hint="--port 0 takes a free one" if in_use else None,
        ) from None
    listener.setblocking(False)
    return listener


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches this address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def is_wildcard(host: str) -> bool:
    """Whether this stands for all addresses of this machine, and is itself none of them."""
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False


def _hosts(place: Place, port: int) -> Iterable[str]:
    """What a request may have as its Host, with the port."""
    names = [place.host, *place.names]
    if is_loopback(place.host) or is_wildcard(place.host):
        names += [LOOPBACK, "localhost", "::1"]
    for name in names:
        yield f"{_in_url(name.lower())}:{port}"
        if port == 80:
            yield _in_url(name.lower())  # a browser leaves out the port that goes without saying
    # Behind a proxy, which listens on the port that goes without saying.
    yield from (_in_url(name.lower()) for name in place.names)


def _origins(place: Place) -> Iterable[str]:
    """Where the pages of a proxy with TLS say that they come from."""
    return (f"https://{_in_url(name.lower())}" for name in place.names)


def _shown(place: Place) -> str:
    if place.names:
        return place.names[0]
    return LOOPBACK if is_wildcard(place.host) else place.host


def _in_url(name: str) -> str:
    return f"[{name}]" if ":" in name else name
