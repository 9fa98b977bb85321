"""Where a server listens, with its sockets; its names, and which of them get a cookie.

Browsers keep cookies by host and ignore the port: a cookie for 127.0.0.1 is sent to every server on
127.0.0.1, also another user's. So each start draws a random host below `localhost`, which browsers
resolve to the loopback without a query, and sets its cookie for that host only. What another page
at 127.0.0.1 left in the browser, such as a service worker, does not reach the new host either.
"""

from __future__ import annotations

import base64
import errno
import secrets
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address

from popbuild.base.errors import UsageError

LOOPBACK = "127.0.0.1"
LOOPBACK_6 = "::1"
PORT = 8710
_HERE = (LOOPBACK, "localhost", LOOPBACK_6)
_BELOW = ".localhost"
_HTTP_PORT = 80
_BACKLOG = 4_096
_TRIES = 20  # at ports that are free at the first address and taken at the second
_NO_SUCH = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)  # on a machine without IPv6
_DRAWN_BYTES = 10  # 16 letters and digits: cannot be guessed, and the address fits a line


@dataclass(frozen=True)
class Binding:
    """Where to listen: without a `host`, on the loopback under a random name. `names` are further
    names under which browsers reach a `host`; a `token` stays the same for all starts."""

    host: str | None = None
    port: int = PORT
    names: tuple[str, ...] = ()
    token: str | None = None

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses to listen on. Browsers look for `localhost` and names below it at ::1
        before 127.0.0.1: another user's server there would get the requests meant for ours."""
        if self.host is None or self.host in _HERE:
            return LOOPBACK, LOOPBACK_6
        return (self.host, LOOPBACK_6) if self.host == "0.0.0.0" else (self.host,)  # noqa: S104 - compared


@dataclass(frozen=True)
class Names:
    """The names that `Host` may have. Only those `with_cookie` get the cookie; `own` is the one
    that this start drew, or None. `tls` are those of a proxy, whose pages may come over https.
    `shown` is the one to print, `api` the one for programs."""

    known: frozenset[str]
    with_cookie: frozenset[str]
    own: str | None
    tls: frozenset[str]
    shown: str
    api: str

    @property
    def told(self) -> frozenset[str]:
        """Those that are not secret. A page that knew `own` could send a browser to it at another
        port, and so get the cookie."""
        return self.known if self.own is None else self.known - _both(self.own)

    def is_of_another_start(self, host: str) -> bool:
        """Whether a name looks like one that an earlier start drew."""
        name = host.partition(":")[0]
        return self.own is not None and name.endswith(_BELOW) and host not in self.known


def draw_names(place: Binding, port: int) -> Names:
    """The names of a server at this port; each call draws another `own`."""
    here = place.host is None or place.host in _HERE
    everywhere = place.host is not None and is_wildcard(place.host)
    drawn = base64.b32encode(secrets.token_bytes(_DRAWN_BYTES)).decode().lower() + _BELOW
    own = _with_port(drawn, port) if place.host is None or everywhere else None
    chosen = () if place.host is None else (place.host,)
    known = _hosts((*chosen, *place.names, *(_HERE if here or everywhere else ())), port)
    # Behind a proxy, which listens on the default port.
    tls = frozenset(in_url(name) for name in place.names)
    with_cookie = known if own is None else _both(own) | _hosts(place.names, port)
    first = next(iter((*place.names, *chosen)), LOOPBACK)
    first = LOOPBACK if is_wildcard(first) else first
    return Names(
        known=known | with_cookie | tls,
        with_cookie=with_cookie | tls,
        own=own,
        tls=tls,
        shown=own if own is not None and not place.names else _with_port(first, port),
        api=_with_port(first, port),
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach this address."""
    try:
        return host in _HERE or ip_address(host).is_loopback
    except ValueError:
        return False


def is_wildcard(host: str) -> bool:
    """Whether this means all addresses of this machine."""
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False


def _hosts(names: Iterable[str], port: int) -> frozenset[str]:
    return frozenset().union(*(_both(_with_port(name, port)) for name in names))


def _both(host: str) -> frozenset[str]:
    """With and without the default port, which browsers leave out."""
    return frozenset((host, host.removesuffix(f":{_HTTP_PORT}")))


def _with_port(name: str, port: int) -> str:
    return f"{in_url(name)}:{port}"


def in_url(name: str) -> str:
    """A name or an address as a URL has it: IPv6 in brackets."""
    return f"[{name.lower()}]" if ":" in name else name.lower()


def open_sockets(place: Binding) -> list[socket.socket]:
    """Listen at a place; UsageError where that is not possible. The second address may only be left
    out where the machine has none: browsers would take another program there for ours."""
    for tries_left in reversed(range(_TRIES)):
        sockets: list[socket.socket] = []
        port = place.port
        for address in place.addresses:
            try:
                sockets.append(_listen(address, port))
            except OSError as error:
                if sockets and error.errno in _NO_SUCH:
                    continue
                for each in sockets:
                    each.close()
                if error.errno == errno.EADDRINUSE and place.port == 0 and tries_left:
                    break
                raise _refused(address, port, error) from None
            port = sockets[0].getsockname()[1]
        else:
            return sockets
    raise AssertionError("the last try returns or raises")


def _listen(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address, port))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


def _refused(address: str, port: int, error: OSError) -> UsageError:
    in_use = error.errno == errno.EADDRINUSE
    return UsageError(
        "another program listens there" if in_use else "it is not possible to listen there",
        {"address": f"{in_url(address)}:{port}", "found": error.strerror},
        hint="--port 0 takes a free one" if in_use else None,
    )
