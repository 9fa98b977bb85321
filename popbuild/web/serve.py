"""Where the server listens: one process, on the loopback unless told otherwise."""

from __future__ import annotations

import errno
import secrets
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import ip_address

from popbuild.errors import OK, UsageError
from popbuild.layout import Root
from popbuild.pages.html import prepare
from popbuild.web.app import make_app
from popbuild.web.listener import listen
from popbuild.web.safety import Guard
from popbuild.web.server import Server

LOOPBACK = "127.0.0.1"
PORT = 8710
_LEAST_TOKEN = 16  # characters of a token that somebody chose
_BACKLOG = 4_096


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
    with _listening(place) as listener:
        port = listener.getsockname()[1]
        token = place.token or secrets.token_urlsafe(32)
        origins = frozenset(_origins(place))
        guard = Guard(frozenset(_hosts(place, port)), token, f"popbuild-{port}", origins)
        server = Server(root)
        prepare()
        address = f"http://{_in_url(_shown(place))}:{port}/?token={token}"
        listen(make_app(server, guard), listener, server, lambda: say(address))
    return OK


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
